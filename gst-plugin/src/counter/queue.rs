//! What is held between a camera's streaming thread and its pusher.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use vehiclecount_core::account::{FrameStamp, GridPlacement, Measurement};

/// A frame that is held.
pub struct Frame {
    /// The frame itself, untouched.
    pub buffer: gst::Buffer,
    /// Its place in the camera's stream.
    pub stamp: FrameStamp,
    /// When it came.
    pub arrival: Instant,
    /// The same by the system clock, nanoseconds since 1970.
    pub received_time: u64,
    /// When it leaves uncounted; `None` waits as long as it takes.
    pub deadline: Option<Deadline>,
    /// What is known of its count.
    pub state: FrameState,
}

/// When a frame leaves uncounted.
#[derive(Clone)]
pub struct Deadline {
    /// The clock that was the pipeline's when the frame came.
    pub clock: gst::Clock,
    /// Time on that clock.
    pub time: gst::ClockTime,
    /// How long the frame is held till then.
    pub held: Duration,
}

/// What is known of a frame's count.
pub enum FrameState {
    /// Skipped by `interval`: it takes the last count.
    NotDue,
    /// The engine has it, under this ticket; and where the density will lie in it.
    Waiting(u64, GridPlacement),
    /// It should have been counted and was not.
    Missed,
    /// Counted.
    Counted(Measurement),
    /// It takes the count of the frame with this number, from which it does not differ.
    Confirmed(u64),
}

/// What goes through the queue, in order.
#[allow(clippy::large_enum_variant, reason = "nearly all items are frames: boxes save no memory")]
pub enum Item {
    /// A frame.
    Frame(Frame),
    /// A serialized event.
    Event(gst::Event),
}

/// Frames and events in the order in which they leave.
#[derive(Default)]
pub struct Queue {
    items: VecDeque<Item>,
    frames: usize,
}

impl Queue {
    /// Number of frames.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Number of events.
    pub fn events(&self) -> usize {
        self.items.len() - self.frames
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Appends an item.
    pub fn push(&mut self, item: Item) {
        self.frames += usize::from(matches!(item, Item::Frame(_)));
        self.items.push_back(item);
    }

    /// The item that leaves next.
    pub fn front(&self) -> Option<&Item> {
        self.items.front()
    }

    /// Takes the item that leaves next.
    pub fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front();
        self.frames -= usize::from(matches!(item, Some(Item::Frame(_))));
        item
    }

    /// The frame that the engine has under `ticket`, and where the density will lie in it.
    pub fn waiting(&mut self, ticket: u64) -> Option<(&mut Frame, GridPlacement)> {
        self.items.iter_mut().find_map(|item| match item {
            Item::Frame(frame) => match frame.state {
                FrameState::Waiting(held, placement) if held == ticket => Some((frame, placement)),
                _ => None,
            },
            Item::Event(_) => None,
        })
    }

    /// Drops everything. Returns what describes the stream and outlives a flush.
    pub fn clear(&mut self) -> Vec<gst::Event> {
        self.frames = 0;
        let outlives = |event: &gst::Event| {
            event.is_sticky()
                && !matches!(event.type_(), gst::EventType::Segment | gst::EventType::Eos)
        };
        let events = self.items.drain(..).filter_map(|item| match item {
            Item::Event(event) => Some(event).filter(outlives),
            Item::Frame(_) => None,
        });
        events.collect()
    }
}
