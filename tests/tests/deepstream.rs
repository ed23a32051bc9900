//! The element for DeepStream pipelines, with DeepStream's libraries stood in for. The stories run
//! with the newest layout, and again, in processes of their own, with each older one.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use glib::translate::IntoGlibPtr;
use gst::prelude::*;
use gstvehiclecount::deepstream::batch::Batch;
use gstvehiclecount::deepstream::convert::Converter;
use gstvehiclecount::deepstream::picture::PictureError;
use gstvehiclecount::deepstream::surface::Surfaces;
use gstvehiclecount::deepstream::{Api, abi, doctor, meta};
use vehiclecount_core::engine::scripted::Control;
use vehiclecount_core::report::{FrameReport, JsonReport};
use vehiclecount_tests::standin::{self, BatchSpec, FrameSpec, StandIn};
use vehiclecount_tests::{BOUND, assert_no_leak, init};

/// Which version the process stands in for.
const VARIABLE: &str = "VEHICLECOUNT_STANDIN";
const NEWEST: (u32, u32) = (9, 1);
const OLDER: [(u32, u32); 3] = [(6, 4), (7, 1), (8, 0)];

fn version() -> (u32, u32) {
    let Ok(version) = std::env::var(VARIABLE) else { return NEWEST };
    let (major, minor) = version.split_once('.').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

static STANDIN: LazyLock<Mutex<StandIn>> = LazyLock::new(|| {
    init();
    Mutex::new(StandIn::load(Path::new(env!("CARGO_TARGET_TMPDIR")), version()))
});

/// Stories count what lives in the process, so they go one after the other.
fn standin() -> MutexGuard<'static, StandIn> {
    STANDIN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An element between a source and a sink that the story plays.
struct Stage {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
    element: gst::Element,
}

impl Stage {
    /// Counts what nvinfer left.
    fn new(properties: &str) -> Self {
        let stage = Self::unstarted(&format!("source=tensor-meta {properties}"));
        stage.pipeline.set_state(gst::State::Playing).unwrap();
        stage
    }

    fn unstarted(properties: &str) -> Self {
        let description = format!(
            "appsrc name=in format=time caps=\"video/x-raw(memory:NVMM),format=RGBA,width=64,height=32,framerate=10/1\" \
             ! vehiclecounternvmm name=counter {properties} ! appsink name=out sync=false"
        );
        let pipeline =
            gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
        let by_name = |name| pipeline.by_name(name).unwrap();
        Self {
            source: by_name("in").downcast().unwrap(),
            sink: by_name("out").downcast().unwrap(),
            element: by_name("counter"),
            pipeline,
        }
    }

    /// Sends a buffer through.
    fn pass(&self, buffer: gst::Buffer) -> gst::Buffer {
        self.source.push_buffer(buffer).unwrap();
        let sample = self.sink.try_pull_sample(gst::ClockTime::from_seconds(BOUND.as_secs()));
        let Some(sample) = sample else {
            panic!("nothing came out: {:?}", self.message(gst::MessageType::Error))
        };
        sample.buffer_owned().unwrap()
    }

    /// The next message of that kind, as text.
    fn message(&self, kind: gst::MessageType) -> Option<String> {
        let message = self.pipeline.bus().unwrap().pop_filtered(&[kind])?;
        Some(match message.view() {
            gst::MessageView::Error(error) => error.error().to_string(),
            gst::MessageView::Warning(warning) => warning.error().to_string(),
            _ => String::new(),
        })
    }

    /// Sends a buffer that ends the stream, and tells the error.
    fn fail(&self, buffer: gst::Buffer) -> String {
        self.source.push_buffer(buffer).unwrap();
        let bound = gst::ClockTime::from_seconds(BOUND.as_secs());
        let message = self
            .pipeline
            .bus()
            .unwrap()
            .timed_pop_filtered(bound, &[gst::MessageType::Error])
            .unwrap();
        let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
        error.error().to_string()
    }

    fn figure(&self, source: u32, name: &str) -> u64 {
        let statistics = self.element.property::<gst::Structure>("statistics");
        let cameras = statistics.get::<gst::Array>("cameras").unwrap();
        let mut cameras = cameras.iter().map(|camera| camera.get::<gst::Structure>().unwrap());
        cameras
            .find(|camera| camera.get::<u32>("source-id") == Ok(source))
            .unwrap()
            .get(name)
            .unwrap()
    }

    fn end(self) {
        let Self { pipeline, source, sink, element } = self;
        drop((source, sink, element));
        assert_no_leak(pipeline);
    }
}

/// What is on a frame of a batch.
#[derive(Debug)]
struct Seen {
    source_id: u32,
    report: Option<FrameReport>,
    messages: Vec<String>,
    misc: [i64; 4],
    inferred: bool,
    lines: Vec<u32>,
    texts: Vec<String>,
}

fn look(buffer: &gst::BufferRef) -> Vec<Seen> {
    let api = Api::get().unwrap();
    let batch = Batch::of(api, buffer).unwrap();
    let locked = batch.lock();
    let frames = locked.frames();
    let seen = frames.iter().map(|frame| {
        let metas = locked.user_metas(frame);
        let of = |kind: i32| {
            metas.iter().filter(move |(found, _)| *found == kind).map(|(_, data)| *data)
        };
        let message_type = abi::custom_message_type(version()).unwrap_or(0);
        let messages = of(message_type).map(|data| {
            // SAFETY: the data of this type is such a message, and the lock is held.
            unsafe {
                let message = &*data.cast::<abi::CustomMessage>();
                let bytes =
                    std::slice::from_raw_parts(message.message.cast::<u8>(), message.size as usize);
                std::str::from_utf8(bytes).unwrap().to_owned()
            }
        });
        // SAFETY: the data of our type is ours, and the lock is held.
        let report = of(api.count_type).next().map(|data| unsafe { meta::read(data) }.unwrap());
        if let Some((source_id, _)) = &report {
            assert_eq!(*source_id, frame.source_id);
        }
        // SAFETY: the frame lives, and the lock is held.
        let raw = unsafe { &*locked.frame_meta(frame) };
        let (lines, texts) = drawn(raw.display_list);
        Seen {
            source_id: frame.source_id,
            report: report.map(|(_, report)| report),
            messages: messages.collect(),
            misc: raw.misc_frame_info,
            inferred: raw.infer_done != 0,
            lines,
            texts,
        }
    });
    seen.collect()
}

/// Number of lines in each display meta, and all texts.
fn drawn(mut list: *mut glib::ffi::GList) -> (Vec<u32>, Vec<String>) {
    fn read<const RECT: usize>(meta: &abi::DisplayMeta<RECT>) -> (u32, Vec<String>) {
        let texts = meta.texts[..meta.num_texts as usize].iter();
        let texts = texts.map(|text| {
            // SAFETY: texts are C strings.
            unsafe { std::ffi::CStr::from_ptr(text.text) }.to_str().unwrap().to_owned()
        });
        (meta.num_lines, texts.collect())
    }
    let (mut lines, mut texts) = (Vec::new(), Vec::new());
    // SAFETY: the list holds display metadata of this version's layout.
    while let Some(item) = unsafe { list.as_ref() } {
        let (n, some) = if version().0 >= 9 {
            // SAFETY: as above.
            read(unsafe { &*item.data.cast::<abi::DisplayMetaNew>() })
        } else {
            // SAFETY: as above.
            read(unsafe { &*item.data.cast::<abi::DisplayMetaOld>() })
        };
        lines.push(n);
        texts.extend(some);
        list = item.next;
    }
    (lines, texts)
}

/// The count of the whole frame.
fn count(seen: &Seen) -> f64 {
    seen.report.as_ref().unwrap().count.unwrap().raw
}

fn half(value: f32) -> [u8; 2] {
    // Only what has few bits.
    let bits = value.to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 15;
    let half = if value == 0.0 { 0 } else { (exponent as u32) << 10 | (bits >> 13 & 1023) };
    (half as u16).to_ne_bytes()
}

#[test]
fn older_versions_tell_the_same_stories() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    for (major, minor) in OLDER {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.env(VARIABLE, format!("{major}.{minor}")).output().unwrap();
        assert!(
            output.status.success(),
            "DeepStream {major}.{minor}:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn nvidia_s_own_libraries_tell_the_same_stories() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let Some(real) = standin::real() else {
        eprintln!(
            "skipped: no NVIDIA libraries; `tools/runtime.sh .runtime deepstream` installs them on x86-64"
        );
        return;
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.env(VARIABLE, "9.0").env(standin::REAL, &real).output().unwrap();
    assert!(
        output.status.success(),
        "DeepStream 9.0 of {}:\n{}{}",
        real.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_frame_of_a_partly_filled_batch_gets_its_own_source_s_count() {
    let standin = standin();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sources.txt");
    std::fs::write(
        &config,
        "[property]\nenable=1\nconfig-width=640\nconfig-height=320\n\
         [roi-filtering-stream-5]\nenable=1\nroi-left=0;0;320;0;320;320;0;320\n\
         [vehiclecount-stream-5]\ncamera-id=south\nscale-factor=2\n",
    )
    .unwrap();
    let stage = Stage::new(&format!("config-file-path={} unique-id=7", config.display()));
    let frames = [
        FrameSpec::new(0, 0, 2, &[1.0, 0.0]),
        FrameSpec {
            pts: 40,
            ntp: 1_700_000_000_000_000_000,
            ..FrameSpec::new(5, 1, 2, &[1.5, 1.0])
        },
        FrameSpec::new(2, 2, 2, &[0.0, 3.25]),
    ];
    let passed = stage.pass(standin.buffer(&BatchSpec::default(), &frames));
    let seen = look(&passed);
    assert_eq!(seen.iter().map(|frame| frame.source_id).collect::<Vec<_>>(), [0, 5, 2]);
    assert_eq!(seen.iter().map(count).collect::<Vec<_>>(), [1.0, 5.0, 3.25]);
    assert_eq!(seen.iter().map(|frame| frame.misc[0]).collect::<Vec<_>>(), [1000, 5000, 3250]);
    assert!(
        seen.iter()
            .all(|frame| frame.inferred && frame.lines.is_empty() && frame.messages.is_empty())
    );
    let report = seen[1].report.as_ref().unwrap();
    assert_eq!((report.camera.as_str(), report.unique_id), ("south", 7));
    assert_eq!((report.pts, report.capture_time), (Some(40), Some(1_700_000_000_000_000_000)));
    assert_eq!(
        (report.regions[0].name.as_str(), report.regions[0].count.unwrap().raw),
        ("left", 3.0)
    );
    assert_eq!(report.density.as_ref().unwrap().cells[..], [1.5, 1.0]);
    drop(passed);
    stage.end();
    assert_eq!((meta::live(), standin.live_batches(), standin.unlocked_calls()), (0, 0, 0));
}

#[test]
fn log_tells_what_is_decided_about_each_frame() {
    let standin = standin();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = lines.clone();
    let listener = gst::log::add_log_function(
        move |category, _level, _file, _function, _line, _object, message| {
            if category.name() == "vehiclecounternvmm" {
                heard.lock().unwrap().push(message.get().unwrap().to_string());
            }
        },
    );
    gst::log::set_threshold_for_name("vehiclecounternvmm", gst::DebugLevel::Log);
    let stage = Stage::new("interval=1");
    for number in 0..2 {
        let frames = [FrameSpec { pts: number * 40, ..FrameSpec::new(3, 0, 2, &[1.5, 1.0]) }];
        drop(stage.pass(standin.buffer(&BatchSpec::default(), &frames)));
    }
    let broken = FrameSpec { pts: 80, ..FrameSpec::new(3, 0, 2, &[f32::NAN, 1.0]) };
    drop(stage.pass(standin.buffer(&BatchSpec::default(), &[broken])));
    stage.end();
    gst::log::set_threshold_for_name("vehiclecounternvmm", gst::DebugLevel::None);
    gst::log::remove_log_function(listener);
    let lines: Vec<_> =
        lines.lock().unwrap().iter().filter(|line| line.starts_with("camera-3")).cloned().collect();
    let expected = [
        "camera-3: counted, from the tensor of nvinfer",
        "camera-3, frame 0: leaves with 2.50, age 0:00:00",
        "camera-3, frame 1: leaves with 2.50, age 0:00:00",
        "camera-3: uncounted, ",
        "camera-3, frame 2: leaves with 2.50, stale, age 0:00:00",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line:?}, not {expected:?}");
    }
}

#[test]
fn half_precision_counts_like_single() {
    let standin = standin();
    let stage = Stage::new("");
    let cells = [0.0f32, 0.5, 2.25, 0.125];
    let values = cells.iter().flat_map(|&cell| half(cell)).collect();
    let frame = FrameSpec { data_type: 1, values, layers: 2, ..FrameSpec::new(0, 0, 2, &cells) };
    assert_eq!(
        count(&look(&stage.pass(standin.buffer(&BatchSpec::default(), &[frame])))[0]),
        2.875
    );
    stage.end();
}

#[test]
fn borders_that_nvinfer_added_lie_outside_the_frame() {
    let standin = standin();
    let stage = Stage::new("");
    // A picture twice as wide as high in a square network: the lower half is border, or a quarter
    // above and below.
    let boxed = |symmetric| {
        let frame = FrameSpec {
            aspect: 1,
            symmetric,
            network: (64, 64),
            ..FrameSpec::new(0, 0, 1, &[0.0; 4])
        };
        let seen = look(&stage.pass(standin.buffer(&BatchSpec::default(), &[frame])));
        let rect = seen[0].report.as_ref().unwrap().density.as_ref().unwrap().grid.rect;
        (rect.x, rect.y, rect.width, rect.height)
    };
    assert_eq!(boxed(0), (0.0, 0.0, 1.0, 2.0));
    // Before 7.0 nvinfer does not tell.
    assert_eq!(
        boxed(1),
        if version() >= (7, 0) { (0.0, -0.5, 1.0, 2.0) } else { (0.0, 0.0, 1.0, 2.0) }
    );
    stage.end();
}

#[test]
fn place_of_a_density_that_cannot_be_known_ends_the_stream_with_both_figures() {
    let standin = standin();
    let good = FrameSpec {
        network: (64, 64),
        aspect: 1,
        symmetric: 1,
        ..FrameSpec::new(0, 0, 1, &[1.0; 4])
    };
    let told = BatchSpec { told: [128, 128], ..BatchSpec::default() };
    let error = |batch: &BatchSpec, frame: FrameSpec| {
        let stage = Stage::new("");
        let error = stage.fail(standin.buffer(batch, &[frame]));
        stage.end();
        error
    };
    let resized = error(&told, good.clone());
    assert!(
        resized.starts_with("camera-0: ") && resized.contains("directly behind nvinfer"),
        "{resized}"
    );
    assert!(
        resized.contains("the picture has 64x32 pixels, and its metadata says 128x128"),
        "{resized}"
    );
    let small = error(&BatchSpec::default(), FrameSpec { network: (0, 3), ..good.clone() });
    assert!(
        small.contains("1x4 cells, and the network's input is said to be 0x3 pixels"),
        "{small}"
    );
    let odd = error(&BatchSpec::default(), FrameSpec { aspect: 77, ..good.clone() });
    assert!(odd.contains("told as 77, where 0 or 1 was expected"), "{odd}");
    let layout = error(&BatchSpec { mapped_size: 80, ..BatchSpec::default() }, good.clone());
    assert!(layout.contains("80 bytes") && layout.contains("doctor --deepstream"), "{layout}");
    // A stretched picture fills the input whatever its size.
    let stage = Stage::new("");
    assert_eq!(
        count(&look(&stage.pass(standin.buffer(&told, &[FrameSpec { aspect: 0, ..good }])))[0]),
        4.0
    );
    stage.end();
    assert_eq!((meta::live(), standin.live_batches()), (0, 0));
}

#[test]
fn frames_that_nvinfer_skipped_carry_the_last_count_with_its_age() {
    let standin = standin();
    let stage = Stage::new("");
    let second = 1_000_000_000;
    let frame = |pts, tensors| FrameSpec { pts, tensors, ..FrameSpec::new(3, 0, 1, &[4.0]) };
    let seen = |pts, tensors| {
        let passed = stage.pass(standin.buffer(&BatchSpec::default(), &[frame(pts, tensors)]));
        let report = look(&passed).remove(0).report.unwrap();
        (report.sequence, report.count.map(|count| count.raw), report.stale, report.age)
    };
    assert_eq!(seen(0, 0), (0, None, true, 0));
    assert_eq!(seen(second, 1), (1, Some(4.0), false, 0));
    assert_eq!(seen(2 * second, 0), (2, Some(4.0), false, second));
    // The file begins anew.
    assert_eq!(seen(0, 0), (3, None, true, 0));
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    stage.end();
}

#[test]
fn every_counted_frame_of_a_batch_carries_its_own_count_whatever_its_time() {
    let standin = standin();
    let stage = Stage::new("smoothing=1");
    let (second, none) = (1_000_000_000, u64::MAX);
    let clocks = [
        vec![100 * second, 101 * second, 0, second],
        vec![0, second, 3600 * second, 2 * second],
        vec![none; 4],
        vec![0, none, 2 * second, none],
        vec![5 * second; 4],
        vec![1 << 63, none - 1, 0, none],
    ];
    for times in clocks {
        for (number, &pts) in times.iter().enumerate() {
            let vehicles = (number * 7) as f32;
            // Another camera, whose clock is right, in the same batch.
            let frames = [
                FrameSpec { pts, ..FrameSpec::new(0, 0, 1, &[vehicles]) },
                FrameSpec {
                    pts: number as u64 * second,
                    ..FrameSpec::new(1, 1, 1, &[vehicles + 1.0])
                },
            ];
            let seen = look(&stage.pass(standin.buffer(&BatchSpec::default(), &frames)));
            for (seen, vehicles) in seen.iter().zip([vehicles, vehicles + 1.0]) {
                let report = seen.report.as_ref().unwrap();
                let said = (report.count.unwrap().raw as f32, report.stale, report.age);
                assert_eq!(said, (vehicles, false, 0), "source {} in {times:?}", seen.source_id);
            }
        }
    }
    stage.end();
}

#[test]
fn frames_of_a_batch_without_times_are_smoothed_by_their_arrival() {
    let standin = standin();
    let clock = gst_check::TestClock::new();
    let stage = Stage::unstarted("source=tensor-meta smoothing=1 interval=1");
    stage.source.set_is_live(true);
    stage.pipeline.use_clock(Some(&clock));
    stage.pipeline.set_state(gst::State::Playing).unwrap();
    let pass = |vehicles| {
        clock.set_time(clock.time() + gst::ClockTime::from_mseconds(500));
        let frame = FrameSpec { pts: u64::MAX, ..FrameSpec::new(0, 0, 1, &[vehicles]) };
        look(&stage.pass(standin.buffer(&BatchSpec::default(), &[frame]))).remove(0).report.unwrap()
    };
    assert_eq!(pass(64.0).count.unwrap().smoothed, 64.0);
    let skipped = pass(0.0);
    assert_eq!(
        (skipped.count.unwrap().raw, skipped.stale, skipped.age),
        (64.0, false, 500_000_000)
    );
    let smoothed = pass(0.0).count.unwrap().smoothed;
    assert!((smoothed - 64.0 * (-1.0f64).exp()).abs() < 1e-6, "{smoothed}");
    stage.end();
}

/// An event of nvstreammux (gst-nvevent.h).
fn mux_event(number: u32, source: u32) -> gst::Event {
    let structure = gst::Structure::builder("nv-event").field("source-id", source).build();
    let serialized = gst::ffi::GST_EVENT_TYPE_DOWNSTREAM | gst::ffi::GST_EVENT_TYPE_SERIALIZED;
    let kind = (number << gst::ffi::GST_EVENT_NUM_SHIFT as u32) | serialized;
    // SAFETY: an event of a type that GStreamer has no name for, as nvstreammux makes it; it takes
    // the structure.
    unsafe {
        let event = gst::ffi::gst_event_new_custom(kind as i32, structure.into_glib_ptr());
        glib::translate::from_glib_full(event)
    }
}

#[test]
fn source_that_ends_leaves_nothing_to_the_next_of_its_number() {
    let standin = standin();
    let stage = Stage::new("smoothing=60");
    let sink = stage.element.static_pad("sink").unwrap();
    let pass = |pts, vehicles| {
        let frames = [0, 1].map(|id| FrameSpec { pts, ..FrameSpec::new(id, id, 1, &[vehicles]) });
        let seen = look(&stage.pass(standin.buffer(&BatchSpec::default(), &frames)));
        let smoothed = |seen: &Seen| seen.report.as_ref().unwrap().count.unwrap().smoothed;
        (smoothed(&seen[0]), smoothed(&seen[1]))
    };
    let second = 1_000_000_000;
    assert_eq!(pass(0, 64.0), (64.0, 64.0));
    for (round, number) in [402, 404, 405, 400].into_iter().enumerate() {
        assert!(sink.send_event(mux_event(number, 0)));
        let (ended, other) = pass((round as u64 + 1) * second, round as f32);
        assert_eq!(ended, round as f64, "event {number}");
        assert!(other > 50.0, "event {number}: {other}");
    }
    assert!(sink.send_event(mux_event(401, 0)));
    assert_eq!(pass(9 * second, 2.0).0, 2.0);
    assert_eq!((stage.figure(0, "received"), stage.figure(1, "received")), (1, 6));
    // Of a source that there is not, or of none.
    assert!(sink.send_event(mux_event(401, 77)));
    stage.end();
}

#[test]
fn tensors_of_another_nvinfer_are_left_alone_and_named() {
    let standin = standin();
    let stage = Stage::new("infer-on-gie-id=4");
    let foreign = FrameSpec { unique_id: 9, ..FrameSpec::new(0, 0, 1, &[4.0]) };
    let passed = stage.pass(standin.buffer(&BatchSpec::default(), &[foreign]));
    assert_eq!(look(&passed)[0].report.as_ref().unwrap().count, None);
    let warning = stage.message(gst::MessageType::Warning).unwrap();
    assert!(warning.contains("{9}, none of 4: set infer-on-gie-id"), "{warning}");
    // Among two, ours is found.
    let both = FrameSpec { unique_id: 4, tensors: 2, ..FrameSpec::new(0, 0, 1, &[2.0]) };
    assert_eq!(count(&look(&stage.pass(standin.buffer(&BatchSpec::default(), &[both])))[0]), 2.0);
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    stage.end();
}

#[test]
fn pipeline_without_any_tensor_says_what_nvinfer_needs() {
    let standin = standin();
    let stage = Stage::new("");
    for _ in 0..101 {
        let frame = FrameSpec { tensors: 0, ..FrameSpec::new(0, 0, 1, &[0.0]) };
        stage.pass(standin.buffer(&BatchSpec::default(), &[frame]));
    }
    let warning = stage.message(gst::MessageType::Warning).unwrap();
    assert!(
        warning.contains("output-tensor-meta=1") && warning.contains("network-type=100"),
        "{warning}"
    );
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    stage.end();
}

#[test]
fn counts_survive_demux_and_copies_after_the_batch_is_gone() {
    let standin = standin();
    let stage = Stage::new(
        "message-blob=true osd-mode=counts regions=\"{\\\"regions\\\":[{\\\"name\\\":\\\"r\\\",\\\"polygon\\\":[[0,0],[1,0],[1,1]]}]}\"",
    );
    let frames = [FrameSpec::new(0, 0, 2, &[1.0, 0.0]), FrameSpec::new(1, 1, 2, &[2.0, 5.0])];
    let passed = stage.pass(standin.buffer(&BatchSpec::default(), &frames));
    let whole = look(&passed);
    let demuxed = [standin.demux(&passed, 1, true), standin.demux(&passed, 1, false)];
    let copied = passed.copy();
    drop(passed);
    for buffer in &demuxed {
        let seen = look(buffer);
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].report, whole[1].report);
        assert_eq!((&seen[0].messages, &seen[0].texts), (&whole[1].messages, &whole[1].texts));
    }
    assert_eq!(look(&copied)[0].report, whole[0].report);
    assert_eq!(look(&copied.copy())[1].report, whole[1].report);
    drop((demuxed, copied));
    stage.end();
    assert_eq!((meta::live(), standin.live_batches()), (0, 0));
}

#[test]
fn exhausted_pool_costs_counts_but_no_video() {
    let standin = standin();
    if standin.is_real() {
        return;
    }
    let stage = Stage::new("message-blob=true");
    // Two tensors, one count (and its message, where there are any): nothing is left for the second
    // frame.
    let messages = abi::custom_message_type(version()).is_some();
    standin.set_pools(if messages { 4 } else { 3 }, 0);
    let frames = [FrameSpec::new(0, 0, 1, &[1.0]), FrameSpec::new(1, 1, 1, &[2.0])];
    let buffer = standin.buffer(&BatchSpec::default(), &frames);
    let again = standin.buffer(&BatchSpec::default(), &frames);
    standin.set_pools(0, 0);
    let seen = look(&stage.pass(buffer));
    assert_eq!(
        (seen[0].report.is_some(), seen[0].messages.len(), seen[1].report.is_some()),
        (true, usize::from(messages), false)
    );
    assert_eq!(seen[1].misc[0], 2000);
    stage.pass(again);
    assert_eq!((stage.figure(0, "unattached"), stage.figure(1, "unattached")), (0, 2));
    if !messages {
        assert!(stage.message(gst::MessageType::Warning).unwrap().contains("NVDS_CUSTOM_MSG_BLOB"));
    }
    assert!(
        stage.message(gst::MessageType::Warning).unwrap().contains("pool of metadata is exhausted")
    );
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    stage.end();
    assert_eq!((meta::live(), standin.live_batches()), (0, 0));
}

#[test]
fn density_that_is_no_number_leaves_the_last_count_and_is_said_once() {
    let standin = standin();
    let stage = Stage::new("");
    let pass = |cell: f32| {
        let frames = [FrameSpec::new(0, 0, 1, &[cell]), FrameSpec::new(1, 1, 1, &[9.0])];
        let mut seen = look(&stage.pass(standin.buffer(&BatchSpec::default(), &frames)));
        let other = count(&seen[1]);
        let report = seen.remove(0).report.unwrap();
        (report.count.unwrap().raw, report.stale, other)
    };
    assert_eq!(pass(3.0), (3.0, false, 9.0));
    assert_eq!(pass(f32::NAN), (3.0, true, 9.0));
    assert_eq!(pass(f32::INFINITY), (3.0, true, 9.0));
    let warning = stage.message(gst::MessageType::Warning).unwrap();
    assert!(warning.starts_with("camera-0: the density has a cell of NaN"), "{warning}");
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    assert_eq!(pass(4.0), (4.0, false, 9.0));
    assert_eq!(stage.figure(0, "failed"), 2);
    stage.end();
}

#[test]
fn tensor_that_is_no_density_ends_the_stream_with_the_remedy() {
    let standin = standin();
    let error = |properties: &str, frame: FrameSpec| {
        let stage = Stage::new(properties);
        let error = stage.fail(standin.buffer(&BatchSpec::default(), &[frame]));
        stage.end();
        error
    };
    let good = FrameSpec::new(0, 0, 2, &[1.0; 4]);
    let shape = error("", FrameSpec { dims: vec![3, 2, 2], ..good.clone() });
    assert!(shape.contains("gie-unique-id=1") && shape.contains("[3, 2, 2]"), "{shape}");
    assert!(error("", FrameSpec { dims: vec![4], ..good.clone() }).contains("1 x rows x columns"));
    assert!(error("", FrameSpec { data_type: 2, ..good.clone() }).contains("data type 2"));
    // The second frame of a batch that was not copied to the host: its pointer is an offset from
    // nowhere.
    let stage = Stage::new("");
    let frames = [good.clone(), FrameSpec { place: 1, ..FrameSpec::new(1, 1, 2, &[1.0; 4]) }];
    let device = stage.fail(standin.buffer(&BatchSpec::default(), &frames));
    stage.end();
    assert!(device.contains("disable-output-host-copy=0"), "{device}");
    assert!(error("", FrameSpec { place: 2, ..good.clone() }).contains("has no values"));
    let layer = error("tensor-layer=heat", FrameSpec { layers: 2, ..good.clone() });
    assert!(layer.contains("\"heat\", there are: other, density"), "{layer}");
    let unnamed = error("", FrameSpec { layers: 2, layer: Some(c"map".to_owned()), ..good });
    assert!(unnamed.contains("name the density in `tensor-layer`"), "{unnamed}");
    assert_eq!((meta::live(), standin.live_batches()), (0, 0));
}

#[test]
fn buffer_that_no_muxer_made_ends_the_stream_with_the_remedy() {
    let standin = standin();
    let stage = Stage::new("");
    let error =
        stage.fail(standin.buffer(&BatchSpec { batch_meta: 0, ..BatchSpec::default() }, &[]));
    assert!(error.contains("put vehiclecounternvmm after nvstreammux"), "{error}");
    stage.end();
}

#[test]
fn message_is_the_report_as_json_and_misc_info_goes_where_it_was_told() {
    let standin = standin();
    let stage = Stage::new("message-blob=true misc-index=3 misc-scale=10 density-map=false");
    let seen = look(
        &stage.pass(standin.buffer(&BatchSpec::default(), &[FrameSpec::new(1, 0, 1, &[2.5])])),
    )
    .remove(0);
    if version() == (6, 4) {
        // Nobody has published the number of the type in 6.4.
        assert_eq!(seen.messages.len(), 0);
        assert!(
            stage
                .message(gst::MessageType::Warning)
                .unwrap()
                .contains("NVDS_CUSTOM_MSG_BLOB in DeepStream 6.4")
        );
    } else {
        let json: JsonReport = serde_json::from_str(&seen.messages[0]).unwrap();
        assert_eq!(
            (json.camera.as_str(), json.count, json.engine.as_str()),
            ("camera-1", Some(2.5), "nvinfer")
        );
    }
    assert_eq!((seen.misc, seen.report.unwrap().density), ([0, 0, 0, 25], None));
    stage.end();
    // Whoever knows the number says it.
    let kind = abi::custom_message_type(version()).unwrap_or(25);
    let stage = Stage::new(&format!("message-blob=true message-type={kind}"));
    let passed =
        stage.pass(standin.buffer(&BatchSpec::default(), &[FrameSpec::new(1, 0, 1, &[2.5])]));
    let batch = Batch::of(Api::get().unwrap(), &passed).unwrap();
    let locked = batch.lock();
    let metas =
        locked.frames().iter().flat_map(|frame| locked.user_metas(frame)).collect::<Vec<_>>();
    assert_eq!(metas.iter().filter(|(found, _)| *found == kind).count(), 1);
    drop(locked);
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    drop(passed);
    stage.end();
}

#[test]
fn nvdsosd_is_given_outlines_and_counts_in_as_many_pieces_as_it_takes() {
    let standin = standin();
    let corner = |i: i32| f64::from(i) / 20.0 * std::f64::consts::TAU;
    let corners: Vec<_> = (0..20)
        .map(|i| format!("[{}, {}]", 0.5 + 0.4 * corner(i).cos(), 0.5 + 0.4 * corner(i).sin()))
        .collect();
    let regions =
        format!(r#"{{"regions": [{{"name": "ring", "polygon": [{}]}}]}}"#, corners.join(", "));
    let stage = Stage::unstarted("source=tensor-meta osd-mode=counts");
    stage.element.set_property("regions", regions);
    stage.pipeline.set_state(gst::State::Playing).unwrap();
    let pass = || {
        look(&stage.pass(standin.buffer(&BatchSpec::default(), &[FrameSpec::new(0, 0, 1, &[7.0])])))
            .remove(0)
    };
    let mut seen = pass();
    // NVIDIA's library puts what is added first, the stand-in last.
    seen.lines.sort_unstable();
    assert_eq!((seen.lines.as_slice(), seen.texts.len()), (&[4, 16][..], 2));
    assert!(seen.texts.contains(&"camera-0: 7, moderate".to_owned()), "{:?}", seen.texts);
    stage.element.set_property_from_str("osd-mode", "regions");
    assert_eq!(pass().texts, ["ring"]);
    stage.element.set_property_from_str("osd-mode", "off");
    assert_eq!(pass().lines, [0u32; 0]);
    stage.end();
    assert_eq!((meta::live(), standin.live_batches(), standin.unlocked_calls()), (0, 0, 0));
}

#[test]
fn wrong_regions_stop_the_start_and_leave_what_was_set_while_it_runs() {
    let standin = standin();
    let stage = Stage::unstarted("source=tensor-meta config-file-path=/nowhere/sources.txt");
    assert!(stage.pipeline.set_state(gst::State::Paused).is_err());
    assert!(stage.message(gst::MessageType::Error).unwrap().contains("/nowhere/sources.txt"));
    stage.end();
    let stage = Stage::new("");
    stage.element.set_property("regions", "{\"region\": 1}");
    assert!(
        stage
            .message(gst::MessageType::Warning)
            .unwrap()
            .contains("the settings stay as they were")
    );
    assert_eq!(
        count(
            &look(
                &stage.pass(
                    standin.buffer(&BatchSpec::default(), &[FrameSpec::new(0, 0, 1, &[7.0])])
                )
            )[0]
        ),
        7.0
    );
    stage.end();
}

/// Bytes that the process has from its allocator.
fn allocated() -> usize {
    // SAFETY: the function takes nothing and only counts.
    unsafe { libc::mallinfo2() }.uordblks
}

/// Runs `batches` batches of `source` through `counter`, over and over: nothing is left, and a
/// round allocates nothing more than the one before. What other tests of this process allocate
/// meanwhile is seen too: a leak is there in every round, they are not.
fn runs_without_a_leak(standin: &StandIn, batches: u32, source: &str, counter: &str) {
    let run = |batches: u32| {
        let description = format!(
            "standinsrc num-buffers={batches} {source} ! vehiclecounternvmm {counter} message-blob=true osd-mode=counts ! tee name=t \
             t. ! fakesink sync=false async=false t. ! fakesink sync=false async=false"
        );
        let pipeline =
            gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
        vehiclecount_tests::run_to_end(&pipeline);
        assert_no_leak(pipeline);
        assert_eq!((meta::live(), standin.live_batches(), standin.unlocked_calls()), (0, 0, 0));
        assert_eq!((standin.mapped(), standin.live_surfaces()), (0, (0, 0)));
    };
    // What the allocator and GStreamer keep for themselves is there after the first round.
    run(batches / 2);
    // A leak of eight bytes for each batch would be more; the rest is what a run's threads leave to
    // the allocator.
    let allowed = (8 * batches as usize).max(40_000);
    let round = || {
        let before = allocated();
        run(batches);
        allocated().saturating_sub(before)
    };
    let mut grown = vec![round()];
    while grown.len() < 4 && grown.last() >= Some(&allowed) {
        grown.push(round());
    }
    assert!(
        grown.last() < Some(&allowed),
        "{grown:?} bytes more are allocated after rounds of {batches} batches"
    );
}

#[test]
fn ten_thousand_batches_leave_nothing_behind() {
    runs_without_a_leak(&standin(), 10_000, "sources=3 interval=1", "source=tensor-meta");
}

#[test]
fn thousands_of_copied_pictures_leave_nothing_behind() {
    let counter = "source=engine engine=scripted engine-id=endless";
    runs_without_a_leak(&standin(), 6000, "sources=2 memory-type=4 layout=1", counter);
}

// ---- our engine on the frames ----

/// Regions that leave a letterbox's borders out.
const FRAME: &str =
    r#"{"regions": [{"name": "frame", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}]}"#;

/// A stage with the scripted engine called `name`, which counts 32 vehicles in a picture of full
/// red.
fn engine_stage(name: &str) -> Stage {
    let stage = Stage::unstarted(&format!("source=engine engine=scripted engine-id={name}"));
    stage.element.set_property("regions", FRAME);
    stage.pipeline.set_state(gst::State::Playing).unwrap();
    stage
}

fn picture(source: u32, batch_id: u32, red: u32) -> FrameSpec {
    FrameSpec { tensors: 0, red, ..FrameSpec::new(source, batch_id, 1, &[0.0]) }
}

/// What was counted in the picture itself.
fn in_frame(seen: &Seen) -> f64 {
    (seen.report.as_ref().unwrap().regions[0].count.unwrap().raw * 10.0).round() / 10.0
}

#[test]
fn engine_reads_every_format_in_every_memory_that_the_processor_sees() {
    let standin = standin();
    // RGBA, BGRx, RGB; NV12 and I420 of both matrices; grey. Luma 126 of limited range is level
    // 128.
    for (color_format, half) in [
        (19, 128),
        (24, 128),
        (27, 128),
        (6, 126),
        (33, 126),
        (7, 128),
        (2, 126),
        (31, 126),
        (1, 128),
    ] {
        // Pinned, unified, Jetson's surface array, the system's.
        for memory_type in [1, 3, 4, 6] {
            let stage = engine_stage("formats");
            let batch = BatchSpec { color_format, memory_type, ..BatchSpec::default() };
            // A partly filled batch, its frames listed in another order than their pictures lie.
            let frames = [
                picture(7, 2, half),
                picture(3, 0, if half == 126 { 235 } else { 255 }),
                picture(5, 1, 16 * u32::from(half == 126)),
            ];
            let seen = look(&stage.pass(standin.buffer(&batch, &frames)));
            let counts: Vec<_> = seen.iter().map(in_frame).collect();
            let case = format!("format {color_format}, memory {memory_type}");
            assert!((counts[0] - 16.1).abs() < 0.11, "{case}: {counts:?}");
            assert_eq!(counts[1..], [32.0, 0.0], "{case}");
            assert_eq!(seen[0].report.as_ref().unwrap().engine, "scripted");
            stage.end();
        }
    }
    assert_eq!(
        (standin.mapped(), meta::live(), standin.live_batches(), standin.unlocked_calls()),
        (0, 0, 0, 0)
    );
}

#[test]
fn engine_finds_the_picture_of_a_demuxed_frame_whose_batch_id_is_that_of_the_batch() {
    let standin = standin();
    let stage = engine_stage("demuxed");
    let whole = standin
        .buffer(&BatchSpec::default(), &[picture(0, 0, 0), picture(1, 1, 255), picture(2, 2, 51)]);
    let demux = |index, keep| in_frame(&look(&stage.pass(standin.demux(&whole, index, keep)))[0]);
    assert_eq!(
        (demux(1, true), demux(2, true), demux(1, false), demux(0, true)),
        (32.0, 6.4, 32.0, 0.0)
    );
    stage.end();
}

#[test]
fn latency_is_how_long_the_engine_holds_batches_and_tensors_add_none() {
    let standin = standin();
    let clock = gst_check::TestClock::new();
    let latency = |stage: &Stage| {
        let mut query = gst::query::Latency::new();
        assert!(stage.element.static_pad("src").unwrap().query(&mut query));
        query.result()
    };
    // Whether the element has said that its latency is another one; others may say so too.
    let says_so = |stage: &Stage| {
        let bus = stage.pipeline.bus().unwrap();
        let messages = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Latency]));
        messages.filter(|message| message.src() == Some(stage.element.upcast_ref())).count() > 0
    };
    let started = |stage: Stage| {
        stage.source.set_is_live(true);
        stage.pipeline.use_clock(Some(&clock));
        stage.pipeline.set_state(gst::State::Playing).unwrap();
        let (live, min, _) = latency(&stage);
        assert!(live);
        (stage, min)
    };
    let ms = gst::ClockTime::from_mseconds;
    let (stage, before) = started(Stage::unstarted("source=engine engine=scripted engine-id=slow"));
    let control = Control::of("slow");
    let hold = |time: gst::ClockTime| {
        control.hold();
        stage
            .source
            .push_buffer(standin.buffer(&BatchSpec::default(), &[picture(0, 0, 255)]))
            .unwrap();
        assert!(control.wait_for_waiting(1, BOUND));
        clock.set_time(clock.time() + time);
        control.open_gate();
        stage.sink.try_pull_sample(gst::ClockTime::from_seconds(BOUND.as_secs())).unwrap();
        says_so(&stage)
    };
    assert!(hold(ms(30)));
    assert_eq!(latency(&stage).1, before + ms(30));
    assert!(!hold(ms(25)));
    assert!(hold(ms(70)));
    assert_eq!(latency(&stage).1, before + ms(70));
    stage.end();

    let (stage, before) = started(Stage::unstarted("source=tensor-meta"));
    stage.pass(standin.buffer(&BatchSpec::default(), &[FrameSpec::new(0, 0, 1, &[1.0])]));
    assert_eq!((latency(&stage).1, says_so(&stage)), (before, false));
    stage.end();
}

#[test]
fn interval_asks_the_engine_for_every_third_frame_only() {
    let standin = standin();
    let stage = engine_stage("interval");
    stage.element.set_property("interval", 2u32);
    let control = Control::of("interval");
    let ages: Vec<_> = (0..4u64)
        .map(|i| {
            let frame = FrameSpec { pts: i * 1_000_000_000, ..picture(0, 0, 255) };
            let report = look(&stage.pass(standin.buffer(&BatchSpec::default(), &[frame])))
                .remove(0)
                .report
                .unwrap();
            (report.age / 1_000_000_000, report.stale)
        })
        .collect();
    assert_eq!(ages, [(0, false), (1, false), (2, false), (0, false)]);
    assert_eq!(control.calls(), [1, 1]);
    stage.end();
}

#[test]
fn engine_that_fails_leaves_the_last_count_and_recovers() {
    let standin = standin();
    let stage = engine_stage("failing");
    let pass = |red| {
        let report =
            look(&stage.pass(standin.buffer(&BatchSpec::default(), &[picture(0, 0, red)])))
                .remove(0)
                .report
                .unwrap();
        (report.regions[0].count.unwrap().raw.round(), report.stale)
    };
    assert_eq!(pass(255), (32.0, false));
    Control::of("failing").fail_next("the fan stands still");
    assert_eq!(pass(0), (32.0, true));
    assert!(stage.message(gst::MessageType::Warning).unwrap().contains("the fan stands still"));
    assert_eq!(pass(0), (0.0, false));
    stage.end();
}

#[test]
fn batch_that_waits_for_the_engine_is_let_go_by_a_flush_and_by_the_end() {
    let standin = standin();
    let stage = engine_stage("held");
    let control = Control::of("held");
    control.hold();
    let frames = [picture(0, 0, 255), picture(1, 1, 255)];
    stage.source.push_buffer(standin.buffer(&BatchSpec::default(), &frames)).unwrap();
    assert!(control.wait_for_waiting(1, BOUND));
    let pad = stage.element.static_pad("sink").unwrap();
    assert!(pad.send_event(gst::event::FlushStart::new()));
    assert!(pad.send_event(gst::event::FlushStop::new(true)));
    // The engine gives the old batch back; nobody wants it any more.
    control.open_gate();
    stage.end();

    let stage = engine_stage("held");
    control.hold();
    stage.source.push_buffer(standin.buffer(&BatchSpec::default(), &frames)).unwrap();
    assert!(control.wait_for_waiting(1, BOUND));
    // The streaming thread is let go at once; the engine's thread comes back when the gate opens.
    let gate = control.clone();
    let opener = std::thread::spawn(move || gate.open_gate());
    stage.end();
    opener.join().unwrap();
    assert_eq!((meta::live(), standin.live_batches()), (0, 0));
}

#[test]
fn pictures_that_cannot_be_read_end_the_stream_with_the_remedy() {
    let standin = standin();
    let error = |batch: BatchSpec| {
        let stage = engine_stage("unreadable");
        let error = stage.fail(standin.buffer(&batch, &[picture(0, 0, 9), picture(1, 1, 9)]));
        stage.end();
        error
    };
    let device = error(BatchSpec { memory_type: 2, ..BatchSpec::default() });
    assert!(device.contains("nvbuf-memory-type"), "{device}");
    let blocks = error(BatchSpec { memory_type: 3, layout: 1, ..BatchSpec::default() });
    assert!(
        blocks.contains("camera-0: the pictures are block-linear: put `nvvideoconvert"),
        "{blocks}"
    );
    let color = error(BatchSpec { color_format: 36, ..BatchSpec::default() });
    assert!(color.contains("colour format 36"), "{color}");
}

/// One of Jetson's picture buffers, block-linear, as its decoder leaves it.
fn jetson(color_format: i32) -> BatchSpec {
    BatchSpec { color_format, memory_type: 4, layout: 1, ..BatchSpec::default() }
}

#[test]
fn pictures_that_cannot_be_mapped_are_counted_in_a_copy() {
    let standin = standin();
    let (transforms, _) = standin.transforms();
    // Block-linear, and pitch-linear of a format that only the transform reads: NV12 of BT.2020.
    for (batch, white) in [
        (jetson(19), 255),
        (jetson(6), 235),
        (jetson(33), 235),
        (BatchSpec { layout: 0, ..jetson(36) }, 235),
    ] {
        let stage = engine_stage("copies");
        for _ in 0..3 {
            let frames = [
                picture(7, 2, white),
                picture(3, 0, if white == 255 { 51 } else { 60 }),
                picture(5, 1, 0),
            ];
            let seen = look(&stage.pass(standin.buffer(&batch, &frames)));
            assert_eq!(
                seen.iter().map(in_frame).collect::<Vec<_>>(),
                [32.0, 6.4, 0.0],
                "{batch:?}"
            );
        }
        // One after the other is read, so one surface serves them all.
        assert_eq!(standin.live_surfaces(), (1, 0));
        stage.end();
    }
    assert_eq!(standin.transforms(), (transforms + 36, 0));
    assert_eq!((standin.live_surfaces(), standin.mapped(), standin.live_batches()), ((0, 0), 0, 0));
}

#[test]
fn copy_that_never_worked_ends_the_stream_and_one_that_did_costs_a_count() {
    let standin = standin();
    let frame = || [picture(4, 0, 255)];
    let stage = engine_stage("never");
    standin.limit_transforms(0, -2);
    let error = stage.fail(standin.buffer(&jetson(6), &frame()));
    standin.limit_transforms(-1, 0);
    stage.end();
    assert!(
        error.starts_with("camera-4: NvBufSurfTransform says -2 (failed on the way)"),
        "{error}"
    );
    assert!(
        error.contains("64x32, block-linear, colour format 6") && error.contains("nvvideoconvert"),
        "{error}"
    );

    let stage = engine_stage("never");
    standin.limit_surfaces(0, -1, 1);
    let error = stage.fail(standin.buffer(&jetson(6), &frame()));
    standin.limit_surfaces(-1, -1, 1);
    stage.end();
    assert!(
        error.starts_with("camera-4: NvBufSurfaceCreate says -1: no memory for a copy"),
        "{error}"
    );

    let stage = engine_stage("once");
    let pass = |red| {
        let report = look(
            &stage.pass(standin.buffer(&jetson(19), &[picture(4, 0, red), picture(5, 1, 255)])),
        );
        report
            .into_iter()
            .map(|seen| (in_frame(&seen), seen.report.unwrap().stale))
            .collect::<Vec<_>>()
    };
    assert_eq!(pass(255), [(32.0, false), (32.0, false)]);
    standin.limit_transforms(0, -1);
    assert_eq!(pass(0), [(32.0, true), (32.0, true)]);
    assert_eq!(pass(0), [(32.0, true), (32.0, true)]);
    standin.limit_transforms(-1, 0);
    let warnings =
        [stage.message(gst::MessageType::Warning), stage.message(gst::MessageType::Warning)]
            .map(Option::unwrap);
    assert!(
        warnings[0].starts_with("camera-4: NvBufSurfTransform says -1 (not supported)"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].starts_with("camera-5: ") && warnings[1].contains("keep the last count"),
        "{warnings:?}"
    );
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    assert_eq!(pass(0), [(0.0, false), (32.0, false)]);
    assert_eq!((stage.figure(4, "failed"), stage.figure(5, "failed")), (2, 2));
    stage.end();
    assert_eq!((standin.live_surfaces(), standin.mapped(), standin.live_batches()), ((0, 0), 0, 0));
}

#[test]
fn copies_are_bounded_and_go_back_when_they_have_been_read() {
    let standin = standin();
    let api = Api::get().unwrap();
    let batch = BatchSpec { room: 1, ..jetson(19) };
    let buffer = standin.buffer(&batch, &[picture(0, 0, 9)]);
    let larger = standin.buffer(&BatchSpec { width: 128, ..batch }, &[picture(0, 0, 9)]);
    let (surfaces, others) =
        (Surfaces::of(&buffer, api.version).unwrap(), Surfaces::of(&larger, api.version).unwrap());
    let mut converter = Converter::new(None);
    let mut copy = |surfaces: &Surfaces<'_>| surfaces.picture(0, &mut converter);
    let (first, second) = (copy(&surfaces).unwrap(), copy(&surfaces).unwrap());
    let Err(PictureError::Now(reason)) = copy(&surfaces) else { panic!("a third of two surfaces") };
    assert_eq!(reason, "all 2 surfaces for copies of pictures are still with the engine");
    drop(first);
    assert!(copy(&surfaces).is_ok());
    // A picture of another size takes the place of a surface that is free.
    let third = copy(&others).unwrap();
    assert_eq!((third.format.width, standin.live_surfaces()), (128, (2, 0)));
    assert!(copy(&surfaces).is_err());
    drop(converter);
    assert_eq!(standin.live_surfaces(), (2, 0));
    drop((second, third));
    assert_eq!(standin.live_surfaces(), (0, 0));
    drop((surfaces, others));
}

#[test]
fn layout_that_does_not_fit_ends_the_stream_with_both_figures() {
    let standin = standin();
    let error = |batch: BatchSpec| {
        let stage = engine_stage("layout");
        let error = stage.fail(standin.buffer(&batch, &[picture(0, 0, 9), picture(1, 1, 9)]));
        stage.end();
        error
    };
    let (size, other, stride) = if version().0 >= 8 { (72, 64, 384) } else { (64, 72, 416) };
    let mixed = error(BatchSpec { mapped_size: other, ..BatchSpec::default() });
    let (major, minor) = version();
    assert!(
        mixed.contains(&format!("{other} bytes")) && mixed.contains(&format!("{size}, the size")),
        "{mixed}"
    );
    assert!(mixed.contains(&format!("DeepStream {major}.{minor}")), "{mixed}");
    assert!(error(BatchSpec { mapped_size: 56, ..BatchSpec::default() }).contains("56 bytes"));
    let second = error(BatchSpec { stride, ..BatchSpec::default() });
    assert!(
        second.contains("picture 1 of the batch") && second.contains("doctor --deepstream"),
        "{second}"
    );
    let overfull = error(BatchSpec { filled: 9, ..BatchSpec::default() });
    assert!(overfull.contains("of 9 pictures with room for 4"), "{overfull}");
}

// ---- other programs ----

/// A folder with the plugin and the stand-in, and what a program needs to find both and nothing
/// else.
struct Workplace(tempfile::TempDir);

impl Workplace {
    fn new(standin: Option<&StandIn>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plugin = "libgstvehiclecount.so";
        let built = std::env::current_exe().unwrap().with_file_name(plugin);
        std::fs::copy(built, folder.path().join(plugin))
            .expect("cargo builds the plugin for its tests");
        if let Some(standin) = standin {
            for file in std::fs::read_dir(&standin.folder).unwrap().map(|file| file.unwrap().path())
            {
                std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
            }
        }
        Self(folder)
    }

    fn run(&self, command: &mut Command) -> (bool, String, String) {
        let folder = self.0.path();
        command.env("GST_PLUGIN_PATH", folder).env("GST_REGISTRY", folder.join("registry.bin"));
        command
            .env("VEHICLECOUNT_DEEPSTREAM", folder)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove(VARIABLE);
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    /// The C example, compiled against the stand-in's headers.
    fn c_example(&self) -> std::path::PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = self.0.path().join("deepstream-print-counts");
        let flags = Command::new("pkg-config")
            .args(["--cflags", "--libs", "gstreamer-1.0"])
            .output()
            .unwrap()
            .stdout;
        let mut compile = Command::new("cc");
        compile.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-o"]).arg(&program);
        compile.arg(root.join("../gst-plugin/examples/deepstream-print-counts.c"));
        compile
            .arg("-I")
            .arg(root.join("../gst-plugin/include"))
            .arg("-I")
            .arg(root.join("deepstream/include"));
        compile.arg("-L").arg(self.0.path()).args([
            "-lnvdsgst_meta",
            "-lnvds_meta",
            "-Wl,-rpath,$ORIGIN",
        ]);
        let built =
            compile.args(String::from_utf8(flags).unwrap().split_whitespace()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        program
    }
}

fn batches(number: u32) -> String {
    format!(
        "standinsrc num-buffers={number} interval=1 ! vehiclecounternvmm source=tensor-meta message-blob=true osd-mode=counts \
         regions={} ! fakesink name=out",
        r#""{\"regions\": [{\"name\": \"left\", \"polygon\": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}]}""#
    )
}

const PRINTED: &str = "\
camera-0 frame 0: 1.50 vehicles (smoothed 1.50), free; left 1.00; density 4x2 sums to 1.50
camera-1 frame 0: 2.50 vehicles (smoothed 2.50), free; left 2.00; density 4x2 sums to 2.50
camera-0 frame 1: 1.50 vehicles (smoothed 1.50), free; left 1.00; density 4x2 sums to 1.50
camera-1 frame 1: 2.50 vehicles (smoothed 2.50), free; left 2.00; density 4x2 sums to 2.50
";

const PRINTED_WITH_PYDS: &str = "\
source 0, camera-0 frame 0: 1.50 vehicles, free; left 1.00
source 1, camera-1 frame 0: 2.50 vehicles, free; left 2.00
source 0, camera-0 frame 1: 1.50 vehicles, free; left 1.00
source 1, camera-1 frame 1: 2.50 vehicles, free; left 2.00
";

#[test]
fn applications_in_c_and_python_print_the_counts() {
    let standin = standin();
    let workplace = Workplace::new(Some(&standin));
    let (good, printed, said) = workplace.run(Command::new(workplace.c_example()).arg(batches(2)));
    assert!(good, "{said}");
    assert_eq!(printed, PRINTED);
    const NEEDED: &str =
        "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst";
    let has_gobject = |python: &&str| {
        Command::new(python)
            .args(["-c", NEEDED])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has_gobject);
    let python =
        python.expect("the packages python3-gi and python3-gst-1.0, which this test needs");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("../gst-plugin/examples/deepstream_print_counts.py");
    let (good, printed, said) = workplace.run(Command::new(python).arg(script).arg(batches(2)));
    assert!(good, "{said}");
    assert_eq!(printed, PRINTED);
    // With pyds, or what stands in for it.
    let script = root.join("../gst-plugin/examples/deepstream_pyds_print_counts.py");
    let mut command = Command::new(python);
    command.arg(script).arg(batches(2)).env("PYTHONPATH", root.join("deepstream/python"));
    let (good, printed, said) = workplace.run(&mut command);
    assert!(good, "{said}");
    assert_eq!(printed, PRINTED_WITH_PYDS);
}

#[test]
fn header_is_c_plus_plus_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let flags =
        Command::new("pkg-config").args(["--cflags", "gstreamer-1.0"]).output().unwrap().stdout;
    let mut check = Command::new("c++");
    check.args(["-x", "c++", "-std=c++14", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]);
    check
        .arg("-I")
        .arg(root.join("../gst-plugin/include"))
        .arg("-I")
        .arg(root.join("deepstream/include"));
    check.args(String::from_utf8(flags).unwrap().split_whitespace());
    let checked =
        check.arg(root.join("../gst-plugin/examples/deepstream-print-counts.c")).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn valgrind_finds_no_fault_in_a_hundred_batches() {
    let standin = standin();
    let workplace = Workplace::new(Some(&standin));
    let program = workplace.c_example();
    // Fills the registry, so that no scanner runs under valgrind.
    assert!(workplace.run(Command::new(&program).arg(batches(1))).0);
    let mut command = Command::new("valgrind");
    command.args(["--leak-check=full", "--show-leak-kinds=definite", "--num-callers=40"]);
    let (good, printed, said) = workplace.run(command.arg(program).arg(batches(100)));
    assert!(good, "{said}");
    assert!(said.contains("HEAP SUMMARY"), "{said}");
    // Records stand between lines that are empty but for the process's number. GLib's own
    // constructor leaks a block: what is lost counts where we had a hand in it.
    let records = said.split("== \n");
    // The loader compares strings by whole words, past their ends: `strncmp`, called by a function
    // of dl-load.c.
    let loader =
        |record: &str| record.lines().nth(2).is_some_and(|caller| caller.contains("(dl-load.c:"));
    let faulty = |record: &&str| {
        record.contains("Invalid ") && !loader(record)
            || record.contains("uninitialised")
            || record.contains("Mismatched ")
            || record.contains("definitely lost in loss record")
                && record.contains("vehiclecount::")
    };
    assert_eq!(records.filter(faulty).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(printed.lines().count(), 200);
}

#[test]
fn without_deepstream_the_element_is_there_and_says_what_it_lacks_when_it_starts() {
    let workplace = Workplace::new(None);
    let (good, text, said) =
        workplace.run(Command::new("gst-inspect-1.0").arg("vehiclecounternvmm"));
    assert!(good && text.contains("infer-on-gie-id"), "{said}");
    let pipeline = "fakesrc num-buffers=1 ! video/x-raw(memory:NVMM),format=RGBA,width=64,height=32,framerate=1/1 ! vehiclecounternvmm \
                    source=tensor-meta ! fakesink";
    let (good, _, said) =
        workplace.run(Command::new("gst-launch-1.0").args(pipeline.split_whitespace()));
    assert!(!good && said.contains("DeepStream's libnvdsgst_meta.so was not found"), "{said}");
    assert!(said.contains("install DeepStream 6.4 or later, or name the folder"), "{said}");
    // A library that is there and does not load is no missing one.
    std::fs::write(workplace.0.path().join("libnvdsgst_meta.so"), "no library").unwrap();
    let (good, _, said) =
        workplace.run(Command::new("gst-launch-1.0").args(pipeline.split_whitespace()));
    assert!(!good && said.contains("libnvdsgst_meta.so cannot be loaded: "), "{said}");
}

#[test]
fn doctor_finds_nothing_wrong_with_a_whole_deepstream() {
    let standin = standin();
    let findings = doctor::examine();
    let wrong: Vec<_> =
        findings.iter().filter(|finding| finding.state == doctor::State::Bad).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let said: String =
        findings.iter().map(|finding| format!("{}: {}\n", finding.what, finding.text)).collect();
    let (major, minor) = version();
    assert!(said.contains(&format!("version: {major}.{minor}")), "{said}");
    assert!(said.contains("counts survive the copy of a buffer"), "{said}");
    assert_eq!((meta::live(), standin.live_batches(), standin.unlocked_calls()), (0, 0, 0));
}
