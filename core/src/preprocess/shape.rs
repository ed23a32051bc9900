//! Input sizes for pictures of several aspect ratios, all at about the same cost.
//!
//! What a network costs follows the area of its input. A square input spends 44 % of that on the
//! border of a 16:9 picture. [`InputShapes::around`] makes a few sizes of about one area, of which
//! [`InputShapes::fit`] chooses the one that shows a picture largest: a 16:9 picture in 512x288
//! instead of 384x384 is shown a third larger, in the same time.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{InputScale, InputSize};

/// Width to height of the sizes that [`InputShapes::around`] makes: the commonest first, which is
/// also what an engine opens first.
const ASPECTS: [(usize, usize); 5] = [(16, 9), (4, 3), (1, 1), (9, 16), (3, 4)];

/// Width to height of the size for pictures that are wider still. It is as wide as that for 16:9:
/// the same scale at a lower cost. At the same cost, pictures of 3.4:1 were shown half larger than
/// in the square, and models counted a fifth too many in them.
const WIDE: (usize, usize) = (16, 7);

/// Which input sizes are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputChoice {
    /// Each picture goes into the size that fits its aspect ratio, of about the area of a square
    /// with this side in pixels; `None`: of the area of the manifest's size.
    Auto(Option<usize>),
    /// Every picture goes into this size.
    Fixed(InputSize),
}

impl InputChoice {
    /// Whether every picture goes into one size.
    pub fn is_fixed(self) -> bool {
        matches!(self, Self::Fixed(_))
    }
}

impl Default for InputChoice {
    fn default() -> Self {
        Self::Auto(None)
    }
}

/// The text names no input sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "write auto, auto:SIDE for the area of another square, such as auto:288, or WIDTHxHEIGHT, such as 384x384"
)]
pub struct NoChoice;

/// As `auto`, `auto:SIDE` or WIDTHxHEIGHT; an empty text is the default, `auto`.
impl FromStr for InputChoice {
    type Err = NoChoice;

    fn from_str(text: &str) -> Result<Self, NoChoice> {
        match text.split_once(':') {
            Some(("auto", side)) => {
                side.parse().map(|side| Self::Auto(Some(side))).map_err(|_| NoChoice)
            }
            Some(_) => Err(NoChoice),
            None if text.is_empty() || text == "auto" => Ok(Self::default()),
            None => text.parse().map(Self::Fixed).map_err(|_| NoChoice),
        }
    }
}

impl fmt::Display for InputChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto(None) => write!(f, "auto"),
            Self::Auto(Some(side)) => write!(f, "auto:{side}"),
            Self::Fixed(size) => write!(f, "{size}"),
        }
    }
}

/// The input sizes that pictures may go into, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputShapes {
    sizes: Vec<InputSize>,
    /// What sides are multiples of, and the largest; `None` for one fixed size.
    sides: Option<(usize, usize)>,
}

impl InputShapes {
    /// One size for every picture.
    pub fn fixed(size: InputSize) -> Self {
        Self { sizes: vec![size], sides: None }
    }

    /// Sizes of about the area of `base`, for several aspect ratios, and a lower one for wide
    /// pictures: sides are the multiples of `multiple_of` that are nearest, at most `max_side`. For
    /// 384x384 and 32: 512x288, 448x320, 384x384, 288x512, 320x448, 512x224. `base` is one of them.
    pub fn around(base: InputSize, multiple_of: usize, max_side: usize) -> Self {
        let area = (base.width * base.height) as f64;
        let most = (max_side / multiple_of).max(1) as f64;
        let side = |length: f64| {
            (length / multiple_of as f64).round().clamp(1.0, most) as usize * multiple_of
        };
        let made = ASPECTS.map(|(width, height)| {
            let aspect = width as f64 / height as f64;
            InputSize { width: side((area * aspect).sqrt()), height: side((area / aspect).sqrt()) }
        });
        let width = made[0].width;
        let wide = InputSize { width, height: side((width * WIDE.1) as f64 / WIDE.0 as f64) };
        let mut sizes = Vec::with_capacity(made.len() + 2);
        for size in made.into_iter().chain([wide, base]) {
            if !sizes.contains(&size) {
                sizes.push(size);
            }
        }
        Self { sizes, sides: Some((multiple_of, max_side)) }
    }

    /// The sizes for a camera of that scale: the same where there is one fixed size.
    pub fn at(&self, scale: InputScale) -> Self {
        match (scale.side(), self.sides) {
            (Some(side), Some((multiple_of, max_side))) => {
                let side = side.next_multiple_of(multiple_of).min(max_side);
                Self::around(InputSize { width: side, height: side }, multiple_of, max_side)
            }
            _ => self.clone(),
        }
    }

    /// The size that an engine opens first: where there are several, that for 16:9.
    pub fn first(&self) -> InputSize {
        self.sizes[0]
    }

    /// All sizes.
    pub fn sizes(&self) -> &[InputSize] {
        &self.sizes
    }

    /// The size that shows a picture of `width` x `height` pixels largest, and of several that do
    /// the smallest.
    pub fn fit(&self, width: usize, height: usize) -> InputSize {
        fit(&self.sizes, width, height).unwrap_or(self.sizes[0])
    }
}

/// As [`InputShapes::fit`], among `sizes`; `None` where there are none.
pub fn fit<'a>(
    sizes: impl IntoIterator<Item = &'a InputSize>,
    width: usize,
    height: usize,
) -> Option<InputSize> {
    let (width, height) = (width.max(1) as u128, height.max(1) as u128);
    // The scale is the smaller one of `size.width / width` and `size.height / height`; multiplied
    // by both sides of the picture it is a whole number.
    let scale = |size: &InputSize| (size.width as u128 * height).min(size.height as u128 * width);
    let area = |size: &InputSize| size.width * size.height;
    sizes.into_iter().min_by_key(|size| (std::cmp::Reverse(scale(size)), area(size))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size(width: usize, height: usize) -> InputSize {
        InputSize { width, height }
    }

    fn around(side: usize) -> InputShapes {
        InputShapes::around(size(side, side), 32, 4096)
    }

    #[test]
    fn camera_gets_the_size_of_its_aspect_ratio() {
        let shapes = around(384);
        let cases = [
            ((1920, 1080), size(512, 288)),
            ((1280, 720), size(512, 288)),
            ((3840, 2160), size(512, 288)),
            ((640, 360), size(512, 288)),
            ((640, 480), size(448, 320)),
            ((2592, 1944), size(448, 320)),
            ((1280, 1024), size(448, 320)),
            ((720, 576), size(448, 320)),
            ((2160, 2160), size(384, 384)),
            ((3000, 2900), size(384, 384)),
            ((2560, 1080), size(512, 224)),
            ((5120, 1440), size(512, 224)),
            ((2000, 1000), size(512, 288)),
            ((1080, 1920), size(288, 512)),
            ((480, 640), size(320, 448)),
            // A line of pixels, either way.
            ((4000, 1), size(512, 224)),
            ((1, 4000), size(288, 512)),
            ((1, 1), size(384, 384)),
        ];
        for ((width, height), expected) in cases {
            assert_eq!(shapes.fit(width, height), expected, "{width}x{height}");
        }
        assert_eq!(shapes.first(), size(512, 288));
    }

    #[test]
    fn sizes_cost_about_the_same_and_suit_the_network() {
        for side in [256, 288, 320, 384, 416, 512, 640] {
            let shapes = around(side);
            for InputSize { width, height } in shapes.sizes() {
                let cost = (width * height) as f64 / (side * side) as f64;
                let least = if *width > 2 * height { 0.7 } else { 0.9 };
                assert!((least..=1.1).contains(&cost), "{side}: {width}x{height} costs {cost:.2}");
                assert_eq!((width % 32, height % 32), (0, 0));
            }
        }
        // A long side of 384 is the area of 288x288.
        assert_eq!(around(288).fit(1280, 720), size(384, 224));
    }

    #[test]
    fn no_picture_is_shown_smaller_than_in_the_square() {
        let (shapes, square) = (around(384), InputShapes::fixed(size(384, 384)));
        let scale = |size: InputSize, width: usize, height: usize| {
            (size.width as f64 / width as f64).min(size.height as f64 / height as f64)
        };
        for width in (16..4000).step_by(97) {
            for height in (16..4000).step_by(89) {
                let (fitted, whole) = (shapes.fit(width, height), square.fit(width, height));
                assert!(scale(fitted, width, height) >= scale(whole, width, height));
            }
        }
    }

    #[test]
    fn tiny_and_huge_areas_keep_sides_that_a_network_takes() {
        for (base, multiple_of) in
            [(size(32, 32), 32), (size(64, 64), 8), (size(4096, 4096), 32), (size(512, 288), 32)]
        {
            let shapes = InputShapes::around(base, multiple_of, 4096);
            assert!(shapes.sizes().contains(&base));
            for &InputSize { width, height } in shapes.sizes() {
                for side in [width, height] {
                    assert!(side.is_multiple_of(multiple_of) && (1..=4096).contains(&side));
                }
            }
        }
    }

    #[test]
    fn camera_of_another_scale_has_sizes_of_another_area() {
        let shapes = around(384);
        for (scale, expected) in [
            ("small", size(352, 192)),
            ("normal", size(512, 288)),
            ("384", size(512, 288)),
            ("large", size(672, 384)),
            ("larger", size(864, 480)),
        ] {
            let scale = scale.parse().expect(scale);
            assert_eq!(shapes.at(scale).fit(1920, 1080), expected, "{scale}");
            // One fixed size is that of every camera.
            let fixed = InputShapes::fixed(size(384, 384));
            assert_eq!(fixed.at(scale), fixed);
        }
    }

    #[test]
    fn choice_is_read_as_it_is_written() {
        for text in ["auto", "auto:288", "384x224"] {
            assert_eq!(text.parse::<InputChoice>().expect(text).to_string(), text);
        }
        assert_eq!("".parse(), Ok(InputChoice::Auto(None)));
        for wrong in ["automatic", "auto:", "auto:x", "auto:-32", "384", "384x", "fixed:384"] {
            let error = wrong.parse::<InputChoice>().expect_err(wrong).to_string();
            assert!(error.contains("auto:SIDE") && error.contains("WIDTHxHEIGHT"), "{error}");
        }
    }
}
