//! A topic of Apache Kafka. The key of a record is its camera.

use std::path::Path;

use vehiclecount_core::publish::SinkError;
use vehiclecount_core::publish::sink::TURN;
use vehiclecount_core::publish::sink::kafka::{KafkaAddress, KafkaConnection, KafkaRecord};

use super::record::Record;
use super::target::Target;

/// A connection to a cluster.
pub struct KafkaTarget(KafkaConnection);

impl KafkaTarget {
    /// Connects.
    ///
    /// # Errors
    /// The cluster is not there or refuses, or has no such topic.
    pub fn open(address: &KafkaAddress, authorities: Option<&Path>) -> Result<Self, SinkError> {
        KafkaConnection::open(address, authorities).map(Self)
    }
}

impl Target for KafkaTarget {
    fn send(&mut self, records: &[Record]) -> Result<usize, SinkError> {
        let records = records
            .iter()
            .map(|record| KafkaRecord { key: record.camera.clone(), value: record.json.clone() });
        self.0.send(&records.collect::<Vec<_>>(), TURN)
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        self.0.send(&[], TURN).map(drop)
    }
}
