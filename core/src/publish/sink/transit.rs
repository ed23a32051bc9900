//! What is on its way to a broker.

use std::collections::VecDeque;
use std::future::Future;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::SinkError;

/// Messages that a client has and the broker has not acknowledged yet.
pub(super) struct Transit<F> {
    /// As many at once, at most.
    window: usize,
    /// How long the broker may take to acknowledge one.
    patience: Duration,
    /// What is wrong when it takes longer.
    silence: &'static str,
    /// The oldest first.
    sent: VecDeque<F>,
    /// When the broker acknowledged one last, or none was on its way.
    progress: Instant,
}

impl<F> Transit<F> {
    /// Nothing is on its way.
    pub fn new(window: usize, patience: Duration, silence: &'static str) -> Self {
        Self { window, patience, silence, sent: VecDeque::new(), progress: Instant::now() }
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// When the broker acknowledged a message last, or none was on its way.
    pub fn progress(&self) -> Instant {
        self.progress
    }
}

impl<F, T, E> Transit<F>
where
    F: Future<Output = Result<T, E>> + Unpin,
{
    /// Sends messages for `turn` at most: `hand` gives one to the client, and `refusal` says why
    /// the broker has refused one. Returns how many of them, from the first one on, the broker has
    /// acknowledged. The next call goes on with the first that it has not: what is on its way is
    /// not sent again.
    pub fn send<M>(
        &mut self,
        runtime: &Runtime,
        messages: &[M],
        turn: Duration,
        hand: impl Fn(&M) -> Result<F, SinkError>,
        refusal: impl Fn(&E, &M) -> SinkError,
    ) -> Result<usize, SinkError> {
        let deadline = Instant::now() + turn;
        let mut delivered = 0;
        if self.sent.is_empty() {
            self.progress = Instant::now();
        }
        while delivered < messages.len() {
            let next = &messages[(delivered + self.sent.len()).min(messages.len())..];
            for message in next.iter().take(self.window - self.sent.len().min(self.window)) {
                self.sent.push_back(hand(message).map_err(|error| error.after(delivered))?);
            }
            let Some(first) = self.sent.front_mut() else { break };
            let left = deadline.saturating_duration_since(Instant::now());
            match runtime.block_on(async { timeout(left, first).await }) {
                Ok(Ok(_)) => {
                    self.sent.pop_front();
                    self.progress = Instant::now();
                    delivered += 1;
                }
                Ok(Err(error)) => {
                    return Err(refusal(&error, &messages[delivered]).after(delivered));
                }
                Err(_) if self.progress.elapsed() > self.patience => {
                    return Err(SinkError::temporary(self.silence).after(delivered));
                }
                Err(_) => break,
            }
        }
        Ok(delivered)
    }
}
