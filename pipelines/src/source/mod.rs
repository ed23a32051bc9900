//! Sources of pictures: RTSP cameras and files. Whatever they send, raw upright pictures come out.
//!
//! [`RtspSource`] is a camera in a pipeline: connected, watched, taken out and put back. [`file`]
//! makes the bin of a file. Both decode what GStreamer's installed elements can decode
//! ([`decode`]), say why they failed ([`Reason`]), and show no secret of an address ([`redact`]).

mod address;
pub mod decode;
pub mod file;
mod reason;
pub mod redact;
mod rtsp;

pub use address::{Address, AddressError, NamedAddress, names};
pub use reason::Reason;
pub use rtsp::{Health, RtspOptions, RtspSource, SILENCE};
