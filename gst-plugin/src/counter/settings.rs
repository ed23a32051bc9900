//! The settings of the element, and the properties that they are.

use std::time::Duration;

use gst::prelude::*;

use crate::engine::Choice;

/// What the user chose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the engine.
    pub choice: Choice,
    /// Regions of all cameras.
    pub regions: String,
    /// Read for every frame.
    pub timing: Timing,
}

/// The part of the settings that is read for every frame.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Frames skipped between two counted ones.
    pub interval: u32,
    /// How long a live frame is held.
    pub max_latency: gst::ClockTime,
    /// Whether density maps go into the metadata.
    pub density_map: bool,
    /// Goes into the metadata.
    pub unique_id: u32,
    /// Time constant of the smoothing.
    pub smoothing: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            choice: Choice::default(),
            regions: String::new(),
            timing: Timing {
                interval: 0,
                max_latency: gst::ClockTime::from_mseconds(200),
                density_map: true,
                unique_id: 0,
                smoothing: Duration::from_secs(1),
            },
        }
    }
}

impl Settings {
    /// The element's properties.
    pub fn properties() -> Vec<glib::ParamSpec> {
        let defaults = Settings::default();
        let mut properties = Choice::properties("");
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
            glib::ParamSpecUInt::builder("interval")
                .nick("Interval")
                .blurb("Frames of each camera skipped between two counted ones; they carry the last count")
                .maximum(i32::MAX as u32)
                .default_value(defaults.timing.interval)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("max-latency")
                .nick("Maximum latency")
                .blurb("Milliseconds that a frame of a live camera is held for its count; then it leaves with the last one, marked stale")
                .maximum(60_000)
                .default_value(defaults.timing.max_latency.mseconds() as u32)
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("regions")
                .nick("Regions")
                .blurb("Regions of all cameras, as a JSON file's path or inline JSON")
                .mutable_playing()
                .build(),
            glib::ParamSpecDouble::builder("smoothing")
                .nick("Smoothing")
                .blurb("Time constant of the smoothed counts in seconds (0: not smoothed)")
                .minimum(0.0)
                .maximum(3600.0)
                .default_value(defaults.timing.smoothing.as_secs_f64())
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("density-map")
                .nick("Density map")
                .blurb("Attach the density map to the metadata")
                .default_value(defaults.timing.density_map)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("unique-id")
                .nick("Unique id")
                .blurb("Goes into the metadata, to tell counters in one pipeline apart")
                .default_value(defaults.timing.unique_id)
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("active-engine")
                .nick("Active engine")
                .blurb("The engine that runs (null: none)")
                .read_only()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("statistics")
                .nick("Statistics")
                .blurb("Per camera: frames received, inferred, stale, dropped, failed; latency percentiles (ns) of the last frames")
                .read_only()
                .build(),
        ]);
        properties
    }

    /// Sets a property.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        const TYPED: &str = "type checked upstream";
        let number = || value.get::<u32>().expect(TYPED);
        if self.choice.set(name, value) {
            return;
        }
        match name {
            "batched-push-timeout" => {
                self.choice.batched_push_timeout = Duration::from_micros(number().into());
            }
            "interval" => self.timing.interval = number(),
            "max-latency" => {
                self.timing.max_latency = gst::ClockTime::from_mseconds(number().into())
            }
            "regions" => {
                self.regions = value.get::<Option<String>>().expect(TYPED).unwrap_or_default()
            }
            "smoothing" => {
                self.timing.smoothing = Duration::from_secs_f64(value.get().expect(TYPED))
            }
            "density-map" => self.timing.density_map = value.get().expect(TYPED),
            "unique-id" => self.timing.unique_id = number(),
            _ => unimplemented!("property {}", name),
        }
    }

    /// The value of a property.
    pub fn get(&self, name: &str) -> glib::Value {
        if let Some(value) = self.choice.get(name) {
            return value;
        }
        match name {
            "batched-push-timeout" => {
                (self.choice.batched_push_timeout.as_micros() as u32).to_value()
            }
            "interval" => self.timing.interval.to_value(),
            "max-latency" => (self.timing.max_latency.mseconds() as u32).to_value(),
            "regions" => self.regions.to_value(),
            "smoothing" => self.timing.smoothing.as_secs_f64().to_value(),
            "density-map" => self.timing.density_map.to_value(),
            "unique-id" => self.timing.unique_id.to_value(),
            _ => unimplemented!("property {}", name),
        }
    }
}
