//! The element for DeepStream pipelines, with DeepStream's libraries stood in for. The stories run with the newest layout, and again, in
//! processes of their own, with each older one.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;
use gstvehiclecount::deepstream::batch::Batch;
use gstvehiclecount::deepstream::{Api, abi, meta};
use vehiclecount_core::report::{FrameReport, JsonReport};
use vehiclecount_tests::standin::{BatchSpec, FrameSpec, StandIn};
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
    fn new(properties: &str) -> Self {
        let stage = Self::unstarted(properties);
        stage.pipeline.set_state(gst::State::Playing).unwrap();
        stage
    }

    fn unstarted(properties: &str) -> Self {
        let description = format!(
            "appsrc name=in format=time caps=\"video/x-raw(memory:NVMM),format=RGBA,width=64,height=32,framerate=10/1\" \
             ! vehiclecounternvmm name=counter {properties} ! appsink name=out sync=false"
        );
        let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
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
        let Some(sample) = sample else { panic!("nothing came out: {:?}", self.message(gst::MessageType::Error)) };
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
        let message = self.pipeline.bus().unwrap().timed_pop_filtered(bound, &[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
        error.error().to_string()
    }

    fn figure(&self, source: u32, name: &str) -> u64 {
        let statistics = self.element.property::<gst::Structure>("statistics");
        let cameras = statistics.get::<gst::Array>("cameras").unwrap();
        let mut cameras = cameras.iter().map(|camera| camera.get::<gst::Structure>().unwrap());
        cameras.find(|camera| camera.get::<u32>("source-id") == Ok(source)).unwrap().get(name).unwrap()
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
        let of = |kind: i32| metas.iter().filter(move |(found, _)| *found == kind).map(|(_, data)| *data);
        let message_type = abi::custom_message_type(version()).unwrap_or(0);
        let messages = of(message_type).map(|data| {
            // SAFETY: the data of this type is such a message, and the lock is held.
            unsafe {
                let message = &*data.cast::<abi::CustomMessage>();
                let bytes = std::slice::from_raw_parts(message.message.cast::<u8>(), message.size as usize);
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
        // SAFETY: texts are C strings.
        let texts = texts.map(|text| unsafe { std::ffi::CStr::from_ptr(text.text) }.to_str().unwrap().to_owned());
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
        FrameSpec { pts: 40, ntp: 1_700_000_000_000_000_000, ..FrameSpec::new(5, 1, 2, &[1.5, 1.0]) },
        FrameSpec::new(2, 2, 2, &[0.0, 3.25]),
    ];
    let passed = stage.pass(standin.buffer(&BatchSpec::default(), &frames));
    let seen = look(&passed);
    assert_eq!(seen.iter().map(|frame| frame.source_id).collect::<Vec<_>>(), [0, 5, 2]);
    assert_eq!(seen.iter().map(count).collect::<Vec<_>>(), [1.0, 5.0, 3.25]);
    assert_eq!(seen.iter().map(|frame| frame.misc[0]).collect::<Vec<_>>(), [1000, 5000, 3250]);
    assert!(seen.iter().all(|frame| frame.inferred && frame.lines.is_empty() && frame.messages.is_empty()));
    let report = seen[1].report.as_ref().unwrap();
    assert_eq!((report.camera.as_str(), report.unique_id), ("south", 7));
    assert_eq!((report.pts, report.capture_time), (Some(40), Some(1_700_000_000_000_000_000)));
    assert_eq!((report.regions[0].name.as_str(), report.regions[0].count.unwrap().raw), ("left", 3.0));
    assert_eq!(report.density.as_ref().unwrap().cells[..], [1.5, 1.0]);
    drop(passed);
    stage.end();
    assert_eq!((meta::live(), standin.live_batches(), standin.unlocked_calls()), (0, 0, 0));
}

#[test]
fn half_precision_counts_like_single() {
    let standin = standin();
    let stage = Stage::new("");
    let cells = [0.0f32, 0.5, 2.25, 0.125];
    let values = cells.iter().flat_map(|&cell| half(cell)).collect();
    let frame = FrameSpec { data_type: 1, values, layers: 2, ..FrameSpec::new(0, 0, 2, &cells) };
    assert_eq!(count(&look(&stage.pass(standin.buffer(&BatchSpec::default(), &[frame])))[0]), 2.875);
    stage.end();
}

#[test]
fn borders_that_nvinfer_added_lie_outside_the_frame() {
    let standin = standin();
    let stage = Stage::new("");
    // A picture twice as wide as high in a square network: the lower half is border, or a quarter above and below.
    let boxed = |symmetric| {
        let frame = FrameSpec { aspect: true, symmetric, network: (64, 64), ..FrameSpec::new(0, 0, 1, &[0.0; 4]) };
        let seen = look(&stage.pass(standin.buffer(&BatchSpec::default(), &[frame])));
        let rect = seen[0].report.as_ref().unwrap().density.as_ref().unwrap().grid.rect;
        (rect.x, rect.y, rect.width, rect.height)
    };
    assert_eq!(boxed(false), (0.0, 0.0, 1.0, 2.0));
    // Before 7.0 nvinfer does not tell.
    assert_eq!(boxed(true), if version() >= (7, 0) { (0.0, -0.5, 1.0, 2.0) } else { (0.0, 0.0, 1.0, 2.0) });
    stage.end();
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
    assert_eq!(seen(0, 0), (0, None, false, 0));
    assert_eq!(seen(second, 1), (1, Some(4.0), false, 0));
    assert_eq!(seen(2 * second, 0), (2, Some(4.0), false, second));
    // The file begins anew.
    assert_eq!(seen(0, 0), (3, None, false, 0));
    assert_eq!(stage.message(gst::MessageType::Warning), None);
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
    assert!(warning.contains("output-tensor-meta=1") && warning.contains("network-type=100"), "{warning}");
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
    let stage = Stage::new("message-blob=true");
    // Two tensors, one count (and its message, where there are any): nothing is left for the second frame.
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
    assert!(stage.message(gst::MessageType::Warning).unwrap().contains("pool of metadata is exhausted"));
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
    // The second frame of a batch that was not copied to the host: its pointer is an offset from nowhere.
    let device = error("", FrameSpec { place: 1, batch_id: 1, ..good.clone() });
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
    let error = stage.fail(standin.buffer(&BatchSpec { batch_meta: 0, ..BatchSpec::default() }, &[]));
    assert!(error.contains("put vehiclecounternvmm after nvstreammux"), "{error}");
    stage.end();
}

#[test]
fn message_is_the_report_as_json_and_misc_info_goes_where_it_was_told() {
    let standin = standin();
    let stage = Stage::new("message-blob=true misc-index=3 misc-scale=10 density-map=false");
    let seen = look(&stage.pass(standin.buffer(&BatchSpec::default(), &[FrameSpec::new(1, 0, 1, &[2.5])]))).remove(0);
    if version() == (6, 4) {
        // Nobody has published the number of the type in 6.4.
        assert_eq!(seen.messages.len(), 0);
        assert!(stage.message(gst::MessageType::Warning).unwrap().contains("NVDS_CUSTOM_MSG_BLOB in DeepStream 6.4"));
    } else {
        let json: JsonReport = serde_json::from_str(&seen.messages[0]).unwrap();
        assert_eq!((json.camera.as_str(), json.count, json.engine.as_str()), ("camera-1", Some(2.5), "nvinfer"));
    }
    assert_eq!((seen.misc, seen.report.unwrap().density), ([0, 0, 0, 25], None));
    stage.end();
}

#[test]
fn nvdsosd_is_given_outlines_and_counts_in_as_many_pieces_as_it_takes() {
    let standin = standin();
    let corner = |i: i32| f64::from(i) / 20.0 * std::f64::consts::TAU;
    let corners: Vec<_> =
        (0..20).map(|i| format!("[{}, {}]", 0.5 + 0.4 * corner(i).cos(), 0.5 + 0.4 * corner(i).sin())).collect();
    let regions = format!(r#"{{"regions": [{{"name": "ring", "polygon": [{}]}}]}}"#, corners.join(", "));
    let stage = Stage::unstarted("osd-mode=counts");
    stage.element.set_property("regions", regions);
    stage.pipeline.set_state(gst::State::Playing).unwrap();
    let pass =
        || look(&stage.pass(standin.buffer(&BatchSpec::default(), &[FrameSpec::new(0, 0, 1, &[7.0])]))).remove(0);
    let seen = pass();
    assert_eq!((seen.lines.as_slice(), seen.texts.len()), (&[16, 4][..], 2));
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
    let stage = Stage::unstarted("config-file-path=/nowhere/sources.txt");
    assert!(stage.pipeline.set_state(gst::State::Paused).is_err());
    assert!(stage.message(gst::MessageType::Error).unwrap().contains("/nowhere/sources.txt"));
    stage.end();
    let stage = Stage::new("");
    stage.element.set_property("regions", "{\"region\": 1}");
    assert!(stage.message(gst::MessageType::Warning).unwrap().contains("the settings stay as they were"));
    assert_eq!(
        count(&look(&stage.pass(standin.buffer(&BatchSpec::default(), &[FrameSpec::new(0, 0, 1, &[7.0])])))[0]),
        7.0
    );
    stage.end();
}

/// Bytes that the process has from its allocator.
fn allocated() -> usize {
    // SAFETY: the function takes nothing and only counts.
    unsafe { libc::mallinfo2() }.uordblks
}

#[test]
fn ten_thousand_batches_leave_nothing_behind() {
    let standin = standin();
    let run = |batches: u32| {
        let description = format!(
            "standinsrc num-buffers={batches} sources=3 interval=1 ! vehiclecounternvmm message-blob=true osd-mode=counts ! tee name=t \
             t. ! fakesink sync=false async=false t. ! fakesink sync=false async=false"
        );
        let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
        vehiclecount_tests::run_to_end(&pipeline);
        assert_no_leak(pipeline);
        assert_eq!((meta::live(), standin.live_batches(), standin.unlocked_calls()), (0, 0, 0));
    };
    // What the allocator and GStreamer keep for themselves is there after the first round.
    run(5000);
    let before = allocated();
    run(10_000);
    let grown = allocated().saturating_sub(before);
    // A leak of eight bytes for each batch would be more.
    assert!(grown < 80_000, "{grown} bytes more are allocated after ten thousand batches");
}
