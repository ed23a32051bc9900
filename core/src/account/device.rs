//! A camera's regions in the memory of an engine's device, for engines that sum the density there.

use std::sync::Arc;

use crate::density::Grid;
use crate::engine::gpu::RegionWeights;
use crate::engine::{Engine, EngineError};
use crate::region::Coverage;

/// The regions of one camera on the device. They are made anew where the settings or the grid
/// change.
#[derive(Default)]
pub struct DeviceRegions {
    held: Option<CachedWeights>,
}

struct CachedWeights {
    generation: u64,
    grid: Grid,
    /// `None` where the engine sums nothing, or cannot take these.
    weights: Option<Arc<RegionWeights>>,
}

impl DeviceRegions {
    /// The regions for a frame whose grid is `grid`, and the generation of the settings that they
    /// are of. `generation` is the current one
    /// ([`Account::generation`](super::Account::generation)); where it is another one than before,
    /// `coverage` says it again, and the regions of `grid`. `None` where `engine` makes maps alone,
    /// or could not take the regions: that is an error once, after which the map is asked for.
    pub fn of(
        &mut self,
        engine: &dyn Engine,
        grid: &Grid,
        generation: u64,
        coverage: impl FnOnce() -> (u64, Vec<Coverage>),
    ) -> Result<(Option<Arc<RegionWeights>>, u64), EngineError> {
        if let Some(held) =
            self.held.as_ref().filter(|held| held.generation == generation && held.grid == *grid)
        {
            return Ok((held.weights.clone(), generation));
        }
        let (generation, coverage) = coverage();
        let made = engine.weights(&coverage).transpose();
        let weights = made.as_ref().ok().cloned().flatten();
        self.held = Some(CachedWeights { generation, grid: *grid, weights: weights.clone() });
        made.map(|_| (weights, generation))
    }
}
