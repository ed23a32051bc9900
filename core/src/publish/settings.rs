//! What a publisher is set to, and how long it waits.

use std::time::Duration;

use super::sink::SinkSettings;

/// How long a publisher waits for its sink when it begins, is flushed, or ends.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The same for a sink that has taken nothing for [`PATIENCE`] already.
pub const GRACE: Duration = Duration::from_millis(250);

/// What the user chose of a publisher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishSettings {
    /// Reports that wait at most. Publishers that share a sink share the largest queue.
    pub queue_size: usize,
    /// The sink's own. The first publisher of a location decides.
    pub sink: SinkSettings,
}
