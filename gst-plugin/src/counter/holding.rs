//! How many frames of a camera are held, and for how long.

use std::time::Duration;

use super::formats::StreamFormat;

/// Frames that are held at least.
const LEAST: usize = 8;

/// Memory of the frames of one live camera, at most, where these are more than [`LEAST`].
const BYTES: usize = 512 << 20;

/// Frames a second of a camera that does not say how many it sends.
const UNKNOWN_RATE: f64 = 60.0;

/// Frames beside those that `max-latency` asks for: one that comes and one that leaves.
const MARGIN: usize = 2;

/// What a live camera's frames need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HoldLimits {
    /// Frames that are held at most.
    pub frames: usize,
    /// How long a frame is held at most.
    pub latency: Duration,
    /// Where `latency` is less than what was asked for: the memory of a frame, bytes, and the rate
    /// that was reckoned with.
    pub limited: Option<(usize, f64)>,
}

impl HoldLimits {
    /// Holds frames of `format` for `max_latency`, or of any where it is not known.
    pub fn of(max_latency: Duration, format: Option<&StreamFormat>) -> Self {
        let rate = format.and_then(|format| format.rate);
        Self::new(max_latency, rate, format.map(|format| format.info.size()))
    }

    /// `fps`: frames a second, where the camera says so; `bytes`: memory of a frame, where that is
    /// known.
    fn new(max_latency: Duration, fps: Option<f64>, bytes: Option<usize>) -> Self {
        let rate = fps.unwrap_or(UNKNOWN_RATE);
        let needed =
            ((max_latency.as_secs_f64() * rate).ceil() as usize).saturating_add(MARGIN).max(LEAST);
        let Some(bytes) = bytes else {
            return Self { frames: needed, latency: max_latency, limited: None };
        };
        let most = (BYTES / bytes.max(1)).max(LEAST);
        if needed <= most {
            return Self { frames: needed, latency: max_latency, limited: None };
        }
        let latency = Duration::from_secs_f64((most - MARGIN) as f64 / rate).min(max_latency);
        Self { frames: most, latency, limited: Some((bytes, rate)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn frames_of_the_whole_latency_are_held() {
        let frames = |latency, fps| HoldLimits::new(MS(latency), fps, Some(1 << 20)).frames;
        assert_eq!(
            [frames(200, Some(25.0)), frames(200, Some(60.0)), frames(200, None)],
            [8, 14, 14]
        );
        assert_eq!(
            [frames(5000, Some(25.0)), frames(0, Some(25.0)), frames(5000, Some(0.2))],
            [127, 8, 8]
        );
    }

    #[test]
    fn memory_limits_how_long_frames_are_held() {
        // 1080p in NV12: 512 MiB hold 172 frames.
        let holding = HoldLimits::new(MS(60_000), Some(25.0), Some(1920 * 1080 * 3 / 2));
        assert_eq!(
            (holding.frames, holding.latency, holding.limited),
            (172, MS(6800), Some((3_110_400, 25.0)))
        );
        // A frame larger than all of it, and a rate that no camera has.
        let holding = HoldLimits::new(MS(200), Some(f64::from(i32::MAX)), Some(usize::MAX));
        assert_eq!(holding.frames, LEAST);
        assert!(holding.latency < MS(1));
        let holding = HoldLimits::new(MS(60_000), Some(f64::from(i32::MAX)), Some(0));
        assert!(holding.frames <= BYTES);
    }
}
