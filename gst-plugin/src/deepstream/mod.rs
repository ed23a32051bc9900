//! DeepStream, from the outside: its structures declared here, its libraries looked up at run time.
//!
//! Modules stand in the order of use: [`abi`] says how things lie in memory, [`library`] finds the
//! functions, [`batch`] reads and writes the metadata of a buffer, [`tensor`] turns what nvinfer
//! left into a density, [`meta`] is what we leave, [`display`] what nvdsosd draws, [`surface`] the
//! pictures themselves, [`picture`] one of them and its way to an engine, and [`convert`] those
//! that only a copy makes readable; [`doctor`] tries all of it. All `unsafe` code of the DeepStream
//! part is in this folder.

pub mod abi;
pub mod batch;
pub mod convert;
pub mod display;
pub mod doctor;
pub mod library;
pub mod meta;
pub mod picture;
pub mod surface;
pub mod tensor;

pub use library::{Api, DeepStreamError};
