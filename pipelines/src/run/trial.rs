//! A try of a camera that is not counted: whether pictures come.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gst::prelude::*;

use super::camera::{StopLast, decoding, drain, source};
use crate::config;
use crate::source::{Health, Source};

/// A camera may take this long until its first picture.
const PATIENCE: Duration = Duration::from_secs(15);

/// The first picture of the camera.
///
/// # Errors
/// Why there is none.
pub fn picture(settings: &config::Camera) -> Result<gst::Sample> {
    let pipeline = gst::Pipeline::new();
    let end = drain()?;
    pipeline.add(&end)?;
    let sink = end.static_pad("sink").context("a sink has a pad")?;
    let (send, pictures) = sync_channel(1);
    sink.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
            // The first one alone is waited for.
            let _ = send.try_send(gst::Sample::builder().buffer(buffer).caps(&caps).build());
        }
        gst::PadProbeReturn::Ok
    });
    let begin = Instant::now();
    let mut source = source(settings, &pipeline, sink, decoding(settings, None));
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    let _stop = StopLast(pipeline.clone());
    pipeline.set_state(gst::State::Playing)?;
    let picture = first(source.as_mut(), &bus, begin, || pictures.try_recv().ok());
    source.end();
    picture
}

fn first(
    source: &mut dyn Source,
    bus: &gst::Bus,
    begin: Instant,
    picture: impl Fn() -> Option<gst::Sample>,
) -> Result<gst::Sample> {
    while begin.elapsed() < PATIENCE {
        source.tick(Instant::now(), None);
        if let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(50)) {
            source.handle(&message, Instant::now(), None);
        }
        if let Some(picture) = picture() {
            return Ok(picture);
        }
        if let Health::Failed(reason) = source.health()
            && source.is_settled()
        {
            bail!("{reason}");
        }
    }
    match source.health() {
        Health::Failed(reason) => bail!("{reason}"),
        _ => bail!("no picture came for {} s", PATIENCE.as_secs()),
    }
}
