//! The input size for a camera's pictures, at which the engine is opened when it is first needed.

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::camera::{Camera, Link};
use super::formats::StreamFormat;
use super::imp::{CAT, VehicleCounter};
use crate::engine::{PendingEngine, Start, open_shape};

/// The pictures for which a camera has its seat, and the opening of the engine for others.
#[derive(Default)]
pub struct Shape {
    fitted: Option<(usize, usize)>,
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
        let Some(size) = self.with_state(|state| state.format.as_ref().map(StreamFormat::size))
        else {
            return Ok(true);
        };
        if self.shape.lock().fitted == Some(size) {
            return Ok(true);
        }
        let dispatcher = link.seat.dispatcher();
        loop {
            let (is_opening, refused) = self.await_shape(live)?;
            let refused = refused == Some(size);
            if is_opening {
                return Ok(false);
            }
            // Its thread has ended.
            let ended = self.shape.lock().opening.take();
            drop(ended);
            if let Some(instance) = dispatcher.instance(size.0, size.1) {
                gst::debug!(
                    CAT,
                    obj = self.sinkpad,
                    "Pictures of {}x{} go into inputs of {}",
                    size.0,
                    size.1,
                    instance.info().input
                );
                link.seat.move_to(&instance);
                self.shape.lock().fitted = Some(size);
                return Ok(true);
            }
            if refused {
                // Not even tried: there is no thread for it.
                self.shape.lock().fitted = Some(size);
                return Ok(true);
            }
            self.with_state(|state| state.shape_opening = true);
            let camera = self.me.clone();
            let done = move |opened: Result<(), gst::ErrorMessage>| {
                if let Some(camera) = camera.upgrade() {
                    camera.shape_opened(size, opened.err());
                }
            };
            match open_shape(imp.obj().upcast_ref(), dispatcher, size, done) {
                Ok(Start::Opened(())) => self.shape_opened(size, None),
                Ok(Start::Later(opening)) => self.shape.lock().opening = Some(opening),
                Err(error) => self.shape_opened(size, Some(error)),
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
    fn await_shape(&self, live: bool) -> Result<(bool, Option<(usize, usize)>), gst::FlowError> {
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
    fn shape_opened(&self, size: (usize, usize), error: Option<gst::ErrorMessage>) {
        let mut state = self.lock();
        state.shape_opening = false;
        state.shape_refused = error.is_some().then_some(size);
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
