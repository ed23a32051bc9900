//! Reports leave the process: for each destination a bounded queue, a worker and a sink.
//!
//! ```text
//! Publisher ──┐
//! Publisher ──┼─> Queue ──> worker thread ──> Sink (file, pipe, standard output)
//! Publisher ──┘
//! ```
//!
//! - [`Publisher`] is what a stream holds. [`Publisher::push`] never blocks on input or output.
//! - [`Queue`] holds the reports that wait. It is bounded: a full queue drops its oldest report and
//!   counts it.
//! - The worker, one thread for each destination, opens the [`Sink`] and sends what waits. A sink
//!   that fails is opened again, and the reports that it did not take are sent again.
//! - Publishers of one process with the same location share the queue, the worker and the sink.
//! - [`Thinning`] decides which frames of a camera are published at all.
//!
//! No call waits longer than [`PATIENCE`] for a sink, even if the operating system never returns
//! from a write. A new transport is a file in `sink/` and a line in its table of schemes.

mod publisher;
mod queue;
mod settings;
mod shared;
pub mod sink;
mod thinning;
mod trouble;
mod worker;

pub use publisher::{PublishError, Publisher};
pub use queue::{Account, Queue, Statistics};
pub use settings::{GRACE, PATIENCE, PublishSettings};
pub use shared::{Event, Listener};
pub use sink::{Report, Sent, Sink, SinkError, SinkSettings};
pub use thinning::{FrameTime, Thinning};
pub use trouble::{Cause, TroubleEnd};
