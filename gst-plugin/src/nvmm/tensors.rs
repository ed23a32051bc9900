//! The density that nvinfer left on a frame: found under the batch's lock, read under none.

use std::collections::BTreeSet;
use std::time::Duration;

use vehiclecount_core::account::{Density, Finding, Measurement};
use vehiclecount_core::density::DensityMap;

use super::batch::{Fatal, FindingState, Order, State, Trouble};
use super::settings::Settings;
use super::source::Notices;
use crate::deepstream::batch::{BatchGuard, Frame};
use crate::deepstream::surface::Surfaces;
use crate::deepstream::tensor::{self, TensorError, TensorReader, Unread};

/// Batches without a tensor, from the start on, after which a warning says so.
const PATIENCE: u64 = 100;

/// Reads the densities of `orders` that have been found: in their order.
pub(super) fn read(
    orders: &[Order<'_>],
    reader: &mut TensorReader,
) -> Vec<Result<DensityMap, TensorError>> {
    let unread: Vec<_> = orders
        .iter()
        .filter_map(|order| match &order.finding {
            FindingState::Unread(unread) => Some(unread),
            _ => None,
        })
        .collect();
    reader.read(&unread)
}

impl State {
    /// Finds the density that nvinfer left on `frame`.
    pub(super) fn find_tensor<'a>(
        &mut self,
        locked: &BatchGuard<'_, 'a>,
        frame: &Frame<'a>,
        surfaces: &Surfaces<'_>,
        settings: &Settings,
        notices: &mut Notices,
    ) -> Result<FindingState<'a>, Fatal> {
        let all = locked.tensors(frame);
        let Some(tensors) =
            all.iter().find(|tensors| tensors.unique_id() == settings.infer_on_gie_id)
        else {
            self.say_what_is_missing(
                &all.iter().map(|tensors| tensors.unique_id()).collect(),
                settings,
                notices,
            );
            return Ok(FindingState::Here(Finding::NotDue));
        };
        self.tensors_seen = true;
        let outputs = tensors.outputs();
        let version = self.api.version;
        let size = surfaces.size(frame.batch_id)?;
        let unread = tensor::choose(&outputs, &settings.tensor_layer).and_then(|output| {
            let grid = tensor::grid(output, tensors, frame, size, version)?;
            Unread::new(output, tensors, grid)
        });
        match unread {
            Ok(unread) => Ok(FindingState::Unread(unread)),
            Err(reason) => Err(self.unreadable(frame.source_id, &reason, settings)),
        }
    }

    /// Takes in the densities that were [`read`].
    pub(super) fn take_in_tensors(
        &mut self,
        orders: &mut [Order<'_>],
        maps: Vec<Result<DensityMap, TensorError>>,
        settings: &Settings,
        notices: &mut Notices,
    ) -> Result<(), Fatal> {
        let orders =
            orders.iter_mut().filter(|order| matches!(order.finding, FindingState::Unread(_)));
        for (order, map) in orders.zip(maps) {
            let source = self.source(order.frame.source_id);
            let finding = match map {
                Ok(map) => {
                    source.note_counted(notices);
                    notices.log(|| {
                        format!("{}: counted, from the tensor of nvinfer", source.camera())
                    });
                    let density = Density::Map(map);
                    Finding::Counted(Measurement { density, inference_time: Duration::ZERO })
                }
                Err(TensorError::Value(reason)) => {
                    source.note_failed(&reason, notices);
                    Finding::Missed
                }
                Err(TensorError::Setup(reason)) => {
                    return Err(self.unreadable(order.frame.source_id, &reason, settings));
                }
            };
            order.finding = FindingState::Here(finding);
        }
        Ok(())
    }

    fn unreadable(&mut self, source: u32, reason: &str, settings: &Settings) -> Fatal {
        let (camera, id) = (self.source(source).camera(), settings.infer_on_gie_id);
        Fatal::Other(format!(
            "{camera}: the tensors of nvinfer with gie-unique-id={id} cannot be read: {reason}"
        ))
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
