//! An MQTT 5 broker: each report is a message of quality of service 1, which the broker
//! acknowledges.

mod address;
mod connection;

use super::address::destination;
use super::{Destination, LocationError, Report, Sent, Sink, SinkError, TURN};

use address::Mqtt;
pub use address::{MqttAddress, level};
pub use connection::{MqttConnection, MqttMessage};

/// `mqtt://...` or `mqtts://...`.
pub fn from_url(url: &str) -> Result<Destination, LocationError> {
    destination::<Mqtt>(url, |address| {
        let connection = MqttConnection::open(address, None)?;
        Ok(Box::new(MqttSink { connection, topic: address.topic().to_owned() }))
    })
}

/// Reports under `TOPIC/CAMERA/count`.
struct MqttSink {
    connection: MqttConnection,
    topic: String,
}

impl Sink for MqttSink {
    fn send(&mut self, reports: &[Report]) -> Result<Sent, SinkError> {
        let messages: Vec<_> = reports
            .iter()
            .map(|report| MqttMessage {
                topic: format!("{}/{}/count", self.topic, level(&report.camera)),
                payload: report.json.clone(),
                retain: false,
            })
            .collect();
        self.connection.send(&messages, TURN).map(|delivered| Sent { delivered })
    }
}
