//! What an engine works on: one frame's input and, after inference, its output.

use std::sync::Arc;

use super::error::EngineError;
use super::info::EngineInfo;
use super::picture::{Picture, RegionWeights};
use crate::frame::FrameView;
use crate::preprocess::{Level, Preprocessor};

/// One frame at an engine: what it reads, and what it leaves.
#[derive(Debug)]
pub struct Slot {
    /// What the engine reads.
    pub input: Input,
    /// The regions to count in on the engine's device ([`super::Engine::weights`]). With them the
    /// engine leaves [`Output::Sums`], without them [`Output::Map`].
    pub weights: Option<Arc<RegionWeights>>,
    /// What the engine left of the last frame.
    pub output: Output,
}

/// What an engine reads of a frame.
#[derive(Debug)]
pub enum Input {
    /// The model's input, preprocessed: three planes of raw RGB 0..255, `InputSize::values()` long.
    Values(Vec<f32>),
    /// The same in whole levels, for an engine that takes these ([`super::Engine::takes_levels`]).
    Levels(Vec<u8>),
    /// The picture, for an engine that preprocesses it.
    Picture(Picture),
}

/// What an engine leaves of a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Vehicles in each cell of the density grid, row by row.
    Map(Vec<f32>),
    /// Vehicles in the whole frame, and in each of the regions asked for, in their order.
    Sums {
        /// Vehicles in the whole frame.
        total: f64,
        /// Vehicles in each region.
        regions: Vec<f64>,
    },
}

impl Input {
    /// The values to read; `None` where there is something else.
    pub fn values(&self) -> Option<&[f32]> {
        match self {
            Self::Values(values) => Some(values),
            Self::Levels(_) | Self::Picture(_) => None,
        }
    }

    /// The values to write; `None` where there is something else.
    pub fn values_mut(&mut self) -> Option<&mut [f32]> {
        match self {
            Self::Values(values) => Some(values),
            Self::Levels(_) | Self::Picture(_) => None,
        }
    }

    /// The picture; `None` where the engine takes preprocessed input.
    pub fn picture_mut(&mut self) -> Option<&mut Picture> {
        match self {
            Self::Values(_) | Self::Levels(_) => None,
            Self::Picture(picture) => Some(picture),
        }
    }

    /// Makes the model's input of `frame`. Nothing is done where there is a picture, which the
    /// engine preprocesses.
    ///
    /// # Panics
    /// As [`Preprocessor::run`].
    pub fn preprocess(&mut self, preprocessor: &mut Preprocessor, frame: &FrameView<'_>) {
        match self {
            Self::Values(values) => preprocessor.run(frame, values),
            Self::Levels(levels) => preprocessor.run(frame, levels),
            Self::Picture(_) => (),
        }
    }

    /// Writes whole levels, that of each index. Nothing is done where there is a picture.
    pub fn set_levels(&mut self, mut level: impl FnMut(usize) -> u8) {
        match self {
            Self::Values(values) => {
                (0..).zip(values).for_each(|(at, value)| *value = level(at).into());
            }
            Self::Levels(levels) => (0..).zip(levels).for_each(|(at, value)| *value = level(at)),
            Self::Picture(_) => (),
        }
    }
}

impl Output {
    /// The density map; `None` where there are sums.
    pub fn map(&self) -> Option<&[f32]> {
        match self {
            Self::Map(cells) => Some(cells),
            Self::Sums { .. } => None,
        }
    }

    /// Vehicles in the whole frame.
    pub fn total(&self) -> f64 {
        match self {
            Self::Map(cells) => cells.iter().map(|&cell| f64::from(cell)).sum(),
            Self::Sums { total, .. } => *total,
        }
    }

    /// A map of `cells` cells to write. Its memory is used again where this is one already.
    pub(super) fn map_of(&mut self, cells: usize) -> &mut [f32] {
        if self.map().is_none_or(|map| map.len() != cells) {
            *self = Self::Map(vec![0.0; cells]);
        }
        match self {
            Self::Map(map) => map,
            Self::Sums { .. } => unreachable!("it has just become a map"),
        }
    }

    /// Takes over sums, the first of which is the whole. The regions' memory is used again.
    pub(super) fn set_sums(&mut self, sums: &[f32]) {
        let mut held = match self {
            Self::Sums { regions, .. } => std::mem::take(regions),
            Self::Map(_) => Vec::new(),
        };
        held.clear();
        held.extend(sums.iter().skip(1).map(|&sum| f64::from(sum)));
        *self = Self::Sums {
            total: sums.first().map_or(0.0, |&whole| f64::from(whole)),
            regions: held,
        };
    }
}

impl Slot {
    /// A slot for preprocessed inputs of `info`'s engine, filled with zeros. Every engine takes it.
    pub fn new(info: &EngineInfo) -> Self {
        Self::with(Input::Values(vec![0.0; info.input.values()]), info)
    }

    pub(super) fn with(input: Input, info: &EngineInfo) -> Self {
        Self { input, weights: None, output: Output::Map(vec![0.0; info.columns * info.rows]) }
    }

    /// Releases what was lent to the slot. Memory is kept for the next frame.
    pub fn clear(&mut self) {
        if let Input::Picture(picture) = &mut self.input {
            picture.clear();
        }
        self.weights = None;
    }

    /// The input values, checked to be those of `info`'s engine.
    pub(super) fn values(&self, info: &EngineInfo) -> Result<&[f32], EngineError> {
        match &self.input {
            Input::Values(values) if values.len() == info.input.values() => Ok(values),
            _ => Err(self.unfit(info)),
        }
    }

    /// Writes the input into `levels`, as long as that of `info`'s engine, in whole levels.
    pub(super) fn write_levels(
        &self,
        levels: &mut [u8],
        info: &EngineInfo,
    ) -> Result<(), EngineError> {
        match &self.input {
            Input::Levels(held) if held.len() == levels.len() => levels.copy_from_slice(held),
            Input::Values(held) if held.len() == levels.len() => {
                for (level, value) in levels.iter_mut().zip(held) {
                    *level = u8::of(*value);
                }
            }
            _ => return Err(self.unfit(info)),
        }
        Ok(())
    }

    /// The input is none of `info`'s engine.
    fn unfit(&self, info: &EngineInfo) -> EngineError {
        let needed = info.input.values();
        let holds = match &self.input {
            Input::Values(values) => format!("{} values", values.len()),
            Input::Levels(levels) => format!("{} whole levels", levels.len()),
            Input::Picture(_) => "a picture".to_owned(),
        };
        let reason = format!("a slot holds {holds}, where {needed} preprocessed values are needed");
        EngineError::Infer { kind: info.kind, reason }
    }

    /// Takes over the map that the network made, unless a cell of it is not finite.
    pub(super) fn fill(&mut self, cells: &[f32], info: &EngineInfo) -> Result<(), EngineError> {
        let failed = |reason| EngineError::Infer { kind: info.kind, reason };
        let needed = info.columns * info.rows;
        if cells.len() != needed {
            return Err(failed(format!("{} cells came, where {needed} are needed", cells.len())));
        }
        if let Some(cell) = cells.iter().find(|cell| !cell.is_finite()) {
            return Err(failed(format!("the density has a cell of {cell}")));
        }
        self.output.map_of(needed).copy_from_slice(cells);
        Ok(())
    }
}
