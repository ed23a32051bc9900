//! Sources of pictures: cameras of RTSP, HTTP and V4L2, and files. Whatever they send, raw upright
//! pictures come out.
//!
//! [`RtspSource`] is a camera in a pipeline: connected, watched, taken out and put back; so are
//! [`HttpSource`] and [`LocalSource`], a device, a file or simulated traffic. [`file`] makes the
//! bin of a file. All decode what GStreamer's installed elements can decode ([`decode`]), say why
//! they failed ([`Reason`]), and show no secret of an address ([`redact`]).

use std::time::Instant;

mod address;
pub mod decode;
mod decoding;
mod device;
pub mod file;
mod http;
mod local;
mod mount;
mod reason;
pub mod redact;
mod rtsp;
mod skip;
mod turns;

pub use address::{Address, AddressError, NamedAddress, names};
pub use decoding::{Choice, Decoder, Decoding};
pub use device::device_at;
pub use http::{HttpOptions, HttpSource};
pub use local::{Local, LocalSource};
pub use mount::Backoff;
pub use reason::Reason;
pub use rtsp::{Health, RtspOptions, RtspSource, SILENCE};
pub use skip::Skip;
pub use turns::Turns;

/// A source that is connected, watched, taken out and put back.
pub trait Source {
    /// Connects where it is time to. `heard` is when its last frame came. To be called again and
    /// again.
    fn tick(&mut self, now: Instant, heard: Option<Instant>);

    /// Takes in a message of the pipeline's bus. `heard` is when the source's last frame came: what
    /// ends at once may have had one since the last tick. Gives whether it is this source's own.
    fn handle(&mut self, message: &gst::MessageRef, now: Instant, heard: Option<Instant>) -> bool;

    /// How it is.
    fn health(&self) -> &Health;

    /// How many connections had brought pictures and broke.
    fn broken(&self) -> u64;

    /// Whether it failed for a reason that does not pass by itself, such as a wrong password.
    fn is_refused(&self) -> bool;

    /// Whether `health` is the last word for now: no better reason for a failure is sought.
    fn is_settled(&self) -> bool {
        true
    }

    /// Takes the source out and ends its stream.
    fn end(&mut self);
}
