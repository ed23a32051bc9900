//! Apache Kafka: each report is a record whose key is the camera, so that those of a camera are in
//! one partition, in order.

mod address;
mod connection;

use super::address::destination;
use super::{Destination, LocationError, Report, Sent, Sink, SinkError, TURN};

use address::Kafka;
pub use address::KafkaAddress;
pub use connection::{KafkaConnection, KafkaRecord};

/// `kafka://...` or `kafkas://...`.
pub fn from_url(url: &str) -> Result<Destination, LocationError> {
    destination::<Kafka>(url, |address| {
        Ok(Box::new(KafkaSink(KafkaConnection::open(address, None)?)))
    })
}

/// Reports as records.
struct KafkaSink(KafkaConnection);

impl Sink for KafkaSink {
    fn send(&mut self, reports: &[Report]) -> Result<Sent, SinkError> {
        let records = reports
            .iter()
            .map(|report| KafkaRecord { key: report.camera.clone(), value: report.json.clone() });
        let records: Vec<_> = records.collect();
        self.0.send(&records, TURN).map(|delivered| Sent { delivered })
    }
}
