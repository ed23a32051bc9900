//! Clocks and latency, and what GStreamer says of a frame's time, for
//! [`vehiclecount_core::account`].

use std::time::Duration;

use gst::prelude::*;

/// The pipeline's clock, or the system's where there is none yet.
pub fn clock_of(element: &gst::Element) -> gst::Clock {
    element.clock().unwrap_or_else(gst::SystemClock::obtain)
}

/// Whether what comes into `sinkpad` is live: asks upstream.
pub fn is_live(sinkpad: &impl IsA<gst::Pad>) -> bool {
    let mut query = gst::query::Latency::new();
    sinkpad.peer_query(&mut query) && query.result().0
}

/// Tells the pipeline that the latency of `element` has changed.
pub fn post_latency(element: &gst::Element) {
    let _ = element.post_message(gst::message::Latency::builder().src(element).build());
}

/// When frames came, on the pipeline's clock. Another clock goes on where the one before ended.
#[derive(Debug, Default)]
pub struct ArrivalClock {
    last: Option<(gst::Clock, gst::ClockTime)>,
    passed: Duration,
}

impl ArrivalClock {
    /// The time now, by `clock`: never less than before.
    pub fn now(&mut self, clock: &gst::Clock) -> Duration {
        let now = clock.time();
        if let Some((_, before)) = self.last.take().filter(|(held, _)| held == clock) {
            self.passed += now.saturating_sub(before).into();
        }
        self.last = Some((clock.clone(), now));
        self.passed
    }
}

/// How the times on buffers become times of the stream.
#[derive(Clone, Debug, Default)]
pub enum StreamTime {
    /// By a segment in time: to running time, also for what lies outside the segment.
    Segment(gst::FormattedSegment<gst::ClockTime>),
    /// There is no segment, or it counts something else than time: as they are.
    #[default]
    Buffer,
}

impl StreamTime {
    /// From now on, `segment` holds.
    pub fn of(segment: &gst::Segment) -> Self {
        segment
            .downcast_ref::<gst::ClockTime>()
            .map_or(Self::Buffer, |segment| Self::Segment(segment.clone()))
    }

    /// The time of `buffer` in its stream, nanoseconds; `None` where it has none.
    pub fn of_buffer(&self, buffer: &gst::BufferRef) -> Option<i128> {
        let time = buffer.pts().or(buffer.dts())?;
        match self {
            // Backwards from an unknown end: no running time can be told.
            Self::Segment(segment) if segment.rate() < 0.0 && segment.stop().is_none() => None,
            Self::Segment(segment) => segment.to_running_time_full(time).map(|time| match time {
                gst::Signed::Positive(time) => i128::from(time.nseconds()),
                gst::Signed::Negative(time) => -i128::from(time.nseconds()),
            }),
            Self::Buffer => Some(time.nseconds().into()),
        }
    }
}

/// How long a frame lasts, as its caps say: `None` where they do not.
pub fn duration_of(fps: gst::Fraction) -> Option<Duration> {
    let (frames, seconds) = (fps.numer(), fps.denom());
    (frames > 0 && seconds > 0)
        .then(|| Duration::from_secs_f64(f64::from(seconds) / f64::from(frames)))
}
