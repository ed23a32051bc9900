//! The choice of a precision: each is timed once, and the fastest is remembered.

use std::path::PathBuf;
use std::time::Duration;

use super::{KIND, TensorRtOpener};
use crate::engine::error::EngineError;
use crate::engine::interface::Engine;
use crate::engine::slot::Slot;
use crate::frame::{FrameFormat, FrameView, PixelFormat, Plane};
use crate::golden;
use crate::model::File;
use crate::preprocess::Placement;
use crate::tensorrt::{
    self, Precision, PrecisionTrials, Progress, Purpose, Severity, TensorRtError, cache, choose,
};

/// Batches that are timed for a choice, after as many that are not.
const TRIALS: usize = 10;

impl TensorRtOpener<'_> {
    /// The fastest precision that counts what it must, and whether that was kept; else it is found
    /// out now.
    pub(super) fn choose(
        &self,
        candidates: &[(Precision, &File)],
    ) -> Result<(PrecisionTrials, bool), EngineError> {
        let remembered = self.remembered(candidates);
        let purpose = self.purpose();
        let read = || {
            remembered
                .as_deref()
                .and_then(PrecisionTrials::read)
                .filter(|choice| choice.purpose == purpose)
        };
        if let Some(choice) = read() {
            return Ok((choice, true));
        }
        // Two processes that time at once disturb each other. Where nothing can be locked, they do.
        let lock = remembered.as_ref().map(|path| {
            cache::alone(&path.with_extension("lock"), &|at| self.request.watch.tell(at))
        });
        let _lock = lock.transpose().map_err(EngineError::from)?;
        if let Some(choice) = read() {
            return Ok((choice, true));
        }
        let precisions: Vec<_> = candidates.iter().map(|(precision, _)| *precision).collect();
        let choice = choose(purpose.clone(), &precisions, |precision| {
            self.time(precision).map_err(|error| match error {
                EngineError::TensorRt(error) => error,
                EngineError::Ended => TensorRtError::Ended,
                error => TensorRtError::Run {
                    library: self.library.to_string(),
                    reason: error.to_string(),
                },
            })
        });
        let choice = choice.map_err(EngineError::from)?;
        if let Some(path) = remembered {
            // A choice that is not kept is made again the next time.
            let _ = choice.write(&path);
        }
        tensorrt::tell(Severity::Warning, &format!("precision of {}: {choice}", choice.purpose));
        Ok((choice, false))
    }

    /// Removes the choice that was kept.
    pub(super) fn forget(&self, candidates: &[(Precision, &File)]) {
        if let Some(path) = self.remembered(candidates) {
            // A choice that cannot be removed fails its check again.
            let _ = std::fs::remove_file(path);
        }
    }

    fn purpose(&self) -> Purpose {
        Purpose {
            model: self.request.model.manifest.name.clone(),
            library: self.library.flavour(),
            version: self.library.version().to_string(),
            capability: self.capability(),
            gpu: self.context.device().model(),
            width: self.input.width,
            height: self.input.height,
            max_batch: self.max_batch(),
        }
    }

    /// Where the choice is remembered: under everything that it depends on.
    fn remembered(&self, candidates: &[(Precision, &File)]) -> Option<PathBuf> {
        let files: Vec<_> =
            candidates.iter().map(|(_, file)| file.sha256.get(..16).unwrap_or_default()).collect();
        let name = format!(
            "choice-{}-{}-{}-{}-{}-{}x{}-b{}.json",
            files.join("-"),
            self.library.flavour(),
            self.library.version(),
            self.capability(),
            tensorrt::short_digest(&self.context.device().model()),
            self.input.width,
            self.input.height,
            self.max_batch(),
        );
        Some(cache::folder()?.join(name))
    }

    /// How long a largest batch takes, if the golden picture is counted right.
    fn time(&self, precision: Precision) -> Result<Duration, EngineError> {
        let engine = self.engine(precision, None)?;
        if !self.request.watch.tell(Progress::Timing { precision }) {
            return Err(EngineError::Ended);
        }
        golden::check_once(self.request, &engine, None).map_err(|error| match error {
            EngineError::Golden { what, .. } => EngineError::Infer { kind: KIND, reason: what },
            other => other,
        })?;
        let mut lane = engine.lane()?;
        // Small pictures: what is copied to the GPU is the same for each precision, and would hide
        // what differs.
        let (side, gray) = (64, [114u8; 64 * 64]);
        let pixels = PixelFormat::Gray8;
        let format = FrameFormat::new(pixels, side, side);
        let picture =
            FrameView::new(format, &[Plane { data: &gray, stride: side }]).expect("so large it is");
        let placement =
            Placement::new(self.request.model.manifest.input.resize, side, side, self.input);
        let mut slots: Vec<Slot> = (0..self.max_batch()).map(|_| Slot::best_for(&engine)).collect();
        let mut best = Duration::MAX;
        for trial in 0..2 * TRIALS {
            for room in slots.iter_mut().filter_map(|slot| slot.input.picture_mut()) {
                room.stage(&picture, placement)
                    .map_err(|error| EngineError::Gpu { kind: KIND, error })?;
            }
            lane.infer(&mut slots)?;
            if let Some(time) = lane.device_time().filter(|_| trial >= TRIALS) {
                best = best.min(time);
            }
        }
        Ok(best)
    }
}
