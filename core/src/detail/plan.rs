//! Which parts of a picture are looked at more closely.

use crate::density::{Grid, Rect};
use crate::preprocess::{InputSize, Placement, Resize};
use crate::region::{Polygon, Region};

/// Crops of one camera at most. Where its regions would need more, all of them are shown smaller.
pub const MAX_LOOKS: usize = 8;

/// Below this enlargement a crop gains too little for its cost: none is made.
const LEAST_GAIN: f64 = 1.2;

/// Share of a crop's side that is context on each side of what is counted in it.
const MARGIN: f64 = 0.125;

/// A region is shown this much smaller than asked for where that saves a crop.
const SLACK: f64 = 0.85;

/// Steps in which a smaller enlargement is tried.
const SLACK_STEPS: u32 = 30;

/// By this the enlargement falls until the crops are few enough.
const STEP: f64 = 0.95;

/// A rectangle of the picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// First column.
    pub x: usize,
    /// First row.
    pub y: usize,
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
}

/// A crop that is counted by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// What the network sees.
    pub crop: Crop,
    /// What is counted of it, in frame coordinates: the part of the region inside this rectangle.
    /// Those of one region lie side by side and cover it.
    pub own: Rect,
    /// Index among the plan's regions.
    pub region: usize,
}

/// The crops of pictures of one size in inputs of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Width and height of the pictures, in pixels.
    pub picture: (usize, usize),
    /// The input that the picture and its crops go into.
    pub input: InputSize,
    /// How they are fitted into it.
    pub resize: Resize,
    /// Polygons of the regions that are looked at more closely, in the order of the settings: where
    /// they overlap, the first one counts.
    pub regions: Vec<Polygon>,
    /// The crops.
    pub looks: Vec<Look>,
    /// How many times larger than in the whole picture each of the regions is shown.
    pub factors: Vec<f64>,
    /// Whether regions are shown smaller than they ask for, or the last ones not at all, because
    /// [`MAX_LOOKS`] crops are not enough.
    pub is_limited: bool,
}

impl Plan {
    /// The crops for `regions` in pictures of `width` x `height`. `None` where no region asks for
    /// one, or the picture is not shown smaller than it is.
    pub fn new(
        regions: &[Region],
        (width, height): (usize, usize),
        resize: Resize,
        input: InputSize,
    ) -> Option<Self> {
        let mut wanted: Vec<_> = regions
            .iter()
            .filter_map(|region| Some((&region.polygon, region.detail.factor()?)))
            .collect();
        let whole = Placement::new(resize, width, height, input);
        // Native scale on the axis that is shown smallest.
        let native = (width as f64 / whole.width as f64).max(height as f64 / whole.height as f64);
        wanted.iter_mut().for_each(|(_, factor)| *factor = factor.min(native));
        let frame = Window::new(&whole, input, width, height);
        // Where not even slightly enlarged regions fit, the last ones go without.
        (1..=wanted.len()).rev().find_map(|count| {
            let mut limit = 1.0;
            loop {
                let mut plan = Self {
                    picture: (width, height),
                    input,
                    resize,
                    regions: Vec::new(),
                    looks: Vec::new(),
                    factors: Vec::new(),
                    is_limited: limit < 1.0 || count < wanted.len(),
                };
                for (polygon, factor) in &wanted[..count] {
                    plan.add(polygon, factor * limit, &frame);
                }
                match plan.looks.len() {
                    0 => return None,
                    1..=MAX_LOOKS => return Some(plan),
                    _ => limit *= STEP,
                }
            }
        })
    }

    fn add(&mut self, polygon: &Polygon, factor: f64, frame: &Window) {
        if factor < LEAST_GAIN {
            return;
        }
        let bounds = |axis: usize| {
            let values = polygon.iter().map(|point| point[axis]);
            (values.clone().fold(1.0, f64::min), values.fold(0.0, f64::max))
        };
        let (across, down) = (bounds(0), bounds(1));
        let at = |factor: f64| {
            (windows(across, frame.width / factor), windows(down, frame.height / factor))
        };
        let number = |(across, down): &(Vec<Span>, Vec<Span>)| across.len() * down.len();
        let mut chosen = (factor, at(factor));
        // A little smaller, it may need fewer crops.
        for step in 1..=SLACK_STEPS {
            let smaller = factor * (1.0 - (1.0 - SLACK) * f64::from(step) / f64::from(SLACK_STEPS));
            let made = at(smaller);
            if smaller >= LEAST_GAIN && number(&made) < number(&chosen.1) {
                chosen = (smaller, made);
            }
        }
        let (factor, (across, down)) = chosen;
        let region = self.regions.len();
        for row in &down {
            for column in &across {
                let (x, width) = pixels(column.seen, self.picture.0);
                let (y, height) = pixels(row.seen, self.picture.1);
                let own = Rect {
                    x: column.own.0,
                    y: row.own.0,
                    width: column.own.1 - column.own.0,
                    height: row.own.1 - row.own.0,
                };
                self.looks.push(Look { crop: Crop { x, y, width, height }, own, region });
            }
        }
        self.regions.push(polygon.clone());
        self.factors.push(factor);
    }

    /// Where the density of `look` lies in the frame: a grid of `columns` x `rows` cells over its
    /// whole input.
    pub fn grid(&self, look: &Look, columns: usize, rows: usize) -> Grid {
        let Crop { x, y, width, height } = look.crop;
        let part = Placement::new(self.resize, width, height, self.input).grid(columns, rows).rect;
        let (across, down) = (self.picture.0 as f64, self.picture.1 as f64);
        let rect = Rect {
            x: (x as f64 + part.x * width as f64) / across,
            y: (y as f64 + part.y * height as f64) / down,
            width: part.width * width as f64 / across,
            height: part.height * height as f64 / down,
        };
        Grid { columns, rows, rect }
    }
}

/// What an input shows of the frame at the whole picture's scale, in frame coordinates.
struct Window {
    width: f64,
    height: f64,
}

impl Window {
    fn new(whole: &Placement, input: InputSize, width: usize, height: usize) -> Self {
        // A pixel of rounding in the placement would cost a column of the picture.
        let scale_x = whole.width as f64 / width as f64;
        let scale_y = whole.height as f64 / height as f64;
        Self {
            width: input.width as f64 / scale_x / width as f64,
            height: input.height as f64 / scale_y / height as f64,
        }
    }
}

/// A crop on one axis, in frame coordinates.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// What the network sees: from, to.
    seen: (f64, f64),
    /// What is counted of it.
    own: (f64, f64),
}

/// Windows of `length` that cover `from..to` with context on both sides, where the frame has any.
/// Neighbours overlap by a margin of each, in the middle of which one hands over to the other.
fn windows((from, to): (f64, f64), length: f64) -> Vec<Span> {
    if length >= 1.0 {
        return vec![Span { seen: (0.0, 1.0), own: (from, to) }];
    }
    let margin = MARGIN * length;
    let (first, last) = ((from - margin).max(0.0), (to + margin).min(1.0));
    let extent = last - first;
    if extent <= length {
        // One window around the middle, moved into the frame.
        let begin = ((from + to - length) / 2.0).clamp(0.0, 1.0 - length);
        return vec![Span { seen: (begin, begin + length), own: (from, to) }];
    }
    // So much further is each than the one before, at most; a part in a billion is rounding.
    let number = 1 + ((extent - length) / (length - 2.0 * margin) - 1e-9).ceil() as usize;
    let step = (extent - length) / (number - 1) as f64;
    let begin = |index: usize| first + index as f64 * step;
    // The middle of the overlap of a window with the one before.
    let edge = |index: usize| (begin(index) + begin(index - 1) + length) / 2.0;
    (0..number)
        .map(|index| Span {
            seen: (begin(index), begin(index) + length),
            own: (
                if index == 0 { from } else { edge(index) },
                if index + 1 == number { to } else { edge(index + 1) },
            ),
        })
        .collect()
}

/// The whole pixels nearest to a part of a side: the first, and how many.
fn pixels((from, to): (f64, f64), side: usize) -> (usize, usize) {
    let length = (((to - from) * side as f64).round() as usize).clamp(1, side);
    let first = (from * side as f64).round() as usize;
    (first.min(side - length), length)
}
