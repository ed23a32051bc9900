//! The element and its engine, which its cameras share: from opening to stop.

use std::sync::Arc;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::{CAT, Phase, State, VehicleCounter, lock};
use super::settings::Settings;
use crate::cuda::{self, SharedContext};
use crate::engine::{EngineSettings, OpenedEngine, Start, announce_preset};

impl VehicleCounter {
    /// Opens the engine, or joins elements that have it open, and lets the cameras in: now, or when
    /// it is open.
    pub(super) fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = self.settings_with_preset()?;
        let regions = self
            .parse_regions(&settings)
            .map_err(|error| gst::error_msg!(gst::ResourceError::Settings, ("{error}")))?;
        *lock(&self.state) = Phase::Opening;
        for camera in self.cameras() {
            camera.await_engine();
            self.apply(&camera, &regions, settings.counting.smoothing);
        }
        self.tell_shared_ids();
        let mut choice = settings.choice.clone();
        choice.context = self.adopted(&choice).and_then(|shared| shared.foreign().cloned());
        let element = self.obj().downgrade();
        let done = move |opened| {
            if let Some(element) = element.upgrade() {
                element.imp().opened_later(opened);
            }
        };
        match choice.open(self.obj().upcast_ref(), done) {
            Ok(Start::Opened(opened)) => self.run(opened),
            Ok(Start::Later(opening)) => *lock(&self.opening) = Some(opening),
            Err(error) => {
                self.stop();
                return Err(error);
            }
        }
        Ok(())
    }

    /// The settings, after the preset has chosen what is not set.
    fn settings_with_preset(&self) -> Result<Settings, gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        // Reads files: no lock is held meanwhile.
        let Some(choice) = settings.choice.choose()? else { return Ok(settings) };
        let settings = {
            let mut settings = lock(&self.settings);
            settings.take(&choice);
            settings.clone()
        };
        announce_preset(self.obj().upcast_ref(), &settings.choice, &choice);
        Ok(settings)
    }

    /// The engine is open: the cameras are let in.
    fn run(&self, opened: OpenedEngine) {
        opened.announce(self.obj().upcast_ref());
        let OpenedEngine { dispatcher, resize, .. } = opened;
        gst::info!(
            CAT,
            imp = self,
            "Counting with {:?}, {:?}",
            dispatcher.info(),
            dispatcher.settings()
        );
        let cuda = dispatcher.engine().picture().and_then(|picture| {
            let context = picture.context();
            let held =
                lock(&self.cuda).clone().filter(|held| held.cuda().handle() == context.handle());
            held.or_else(|| SharedContext::new(context.clone()))
        });
        if let Some(cuda) = &cuda {
            *lock(&self.cuda) = Some(cuda.clone());
            // The pipeline hands it to decoders that come later.
            let element = self.obj();
            let message =
                gst::message::HaveContext::builder(cuda.context().clone()).src(&*element).build();
            let _ = element.post_message(message);
        }
        let state = State { dispatcher, resize, cuda };
        {
            let mut phase = lock(&self.state);
            if !matches!(*phase, Phase::Opening) {
                return;
            }
            *phase = Phase::Running(state.clone());
        }
        for camera in self.cameras() {
            camera.join(&state);
        }
    }

    /// The engine has opened after the state change, or has not.
    fn opened_later(&self, opened: Result<OpenedEngine, gst::ErrorMessage>) {
        match opened {
            Ok(opened) => self.run(opened),
            Err(error) => {
                {
                    let mut state = lock(&self.state);
                    if !matches!(*state, Phase::Opening) {
                        return;
                    }
                    *state = Phase::Failed;
                }
                self.post_error_message(error);
                self.cameras().iter().for_each(|camera| camera.give_up());
            }
        }
    }

    /// The CUDA context of the engine, which may open later, as the answer to a query for a context
    /// of type `asked`; `None` for other types.
    pub fn shared_context(&self, asked: &str) -> Option<gst::Context> {
        if asked != cuda::CONTEXT {
            return None;
        }
        let choice = lock(&self.settings).choice.clone();
        if !choice.may_use_gpu() {
            return None;
        }
        let shared = self.adopted(&choice).or_else(|| SharedContext::primary(choice.gpu))?;
        let context = shared.context().clone();
        lock(&self.cuda).get_or_insert(shared);
        Some(context)
    }

    /// The CUDA context that is held already, or that the application or another element has: asked
    /// for once.
    fn adopted(&self, choice: &EngineSettings) -> Option<Arc<SharedContext>> {
        if let Some(held) = lock(&self.cuda).clone() {
            return Some(held);
        }
        if !choice.may_use_gpu() || !cuda::is_available() {
            return None;
        }
        let element = self.obj();
        let given = element.context(cuda::CONTEXT).or_else(|| {
            // Who has one sets it before this returns.
            let message = gst::message::NeedContext::builder(cuda::CONTEXT).src(&*element).build();
            let _ = element.post_message(message);
            element.context(cuda::CONTEXT)
        })?;
        let adopted = SharedContext::adopt(&given)?.and_then(|shared| {
            let gpu = shared.cuda().device().index;
            if gpu == choice.gpu {
                Ok(shared)
            } else {
                Err(format!("it is on GPU {gpu}, and gpu-id is {}", choice.gpu))
            }
        });
        match adopted {
            Ok(shared) => Some(lock(&self.cuda).get_or_insert(shared).clone()),
            Err(reason) => {
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Settings,
                    (
                        "The CUDA context that was set is not used: {reason}. Its frames are copied through host memory; {}",
                        cuda::REMEDY
                    )
                );
                None
            }
        }
    }

    pub(super) fn stop(&self) {
        let state = std::mem::take(&mut *lock(&self.state));
        let opening = lock(&self.opening).take();
        // Ends the opening, and waits for its thread.
        drop(opening);
        for camera in self.cameras() {
            camera.leave();
        }
        lock(&self.shared_ids).clear();
        // Waits for the engine's threads where this was its last user, with no lock held.
        drop(state);
    }
}
