//! What is known of the records that wait for one sink.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::record::Record;
use super::status::SinkStatus;
use crate::config::Sink;

/// Bytes that are taken for a record beside its JSON.
pub const OVERHEAD: u64 = 128;

/// A record that waits for a sink.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Its place in the order of all.
    pub seq: i64,
    /// When it came, seconds since 1970.
    pub time: f64,
    /// What is sent.
    pub record: Record,
}

impl Waiting {
    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        self.record.json.len() as u64 + OVERHEAD
    }
}

/// What a sink reads with. It holds until the sink is changed or removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    /// The sink's place in the outbox, which no other one gets.
    pub sink: usize,
    /// Which one of this sink it is.
    pub issue: u32,
}

/// What is known of the records of one sink.
pub struct Ledger {
    /// The sink's name.
    pub name: String,
    /// That of the ticket that holds.
    pub issue: u32,
    /// How long a record waits.
    pub keep: Duration,
    /// Bytes of records that wait at most.
    pub keep_bytes: u64,
    /// The sink's figures.
    pub status: Arc<SinkStatus>,
    /// Bytes of the records that wait.
    pub bytes: u64,
    /// Records up to here are delivered or dropped, even if they are still in the file.
    pub gone: i64,
    /// Records that are not in the file yet.
    pub pending: VecDeque<Waiting>,
}

impl Ledger {
    /// Nothing waits for the sink.
    pub fn new(sink: &Sink, status: Arc<SinkStatus>) -> Self {
        Self {
            name: sink.name.clone(),
            issue: 0,
            keep: sink.keep,
            keep_bytes: sink.keep_bytes,
            status,
            bytes: 0,
            gone: 0,
            pending: VecDeque::new(),
        }
    }

    /// All up to `seq`, of that many `bytes`, is delivered or dropped.
    pub fn forget(&mut self, seq: i64, bytes: u64) {
        self.gone = self.gone.max(seq);
        self.bytes = self.bytes.saturating_sub(bytes);
        while self.pending.front().is_some_and(|waiting| waiting.seq <= seq) {
            self.pending.pop_front();
        }
    }
}
