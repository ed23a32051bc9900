//! The metadata as C and Python read it: the examples are built, run, and compared with what Rust
//! reads.

#![allow(clippy::unwrap_used)]

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, Once};

use gst::prelude::*;
use gstvehiclecount::meta;
use tempfile::TempDir;

const REGIONS: &str = r#"{"regions": [{"name": "left lane", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]},
                                     {"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}]}"#;

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A folder with the plugin, and nothing else that GStreamer would look into, and the pipeline's
/// regions.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    let library = format!("{DLL_PREFIX}gstvehiclecount{DLL_SUFFIX}");
    fs::copy(test.with_file_name(&library), folder.path().join(&library))
        .expect("cargo builds the plugin for its tests");
    fs::write(folder.path().join("regions.json"), REGIONS).unwrap();
    folder
}

/// Seven frames; the counter skips every other one, so counts with an age are among them.
fn pipeline(folder: &Path) -> String {
    let regions = folder.join("regions.json");
    format!(
        "vehicletestsrc num-buffers=7 ! video/x-raw,width=160,height=90 ! vehiclecounter engine=scripted interval=1 regions={} \
         ! fakesink name=out",
        regions.display()
    )
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; CONTRIBUTING.md lists the packages that tests need")
    })
}

fn run(command: &mut Command, folder: &Path) -> Vec<String> {
    command.env("GST_PLUGIN_PATH", folder).env("GST_REGISTRY", folder.join("registry.bin"));
    command.env("G_DEBUG", "fatal-criticals").arg(pipeline(folder));
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// What the examples should print.
fn expected(folder: &Path) -> Vec<String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstvehiclecount::plugin_register_static().unwrap();
    });
    let pipeline =
        gst::parse::launch(&pipeline(folder)).unwrap().downcast::<gst::Pipeline>().unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = lines.clone();
    let pad = pipeline.by_name("out").unwrap().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let report = meta::count::read(info.buffer().unwrap()).unwrap();
        let count = report.count.unwrap();
        let (camera, sequence, level) = (&report.camera, report.sequence, count.level.name());
        let mut line = format!(
            "{camera} frame {sequence}: {:.2} vehicles (smoothed {:.2}), {level}",
            count.raw, count.smoothed
        );
        for region in &report.regions {
            line += &format!("; {} {:.2}", region.name, region.count.unwrap().raw);
        }
        if let Some(map) = &report.density {
            line += &format!(
                "; density {}x{} sums to {:.2}",
                map.grid.columns,
                map.grid.rows,
                map.count()
            );
        }
        seen.lock().unwrap().push(line);
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends)
        .unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    let lines = lines.lock().unwrap().clone();
    assert_eq!(lines.len(), 7);
    lines
}

#[test]
fn c_reads_what_rust_reads() {
    let folder = workplace();
    let flags = output(Command::new("pkg-config").args(["--cflags", "--libs", "gstreamer-1.0"]));
    let flags = String::from_utf8(flags.stdout).unwrap();
    let program = folder.path().join("print-counts");
    let mut compile = Command::new("cc");
    compile
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(source("examples/print-counts.c"));
    compile.arg("-I").arg(source("include")).args(flags.split_whitespace());
    let compiled = output(&mut compile);
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    assert_eq!(run(&mut Command::new(program), folder.path()), expected(folder.path()));
}

#[test]
fn python_reads_what_rust_reads() {
    let folder = workplace();
    // A Python of one's own, in front of the system's, seldom has PyGObject.
    const NEEDED: &str = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; list(Gst.ValueArray([1]))";
    let has_gobject = |python: &&str| {
        Command::new(python)
            .args(["-c", NEEDED])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has_gobject);
    let python =
        python.expect("the packages python3-gi and python3-gst-1.0, which this test needs");
    let mut command = Command::new(python);
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(source("examples/print_counts.py"));
    assert_eq!(run(&mut command, folder.path()), expected(folder.path()));
}
