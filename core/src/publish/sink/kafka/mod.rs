//! Apache Kafka: each report is a record whose key is the camera, so that those of a camera are in
//! one partition, in order.

mod address;
mod connection;

use std::path::Path;

use super::{Destination, LocationError, Report, Sent, Sink, SinkError, TURN};

pub use address::KafkaAddress;
pub use connection::{KafkaConnection, KafkaRecord};

/// `kafka://...` or `kafkas://...`.
pub fn from_url(url: &str) -> Result<Destination, LocationError> {
    let address: KafkaAddress = url
        .parse()
        .map_err(|reason| LocationError::Malformed { location: super::masked(url), reason })?;
    let place = address.to_string();
    let open = move |_: &super::Log| -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(KafkaSink(KafkaConnection::open(&address, None::<&Path>)?)))
    };
    // A cluster that is addressed by two logins has two connections.
    Ok(Destination { key: url.to_owned(), place, open: Box::new(open) })
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
