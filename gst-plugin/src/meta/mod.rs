//! The metadata on frames, as `GstCustomMeta`: C, Python and Rust read it through a plain
//! `GstStructure`, with no header of ours.
//!
//! `docs/metadata.md` lists every field with its type and unit.

#[cfg(feature = "analytics")]
pub mod analytics;
pub mod count;
pub mod truth;
