//! The reports that wait for a sink. A policy without thread, clock or lock.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::sink::Report;

/// What became of the reports of one publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Reports that the sink has taken.
    pub delivered: u64,
    /// Reports that wait, those that the sink is working on included.
    pub waiting: u64,
    /// Reports that never reached the sink.
    pub dropped: u64,
}

/// The statistics of one publisher, which its reports carry with them.
pub type Account = Arc<Mutex<Statistics>>;

/// Reports that wait for a sink, oldest first.
///
/// At most `limit` reports wait; then the oldest is dropped. Those that the sink is working on come
/// on top: they are never dropped by newer ones.
#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<(Report, Account)>,
    /// Accounts of the reports that the sink is working on, in order.
    sending: Vec<Account>,
    limit: usize,
    dropped: u64,
    generation: u64,
}

impl Queue {
    /// A queue in which at most `limit` reports wait (one at least).
    pub fn new(limit: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            sending: Vec::new(),
            limit: limit.max(1),
            dropped: 0,
            generation: 0,
        }
    }

    /// The most reports that wait.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Lets at most `limit` reports wait (one at least) from the next one on.
    pub fn resize(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Reports that wait, those that the sink is working on included.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.sending.len()
    }

    /// Whether everything has been delivered or dropped.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reports dropped since the beginning.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Grows with each [`Queue::abandon`].
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Appends a report. Returns whether the oldest was dropped for it.
    pub fn push(&mut self, report: Report, account: &Account) -> bool {
        account.lock().waiting += 1;
        self.waiting.push_back((report, account.clone()));
        self.trim() > 0
    }

    /// Hands out the oldest reports: at most `count`, and no more than `bytes` of JSON except for
    /// the first. Nothing is handed out before all of the last ones are delivered or returned.
    pub fn take(&mut self, count: usize, bytes: usize) -> Vec<Report> {
        let mut reports = Vec::new();
        if !self.sending.is_empty() {
            return reports;
        }
        let mut total = 0;
        while let Some((report, _)) = self.waiting.front() {
            total += report.json.len();
            if reports.len() == count || (total > bytes && !reports.is_empty()) {
                break;
            }
            let (report, account) = self.waiting.pop_front().expect("the queue has a front");
            reports.push(report);
            self.sending.push(account);
        }
        reports
    }

    /// The sink has taken the first `count` of the reports that were handed out.
    pub fn deliver(&mut self, count: usize) {
        for account in self.sending.drain(..count.min(self.sending.len())) {
            let mut account = account.lock();
            account.waiting -= 1;
            account.delivered += 1;
        }
    }

    /// The sink did not take the rest of the reports that were handed out: they wait again, and the
    /// oldest are dropped where that is too many. Returns how many were dropped.
    pub fn put_back(&mut self, reports: Vec<Report>) -> u64 {
        debug_assert_eq!(reports.len(), self.sending.len());
        for entry in reports.into_iter().zip(self.sending.drain(..)).rev() {
            self.waiting.push_front(entry);
        }
        self.trim()
    }

    /// Drops everything, what the sink is working on included.
    pub fn abandon(&mut self) {
        self.generation += 1;
        let sending = self.sending.drain(..);
        for account in sending.chain(self.waiting.drain(..).map(|(_, account)| account)) {
            drop_one(&account);
            self.dropped += 1;
        }
    }

    fn trim(&mut self) -> u64 {
        let surplus = self.waiting.len().saturating_sub(self.limit);
        for (_, account) in self.waiting.drain(..surplus) {
            drop_one(&account);
        }
        self.dropped += surplus as u64;
        surplus as u64
    }
}

fn drop_one(account: &Account) {
    let mut account = account.lock();
    account.waiting -= 1;
    account.dropped += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(number: u32) -> Report {
        Report { camera: "north".to_owned(), unique_id: 0, json: number.to_string() }
    }

    fn numbers(reports: &[Report]) -> Vec<u32> {
        reports.iter().map(|report| report.json.parse().unwrap()).collect()
    }

    fn statistics(delivered: u64, waiting: u64, dropped: u64) -> Statistics {
        Statistics { delivered, waiting, dropped }
    }

    #[test]
    fn full_queue_drops_the_oldest_that_the_sink_does_not_have() {
        let (mut queue, account) = (Queue::new(2), Account::default());
        assert!(!queue.push(report(1), &account));
        let taken = queue.take(8, 1024);
        assert!(!queue.push(report(2), &account));
        assert!(!queue.push(report(3), &account));
        assert!(queue.push(report(4), &account));
        assert_eq!(numbers(&taken), [1]);
        assert_eq!(*account.lock(), statistics(0, 3, 1));
        queue.deliver(1);
        assert_eq!(numbers(&queue.take(8, 1024)), [3, 4]);
        assert_eq!(*account.lock(), statistics(1, 2, 1));
    }

    #[test]
    fn reports_that_come_back_keep_their_order_and_give_way_to_newer_ones() {
        let (mut queue, account) = (Queue::new(3), Account::default());
        for number in 1..=3 {
            queue.push(report(number), &account);
        }
        let mut taken = queue.take(8, 1024);
        queue.push(report(4), &account);
        queue.deliver(1);
        taken.drain(..1);
        assert_eq!(queue.put_back(taken), 0);
        queue.push(report(5), &account);
        assert_eq!(numbers(&queue.take(8, 1024)), [3, 4, 5]);
        assert_eq!(*account.lock(), statistics(1, 3, 1));
    }

    #[test]
    fn batches_are_bounded_in_number_and_size_but_never_empty() {
        let (mut queue, account) = (Queue::new(8), Account::default());
        for number in [100, 200, 300, 400, 500] {
            queue.push(report(number), &account);
        }
        assert_eq!(numbers(&queue.take(2, 1024)), [100, 200]);
        assert!(queue.take(2, 1024).is_empty(), "the last ones are not delivered yet");
        queue.deliver(2);
        assert_eq!(numbers(&queue.take(8, 6)), [300, 400]);
        queue.deliver(2);
        assert_eq!(numbers(&queue.take(8, 1)), [500]);
    }

    #[test]
    fn every_publisher_has_its_own_account() {
        let (north, south) = (Account::default(), Account::default());
        let mut queue = Queue::new(2);
        queue.push(report(1), &north);
        queue.push(report(2), &south);
        queue.push(report(3), &south);
        assert_eq!((*north.lock(), *south.lock()), (statistics(0, 0, 1), statistics(0, 2, 0)));
        queue.take(1, 1024);
        queue.abandon();
        // A late answer of the sink changes nothing.
        queue.deliver(1);
        assert_eq!((*north.lock(), *south.lock()), (statistics(0, 0, 1), statistics(0, 0, 2)));
        assert!(queue.is_empty());
        assert_eq!(queue.dropped(), 3);
    }
}
