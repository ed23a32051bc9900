//! Regions that are looked at more closely than the rest of the picture.
//!
//! A network counts small vehicles best when they are shown large. A region with a
//! [`Detail`](crate::region::Detail) is therefore counted in crops of the picture beside the whole
//! picture. [`Plan`] says which crops; [`Blend`] makes one density map of the whole picture's and
//! the crops', in which nothing is counted twice.
//!
//! A crop goes into the same input size as the whole picture, so the engine is open for it already
//! and the crops stand in the same batches.

mod blend;
mod plan;

pub use blend::Blend;
pub use plan::{Crop, Look, MAX_LOOKS, Plan};

#[cfg(test)]
mod tests;
