//! The density that nvinfer left on a frame.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use vehiclecount_core::account::{Density, Finding, Measurement};
use vehiclecount_core::density::DensityMap;

use super::batch::{Fatal, State, Trouble};
use super::settings::Settings;
use super::source::Notices;
use crate::deepstream::batch::{BatchGuard, Frame};
use crate::deepstream::surface::Surfaces;
use crate::deepstream::tensor::{self, TensorError};

/// Batches without a tensor, from the start on, after which a warning says so.
const PATIENCE: u64 = 100;

impl State {
    /// Reads the density that nvinfer left on `frame`.
    pub(super) fn tensor<'a>(
        &mut self,
        locked: &BatchGuard<'_, 'a>,
        frame: &Frame<'a>,
        surfaces: &Surfaces<'_>,
        settings: &Settings,
        notices: &mut Notices,
    ) -> Result<Finding, Fatal> {
        let all = locked.tensors(frame);
        let Some(tensors) =
            all.iter().find(|tensors| tensors.unique_id() == settings.infer_on_gie_id)
        else {
            self.say_what_is_missing(
                &all.iter().map(|tensors| tensors.unique_id()).collect(),
                settings,
                notices,
            );
            return Ok(Finding::NotDue);
        };
        self.tensors_seen = true;
        let outputs = tensors.outputs();
        let version = self.api.version;
        let size = surfaces.size(frame.batch_id)?;
        let read = tensor::choose(&outputs, &settings.tensor_layer)
            .map_err(TensorError::Setup)
            .and_then(|output| {
                let grid = tensor::grid(output, tensors, frame, size, version)
                    .map_err(TensorError::Setup)?;
                Ok(DensityMap { grid, cells: Arc::from(tensor::read(output, tensors.gpu_id())?) })
            });
        let id = settings.infer_on_gie_id;
        match read {
            Ok(map) => {
                let source = self.source(frame.source_id);
                source.note_counted(notices);
                notices.log(|| format!("{}: counted, from the tensor of nvinfer", source.camera()));
                Ok(Finding::Counted(Measurement {
                    density: Density::Map(map),
                    inference_time: Duration::ZERO,
                }))
            }
            Err(TensorError::Setup(reason)) => {
                let camera = self.source(frame.source_id).camera();
                Err(Fatal::Other(format!(
                    "{camera}: the tensors of nvinfer with gie-unique-id={id} cannot be read: {reason}"
                )))
            }
            Err(TensorError::Value(reason)) => {
                self.source(frame.source_id).note_failed(&reason, notices);
                Ok(Finding::Missed)
            }
        }
    }

    fn say_what_is_missing(
        &mut self,
        foreign: &BTreeSet<u32>,
        settings: &Settings,
        notices: &mut Notices,
    ) {
        let id = settings.infer_on_gie_id;
        if self.tensors_seen {
            return;
        }
        if !foreign.is_empty() {
            if self.first(Trouble::ForeignTensor) {
                notices.warn(format!(
                    "Frames carry tensors of nvinfer with gie-unique-id {foreign:?}, none of {id}: set infer-on-gie-id"
                ));
            }
        } else if self.batches >= PATIENCE && self.first(Trouble::NoTensor) {
            notices.warn(format!(
                "{PATIENCE} batches came without a tensor of nvinfer with gie-unique-id={id}: it needs output-tensor-meta=1 and network-type=100, \
                 and must stand before this element"
            ));
        }
    }
}
