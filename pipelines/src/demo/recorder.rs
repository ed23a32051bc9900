//! The annotated video: all cameras in one picture, recorded in a pipeline of its own.
//!
//! What goes wrong here, with a picture or with the disk, ends a place or the recording. The
//! pipeline that counts neither waits for this one nor hears of it.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;

use super::count::is_inside;
use crate::source::Reason;
use crate::stop::stop;

/// Width and height of one camera's picture, in a mosaic of up to four columns.
const TILE: (i32, i32) = (640, 360);

/// Width of the mosaic at most: H.264's levels end at 4096.
const WIDTH: i32 = 4 * TILE.0;

/// Bits per second and kilobits per second at most, in thousands.
const BITRATE: (usize, usize) = (700, 12_000);

/// Video files that are kept where new ones begin.
const SEGMENTS: u32 = 60;

/// How long the video file may take to be finished, and a failed recording to be taken down.
const FINISH: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(5);

/// How long the mosaic waits for pictures, and how far their times may lie from their arrival.
const LATENCY: gst::ClockTime = gst::ClockTime::from_mseconds(200);
const SLACK: gst::ClockTime = gst::ClockTime::from_mseconds(150);

/// A camera that has sent no picture for this long leaves its place dark.
const REMEMBERED: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// What is recorded, and where.
pub struct Recording<'a> {
    /// The cameras.
    pub names: &'a [String],
    /// Frames a second.
    pub fps: u32,
    /// The folder of the video.
    pub folder: &'a Path,
    /// Seconds after which a new file begins, or 0.
    pub segment: u64,
}

impl Recording<'_> {
    /// The file, or the pattern of files.
    pub fn path(&self) -> PathBuf {
        self.folder.join(if self.segment > 0 { "demo-%05d.mp4" } else { "demo.mp4" })
    }
}

/// How many pictures stand side by side, and the size of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grid {
    columns: i32,
    rows: i32,
    width: i32,
    height: i32,
}

impl Grid {
    fn of(cameras: usize) -> Self {
        let columns = (cameras.max(1) as f64).sqrt().ceil() as i32;
        let rows = (cameras.max(1) as i32 + columns - 1) / columns;
        // Even, as 4:2:0 asks for.
        let width = TILE.0.min(WIDTH / columns) & !1;
        Self { columns, rows, width, height: (width * TILE.1 / TILE.0).max(2) & !1 }
    }
}

/// One camera's place in the mosaic.
struct Place {
    name: String,
    bin: gst::Bin,
    source: gst_app::AppSrc,
    pad: gst::Pad,
}

/// A recording that runs. It is taken down when it is dropped.
pub struct Recorder {
    pipeline: gst::Pipeline,
    compositor: gst::Element,
    /// A black spot below the first camera that is always there: a compositor whose pads are all
    /// silent takes that for the end.
    pulse: gst::Element,
    places: Vec<Option<Place>>,
}

impl Recorder {
    /// Starts to record.
    ///
    /// # Errors
    /// The element that is missing; the file that cannot be written.
    pub fn start(recording: &Recording) -> Result<Self> {
        let grid = Grid::of(recording.names.len());
        let fps = recording.fps;
        let (width, height) = (grid.width * grid.columns, grid.height * grid.rows);
        let bitrate = (BITRATE.0 * recording.names.len()).min(BITRATE.1);
        let file = match recording.segment {
            0 => "mp4mux ! filesink name=file sync=false async=false".to_owned(),
            seconds => format!(
                "splitmuxsink name=file max-size-time={} max-files={SEGMENTS} \
                 sink-properties=\"properties,sync=false,async=false\"",
                gst::ClockTime::from_seconds(seconds).nseconds()
            ),
        };
        let description = format!(
            "compositor name=mosaic background=black ignore-inactive-pads=true latency={} \
             ! video/x-raw,format=I420,width={width},height={height},framerate={fps}/1 \
             ! queue max-size-buffers=8 \
             ! x264enc tune=zerolatency speed-preset=superfast bitrate={bitrate} key-int-max=48 \
             ! h264parse ! {file} \
             videotestsrc name=pulse is-live=true pattern=black \
             ! video/x-raw,format=I420,width=16,height=16,framerate={fps}/1 ! mosaic.sink_0",
            LATENCY.nseconds()
        );
        let pipeline =
            gst::parse::launch(&description).context("an element that records is missing")?;
        let pipeline =
            pipeline.downcast::<gst::Pipeline>().ok().context("several elements are a pipeline")?;
        let by_name = |name: &str| {
            pipeline.by_name(name).with_context(|| format!("the recorder has a {name}"))
        };
        name_files(&by_name("file")?, recording)?;
        let (compositor, pulse) = (by_name("mosaic")?, by_name("pulse")?);
        let mut recorder = Self { pipeline, compositor, pulse, places: Vec::new() };
        for (index, name) in recording.names.iter().enumerate() {
            let place = recorder.place(name, index as i32, grid)?;
            recorder.places.push(Some(place));
        }
        if recorder.pipeline.set_state(gst::State::Playing).is_err() {
            recorder.tick()?;
            bail!("it does not start");
        }
        Ok(recorder)
    }

    /// A camera's pictures, drawn on, progressive and of the place's size: nothing that a camera
    /// sends changes what the mosaic gets.
    fn place(&self, name: &str, index: i32, grid: Grid) -> Result<Place> {
        let bin = gst::parse::bin_from_description(
            &format!(
                "appsrc name=source is-live=true format=time leaky-type=downstream max-bytes=0 max-buffers=4 \
                 ! vehiclecountoverlay truth=true ! videoconvert ! deinterlace fields=top ! videoconvert \
                 ! videoscale add-borders=true ! capsfilter name=end \
                 caps=video/x-raw,format=I420,width={},height={},pixel-aspect-ratio=1/1,interlace-mode=progressive",
                grid.width, grid.height
            ),
            false,
        )
        .context("an element that draws is missing")?;
        let source = bin
            .by_name("source")
            .and_downcast::<gst_app::AppSrc>()
            .context("a place has a source")?;
        let end = bin
            .by_name("end")
            .and_then(|end| end.static_pad("src"))
            .context("a place has an end")?;
        let src = gst::GhostPad::builder_with_target(&end)?.name("src").build();
        bin.add_pad(&src)?;
        self.pipeline.add(&bin)?;
        let pad = self.compositor.request_pad_simple("sink_%u").context("the mosaic has room")?;
        pad.set_property("xpos", index % grid.columns * grid.width);
        pad.set_property("ypos", index / grid.columns * grid.height);
        pad.set_property("max-last-buffer-repeat", REMEMBERED.nseconds());
        // Places do not end at the same time; the last pictures of the video show them all.
        pad.set_property("repeat-after-eos", true);
        src.link(&pad)?;
        Ok(Place { name: name.to_owned(), bin, source, pad })
    }

    /// Where the pictures of camera `index` go.
    pub fn feed(&self, index: usize) -> Option<Feed> {
        let source = self.places.get(index)?.as_ref()?.source.clone();
        Some(Feed { source, taken: None, times: Times::default() })
    }

    /// Takes in what happened. Gives a sentence for each camera whose pictures cannot be shown.
    ///
    /// # Errors
    /// Why nothing is recorded any more.
    pub fn tick(&mut self) -> Result<Vec<String>> {
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let mut lost = Vec::new();
        while let Some(message) = bus.pop() {
            match message.view() {
                gst::MessageView::Error(error) if is_inside(&message, &self.pipeline) => {
                    let reason = Reason::of(error);
                    let source = message.src();
                    let of_place = |place: &&mut Option<Place>| {
                        let bin = place.as_ref().map(|place| &place.bin);
                        bin.zip(source).is_some_and(|(bin, source)| source.has_as_ancestor(bin))
                    };
                    let Some(place) = self.places.iter_mut().find(of_place).and_then(Option::take)
                    else {
                        bail!("{reason}");
                    };
                    lost.push(format!(
                        "{} is not in the video any more, and still counted: {reason}",
                        place.name
                    ));
                    self.remove(place);
                }
                gst::MessageView::Latency(_) => {
                    let _ = self.pipeline.recalculate_latency();
                }
                _ => {}
            }
        }
        Ok(lost)
    }

    fn remove(&self, place: Place) {
        let _ = place.bin.set_locked_state(true);
        stop(&place.bin);
        let _ = self.pipeline.remove(&place.bin);
        self.compositor.release_request_pad(&place.pad);
    }

    /// Ends the recording, and waits until the file is whole.
    ///
    /// # Errors
    /// Why it is not.
    pub fn finish(self) -> Result<()> {
        for place in self.places.iter().flatten() {
            let _ = place.source.end_of_stream();
        }
        self.pulse.send_event(gst::event::Eos::new());
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let begin = Instant::now();
        while begin.elapsed() < FINISH {
            let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
            let message = bus.timed_pop_filtered(gst::ClockTime::from_mseconds(200), &kinds);
            match message.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Eos(_)) => return Ok(()),
                Some(gst::MessageView::Error(error)) => bail!("{}", Reason::of(error)),
                _ => {}
            }
        }
        bail!("the video file was not finished within {} s", FINISH.as_secs())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // A disk that hangs holds the thread that takes the recording down, and nothing else.
        let pipeline = self.pipeline.clone();
        let (send, done) = mpsc::channel();
        let take_down = move || {
            stop(&pipeline);
            drop(pipeline);
            let _ = send.send(());
        };
        if thread::Builder::new().name("recorder-stop".to_owned()).spawn(take_down).is_ok() {
            let _ = done.recv_timeout(STOP);
        }
    }
}

/// Sets the name of the file or files; the folder's name may hold any character.
fn name_files(sink: &gst::Element, recording: &Recording) -> Result<()> {
    let path = recording.path();
    if recording.segment == 0 {
        sink.set_property("location", path);
        return Ok(());
    }
    // splitmuxsink takes a pattern for printf, in which the folder has no part.
    let folder = recording.folder.to_str().context("the folder's name is not UTF-8")?.to_owned();
    ensure!(!folder.contains('\0'), "the folder's name holds a null character");
    sink.connect("format-location", false, move |values| {
        let number = values.get(1).and_then(|number| number.get::<u32>().ok()).unwrap_or(0);
        Some(format!("{folder}/demo-{number:05}.mp4").to_value())
    });
    Ok(())
}

/// Takes one camera's pictures into the recording, and never waits.
pub struct Feed {
    source: gst_app::AppSrc,
    /// Caps as they came, by which a change is noticed.
    taken: Option<gst::Caps>,
    times: Times,
}

impl Feed {
    /// Shows `buffer`, a picture of the form `caps`.
    pub fn push(&mut self, buffer: &gst::BufferRef, caps: &gst::Caps) {
        // Not playing, or not any more.
        let Some(now) = self.source.current_running_time() else { return };
        if self.taken.as_ref() != Some(caps) {
            self.source.set_caps(Some(&with_rate(caps)));
            self.taken = Some(caps.clone());
        }
        let mut buffer = buffer.copy();
        if let Some(buffer) = buffer.get_mut() {
            let time = self.times.of(buffer.pts(), now);
            buffer.set_pts(time);
            buffer.set_dts(None);
        }
        // A place that was taken out takes nothing.
        let _ = self.source.push_buffer(buffer);
    }
}

/// `caps` with a frame rate: elements that deinterlace divide by it.
fn with_rate(caps: &gst::Caps) -> gst::Caps {
    let mut caps = caps.clone();
    for structure in caps.make_mut().iter_mut() {
        let known = structure.get::<gst::Fraction>("framerate").is_ok_and(|rate| rate.numer() > 0);
        if !known {
            structure.set("framerate", gst::Fraction::new(25, 1));
        }
    }
    caps
}

/// When pictures are shown: at the distances of their own times, as long as these lie near the time
/// of their arrival; else when they arrive. Times that jump, run away or are missing do no harm.
#[derive(Default)]
struct Times {
    /// What the first picture's time was, and when it is shown.
    anchor: Option<(gst::ClockTime, gst::ClockTime)>,
    last: gst::ClockTime,
}

impl Times {
    /// When a picture with the time `pts` that arrives at `now` is shown.
    fn of(&mut self, pts: Option<gst::ClockTime>, now: gst::ClockTime) -> gst::ClockTime {
        let own = pts
            .zip(self.anchor)
            .and_then(|(pts, (first, shown))| shown.checked_add(pts)?.checked_sub(first));
        let near = own.filter(|own| own.absdiff(now) <= SLACK);
        if near.is_none() {
            self.anchor = pts.map(|pts| (pts, now));
        }
        self.last = near.unwrap_or(now).max(self.last);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(time: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(time)
    }

    #[test]
    fn pictures_are_shown_at_their_own_distances() {
        let mut times = Times::default();
        let arrivals = [(5000, 100), (5040, 155), (5080, 170), (5120, 240), (5160, 255)];
        let shown = arrivals.map(|(pts, now)| times.of(Some(ms(pts)), ms(now)));
        assert_eq!(shown, [100, 140, 180, 220, 260].map(ms));
    }

    #[test]
    fn times_that_jump_or_are_missing_follow_the_arrival() {
        let mut times = Times::default();
        let arrivals = [
            (Some(90_000), 100),
            (Some(0), 140),
            (Some(40), 175),
            (Some(3_600_000), 220),
            (None, 260),
            (Some(7), 300),
        ];
        let shown = arrivals.map(|(pts, now)| times.of(pts.map(ms), ms(now)));
        assert_eq!(shown, [100, 140, 180, 220, 260, 300].map(ms));
        // Never back, and no number of times is too large.
        assert_eq!(times.of(Some(gst::ClockTime::MAX), ms(290)), ms(300));
        assert_eq!(times.of(Some(ms(0)), ms(310)), ms(310));
    }

    #[test]
    fn a_mosaic_of_any_number_of_cameras_can_be_encoded() {
        assert_eq!(Grid::of(1), Grid { columns: 1, rows: 1, width: 640, height: 360 });
        assert_eq!(Grid::of(4), Grid { columns: 2, rows: 2, width: 640, height: 360 });
        for cameras in 1..=1000 {
            let grid = Grid::of(cameras);
            assert!(grid.columns * grid.rows >= cameras as i32, "{grid:?}");
            assert!(
                grid.width * grid.columns <= WIDTH && grid.width % 2 == 0 && grid.height % 2 == 0,
                "{grid:?}"
            );
            assert!(grid.width >= 64, "{grid:?}");
        }
    }

    #[test]
    fn caps_without_a_rate_get_one() {
        gst::init().unwrap();
        for (caps, rate) in [
            ("video/x-raw,format=I420,width=1,height=1", 25),
            ("video/x-raw,framerate=0/1", 25),
            ("video/x-raw,framerate=12/1", 12),
        ] {
            let caps = with_rate(&caps.parse().unwrap());
            assert_eq!(
                caps.structure(0).unwrap().get("framerate"),
                Ok(gst::Fraction::new(rate, 1))
            );
        }
    }
}
