//! What an engine makes of a frame, and where it lies.

use std::time::Duration;

use crate::density::{DensityMap, Grid};
use crate::engine::Output;

/// Where the density grid lies in a frame, and the settings that the frame was handed to the engine
/// with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridPlacement {
    /// The grid.
    pub grid: Grid,
    /// [`Account::generation`](super::Account::generation) at that time.
    pub generation: u64,
}

/// What an engine made of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// The density.
    pub density: Density,
    /// How long the engine worked on the frame's batch.
    pub inference_time: Duration,
}

impl Measurement {
    /// An engine's `output` for a frame whose grid lies at `placement`.
    pub fn new(output: &Output, inference_time: Duration, placement: GridPlacement) -> Self {
        let density = match output {
            Output::Map(cells) => {
                Density::Map(DensityMap { grid: placement.grid, cells: cells.as_slice().into() })
            }
            Output::Sums { total, regions } => Density::Sums {
                total: *total,
                regions: regions.clone(),
                generation: placement.generation,
            },
        };
        Self { density, inference_time }
    }
}

/// A density map, or its sums where no map was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Density {
    /// Vehicles in each cell.
    Map(DensityMap),
    /// Vehicles in the whole frame and in each region.
    Sums {
        /// Vehicles in the whole frame.
        total: f64,
        /// Vehicles in each region, in the order of the settings.
        regions: Vec<f64>,
        /// The settings that the regions are of:
        /// [`Account::generation`](super::Account::generation).
        generation: u64,
    },
}
