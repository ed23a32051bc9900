//! An MQTT broker. Records go to it one by one. Beside them it keeps what holds at the moment: the
//! state of each camera and whether it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vehiclecount_core::publish::SinkError;
use vehiclecount_core::publish::sink::TURN;
use vehiclecount_core::publish::sink::mqtt::{MqttAddress, MqttConnection, MqttMessage, level};

use super::home_assistant;
use super::record::Record;
use super::target::Target;
use crate::run::board::{Board, State};

/// Time between two states of a camera at least.
const STATES: Duration = Duration::from_secs(1);

/// The end of the topic of whether a camera is there.
const AVAILABILITY: &str = "/availability";

/// A connection to a broker.
pub struct MqttTarget {
    connection: MqttConnection,
    topic: String,
    /// The topic under which Home Assistant looks for devices.
    home_assistant: Option<String>,
    board: Arc<Board>,
    /// What the broker keeps, by topic.
    kept: BTreeMap<String, String>,
    looked: Option<Instant>,
}

impl MqttTarget {
    /// Connects. Home Assistant, where its topic is given, is told which cameras there are.
    ///
    /// # Errors
    /// The broker is not there, or refuses.
    pub fn open(
        address: &MqttAddress,
        authorities: Option<&[u8]>,
        home_assistant: Option<String>,
        board: Arc<Board>,
    ) -> Result<Self, SinkError> {
        let connection = MqttConnection::open(address, authorities)?;
        let topic = address.topic().to_owned();
        let kept = BTreeMap::new();
        Ok(Self { connection, topic, home_assistant, board, kept, looked: None })
    }

    /// Has the broker keep messages, as far as it does not yet.
    fn keep(&mut self, messages: Vec<(String, String)>) -> Result<(), SinkError> {
        let new =
            messages.into_iter().filter(|(topic, payload)| self.kept.get(topic) != Some(payload));
        let new: Vec<_> =
            new.map(|(topic, payload)| MqttMessage { topic, payload, retain: true }).collect();
        // With nothing to send this shows whether the connection is still there.
        let mut delivered = self.connection.send(&new, TURN)?;
        while delivered < new.len() {
            delivered += self.connection.send(&new[delivered..], TURN)?;
        }
        self.kept.extend(new.into_iter().map(|message| (message.topic, message.payload)));
        // What is empty the broker forgets.
        self.kept.retain(|_, payload| !payload.is_empty());
        Ok(())
    }
}

impl Target for MqttTarget {
    fn send(&mut self, records: &[Record]) -> Result<usize, SinkError> {
        let message = |record: &Record| MqttMessage {
            topic: format!("{}/{}/{}", self.topic, level(&record.camera), record.kind),
            payload: record.json.clone(),
            retain: false,
        };
        let messages: Vec<_> = records.iter().map(message).collect();
        self.connection.send(&messages, TURN)
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < STATES) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let mut messages = Vec::new();
        let mut present = Vec::new();
        for camera in self.board.cameras() {
            if let Some(prefix) = &self.home_assistant {
                messages.extend(home_assistant::sensors(prefix, &self.topic, &camera.settings));
            }
            let topic = format!("{}/{}", self.topic, level(&camera.settings.name));
            let is_live = camera.status().state == State::Live;
            let availability = if is_live { "online" } else { "offline" };
            messages.push((topic.clone() + AVAILABILITY, availability.to_owned()));
            // Without a count of the moment the last state stays, as that of a camera that is not
            // available.
            let report = camera.current().map(|(_, report)| report.to_json(false));
            let state = report.and_then(|report| serde_json::to_string(&report).ok());
            messages.extend(state.map(|state| (format!("{topic}/state"), state)));
            present.push(format!("{topic}/"));
        }
        // Of a camera that was removed, or a region, nothing is kept.
        let told: BTreeSet<&String> = messages.iter().map(|(topic, _)| topic).collect();
        let is_gone = |topic: &&String| {
            !told.contains(topic) && !present.iter().any(|camera| topic.starts_with(camera))
        };
        let gone: Vec<_> = self.kept.keys().filter(is_gone).cloned().collect();
        messages.extend(gone.into_iter().map(|topic| (topic, String::new())));
        self.keep(messages)
    }

    /// No camera is available any more.
    fn end(&mut self) -> Result<(), SinkError> {
        let cameras = self.kept.keys().filter(|topic| topic.ends_with(AVAILABILITY));
        let offline = cameras.map(|topic| (topic.clone(), "offline".to_owned()));
        self.keep(offline.collect())
    }
}
