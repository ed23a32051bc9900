//! Pictures of a clip or a camera, as files that a person can look at.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use gst_video::prelude::*;
use image::RgbImage;

use crate::source::decode::element;
use crate::source::{Address, Health, RtspOptions, RtspSource, Source, file, redact};
use crate::stop::stop;

/// How long the next picture may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two pictures of a camera.
const APART: gst::ClockTime = gst::ClockTime::from_seconds(2);

/// Takes `number` pictures of a clip, over all its length, or of an RTSP camera, and writes them
/// into `folder`. Gives their files.
pub fn pictures(source: &str, number: usize, folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let shown = redact::url(source);
    let (name, taken) = if source.contains("://") {
        let address: Address = source.parse().with_context(|| shown.clone())?;
        let name = format!("camera-{}", address.host().replace([':', '.', '[', ']'], "-"));
        (name, camera(address, number))
    } else {
        let path = Path::new(source);
        let name = path.file_stem().context("a clip has a name")?.to_string_lossy().into_owned();
        (name, clip(path, number))
    };
    let taken = taken.with_context(|| {
        format!(
            "{shown}: no picture could be taken of it: give pictures (JPEG, PNG), a clip or an rtsp:// URL"
        )
    })?;
    ensure!(!taken.is_empty(), "{shown}: it has no picture");
    let mut paths = Vec::new();
    for (index, picture) in taken.iter().enumerate() {
        let path = folder.join(format!("{name}-{}.png", index + 1));
        picture.save(&path).with_context(|| format!("cannot write {}", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}

/// What decodes pictures, and what they are taken from.
struct Taker {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    /// Where a source is linked.
    place: gst::Pad,
}

impl Taker {
    fn new() -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let convert = element("videoconvert")?;
        let sink = gst_app::AppSink::builder()
            .caps(&gst::Caps::builder("video/x-raw").field("format", "RGB").build())
            .sync(false)
            .max_buffers(1)
            .build();
        pipeline.add_many([&convert, sink.upcast_ref()])?;
        convert.link(&sink)?;
        let place = convert.static_pad("sink").context("a filter has a sink pad")?;
        Ok(Self { pipeline, sink, place })
    }

    /// The next picture and its time; `None` where none has come by `until`.
    fn next(&self, until: gst::ClockTime) -> Result<Option<(RgbImage, gst::ClockTime)>> {
        let Some(sample) = self.sink.try_pull_sample(until) else { return Ok(None) };
        let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps()) else {
            bail!("a picture without caps came")
        };
        let info = gst_video::VideoInfo::from_caps(caps)?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
        let (width, height) = (info.width(), info.height());
        let stride = frame.plane_stride()[0] as usize;
        let rows = frame.plane_data(0)?.chunks(stride).take(height as usize);
        let pixels: Vec<u8> = rows.flat_map(|row| &row[..width as usize * 3]).copied().collect();
        let picture =
            RgbImage::from_raw(width, height, pixels).context("a picture is too short")?;
        Ok(Some((picture, buffer.pts().unwrap_or_default())))
    }

    /// Why it has failed, where it has.
    fn failure(&self) -> Option<String> {
        let bus = self.pipeline.bus()?;
        let message = bus.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(redact::text(&error.error().to_string()).into()),
            _ => None,
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        // Nothing is left to be done about a pipeline that does not stop.
        stop(&self.pipeline);
    }
}

fn clip(path: &Path, number: usize) -> Result<Vec<RgbImage>> {
    fs::metadata(path)?;
    let taker = Taker::new()?;
    let source = file::source(path, None)?;
    taker.pipeline.add(&source)?;
    source.static_pad("src").context("a source has a pad")?.link(&taker.place)?;
    // A failure is told by a message.
    let _ = taker.pipeline.set_state(gst::State::Playing);
    let begin = Instant::now();
    let mut taken = Vec::new();
    let mut next = gst::ClockTime::ZERO;
    let mut step = None;
    loop {
        match taker.next(gst::ClockTime::from_mseconds(100))? {
            Some((picture, time)) => {
                // The clip's length is known when its first picture is.
                let step = *step.get_or_insert_with(|| {
                    next = time;
                    let length = taker.pipeline.query_duration::<gst::ClockTime>();
                    length.map_or(APART, |length| length / number as u64)
                });
                if time >= next {
                    taken.push(picture);
                    next += step;
                }
            }
            None if taker.sink.is_eos() => return Ok(taken),
            None => {
                if let Some(failure) = taker.failure() {
                    bail!("{failure}");
                }
                let late = taken.is_empty() && begin.elapsed() > PATIENCE;
                ensure!(!late, "no picture came within {} seconds", PATIENCE.as_secs());
            }
        }
        if taken.len() == number {
            return Ok(taken);
        }
    }
}

fn camera(address: Address, number: usize) -> Result<Vec<RgbImage>> {
    let taker = Taker::new()?;
    let options = RtspOptions::default();
    let name = "camera".to_owned();
    let (now, sink) = (Instant::now(), taker.place.clone());
    let mut source = RtspSource::new(name, address, options, &taker.pipeline, sink, now);
    let _ = taker.pipeline.set_state(gst::State::Playing);
    let bus = taker.pipeline.bus().context("a pipeline has a bus")?;
    let (mut taken, mut heard) = (Vec::new(), Instant::now());
    let mut next: Option<gst::ClockTime> = None;
    let result = loop {
        let now = Instant::now();
        source.tick(now, Some(heard));
        while let Some(message) = bus.pop() {
            source.handle(&message, now, Some(heard));
        }
        if let Some((picture, time)) = taker.next(gst::ClockTime::from_mseconds(50))? {
            heard = Instant::now();
            if next.is_none_or(|next| time >= next) {
                taken.push(picture);
                next = Some(time + APART);
            }
        }
        if taken.len() == number {
            break Ok(taken);
        }
        let reason = match source.health() {
            Health::Failed(reason) => reason.clone(),
            _ => format!("no picture came within {} seconds", PATIENCE.as_secs()),
        };
        if source.is_refused() && source.is_settled() || heard.elapsed() > PATIENCE {
            break Err(anyhow::anyhow!("{}", redact::text(&reason)));
        }
    };
    source.end();
    result
}
