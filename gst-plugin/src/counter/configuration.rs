//! What is set for each camera: regions, scale, smoothing, its id.

use std::collections::BTreeMap;
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;
use vehiclecount_core::count::CountSettings;
use vehiclecount_core::preprocess::InputScale;
use vehiclecount_core::region::RegionsFile;

use super::camera::Camera;
use super::imp::{Phase, VehicleCounter, lock};
use super::settings::Settings;
use crate::topmost;

/// The regions of the element's cameras.
pub struct Regions {
    common: RegionsFile,
    own: BTreeMap<u32, RegionsFile>,
}

impl VehicleCounter {
    /// The element's regions and each camera's own.
    pub(super) fn parse_regions(&self, settings: &Settings) -> Result<Regions, String> {
        let common = RegionsFile::parse(&settings.regions).map_err(|error| error.to_string())?;
        let mut own = BTreeMap::new();
        for camera in self.cameras() {
            let own_settings = camera.sinkpad.imp().settings();
            own_settings
                .input_scale
                .parse::<InputScale>()
                .map_err(|error| format!("camera {}: {error}", camera.id()))?;
            let text = own_settings.regions;
            if !text.is_empty() {
                let file = RegionsFile::parse(&text)
                    .map_err(|error| format!("camera {}: {error}", camera.id()))?;
                own.insert(camera.index, file);
            }
        }
        Ok(Regions { common, own })
    }

    pub(super) fn apply(&self, camera: &Camera, regions: &Regions, smoothing: Duration) {
        let id = camera.id();
        let regions = regions.own.get(&camera.index).unwrap_or(&regions.common).for_camera(&id);
        let own = camera.sinkpad.imp().settings();
        // What is set on the pad goes before what stands in the file.
        let scale = match regions.scale_factor {
            Some(factor) if own.scale_factor == 1.0 => factor,
            _ => own.scale_factor,
        };
        let input_scale = match own.input_scale.as_str() {
            "" => regions.input_scale,
            // Checked when the regions were read.
            text => text.parse().unwrap_or_default(),
        };
        camera.with_state(|state| {
            state.input_scale = input_scale;
            state.account.labels.camera = id.into();
            state.account.configure(CountSettings { regions, scale, smoothing });
        });
    }

    /// Warns of each id that several cameras have, when it begins to be so: of this element, or of
    /// others of the pipeline that run and have its unique id.
    pub(super) fn tell_shared_ids(&self) {
        let mut pads = BTreeMap::<String, Vec<String>>::new();
        for camera in self.cameras() {
            pads.entry(camera.id()).or_default().push(camera.sinkpad.name().to_string());
        }
        for other in self.others() {
            for camera in other.imp().cameras() {
                if let Some(pads) = pads.get_mut(&camera.id()) {
                    pads.push(format!("{}.{}", other.name(), camera.sinkpad.name()));
                }
            }
        }
        pads.retain(|_, pads| pads.len() > 1);
        let before =
            std::mem::replace(&mut *lock(&self.shared_ids), pads.keys().cloned().collect());
        for (id, pads) in pads.iter().filter(|(id, _)| !before.contains(*id)) {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                (
                    "Several cameras have the camera-id {id:?}: {}; nothing tells their counts apart: give each its \
                     own, or counters in a row another unique-id",
                    pads.join(", ")
                )
            );
        }
    }

    /// The other counters of the pipeline that run and have the unique id of this one.
    fn others(&self) -> Vec<super::VehicleCounter> {
        let own = self.obj();
        let Ok(pipeline) = topmost(&*own).downcast::<gst::Bin>() else { return Vec::new() };
        let counters =
            pipeline.iterate_all_by_element_factory_name("vehiclecounter").into_iter().flatten();
        let counters =
            counters.filter_map(|element| element.downcast::<super::VehicleCounter>().ok());
        let unique_id = self.counting().unique_id;
        let runs =
            |other: &super::VehicleCounter| !matches!(*lock(&other.imp().state), Phase::Stopped);
        counters
            .filter(|other| {
                *other != *own && other.imp().counting().unique_id == unique_id && runs(other)
            })
            .collect()
    }

    /// A setting changed. Before the element runs there is nothing to do; while it runs, what
    /// cannot be used is said and left as it was.
    pub fn configure_while_running(&self) {
        if matches!(*lock(&self.state), Phase::Stopped) {
            return;
        }
        let settings = lock(&self.settings).clone();
        match self.parse_regions(&settings) {
            Ok(regions) => {
                for camera in self.cameras() {
                    self.apply(&camera, &regions, settings.counting.smoothing);
                }
                self.tell_shared_ids();
            }
            Err(error) => {
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Settings,
                    ("{error}; the regions stay as they were")
                );
            }
        }
    }
}
