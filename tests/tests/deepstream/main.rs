//! The element for DeepStream pipelines, with DeepStream's libraries stood in for. The stories run
//! with the newest layout, and again, in processes of their own, with each older one.

#![allow(clippy::unwrap_used)]

mod engine;
mod faults;
mod jetson;
mod leaks;
mod output;
mod programs;
mod tensors;
mod time;

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
use vehiclecount_tests::{BOUND, assert_no_leak, error_of, init};

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
        error_of(&self.pipeline)
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
struct FrameResult {
    source_id: u32,
    report: Option<FrameReport>,
    messages: Vec<String>,
    misc: [i64; 4],
    inferred: bool,
    lines: Vec<u32>,
    texts: Vec<String>,
}

fn look(buffer: &gst::BufferRef) -> Vec<FrameResult> {
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
        FrameResult {
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
fn count(seen: &FrameResult) -> f64 {
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
