//! The thread of a sink: it opens its target, sends what waits, and tries again when that fails.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vehiclecount_core::publish::SinkError;

use super::ledger::Ticket;
use super::outbox::Outbox;
use super::status::{SinkState, SinkStatus};
use super::target::Target;
use super::{file, kafka, mqtt, postgres, webhook};
use crate::config::{Sink, SinkPlace};
use crate::run::board::Board;
use crate::source::Backoff;

/// Most records, and bytes of JSON, that are sent at once.
const BATCH: (usize, usize) = (256, 1 << 20);

/// How often a target is looked after that has nothing to send.
const TICK: Duration = Duration::from_millis(500);

/// A sink at work.
pub struct Worker {
    ticket: Ticket,
    sink: Sink,
    status: Arc<SinkStatus>,
    outbox: Arc<Outbox>,
    board: Arc<Board>,
    backoff: Backoff,
    /// The first of the records that were last sent in vain, and how many: they go again as they
    /// went, so that a receiver knows them.
    again: Option<(i64, usize)>,
}

impl Worker {
    /// The worker of the sink of that ticket.
    pub fn new(
        ticket: Ticket,
        sink: Sink,
        status: Arc<SinkStatus>,
        outbox: Arc<Outbox>,
        board: Arc<Board>,
    ) -> Self {
        let backoff = Backoff::default();
        Self { ticket, sink, status, outbox, board, backoff, again: None }
    }

    /// Works until the outbox or the ticket ends.
    pub fn run(mut self) {
        while self.end().is_none() {
            let work = || {
                let mut target = self.open()?;
                self.work(target.as_mut())?;
                target.end()
            };
            let worked = panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
                Err(SinkError::temporary("it panicked; standard error has the reason"))
            });
            let Err(error) = worked else { return };
            // The holder of another ticket tells how the sink is.
            if self.outbox.is_stale(self.ticket) {
                return;
            }
            self.status.tell(SinkState::Waiting, Some(error.reason));
            let now = Instant::now();
            self.outbox.pause(self.ticket, self.backoff.after(now).saturating_duration_since(now));
        }
    }

    /// Until when it may work, where it is to end.
    fn end(&self) -> Option<Instant> {
        self.outbox.end(self.ticket)
    }

    fn open(&self) -> Result<Box<dyn Target>, SinkError> {
        Ok(match &self.sink.place {
            SinkPlace::File(path, rotation) => Box::new(file::FileTarget::open(path, rotation)?),
            SinkPlace::Mqtt { address, authorities, home_assistant } => {
                let authorities = authorities.as_deref();
                let home_assistant = home_assistant.clone();
                let board = self.board.clone();
                Box::new(mqtt::MqttTarget::open(address, authorities, home_assistant, board)?)
            }
            SinkPlace::Kafka { address, authorities } => {
                Box::new(kafka::KafkaTarget::open(address, authorities.as_deref())?)
            }
            SinkPlace::Postgres { database, keep_days } => {
                Box::new(postgres::PostgresTarget::open(database, *keep_days, &self.board)?)
            }
            SinkPlace::Webhook(webhook) => Box::new(webhook::WebhookTarget::open(webhook)?),
        })
    }

    /// Sends what waits, until the outbox or the ticket ends, or the target fails.
    fn work(&mut self, target: &mut dyn Target) -> Result<(), SinkError> {
        let mut proven = false;
        loop {
            target.tick()?;
            // An HTTP server shows with the first request whether it is there.
            if !proven && !matches!(self.sink.place, SinkPlace::Webhook(_)) {
                self.prove(&mut proven);
            }
            let read = self.outbox.read(self.ticket, BATCH.0, BATCH.1, TICK);
            let mut waiting = read.map_err(|error| {
                SinkError::temporary(format!("the outbox cannot be read: {error:#}"))
            })?;
            if let (Some(first), Some((seq, count))) = (waiting.first(), self.again.take())
                && first.seq == seq
            {
                waiting.truncate(count);
            }
            if waiting.is_empty() && self.end().is_some() {
                return Ok(());
            }
            let records: Vec<_> = waiting.iter().map(|waiting| waiting.record.clone()).collect();
            let mut delivered = 0;
            while delivered < records.len() {
                let result = target.send(&records[delivered..]);
                let count = match &result {
                    Ok(count) => *count,
                    Err(error) => error.delivered,
                };
                if count > 0 {
                    self.outbox.acknowledge(self.ticket, &waiting[delivered..delivered + count]);
                    self.prove(&mut proven);
                }
                delivered += count;
                if let Err(error) = result {
                    let first = waiting.get(delivered);
                    self.again = first.map(|first| (first.seq, waiting.len() - delivered));
                    return Err(error);
                }
                if self.end().is_some_and(|end| Instant::now() >= end) {
                    return Ok(());
                }
            }
        }
    }

    /// The target works.
    fn prove(&mut self, proven: &mut bool) {
        if !*proven {
            *proven = true;
            self.backoff = Backoff::default();
            self.status.tell(SinkState::Live, None);
        }
    }
}
