//! Frames of different cameras meet here, and nowhere else.
//!
//! [`WaitingRoom`] is the policy: who waits, who goes next, who is dropped, and when a batch is
//! due. It has no clock and no thread. [`Dispatcher`] drives it: one thread for each of the
//! engine's lanes takes a batch as soon as one is due. A lane that is free takes what is there, so
//! batches grow by themselves while the engine is busy and a lone frame never waits for company,
//! unless a timeout asks for it.

mod dispatcher;
mod pool;
mod waiting;

pub use dispatcher::{BatchSettings, Dispatcher, Outcome, Seat, SharedKey};
pub use pool::Lease;
pub use waiting::{CameraId, Due, WaitingRoom};
