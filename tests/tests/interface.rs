//! The plugin's interface as a golden file: whatever a pipeline can name. A change shows up in
//! review.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use gst::prelude::*;

fn describe(element: &str) -> String {
    let factory = gst::ElementFactory::find(element).unwrap();
    let mut text = format!("element {element}: {}\n", factory.metadata("klass").unwrap());
    let made = factory.create().build().unwrap();
    for template in factory.static_pad_templates() {
        writeln!(
            text,
            "  pad {} {:?} {:?}",
            template.name_template(),
            template.direction(),
            template.presence()
        )
        .unwrap();
        for (structure, features) in template.caps().iter_with_features() {
            // The overlay takes every raw format that there is, which is GStreamer's affair.
            let formats = structure.get::<gst::List>("format").ok();
            let many = formats.is_some_and(|formats| formats.len() > 40);
            let name = if many { structure.name().to_string() } else { structure.to_string() };
            let memory = features
                .iter()
                .filter(|feature| *feature != gst::CAPS_FEATURE_MEMORY_SYSTEM_MEMORY);
            let memory: String = memory.map(|feature| format!("({feature}) ")).collect();
            writeln!(text, "    {memory}{name}").unwrap();
        }
    }
    properties(&mut text, "  ", made.upcast_ref());
    text
}

fn properties(text: &mut String, indent: &str, object: &glib::Object) {
    let mut specs: Vec<_> = object
        .list_properties()
        .iter()
        .filter(|spec| spec.owner_type() == object.type_())
        .cloned()
        .collect();
    specs.sort_by(|a, b| a.name().cmp(b.name()));
    for spec in specs {
        let default = match spec.is::<glib::ParamSpecBoxed>() {
            true => "NULL".to_owned(),
            false => spec
                .default_value()
                .serialize()
                .map_or("NULL".to_owned(), |value| value.to_string()),
        };
        let mut range = String::new();
        if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt>() {
            range = format!(" {}..{}", spec.minimum(), spec.maximum());
        } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt>() {
            range = format!(" {}..{}", spec.minimum(), spec.maximum());
        } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecDouble>() {
            range = format!(" {}..{}", spec.minimum(), spec.maximum());
        } else if let Some(class) = glib::EnumClass::with_type(spec.value_type()) {
            range = format!(
                " {:?}",
                class.values().iter().map(|value| value.nick()).collect::<Vec<_>>()
            );
        }
        let access = match (
            spec.flags().contains(glib::ParamFlags::READABLE),
            spec.flags().contains(glib::ParamFlags::WRITABLE),
        ) {
            (true, false) => "read-only",
            (true, true) => "read-write",
            _ => "write-only",
        };
        writeln!(
            text,
            "{indent}property {}: {}{range} = {default}, {access}",
            spec.name(),
            spec.value_type().name()
        )
        .unwrap();
        writeln!(text, "{indent}  {}", spec.blurb().unwrap_or_default()).unwrap();
    }
}

#[test]
fn interface_is_the_one_that_was_reviewed() {
    vehiclecount_tests::init();
    let mut text = String::new();
    for element in [
        "vehiclecounter",
        "vehiclecounternvmm",
        "vehiclecountoverlay",
        "vehiclecountpublish",
        "vehicletestsrc",
    ] {
        text += &describe(element);
        if element == "vehiclecounter" {
            let counter = gst::ElementFactory::make(element).build().unwrap();
            let pad = counter.request_pad_simple("sink_%u").unwrap();
            text += "  properties of a sink pad\n";
            properties(&mut text, "    ", pad.upcast_ref());
        }
        text += "\n";
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/interface.txt");
    if env::var_os("VEHICLECOUNT_BLESS").is_some() {
        fs::write(&golden, &text).unwrap();
    }
    let reviewed = fs::read_to_string(&golden).unwrap_or_default();
    for (number, (new, old)) in text.lines().zip(reviewed.lines()).enumerate() {
        assert_eq!(
            new,
            old,
            "line {} of {}: VEHICLECOUNT_BLESS=1 writes the file anew",
            number + 1,
            golden.display()
        );
    }
    assert_eq!(text, reviewed, "VEHICLECOUNT_BLESS=1 writes {} anew", golden.display());
}
