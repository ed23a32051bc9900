//! Frames of different cameras meet here, and nowhere else.
//!
//! [`WaitingRoom`] is the policy: who waits, who goes next, who is dropped, and when a batch is
//! due. It has no clock and no thread. [`Dispatcher`] drives it: one thread for each of the
//! engine's lanes takes a batch as soon as one is due. A lane that is free takes what is there, so
//! batches grow by themselves while the engine is busy and a lone frame never waits for company,
//! unless a timeout asks for it.
//!
//! One engine may be open at several input sizes, an [`Instance`] each. A camera's [`Seat`] moves
//! to the one that suits its pictures; a batch is of one size; cameras of all sizes take turns.
//!
//! A frame may be counted in several inputs, the looks of [`crate::detail`]: it has one outcome.

mod dispatcher;
mod instance;
mod instances;
mod lanes;
mod looks;
mod openings;
mod sharing;
mod waiting;

pub use dispatcher::{BATCH_SIZES, BatchSettings, Dispatcher, Outcome, Seat, Totals};
pub use instance::{Instance, Lease};
pub use instances::Reopen;
pub use sharing::SharedKey;
pub use waiting::{CameraId, Due, WaitingRoom};
