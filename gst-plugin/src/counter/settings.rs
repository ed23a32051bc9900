//! The settings of the element, and the properties that they are.

use std::time::Duration;

use gst::prelude::*;
use vehiclecount_core::preset::Choice;

use crate::counting::CountingSettings;
use crate::engine::EngineSettings;

/// What the user chose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the engine.
    pub choice: EngineSettings,
    /// Regions of all cameras.
    pub regions: String,
    /// Of the counts.
    pub counting: CountingSettings,
    /// How long a live frame is held.
    pub max_latency: Duration,
    /// Whether frames that do not differ from the last counted one keep its count.
    pub skip_unchanged: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            choice: EngineSettings::default(),
            regions: String::new(),
            counting: CountingSettings::default(),
            max_latency: Duration::from_millis(200),
            skip_unchanged: false,
        }
    }
}

impl Settings {
    /// The element's properties.
    pub fn properties() -> Vec<glib::ParamSpec> {
        let defaults = Settings::default();
        let mut properties = EngineSettings::properties("");
        properties.extend(CountingSettings::properties("camera"));
        properties.extend([
            glib::ParamSpecUInt::builder("batch-size")
                .nick("Batch size")
                .blurb("Frames in a batch at most (0: what suits the engine); elements that share an engine have that of the first")
                .maximum(256)
                .default_value(defaults.choice.batch_size)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("batched-push-timeout")
                .nick("Batched push timeout")
                .blurb("Microseconds that a frame waits for its batch to fill while the engine is free (0: it goes at once); elements that share an engine have that of the first")
                .maximum(10_000_000)
                .default_value(defaults.choice.batched_push_timeout.as_micros() as u32)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("max-latency")
                .nick("Maximum latency")
                .blurb("Milliseconds that a frame of a live camera is held for its count; then it leaves with the last one, marked stale")
                .maximum(60_000)
                .default_value(defaults.max_latency.as_millis() as u32)
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("regions")
                .nick("Regions")
                .blurb("Regions of all cameras, as a JSON file's path or inline JSON")
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("skip-unchanged")
                .nick("Skip unchanged frames")
                .blurb("Frames that do not differ from the last counted one keep its count for 10 seconds, marked confirmed; frames in GPU memory are always counted")
                .default_value(defaults.skip_unchanged)
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("active-engine")
                .nick("Active engine")
                .blurb("The engine that runs (null: none)")
                .read_only()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("statistics")
                .nick("Statistics")
                .blurb("Per camera: frames received, inferred, confirmed, stale, dropped, failed; latency percentiles (ns) of the last frames")
                .read_only()
                .build(),
        ]);
        properties
    }

    /// Sets a property.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        const TYPED: &str = "type checked upstream";
        if self.choice.set(name, value) || self.counting.set(name, value) {
            if name == "preset" && !self.choice.explicit.has("max-latency") {
                self.max_latency = Self::default().max_latency;
            }
            return;
        }
        match name {
            "max-latency" => {
                let milliseconds = value.get::<u32>().expect(TYPED);
                self.max_latency = Duration::from_millis(milliseconds.into());
            }
            "skip-unchanged" => self.skip_unchanged = value.get().expect(TYPED),
            "regions" => {
                self.regions = value.get::<Option<String>>().expect(TYPED).unwrap_or_default()
            }
            _ => unimplemented!("property {}", name),
        }
    }

    /// Takes from `choice`, a preset's, what is not set by the user.
    pub fn take(&mut self, choice: &Choice) {
        self.choice.take(choice);
        if !self.choice.explicit.has("max-latency") {
            self.max_latency = choice.max_latency;
        }
    }

    /// The value of a property.
    pub fn get(&self, name: &str) -> glib::Value {
        if let Some(value) = self.choice.get(name).or_else(|| self.counting.get(name)) {
            return value;
        }
        match name {
            "max-latency" => (self.max_latency.as_millis() as u32).to_value(),
            "regions" => self.regions.to_value(),
            "skip-unchanged" => self.skip_unchanged.to_value(),
            _ => unimplemented!("property {}", name),
        }
    }
}
