//! An HTTP server that takes records, by the sink that `vehiclecountpublish` has.

use vehiclecount_core::publish::SinkError;
use vehiclecount_core::publish::sink::webhook::{Webhook, WebhookConnection};

use super::record::Record;
use super::target::Target;

/// A server that is sent to.
pub struct WebhookTarget(WebhookConnection);

impl WebhookTarget {
    /// A client of the server. Nothing is sent yet.
    ///
    /// # Errors
    /// There is no authority whose certificates are trusted.
    pub fn open(webhook: &Webhook) -> Result<Self, SinkError> {
        WebhookConnection::open(webhook).map(Self)
    }
}

impl Target for WebhookTarget {
    fn send(&mut self, records: &[Record]) -> Result<usize, SinkError> {
        let reports: Vec<_> = records.iter().map(|record| record.json.as_str()).collect();
        let first = records.first().map(|record| record.id.as_str()).unwrap_or_default();
        self.0.send(&reports, |count| format!("{first}.{count}"))
    }
}
