//! What is sent: records of one form, whatever they are about.

use serde::Serialize;
use vehiclecount_core::event::Event;
use vehiclecount_core::report::FrameReport;
use vehiclecount_core::window::WindowRecord;

use crate::config::RecordKind;
use crate::run::board::unix_time;

/// What records are made of.
#[derive(Clone, Debug)]
pub enum Subject {
    /// One picture.
    Count(Box<FrameReport>),
    /// A window of time.
    Window(WindowRecord),
    /// Something that happened.
    Event(Event),
}

impl Subject {
    /// What it is about.
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Count(_) => RecordKind::Count,
            Self::Window(_) => RecordKind::Window,
            Self::Event(_) => RecordKind::Event,
        }
    }
}

/// A record as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its id, which no other record has; the same each time that it is sent.
    pub id: String,
    /// The camera.
    pub camera: String,
    /// What it is about: the name of a [`RecordKind`].
    pub kind: String,
    /// The record in JSON, without a line feed.
    pub json: String,
}

/// Gives records their ids: the start of the service in milliseconds since 1970, in hexadecimal
/// digits, and a number that counts from 1.
#[derive(Debug)]
pub struct Register {
    start: u64,
    number: u64,
}

/// The form of all records.
#[derive(Serialize)]
struct Envelope<'a, T> {
    id: &'a str,
    kind: RecordKind,
    #[serde(flatten)]
    subject: T,
}

impl Register {
    /// A register that begins now.
    pub fn new() -> Self {
        Self { start: (unix_time() * 1e3) as u64, number: 0 }
    }

    /// A record of `subject`.
    ///
    /// # Errors
    /// No JSON can be made of it: there is a number in it that is none.
    pub fn record(&mut self, subject: &Subject) -> serde_json::Result<Record> {
        fn json<T: Serialize>(
            id: &str,
            kind: RecordKind,
            subject: T,
        ) -> serde_json::Result<String> {
            serde_json::to_string(&Envelope { id, kind, subject })
        }
        self.number += 1;
        let (id, kind) = (format!("{:x}-{}", self.start, self.number), subject.kind());
        let (camera, json) = match subject {
            Subject::Count(report) => (&*report.camera, json(&id, kind, report.to_json(false))?),
            Subject::Window(window) => (&*window.camera, json(&id, kind, window)?),
            Subject::Event(event) => (&*event.camera, json(&id, kind, event)?),
        };
        Ok(Record { camera: camera.to_owned(), kind: kind.name().to_owned(), json, id })
    }
}

#[cfg(test)]
mod tests {
    use vehiclecount_core::event::EventKind;

    use super::*;

    #[test]
    fn records_of_all_kinds_have_an_id_of_their_own_and_their_kind() {
        let mut register = Register { start: 0xabc, number: 0 };
        let event = Event { time: 1.5, camera: "north".to_owned(), kind: EventKind::CameraBack };
        let record = register.record(&Subject::Event(event)).unwrap();
        assert_eq!(
            record.json,
            r#"{"id":"abc-1","kind":"event","time":1.5,"camera":"north","event":"camera-back"}"#
        );
        assert_eq!((record.id.as_str(), record.camera.as_str()), ("abc-1", "north"));
        let window: WindowRecord = serde_json::from_str(
            r#"{"camera":"north","start":60,"window":60,"covered":60,"stale":0,"mean":1,"max":2,
                "p95":2,"levels":{"free":1,"moderate":0,"dense":0,"jammed":0}}"#,
        )
        .unwrap();
        let record = register.record(&Subject::Window(window)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&record.json).unwrap();
        assert_eq!((&value["id"], &value["kind"]), (&"abc-2".into(), &"window".into()));
        assert_eq!((&value["camera"], &value["max"]), (&"north".into(), &2.0.into()));
    }
}
