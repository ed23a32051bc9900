//! How a frame becomes an engine's input.

use std::sync::Arc;

use gst::subclass::prelude::*;
use gst_video::prelude::*;
use vehiclecount_core::account::GridPlacement;
use vehiclecount_core::batch::Lease;
use vehiclecount_core::density::Grid;
use vehiclecount_core::detail;
use vehiclecount_core::engine::gpu::RegionWeights;
use vehiclecount_core::frame::{FrameFormat, FrameView, Plane};
use vehiclecount_core::preprocess::{Placement, Preprocessor};

use super::camera::{Camera, Link};
use super::confirmation::Confirmation;
use super::formats::StreamFormat;
use super::imp::{CAT, VehicleCounter};
use super::looks::FrameInput;
use super::state::CameraState;
use crate::crop::Crop;
use crate::cuda::FrameLoan;

impl Camera {
    /// The input that `buffer` makes, and where the density will lie in the frame; `None` where it
    /// needs none, as `compared` with an earlier frame it does not differ. The error says why it
    /// cannot be read. `with_map`: the density map is asked for.
    pub(super) fn input(
        &self,
        imp: &VehicleCounter,
        link: &Link,
        format: &StreamFormat,
        buffer: &gst::Buffer,
        compared: Option<Confirmation>,
        with_map: bool,
    ) -> Result<Option<(FrameInput, GridPlacement)>, String> {
        let Some((mut input, grid)) = self.preprocess(imp, link, format, buffer, compared)? else {
            return Ok(None);
        };
        // Looks are blended as maps.
        let with_map = with_map || input.only().is_none();
        let (weights, generation) = self.weights(link, &grid, with_map);
        if let Some(slot) = input.only() {
            slot.weights = weights;
        }
        Ok(Some((input, GridPlacement { grid, generation })))
    }

    fn preprocess(
        &self,
        imp: &VehicleCounter,
        link: &Link,
        format: &StreamFormat,
        buffer: &gst::Buffer,
        compared: Option<Confirmation>,
    ) -> Result<Option<(FrameInput, Grid)>, String> {
        let crop = Crop::of(buffer);
        let StreamFormat { info, frame: shown, .. } = format;
        let whole = match crop.and_then(|crop| crop.of) {
            Some((width, height)) => {
                FrameFormat { width: width as usize, height: height as usize, ..*shown }
            }
            None => *shown,
        };
        if let Some(cuda) = link.cuda.as_ref().filter(|_| format.in_gpu_memory) {
            let map = || cuda.map(buffer, info, whole.pixels.planes());
            match map() {
                Ok(lent) => {
                    let (slot, grid, size) =
                        Self::lend(link, whole, &[crop.map(Into::into)], lent)?;
                    let input = self.look_closer(imp, link, size, (slot, grid), |look, _| {
                        let parts = [crop.map(Into::into), Some(look)];
                        Ok(Self::lend(link, whole, &parts, map()?)?.0)
                    });
                    return input.map(Some);
                }
                // Mapped below, it is copied to the host.
                Err(reason) => {
                    let told =
                        |state: &mut CameraState| std::mem::replace(&mut state.through_host, true);
                    if self.with_state(told) {
                        gst::log!(
                            CAT,
                            obj = self.sinkpad,
                            "{reason}: it is copied through host memory"
                        );
                    } else {
                        gst::element_imp_warning!(
                            imp,
                            gst::ResourceError::Settings,
                            (
                                "Camera {}: its frames are copied through host memory: {reason}",
                                self.id()
                            )
                        );
                    }
                }
            }
        }
        let frame =
            gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).map_err(|_| {
                format!("a frame of {} bytes does not hold a picture of its caps", buffer.size())
            })?;
        let mut planes = [Plane { data: &[], stride: 0 }; 3];
        let count = whole.pixels.planes();
        for (index, plane) in planes.iter_mut().enumerate().take(count) {
            let data = frame.plane_data(index as u32).map_err(|error| error.to_string())?;
            let stride = frame.plane_stride()[index];
            *plane = Plane {
                data,
                stride: usize::try_from(stride).map_err(|_| format!("stride of {stride} bytes"))?,
            };
        }
        let view = FrameView::new(whole, &planes[..count]).and_then(|view| match crop {
            None => Ok(view),
            Some(Crop { x, y, width, height, .. }) => {
                view.crop(x as usize, y as usize, width as usize, height as usize)
            }
        });
        let view = view.map_err(|error| error.to_string())?;
        if compared.is_some_and(|compared| self.is_unchanged(link, &view, compared)) {
            return Ok(None);
        }
        let shown = view.format();
        let whole = Self::fill(link, &view, &mut self.preprocessor.lock())?;
        let input =
            self.look_closer(imp, link, (shown.width, shown.height), whole, |look, held| {
                let detail::Crop { x, y, width, height } = look;
                let part = view.crop(x, y, width, height).map_err(|error| error.to_string())?;
                Ok(Self::fill(link, &part, held)?.0)
            });
        input.map(Some)
    }

    /// A picture that the processor reads.
    fn fill(
        link: &Link,
        view: &FrameView<'_>,
        held: &mut Option<Preprocessor>,
    ) -> Result<(Lease, Grid), String> {
        let (instance, format) = (link.seat.instance(), view.format());
        let info = instance.info();
        let mut slot = link.seat.slot();
        let placement = match slot.input.picture_mut() {
            Some(picture) => {
                let placement =
                    Placement::new(link.resize, format.width, format.height, info.input);
                picture.stage(view, placement).map_err(|error| error.to_string())?;
                placement
            }
            None => {
                let preprocessor = Preprocessor::held(held, format, link.resize, info.input);
                slot.input.preprocess(preprocessor, view);
                preprocessor.placement()
            }
        };
        Ok((slot, placement.grid(info.columns, info.rows)))
    }

    /// A picture that lies on the GPU already: the part of it that is left by `crops`, one inside
    /// the other. Says how large that is, too.
    fn lend(
        link: &Link,
        whole: FrameFormat,
        crops: &[Option<detail::Crop>],
        mut lent: FrameLoan,
    ) -> Result<(Lease, Grid, (usize, usize)), String> {
        let mut format = whole;
        for detail::Crop { x, y, width, height } in crops.iter().flatten().copied() {
            let part = format.crop(x, y, width, height);
            let (shown, begins) = part.map_err(|error| error.to_string())?;
            format = shown;
            for ((address, stride, bytes), (row, byte)) in lent.planes.iter_mut().zip(begins) {
                let skipped = row * *stride + byte;
                *address += skipped as u64;
                *bytes = bytes.saturating_sub(skipped);
            }
        }
        let instance = link.seat.instance();
        let info = instance.info();
        let placement = Placement::new(link.resize, format.width, format.height, info.input);
        let mut slot = link.seat.slot();
        let picture =
            slot.input.picture_mut().expect("an engine with a CUDA context takes pictures");
        // SAFETY: the planes are those of the mapped frame, or begin inside them and end where they
        // end; `keep` keeps it mapped, in the engine's own context, and the stream is of that
        // context.
        unsafe { picture.lend(format, placement, &lent.planes, lent.producer, lent.keep) }
            .map_err(|error| error.to_string())?;
        let grid = placement.grid(info.columns, info.rows);
        Ok((slot, grid, (format.width, format.height)))
    }

    /// The regions for an engine that sums the density by itself, where no map is asked for; and
    /// the generation of the settings that they are of.
    fn weights(
        &self,
        link: &Link,
        grid: &Grid,
        with_map: bool,
    ) -> (Option<Arc<RegionWeights>>, u64) {
        let generation = self.with_state(|state| state.account.generation());
        let instance = link.seat.instance();
        let engine = instance.engine();
        if with_map || engine.picture().is_none() {
            return (None, generation);
        }
        let mut regions = self.device_regions.lock();
        let coverage = || {
            self.with_state(|state| {
                (state.account.generation(), state.account.coverage(grid).to_vec())
            })
        };
        regions.of(engine, grid, generation, coverage).unwrap_or_else(|error| {
            gst::warning!(
                CAT,
                obj = self.sinkpad,
                "{error}; the regions are counted on the processor"
            );
            (None, generation)
        })
    }
}
