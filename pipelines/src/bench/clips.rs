//! Clips of simulated traffic, as cameras send them.
//!
//! They are made once and kept in the cache folder: the same clips for all that are compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use vehiclecount_core::cache;

/// Frames of a clip in a second.
pub(super) const FPS: u32 = 25;

/// Raised when clips of the same name become other ones.
const VERSION: u32 = 1;

/// How long one clip may take before something is broken.
const BOUND: gst::ClockTime = gst::ClockTime::from_seconds(600);

/// How pictures are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Codec {
    /// H.264
    H264,
    /// H.265
    H265,
}

impl Codec {
    /// As the figures call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
        }
    }

    /// As people write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
        }
    }

    fn encoder(self) -> &'static str {
        match self {
            Self::H264 => "x264enc",
            Self::H265 => "x265enc",
        }
    }

    /// The elements of GStreamer that parse it and make packets of it.
    pub(super) fn elements(self) -> (&'static str, &'static str) {
        match self {
            Self::H264 => ("h264parse", "rtph264pay"),
            Self::H265 => ("h265parse", "rtph265pay"),
        }
    }

    /// Which element is missing to make, show and read clips of it, if one is.
    pub(super) fn missing(self) -> Option<&'static str> {
        let (parser, payloader) = self.elements();
        let decoder = match self {
            Self::H264 => "avdec_h264",
            Self::H265 => "avdec_h265",
        };
        [self.encoder(), parser, payloader, decoder, "mp4mux"]
            .into_iter()
            .find(|name| gst::ElementFactory::find(name).is_none())
    }
}

/// A kind of clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub codec: Codec,
    pub width: u32,
    pub height: u32,
    /// Frames of each clip.
    pub frames: u32,
}

/// A clip on disk.
#[derive(Clone, Debug)]
pub(super) struct Clip {
    /// In a container.
    pub file: PathBuf,
    /// The bare stream, with the parameter sets before each key picture.
    pub stream: PathBuf,
}

impl Kind {
    /// Bits a second: what cameras of this size are usually set to.
    fn kilobits(self) -> u32 {
        let pixels = f64::from(self.width * self.height) / f64::from(1280 * 720);
        let full = match self.codec {
            Codec::H264 => 3000.0,
            Codec::H265 => 1800.0,
        };
        (full * pixels.powf(0.8)).max(100.0) as u32
    }

    /// `number` clips of this kind, each of another place.
    pub fn clips(self, number: usize) -> Result<Vec<Clip>> {
        let folder = cache::folder().unwrap_or_else(std::env::temp_dir).join("bench");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        (0..number).map(|index| self.clip(&folder, index)).collect()
    }

    fn clip(self, folder: &Path, index: usize) -> Result<Clip> {
        let name = format!(
            "v{VERSION}-{}-{}x{}-{}-{index}",
            self.codec.name(),
            self.width,
            self.height,
            self.frames
        );
        let clip = Clip {
            file: folder.join(format!("{name}.mp4")),
            stream: folder.join(format!("{name}.{}", self.codec.name())),
        };
        if !clip.file.is_file() || !clip.stream.is_file() {
            // Whole or not at all, also where two benches make it at the same time.
            let work = tempfile::tempdir_in(folder).context("no room for clips")?;
            let made = Clip { file: work.path().join("file"), stream: work.path().join("stream") };
            self.make(index, &made)?;
            fs::rename(&made.stream, &clip.stream)?;
            fs::rename(&made.file, &clip.file)?;
        }
        Ok(clip)
    }

    /// One key picture a second, no B pictures: as cameras encode.
    fn make(self, index: usize, clip: &Clip) -> Result<()> {
        const PLACES: [&str; 4] = ["highway", "junction", "street", "roadside"];
        let place = PLACES[index % PLACES.len()];
        let Self { codec, width, height, frames } = self;
        let (encoder, (parser, _), bitrate) = (codec.encoder(), codec.elements(), self.kilobits());
        let options = match codec {
            Codec::H264 => "speed-preset=superfast bframes=0 byte-stream=true",
            Codec::H265 => "speed-preset=ultrafast option-string=bframes=0",
        };
        let pipeline = gst::parse::launch(&format!(
            "vehicletestsrc viewpoint={place} seed={index} num-buffers={frames} \
             ! video/x-raw,format=I420,width={width},height={height},framerate={FPS}/1 ! queue \
             ! {encoder} {options} bitrate={bitrate} key-int-max={FPS} ! tee name=both \
             both. ! queue ! {parser} ! mp4mux ! filesink name=file \
             both. ! queue ! {parser} config-interval=-1 \
             ! video/x-{},stream-format=byte-stream,alignment=au ! filesink name=stream",
            codec.name(),
        ))?
        .downcast::<gst::Pipeline>()
        .ok()
        .context("a pipeline")?;
        for (name, path) in [("file", &clip.file), ("stream", &clip.stream)] {
            let sink = pipeline.by_name(name).context("the pipeline has the sink")?;
            sink.set_property("location", path);
        }
        run_to_end(&pipeline).context("a clip cannot be made")
    }
}

/// Plays `pipeline` to its end.
pub(super) fn run_to_end(pipeline: &gst::Pipeline) -> Result<()> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    // Why it does not start stands on the bus.
    let _ = pipeline.set_state(gst::State::Playing);
    let last =
        bus.timed_pop_filtered(Some(BOUND), &[gst::MessageType::Eos, gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null)?;
    match last.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Eos(_)) => Ok(()),
        Some(gst::MessageView::Error(error)) => bail!("{}", crate::source::Reason::of(error)),
        _ => bail!("no end within {} s", Duration::from(BOUND).as_secs()),
    }
}
