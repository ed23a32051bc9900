//! How large a camera's pictures are shown to the network.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Names of the scales, and the side in pixels of a square of the input's area; `normal` is the
/// size that is set for all cameras.
const NAMES: [(&str, Option<usize>); 4] =
    [("small", Some(256)), ("normal", None), ("large", Some(512)), ("larger", Some(640))];

/// The sides that may be given as numbers. They are few, as the engine is opened for each.
const SIDES: [usize; 6] = [256, 320, 384, 448, 512, 640];

/// The input of one camera, where inputs follow the cameras' shapes (`auto`): about as large as a
/// square of this side. As text, and in JSON, `small` (256), `normal` (what is set for all
/// cameras), `large` (512), `larger` (640), or one of 256, 320, 384, 448, 512, 640.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct InputScale(Option<usize>);

/// The text names no scale.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "input-scale is {0}; write small, normal, large, larger, or 256, 320, 384, 448, 512 or 640"
)]
pub struct NoScale(String);

/// A scale in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "input-scale to be small, normal, large, larger, or a number")]
enum Written {
    Name(String),
    Side(u64),
}

impl InputScale {
    /// The size that is set for all cameras.
    pub const NORMAL: Self = Self(None);

    /// The scales that have names, from the smallest.
    pub fn named() -> impl Iterator<Item = (&'static str, Self)> {
        NAMES.into_iter().map(|(name, side)| (name, Self(side)))
    }

    /// Side of a square of the input's area; `None`: what is set for all cameras.
    pub fn side(self) -> Option<usize> {
        self.0
    }

    /// Whether it is what is set for all cameras.
    pub fn is_normal(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for InputScale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, side)| *side == self.0) {
            Some((name, _)) => f.write_str(name),
            None => self.0.unwrap_or_default().fmt(f),
        }
    }
}

/// An empty text is `normal`.
impl FromStr for InputScale {
    type Err = NoScale;

    fn from_str(text: &str) -> Result<Self, NoScale> {
        if text.is_empty() {
            return Ok(Self::NORMAL);
        }
        if let Some((_, side)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(Self(*side));
        }
        let side = text.parse().ok().filter(|side| SIDES.contains(side));
        side.map(|side| Self(Some(side))).ok_or_else(|| NoScale(text.to_owned()))
    }
}

impl TryFrom<Written> for InputScale {
    type Error = NoScale;

    fn try_from(written: Written) -> Result<Self, NoScale> {
        match written {
            Written::Name(name) => name.parse(),
            Written::Side(side) => side.to_string().parse(),
        }
    }
}

impl From<InputScale> for Written {
    fn from(scale: InputScale) -> Self {
        Self::Name(scale.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_is_read_as_it_is_written() {
        for text in ["small", "normal", "large", "larger", "320", "448"] {
            let scale: InputScale = text.parse().expect(text);
            assert_eq!(scale.to_string(), text);
            let json = serde_json::to_string(&scale).expect("text");
            assert_eq!(serde_json::from_str::<InputScale>(&json).expect("the same"), scale);
        }
        assert_eq!("".parse(), Ok(InputScale::NORMAL));
        assert_eq!("512".parse(), "large".parse::<InputScale>());
        assert_eq!(serde_json::from_str::<InputScale>("640").expect("a number").side(), Some(640));
        for wrong in ["huge", "Large", "0", "-1", "513", "100000", "1.5"] {
            let error = wrong.parse::<InputScale>().expect_err(wrong).to_string();
            assert!(error.contains(wrong) && error.contains("larger"), "{error}");
        }
        let error = serde_json::from_str::<InputScale>("513").expect_err("no such side");
        assert!(error.to_string().contains("513"), "{error}");
    }
}
