//! Counts vehicles in pictures with a density-map network, for many cameras at once.
//!
//! Nothing here knows GStreamer, and nothing but the worker threads (of the dispatcher and of
//! publishing) reads a clock. The modules stand in the order in which a frame meets them:
//!
//! 1. [`frame`]: a borrowed view of a decoded picture.
//! 2. [`preprocess`]: picture to model input, colour conversion and resize in one pass, and where
//!    the picture lies in that input.
//!    [`change`]: whether it differs from the picture that was counted last.
//! 3. [`batch`]: frames of different cameras meet in batches; who goes next, who is dropped.
//! 4. [`model`] and [`engine`]: which network, and what runs it.
//!    [`golden`]: whether that counts what it must. [`preset`]: which of them suits a need, on this
//!    [`machine`].
//! 5. [`density`]: vehicles per cell, and where each cell lies in the frame.
//! 6. [`region`] and [`count`]: cells inside polygons, smoothing, levels.
//!    [`detail`]: regions that are looked at more closely, and one density of all looks.
//!    [`account`]: which count belongs to which frame of a camera, and how old it is.
//! 7. [`report`]: what is said of a frame, as JSON.
//! 8. [`window`] and [`event`]: what is said of a length of time, and of a change.
//! 9. [`publish`]: reports leave the process, through a queue into files and pipes.
//!
//! [`heat`] gives densities their colours in pictures.
//!
//! [`cuda`] is what these need of an NVIDIA GPU: the driver, memory, streams, and the kernels that
//! stand beside their CPU twins.

pub mod account;
pub mod batch;
pub mod cache;
pub mod change;
pub mod count;
pub mod cuda;
pub mod density;
pub mod detail;
pub mod digest;
pub mod engine;
pub mod event;
pub mod frame;
pub mod golden;
pub mod heat;
pub mod machine;
pub mod model;
mod places;
pub mod preprocess;
pub mod preset;
pub mod publish;
pub mod region;
pub mod report;
pub mod scene;
pub mod tensorrt;
pub mod window;
