//! The input size for a camera's pictures, at which the engine is opened when it is first needed.

use gst::prelude::*;
use gst::subclass::prelude::*;

use vehiclecount_core::preprocess::InputScale;

use super::camera::{Camera, Link};
use super::formats::StreamFormat;
use super::imp::{CAT, VehicleCounter};
use crate::engine::{PendingEngine, Start, open_shape};

/// Pictures for which there is an input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Width and height in pixels.
    size: (usize, usize),
    /// How large they are shown.
    scale: InputScale,
}

/// The pictures for which a camera has its seat, and the opening of the engine for others.
#[derive(Default)]
pub struct Shape {
    fitted: Option<Shown>,
    opening: Option<PendingEngine>,
}

impl Camera {
    /// Moves the camera's seat to the input size for its pictures. Where the engine must be opened
    /// at that size first and that takes long, a live frame goes without a seat, for which this is
    /// `false`, and others wait.
    pub(super) fn fit_shape(
        &self,
        imp: &VehicleCounter,
        link: &Link,
        live: bool,
    ) -> Result<bool, gst::FlowError> {
        let shown = self.with_state(|state| {
            let size = state.format.as_ref().map(StreamFormat::size)?;
            Some(Shown { size, scale: state.input_scale })
        });
        let Some(shown) = shown else {
            return Ok(true);
        };
        if self.shape.lock().fitted == Some(shown) {
            return Ok(true);
        }
        let dispatcher = link.seat.dispatcher();
        let Shown { size, scale } = shown;
        loop {
            let (is_opening, refused) = self.await_shape(live)?;
            let refused = refused == Some(shown);
            if is_opening {
                return Ok(false);
            }
            // Its thread has ended.
            let ended = self.shape.lock().opening.take();
            drop(ended);
            if let Some(instance) = dispatcher.instance_at(scale, size.0, size.1) {
                gst::debug!(
                    CAT,
                    obj = self.sinkpad,
                    "Pictures of {}x{} go into inputs of {}",
                    size.0,
                    size.1,
                    instance.info().input
                );
                link.seat.move_to(&instance);
                if dispatcher.is_fixed() && !scale.is_normal() {
                    gst::element_imp_warning!(
                        imp,
                        gst::ResourceError::Settings,
                        (
                            "Camera {}: input-scale={scale} is not used: every picture goes into {}; set \
                             input-size=auto, or leave input-scale at normal",
                            self.id(),
                            instance.info().input
                        )
                    );
                }
                self.shape.lock().fitted = Some(shown);
                return Ok(true);
            }
            if refused {
                // Not even tried: there is no thread for it.
                self.shape.lock().fitted = Some(shown);
                return Ok(true);
            }
            self.with_state(|state| state.shape_opening = true);
            let camera = self.me.clone();
            let done = move |opened: Result<(), gst::ErrorMessage>| {
                if let Some(camera) = camera.upgrade() {
                    camera.shape_opened(shown, opened.err());
                }
            };
            match open_shape(imp.obj().upcast_ref(), dispatcher, scale, size, done) {
                Ok(Start::Opened(())) => self.shape_opened(shown, None),
                Ok(Start::Later(opening)) => self.shape.lock().opening = Some(opening),
                Err(error) => self.shape_opened(shown, Some(error)),
            }
        }
    }

    /// Forgets the input size, and ends an opening.
    pub(super) fn forget_shape(&self) {
        let shape = std::mem::take(&mut *self.shape.lock());
        // Waits for the thread of an opening.
        drop(shape);
    }

    /// Whether the engine is still being opened at another input size, for which a camera that is
    /// not live waits, and the pictures for which that has failed last.
    fn await_shape(&self, live: bool) -> Result<(bool, Option<Shown>), gst::FlowError> {
        let mut state = self.lock();
        while state.shape_opening && !live && !state.flushing && state.flow.is_ok() {
            state = self.wait(state);
        }
        if state.flushing {
            return Err(gst::FlowError::Flushing);
        }
        state.flow?;
        Ok((state.shape_opening, state.shape_refused))
    }

    /// The engine is open at the input size for this camera's pictures, or does not open there:
    /// then the best of the others is taken.
    fn shape_opened(&self, shown: Shown, error: Option<gst::ErrorMessage>) {
        let mut state = self.lock();
        state.shape_opening = false;
        state.shape_refused = error.is_some().then_some(shown);
        self.wake(&mut state);
        drop(state);
        if let (Some(error), Some(element)) = (error, self.element.upgrade()) {
            gst::element_warning!(
                element,
                gst::LibraryError::Init,
                (
                    "Camera {}: {error}; its pictures go into another input size, with borders",
                    self.id()
                )
            );
        }
    }
}
