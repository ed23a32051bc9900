//! What has come of the looks of one frame so far.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::detail::Blend;
use crate::engine::{EngineError, EngineKind, Output};

/// See the module.
pub(super) struct Looks {
    blend: Arc<Blend>,
    state: Mutex<State>,
}

struct State {
    maps: Vec<Option<Vec<f32>>>,
    /// Looks that are not back yet.
    missing: usize,
    failed: Option<EngineError>,
    /// Number of the batch that was added last.
    batch: u64,
    /// How long the engine worked on their batches.
    inference_time: Duration,
}

/// The blended density of a frame and how long the engine worked on it.
type Finished = Result<(Output, Duration), EngineError>;

impl Looks {
    /// A frame of `count` looks, the whole picture among them.
    ///
    /// # Panics
    /// When `blend` is not of so many.
    pub fn new(blend: Arc<Blend>, count: usize) -> Self {
        assert_eq!(count, blend.looks() + 1, "a blend of other looks");
        let state = State {
            maps: vec![None; count],
            missing: count,
            failed: None,
            batch: 0,
            inference_time: Duration::ZERO,
        };
        Self { blend, state: Mutex::new(state) }
    }

    /// The look with that index is back, from the batch with that number. Says what came of the
    /// frame where it was the last one.
    pub fn put(
        &self,
        index: usize,
        output: Result<&Output, &EngineError>,
        batch: u64,
        inference_time: Duration,
        kind: EngineKind,
    ) -> Option<Finished> {
        let mut state = self.state.lock();
        // Several looks may stand in one batch, one after the other.
        if state.batch != batch {
            state.batch = batch;
            state.inference_time += inference_time;
        }
        match output.map(Output::map) {
            Ok(Some(cells)) if cells.len() == self.blend.cells() => {
                state.maps[index] = Some(cells.to_vec());
            }
            Ok(_) => {
                let reason = "it left no density map of the looks' grid".to_owned();
                state.failed = Some(EngineError::Infer { kind, reason });
            }
            Err(error) => {
                let reason = match error {
                    EngineError::Infer { reason, .. } => reason.clone(),
                    error => error.to_string(),
                };
                state.failed.get_or_insert(EngineError::Infer { kind, reason });
            }
        }
        state.missing -= 1;
        if state.missing > 0 {
            return None;
        }
        if let Some(error) = state.failed.take() {
            return Some(Err(error));
        }
        let maps: Vec<&[f32]> = state.maps.iter().flatten().map(Vec::as_slice).collect();
        Some(Ok((Output::Map(self.blend.blend(&maps)), state.inference_time)))
    }
}
