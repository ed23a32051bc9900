//! `vehiclecountpublish` where lines cannot be written: frames go on, EOS passes and the element
//! stops in time, and each trouble is told once.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_check::Harness;
use gstvehiclecount::meta;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use vehiclecount_core::publish::PATIENCE;
use vehiclecount_core::report::{FrameReport, JsonReport};

/// Longer than any wait of the publisher: EOS and the end, and a slow machine.
const BOUND: Duration = Duration::from_secs(15);

fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstvehiclecount::plugin_register_static().unwrap();
    });
}

/// A publisher and its bus.
struct Rig {
    harness: Harness,
    element: gst::Element,
    bus: gst::Bus,
}

impl Rig {
    fn new(location: &Path, properties: &str) -> Self {
        init();
        let line = format!("vehiclecountpublish location={} {properties}", location.display());
        let element = gst::parse::launch(&line).unwrap();
        // Before the harness starts it: the first message may come at once.
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
        harness.set_src_caps_str("video/x-raw,format=GRAY8,width=8,height=8,framerate=25/1");
        Self { harness, element, bus }
    }

    /// Frames pass, whatever becomes of their lines.
    fn push(&mut self, frames: impl IntoIterator<Item = gst::Buffer>) {
        for frame in frames {
            self.harness.push_and_pull(frame).unwrap();
        }
    }

    fn end(&mut self) {
        let begin = Instant::now();
        assert!(self.harness.push_event(gst::event::Eos::new()));
        assert!(begin.elapsed() < BOUND, "EOS took {:?}", begin.elapsed());
    }

    /// Stops the element, which succeeds in time.
    fn stop(&self) {
        let begin = Instant::now();
        assert_eq!(self.element.set_state(gst::State::Null), Ok(gst::StateChangeSuccess::Success));
        assert!(begin.elapsed() < BOUND, "NULL took {:?}", begin.elapsed());
    }

    fn statistic(&self, name: &str) -> u64 {
        self.element.property::<gst::Structure>("statistics").get(name).unwrap()
    }

    /// The next warning, or the next message of the end of a trouble.
    fn message(&self, kind: gst::MessageType) -> gst::Message {
        let bound = gst::ClockTime::try_from(BOUND).unwrap();
        self.bus
            .timed_pop_filtered(bound, &[kind])
            .unwrap_or_else(|| panic!("no {kind:?} message came"))
    }

    fn warning(&self) -> String {
        match self.message(gst::MessageType::Warning).view() {
            gst::MessageView::Warning(warning) => warning.error().to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// How a trouble ended: whether it recovered, and how many lines it cost.
    fn trouble_end(&self) -> (bool, u64) {
        let message = self.message(gst::MessageType::Element);
        let structure = message.structure().unwrap();
        assert_eq!(structure.name(), "vehiclecount-publish");
        assert!(
            structure.get::<u64>("duration").is_ok() && structure.get::<String>("location").is_ok()
        );
        (structure.get("recovered").unwrap(), structure.get("lost").unwrap())
    }

    /// Nothing else was said, and nothing is leaked.
    fn finish(self) {
        let rest = self.bus.pop_filtered(&[
            gst::MessageType::Warning,
            gst::MessageType::Error,
            gst::MessageType::Element,
        ]);
        assert!(rest.is_none(), "{rest:?}");
        let Self { harness, element, bus } = self;
        element.set_bus(None);
        drop(bus);
        let weak = element.downgrade();
        drop((harness, element));
        common::assert_gone(&weak, "the element");
    }
}

fn report(unique_id: u32, sequence: u64, pts: Option<u64>) -> FrameReport {
    FrameReport {
        camera: "north".into(),
        sequence,
        unique_id,
        pts,
        capture_time: None,
        received_time: 1_700_000_000_250_000_000,
        count: None,
        stale: true,
        confirmed: false,
        age: 0,
        regions: Vec::new(),
        density: None,
        model: "m".into(),
        engine: "scripted".into(),
        inference_time: 0,
    }
}

fn frame(counters: &[u32], sequence: u64, pts: Option<u64>) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size(64).unwrap();
    buffer.get_mut().unwrap().set_pts(pts.map(gst::ClockTime::from_mseconds));
    for unique_id in counters {
        meta::count::attach(buffer.make_mut(), &report(*unique_id, sequence, pts));
    }
    buffer
}

/// `count` frames of a camera of 25 pictures a second.
fn frames(count: u64) -> impl Iterator<Item = gst::Buffer> {
    (0..count).map(|sequence| frame(&[0], sequence, Some(sequence * 40)))
}

fn lines(path: &Path) -> Vec<JsonReport> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn fifo() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    (folder, path)
}

#[test]
fn full_disk_is_told_once_and_the_element_stops_all_the_same() {
    // Streams of all lengths: the disk is full at the first line, and at the last.
    for count in [1, 2, 100] {
        let mut rig = Rig::new(Path::new("/dev/full"), "queue-size=50");
        rig.push(frames(count));
        rig.end();
        rig.stop();
        let warning = rig.warning();
        assert!(
            warning.contains("could not be written to /dev/full") || warning.contains("faster"),
            "{warning}"
        );
        assert_eq!(rig.trouble_end(), (false, count));
        assert_eq!(
            [rig.statistic("delivered"), rig.statistic("waiting"), rig.statistic("dropped")],
            [0, 0, count]
        );
        rig.finish();
    }
}

#[test]
fn reader_of_a_fifo_that_stands_still_holds_neither_frames_nor_the_end() {
    let (_folder, path) = fifo();
    let mut rig = Rig::new(&path, "queue-size=100");
    let reader =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&path).unwrap();
    // A small pipe, which does not take what the queue holds.
    fcntl(&reader, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    rig.push(frames(1000));
    rig.end();
    rig.stop();
    rig.warning();
    let (delivered, dropped) = (rig.statistic("delivered"), rig.statistic("dropped"));
    assert_eq!(rig.trouble_end(), (false, dropped));
    assert_eq!((delivered + dropped, rig.statistic("waiting")), (1000, 0));
    let read: Vec<JsonReport> = BufReader::new(reader)
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert_eq!(read.len() as u64, delivered, "each line that was delivered is a whole one");
    rig.finish();
}

#[test]
fn fifo_without_a_reader_holds_no_other_publisher() {
    let (_folder, path) = fifo();
    let begin = Instant::now();
    let mut waiting = Rig::new(&path, "");
    assert!(begin.elapsed() < PATIENCE, "the start took {:?}", begin.elapsed());
    waiting.push(frames(10));
    let file = path.with_file_name("counts.jsonl");
    let mut other = Rig::new(&file, "");
    other.push(frames(10));
    other.end();
    assert_eq!(lines(&file).len(), 10);
    other.stop();
    other.finish();
    assert!(waiting.warning().contains("no process reads from it"));
    // The reader comes late and misses nothing.
    let mut reader =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&path).unwrap();
    waiting.end();
    assert_eq!(waiting.trouble_end(), (true, 0));
    waiting.stop();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 10);
    waiting.finish();
}

#[test]
fn second_run_continues_the_file_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counts.jsonl");
    let mut rig = Rig::new(&path, "append=true");
    rig.push(frames(3));
    rig.end();
    rig.stop();
    assert_eq!(rig.statistic("delivered"), 3, "statistics outlive the stop");
    let mut rig = Rig::new(&path, "append=true");
    rig.push(frames(2));
    rig.end();
    assert_eq!(rig.statistic("delivered"), 2);
    rig.stop();
    let sequences: Vec<_> = lines(&path).iter().map(|line| line.sequence).collect();
    assert_eq!(sequences, [0, 1, 2, 0, 1]);
    rig.finish();
}

#[test]
fn every_keeps_lines_apart_for_each_counter_on_a_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counts.jsonl");
    let mut rig = Rig::new(&path, "every=100");
    rig.push((0..10).map(|sequence| frame(&[1, 2, 7], sequence, Some(sequence * 40))));
    rig.end();
    rig.stop();
    for counter in [1, 2, 7] {
        let own = lines(&path)
            .into_iter()
            .filter(|line| line.unique_id == counter)
            .map(|line| line.sequence);
        assert_eq!(own.collect::<Vec<_>>(), [0, 3, 6, 9], "counter {counter}");
    }
    rig.finish();
}

#[test]
fn every_thins_frames_that_have_no_time_by_their_arrival() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counts.jsonl");
    let mut rig = Rig::new(&path, "every=100");
    // A camera of 25 pictures a second, which gives no times.
    rig.harness.use_testclock();
    let clock = rig.harness.testclock().unwrap();
    for sequence in 0..10 {
        clock.set_time(gst::ClockTime::from_mseconds(sequence * 40));
        rig.push([frame(&[0], sequence, None)]);
    }
    rig.end();
    rig.stop();
    let sequences: Vec<_> = lines(&path).iter().map(|line| line.sequence).collect();
    assert_eq!(sequences, [0, 3, 6, 9]);
    rig.finish();
}

#[test]
fn log_tells_of_each_frame_and_each_file() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = lines.clone();
    init();
    gst::log::remove_default_log_function();
    gst::log::add_log_function(
        move |category, level, _file, _function, _line, _object, message| {
            if category.name() == "vehiclecountpublish" && level <= gst::DebugLevel::Log {
                log.lock().unwrap().extend(message.get().map(|text| text.to_string()));
            }
        },
    );
    gst::log::set_threshold_for_name("vehiclecountpublish", gst::DebugLevel::Log);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counts.jsonl");
    let mut rig = Rig::new(&path, "every=100");
    // No other test has a counter of this number.
    rig.push((0..4).map(|sequence| frame(&[4711], sequence, Some(sequence * 40))));
    rig.end();
    rig.stop();
    let lines = lines.lock().unwrap().clone();
    let frames = lines.iter().filter_map(|line| line.strip_prefix("north frame "));
    let own: Vec<_> = frames.filter(|line| line.contains("counter 4711")).collect();
    let fates = ["queued", "left out", "left out", "queued"];
    assert_eq!(own.len(), fates.len(), "{own:?}");
    for ((line, fate), number) in own.iter().zip(fates).zip(0..) {
        assert!(
            line.starts_with(&number.to_string()) && line.contains(fate),
            "{line:?}, not {fate}"
        );
    }
    assert!(lines.iter().any(|line| *line == format!("opened {}", path.display())), "{lines:?}");
    rig.finish();
}

#[test]
fn files_are_rotated_while_frames_pass() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counts.jsonl");
    let mut rig = Rig::new(&path, "max-file-size=2000 max-files=3");
    rig.push(frames(100));
    rig.end();
    rig.stop();
    let files: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    let mut sequences: Vec<_> =
        files.iter().flat_map(|file| lines(file)).map(|line| line.sequence).collect();
    sequences.sort_unstable();
    let last: Vec<_> = (100 - sequences.len() as u64..100).collect();
    assert_eq!(sequences, last, "the newest lines are kept, each once");
    for file in &files {
        assert!(fs::metadata(file).unwrap().len() <= 2000);
    }
    rig.finish();
}

#[test]
fn location_of_an_unknown_scheme_stops_the_start_by_name() {
    init();
    let element = gst::ElementFactory::make("vehiclecountpublish")
        .property("location", "nats://broker/counts")
        .build()
        .unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Paused).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else { unreachable!() };
    assert!(error.error().to_string().contains("nats://"), "{}", error.error());
    element.set_state(gst::State::Null).unwrap();
}
