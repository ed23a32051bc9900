//! One picture at an engine: the whole of it, and its regions with detail.

use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result};
use image::RgbImage;
use vehiclecount_core::density::DensityMap;
use vehiclecount_core::detail::{Blend, Crop, Plan};
use vehiclecount_core::engine::{
    self, Engine, EngineError, EngineInfo, EngineRequest, Lane, OpenedEngine, Slot,
};
use vehiclecount_core::frame::{FrameFormat, FrameView, PixelFormat, Plane};
use vehiclecount_core::preprocess::{InputSize, Placement, Preprocessor, Resize};
use vehiclecount_core::region::{Detail, Levels, MAX_DETAIL, Region};

use super::metrics::Cells;

/// How many times larger than in the whole picture all of it is shown: above 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Enlargement(pub f64);

impl FromStr for Enlargement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = text.parse().ok().filter(|value| *value > 1.0 && *value <= MAX_DETAIL);
        value.map(Self).ok_or_else(|| format!("give a number above 1 and at most {MAX_DETAIL}"))
    }
}

impl Enlargement {
    /// The whole frame as a region with that detail.
    pub fn region(self) -> Region {
        rectangle("all", [0.0, 0.0, 1.0, 1.0], Detail::Times(self.0))
    }
}

/// A region between its left, upper, right and lower edge, as shares of the frame.
pub fn rectangle(name: &str, edges: [f64; 4], detail: Detail) -> Region {
    let [left, top, right, bottom] = edges;
    let polygon = vec![[left, top], [right, top], [right, bottom], [left, bottom]];
    let mut region = Region::new(name.to_owned(), polygon, Levels::default());
    region.detail = detail;
    region
}

/// Opens the engine at `size`: the one that was opened `first`, where one was, for all counts are
/// to be of one kind and precision.
pub fn open(
    request: &EngineRequest,
    size: InputSize,
    first: Option<&EngineInfo>,
) -> Result<OpenedEngine, EngineError> {
    let request = request.clone().at(size);
    engine::open(&match first {
        Some(info) => request.as_opened(info),
        None => request,
    })
}

/// A lane of an engine at one input size, and what it needs.
pub struct Eye {
    engine: Arc<dyn Engine>,
    lane: Box<dyn Lane>,
    slot: Slot,
    whole: Option<Preprocessor>,
    resize: Resize,
}

/// What was seen of a picture.
pub struct Seen {
    /// Where the picture lies in the input.
    pub placement: Placement,
    /// The density over the whole input.
    pub density: DensityMap,
    /// Inputs that were counted: 1, and one for each crop.
    pub inputs: usize,
}

impl Seen {
    /// The density as the metrics take it.
    pub fn cells(&self) -> Cells<'_> {
        let grid = &self.density.grid;
        Cells { columns: grid.columns, rows: grid.rows, density: &self.density.cells }
    }
}

impl Eye {
    /// A lane of `engine`.
    pub fn new(engine: &Arc<dyn Engine>, resize: Resize) -> Result<Self> {
        let (lane, slot) = (engine.lane()?, Slot::preprocessed_for(&**engine));
        Ok(Self { engine: engine.clone(), lane, slot, whole: None, resize })
    }

    /// Counts a picture, those of `regions` with detail in crops of their own.
    pub fn see(&mut self, picture: &RgbImage, regions: &[Region]) -> Result<Seen> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let format = FrameFormat::new(PixelFormat::Rgb, width, height);
        let planes = [Plane { data: picture, stride: width * 3 }];
        let (view, resize) = (FrameView::new(format, &planes)?, self.resize);
        let info = self.engine.info().clone();
        let mut whole = self.whole.take();
        let preprocessor = Preprocessor::held(&mut whole, format, resize, info.input);
        let placement = preprocessor.placement();
        let cells = self.infer(&view, preprocessor)?;
        self.whole = whole;
        let grid = placement.grid(info.columns, info.rows);
        let Some(plan) = Plan::new(regions, (width, height), resize, info.input) else {
            let density = DensityMap { grid, cells: cells.into() };
            return Ok(Seen { placement, density, inputs: 1 });
        };
        let mut maps = vec![cells];
        for look in &plan.looks {
            let Crop { x, y, width, height } = look.crop;
            let part = view.crop(x, y, width, height)?;
            let mut preprocessor = Preprocessor::new(part.format(), resize, info.input);
            maps.push(self.infer(&part, &mut preprocessor)?);
        }
        let blend = Blend::new(&plan, grid);
        let cells = blend.blend(&maps.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let density = DensityMap { grid: blend.grid(), cells: cells.into() };
        Ok(Seen { placement, density, inputs: maps.len() })
    }

    fn infer(&mut self, view: &FrameView<'_>, preprocessor: &mut Preprocessor) -> Result<Vec<f32>> {
        self.slot.input.preprocess(preprocessor, view);
        self.lane.infer(std::slice::from_mut(&mut self.slot))?;
        let map = self.slot.output.map().context("the engine left no density map")?;
        Ok(map.to_vec())
    }
}
