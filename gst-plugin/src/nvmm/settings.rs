//! The settings of the element, and the properties that they are.

use gst::prelude::*;

use super::{DensitySource, OsdMode};
use crate::counting::CountingSettings;
use crate::engine::EngineSettings;

/// What the user chose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the density comes from.
    pub source: DensitySource,
    /// Of the engine.
    pub choice: EngineSettings,
    /// The `gie-unique-id` of the nvinfer whose tensors are read.
    pub infer_on_gie_id: u32,
    /// Which of them; empty: the one that is called as our models call it.
    pub tensor_layer: String,
    /// A file in nvdsanalytics' form.
    pub config_file_path: String,
    /// A JSON file's path, or JSON.
    pub regions: String,
    /// Of the counts.
    pub counting: CountingSettings,
    /// Entry of `misc_frame_info`; -1: none.
    pub misc_index: i32,
    /// What the count is multiplied by there.
    pub misc_scale: f64,
    /// Whether the report is attached as JSON.
    pub message_blob: bool,
    /// The type of that metadata; 0: what the version of DeepStream says.
    pub message_type: u32,
    /// What is drawn.
    pub osd_mode: OsdMode,
    /// Points.
    pub display_font_size: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: DensitySource::default(),
            choice: EngineSettings::default(),
            infer_on_gie_id: 1,
            tensor_layer: String::new(),
            config_file_path: String::new(),
            regions: String::new(),
            counting: CountingSettings::default(),
            misc_index: 0,
            misc_scale: 1000.0,
            message_blob: false,
            message_type: 0,
            osd_mode: OsdMode::default(),
            display_font_size: 12,
        }
    }
}

impl Settings {
    /// The element's properties.
    pub fn properties() -> Vec<glib::ParamSpec> {
        let defaults = Settings::default();
        let mut properties = EngineSettings::properties("; source=engine");
        properties.extend(CountingSettings::properties("source"));
        properties.extend([
            glib::ParamSpecEnum::builder_with_default("source", defaults.source)
                .nick("Source")
                .blurb("Where the density comes from")
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("batch-size")
                .nick("Batch size")
                .blurb("Frames in a batch of the engine at most (0: what suits the engine); source=engine")
                .maximum(256)
                .default_value(defaults.choice.batch_size)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("infer-on-gie-id")
                .nick("Infer on GIE id")
                .blurb("Read the tensors of the nvinfer with this gie-unique-id (source=tensor-meta)")
                .default_value(defaults.infer_on_gie_id)
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("tensor-layer")
                .nick("Tensor layer")
                .blurb("Name of nvinfer's output that is the density (empty: its only output, or the one called density)")
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("config-file-path")
                .nick("Configuration file")
                .blurb("Regions of each source in nvdsanalytics' form, and in [vehiclecount-stream-N] its camera-id, scale-factor, interval and levels")
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("regions")
                .nick("Regions")
                .blurb("Regions of sources without any in config-file-path, as a JSON file's path or inline JSON")
                .mutable_playing()
                .build(),
            glib::ParamSpecInt::builder("misc-index")
                .nick("Index in misc_frame_info")
                .blurb("Write the count times misc-scale into this entry of the frame's misc_frame_info (-1: into none)")
                .minimum(-1)
                .maximum(3)
                .default_value(defaults.misc_index)
                .mutable_playing()
                .build(),
            glib::ParamSpecDouble::builder("misc-scale")
                .nick("Scale in misc_frame_info")
                .blurb("The count is multiplied by this and rounded before it goes into misc_frame_info")
                .minimum(1.0)
                .maximum(1e9)
                .default_value(defaults.misc_scale)
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("message-blob")
                .nick("Message blob")
                .blurb("Attach the report as JSON (NVDS_CUSTOM_MSG_BLOB), which nvmsgconv puts into its payload")
                .default_value(defaults.message_blob)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("message-type")
                .nick("Message type")
                .blurb("Number of NVDS_CUSTOM_MSG_BLOB in DeepStream's nvdsmeta.h (0: the one of its version, where that is known)")
                .maximum(4096)
                .default_value(defaults.message_type)
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("osd-mode", defaults.osd_mode)
                .nick("OSD mode")
                .blurb("What nvdsosd draws")
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("display-font-size")
                .nick("Font size")
                .blurb("Size of what nvdsosd writes, in points")
                .minimum(4)
                .maximum(100)
                .default_value(defaults.display_font_size)
                .mutable_playing()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("statistics")
                .nick("Statistics")
                .blurb("Per source: frames received, inferred, stale, failed, and unattached (the metadata's pool was exhausted)")
                .read_only()
                .build(),
        ]);
        properties
    }

    /// Sets a property.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        const TYPED: &str = "type checked upstream";
        let text = || value.get::<Option<String>>().expect(TYPED).unwrap_or_default();
        if self.choice.set(name, value) || self.counting.set(name, value) {
            return;
        }
        match name {
            "source" => self.source = value.get().expect(TYPED),
            "infer-on-gie-id" => self.infer_on_gie_id = value.get().expect(TYPED),
            "tensor-layer" => self.tensor_layer = text(),
            "config-file-path" => self.config_file_path = text(),
            "regions" => self.regions = text(),
            "misc-index" => self.misc_index = value.get().expect(TYPED),
            "misc-scale" => self.misc_scale = value.get().expect(TYPED),
            "message-blob" => self.message_blob = value.get().expect(TYPED),
            "message-type" => self.message_type = value.get().expect(TYPED),
            "osd-mode" => self.osd_mode = value.get().expect(TYPED),
            "display-font-size" => self.display_font_size = value.get().expect(TYPED),
            _ => unimplemented!("property {}", name),
        }
    }

    /// The value of a property.
    pub fn get(&self, name: &str) -> glib::Value {
        if let Some(value) = self.choice.get(name).or_else(|| self.counting.get(name)) {
            return value;
        }
        match name {
            "source" => self.source.to_value(),
            "infer-on-gie-id" => self.infer_on_gie_id.to_value(),
            "tensor-layer" => self.tensor_layer.to_value(),
            "config-file-path" => self.config_file_path.to_value(),
            "regions" => self.regions.to_value(),
            "misc-index" => self.misc_index.to_value(),
            "misc-scale" => self.misc_scale.to_value(),
            "message-blob" => self.message_blob.to_value(),
            "message-type" => self.message_type.to_value(),
            "osd-mode" => self.osd_mode.to_value(),
            "display-font-size" => self.display_font_size.to_value(),
            _ => unimplemented!("property {}", name),
        }
    }
}
