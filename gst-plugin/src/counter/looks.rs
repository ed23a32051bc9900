//! The closer looks of a camera: regions with `detail` go to the engine beside the whole picture.

use std::sync::Arc;

use gst::subclass::prelude::*;
use vehiclecount_core::batch::{Lease, Seat};
use vehiclecount_core::density::Grid;
use vehiclecount_core::detail::{Blend, Crop, MAX_LOOKS, Plan};
use vehiclecount_core::preprocess::{InputSize, Preprocessor};

use super::camera::{Camera, Link};
use super::imp::{CAT, VehicleCounter};

/// What a frame is counted in: the whole picture, and its closer looks.
pub struct FrameInput {
    whole: Lease,
    closer: Option<(Vec<Lease>, Arc<Blend>)>,
}

impl FrameInput {
    /// The whole picture alone.
    pub fn new(whole: Lease) -> Self {
        Self { whole, closer: None }
    }

    /// The slot of the whole picture, where that is all.
    pub fn only(&mut self) -> Option<&mut Lease> {
        if self.closer.is_some() { None } else { Some(&mut self.whole) }
    }

    /// Hands the frame to the engine. At most `keep` of the camera's frames wait.
    pub fn submit(self, seat: &Seat, ticket: u64, keep: usize) {
        match self.closer {
            None => seat.submit(ticket, self.whole, keep),
            Some((mut leases, blend)) => {
                leases.insert(0, self.whole);
                seat.submit_looks(ticket, leases, &blend, keep);
            }
        }
    }
}

/// See the module. Made anew where the regions, the pictures or their input size change.
#[derive(Default)]
pub struct CloserLooks {
    made_for: Option<Circumstances>,
    planned: Option<(Plan, Arc<Blend>)>,
    /// One for each look.
    preprocessors: Vec<Option<Preprocessor>>,
}

#[derive(Clone, Copy, PartialEq)]
struct Circumstances {
    /// Of the account's settings.
    generation: u64,
    picture: (usize, usize),
    input: InputSize,
    /// Where the whole picture's density lies.
    grid: Grid,
}

impl CloserLooks {
    /// The input that would show the whole picture as large as the closest look, where the whole
    /// picture goes into `input`.
    pub fn scale(&self, input: InputSize) -> InputSize {
        let factors = self.planned.iter().flat_map(|(plan, _)| &plan.factors);
        let factor = factors.copied().fold(1.0, f64::max);
        let scaled = |side: usize| (side as f64 * factor).ceil() as usize;
        InputSize { width: scaled(input.width), height: scaled(input.height) }
    }

    /// Inputs that a frame goes into.
    pub fn inputs(&self) -> usize {
        1 + self.planned.as_ref().map_or(0, |(plan, _)| plan.looks.len())
    }
}

impl Camera {
    /// Adds the closer looks to the whole picture of `width` x `height`, whose density lies at
    /// `grid`. `look` makes an input of a crop, with the preprocessor that is kept for it. Returns
    /// where the density of all lies.
    pub(super) fn look_closer(
        &self,
        imp: &VehicleCounter,
        link: &Link,
        (width, height): (usize, usize),
        (whole, grid): (Lease, Grid),
        mut look: impl FnMut(Crop, &mut Option<Preprocessor>) -> Result<Lease, String>,
    ) -> Result<(FrameInput, Grid), String> {
        let mut held = self.looks.lock();
        let input = link.seat.instance().info().input;
        let generation = self.with_state(|state| state.account.generation());
        let now = Circumstances { generation, picture: (width, height), input, grid };
        if held.made_for != Some(now) {
            *held = self.plan(imp, link, now);
        }
        let CloserLooks { planned: Some((plan, blend)), preprocessors, .. } = &mut *held else {
            return Ok((FrameInput::new(whole), grid));
        };
        let looks = plan.looks.iter().zip(preprocessors);
        let leases = looks.map(|(closer, held)| look(closer.crop, held));
        let leases = leases.collect::<Result<Vec<_>, _>>()?;
        let grid = blend.grid();
        Ok((FrameInput { whole, closer: Some((leases, blend.clone())) }, grid))
    }

    fn plan(&self, imp: &VehicleCounter, link: &Link, now: Circumstances) -> CloserLooks {
        let (generation, regions) = self.with_state(|state| {
            (state.account.generation(), state.account.settings().regions.regions.clone())
        });
        let now = Circumstances { generation, ..now };
        let asked = regions.iter().filter(|region| !region.detail.is_off()).count();
        let Some(plan) = Plan::new(&regions, now.picture, link.resize, now.input) else {
            if asked > 0 {
                gst::info!(
                    CAT,
                    obj = self.sinkpad,
                    "The whole picture shows regions with detail as large as it has them"
                );
            }
            return CloserLooks { made_for: Some(now), ..CloserLooks::default() };
        };
        gst::info!(
            CAT,
            obj = self.sinkpad,
            "{} regions are looked at in {} crops, enlarged {:.2?}",
            plan.regions.len(),
            plan.looks.len(),
            plan.factors
        );
        if plan.is_limited {
            gst::element_imp_warning!(
                imp,
                gst::ResourceError::Settings,
                (
                    "Camera {}: its {asked} regions with detail need more than {MAX_LOOKS} crops; {} of them \
                     are enlarged, {:.2?} times: give fewer or smaller regions, or lower values of detail",
                    self.id(),
                    plan.regions.len(),
                    plan.factors
                )
            );
        }
        let blend = Arc::new(Blend::new(&plan, now.grid));
        let preprocessors = plan.looks.iter().map(|_| None).collect();
        CloserLooks { made_for: Some(now), planned: Some((plan, blend)), preprocessors }
    }
}
