//! What is counted and reported: what the elements that count have in common.

use std::time::Duration;

use gst::prelude::*;
use vehiclecount_core::account::ReportSettings;

/// What the user chose: the settings of the properties that such elements share.
#[derive(Clone, Copy, Debug)]
pub struct CountingSettings {
    /// Frames skipped between two counted ones.
    pub interval: u32,
    /// Time constant of the smoothing.
    pub smoothing: Duration,
    /// Whether density maps go into the metadata.
    pub density_map: bool,
    /// Goes into the metadata.
    pub unique_id: u32,
}

impl Default for CountingSettings {
    fn default() -> Self {
        Self { interval: 0, smoothing: Duration::from_secs(1), density_map: true, unique_id: 0 }
    }
}

impl CountingSettings {
    /// The properties. `of`: what the element calls a stream of frames.
    pub fn properties(of: &str) -> [glib::ParamSpec; 4] {
        let defaults = Self::default();
        [
            glib::ParamSpecUInt::builder("interval")
                .nick("Interval")
                .blurb(&format!(
                    "Frames of each {of} skipped between two counted ones; they carry the last count"
                ))
                .maximum(i32::MAX as u32)
                .default_value(defaults.interval)
                .mutable_playing()
                .build(),
            glib::ParamSpecDouble::builder("smoothing")
                .nick("Smoothing")
                .blurb("Time constant of the smoothed counts in seconds (0: not smoothed)")
                .minimum(0.0)
                .maximum(3600.0)
                .default_value(defaults.smoothing.as_secs_f64())
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("density-map")
                .nick("Density map")
                .blurb("Attach the density map to the metadata")
                .default_value(defaults.density_map)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("unique-id")
                .nick("Unique id")
                .blurb("Goes into the metadata, to tell counters in one pipeline apart")
                .default_value(defaults.unique_id)
                .mutable_playing()
                .build(),
        ]
    }

    /// Takes a property's value. `false` where the property is none of these.
    pub fn set(&mut self, property: &str, value: &glib::Value) -> bool {
        const TYPED: &str = "type checked upstream";
        match property {
            "interval" => self.interval = value.get().expect(TYPED),
            "smoothing" => self.smoothing = Duration::from_secs_f64(value.get().expect(TYPED)),
            "density-map" => self.density_map = value.get().expect(TYPED),
            "unique-id" => self.unique_id = value.get().expect(TYPED),
            _ => return false,
        }
        true
    }

    /// A property's value; `None` where the property is none of these.
    pub fn get(&self, property: &str) -> Option<glib::Value> {
        Some(match property {
            "interval" => self.interval.to_value(),
            "smoothing" => self.smoothing.as_secs_f64().to_value(),
            "density-map" => self.density_map.to_value(),
            "unique-id" => self.unique_id.to_value(),
            _ => return None,
        })
    }

    /// What is asked of every report.
    pub fn report(&self) -> ReportSettings {
        ReportSettings { unique_id: self.unique_id, density: self.density_map }
    }
}
