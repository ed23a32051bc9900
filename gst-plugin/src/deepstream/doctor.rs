//! What `vehicle-count doctor --deepstream` looks at: DeepStream's libraries, their versions, and a
//! batch made, filled, copied and read by them; and, where DeepStream's elements are there, a batch
//! from `nvstreammux`.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use gst::prelude::*;
use parking_lot::Mutex;
use vehiclecount_core::cuda::Driver;
use vehiclecount_core::density::{DensityMap, Grid, Rect};
use vehiclecount_core::region::Level;
use vehiclecount_core::report::{FrameCount, FrameReport, RegionReport};

use super::abi::{
    BATCH_GST_META, BatchMeta, CopyFunc, FRAME_META_SIZES, FrameMeta, ReleaseFunc, START_USER_META,
    SurfaceLayout, UserMeta, custom_message_type,
};
use super::batch::{Batch, Figures};
use super::convert::Converter;
use super::display::{self, DisplayLayout, Style};
use super::library::{Api, DeepStreamError, Open, version};
use super::meta::{self, Piece};
use super::picture::{Picture, PictureError};
use super::surface::Surfaces;

/// How a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Good,
    /// Something works less well, could not be looked at, or is not there and not everybody needs
    /// it.
    Note,
    /// Nothing works without it.
    Bad,
}

/// Something that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How it is.
    pub state: State,
    /// What it is.
    pub what: &'static str,
    /// What was found.
    pub text: String,
}

/// Frames of the batch that is made up.
const SOURCES: [u32; 2] = [3, 11];

/// Looks at everything, and goes on as far as it can.
pub fn examine() -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |state, what, text: String| findings.push(Finding { state, what, text });
    let needed = [
        ("libnvdsgst_meta.so", State::Bad),
        ("libnvds_meta.so", State::Bad),
        ("libnvds_utils.so", State::Note),
        ("libnvbufsurface.so", State::Note),
        ("libnvbufsurftransform.so", State::Note),
    ];
    let mut missing = None;
    for (library, severity) in needed {
        match Open::new(library) {
            Ok(open) => say(State::Good, "library", format!("{library}, {}", open.path)),
            // Where it was looked for is the same for all of them.
            Err(error) => {
                let nowhere = matches!(error, DeepStreamError::Library { .. });
                let text = match missing {
                    Some(_) if nowhere => format!("{library} was not found either"),
                    _ => error.to_string(),
                };
                missing = missing.max(Some(severity == State::Bad));
                say(severity, "library", text);
            }
        }
    }
    if missing == Some(true) {
        return findings;
    }
    match version() {
        Ok(((major, minor), _)) => {
            let known = (6, 4) <= (major, minor) && (major, minor) <= (9, 1);
            let message = custom_message_type((major, minor))
                .map_or("not known".to_owned(), |kind| kind.to_string());
            let layout = SurfaceLayout::from_version(major);
            let text = format!(
                "{major}.{minor}{}: surfaces of {} and {} bytes, NVDS_CUSTOM_MSG_BLOB {message}",
                if known { "" } else { ", which is none of 6.4 to 9.1" },
                layout.surface_size(),
                layout.stride(),
            );
            say(if known { State::Good } else { State::Note }, "version", text);
        }
        Err(_) => say(
            State::Note,
            "version",
            "not told without libnvds_utils.so: sizes alone tell the layouts".to_owned(),
        ),
    }
    match Api::get() {
        Ok(api) if api.count_type >= START_USER_META => {
            say(
                State::Good,
                "symbols",
                format!("all there; our metadata has type {}", api.count_type),
            );
            match synthetic(api) {
                Ok(said) => said.into_iter().for_each(|(state, text)| say(state, "batch", text)),
                Err(error) => say(State::Bad, "batch", error),
            }
        }
        Ok(api) => say(
            State::Bad,
            "symbols",
            format!(
                "nvds_get_user_meta_type gives {}, which is below {START_USER_META}",
                api.count_type
            ),
        ),
        Err(error) => say(State::Bad, "symbols", error.to_string()),
    }
    match muxed() {
        Ok(text) => say(State::Good, "nvstreammux", text),
        Err((state, text)) => say(state, "nvstreammux", text),
    }
    findings
}

/// The functions that make a batch.
struct Maker {
    create: unsafe extern "C" fn(u32) -> *mut BatchMeta,
    acquire_frame: unsafe extern "C" fn(*mut BatchMeta) -> *mut FrameMeta,
    add_frame: unsafe extern "C" fn(*mut BatchMeta, *mut FrameMeta),
    copy: CopyFunc,
    release: ReleaseFunc,
    #[allow(clippy::type_complexity, reason = "a C function's type")]
    attach: unsafe extern "C" fn(
        *mut gst::ffi::GstBuffer,
        *mut c_void,
        *mut c_void,
        Option<CopyFunc>,
        Option<ReleaseFunc>,
    ) -> *mut GstNvDsMeta,
}

/// `NvDsMeta`: what hangs on the buffer.
#[repr(C)]
struct GstNvDsMeta {
    meta: [*mut c_void; 2],
    data: *mut c_void,
    user_data: *mut c_void,
    meta_type: i32,
    functions: [*mut c_void; 4],
}

const _: () =
    assert!(size_of::<GstNvDsMeta>() == 72 && std::mem::offset_of!(GstNvDsMeta, meta_type) == 32);

impl Maker {
    fn find() -> Result<Self, DeepStreamError> {
        let (meta, gst_meta) = (Open::new("libnvds_meta.so")?, Open::new("libnvdsgst_meta.so")?);
        // SAFETY: the types are those of the published headers.
        unsafe {
            Ok(Self {
                create: meta.get("nvds_create_batch_meta")?,
                acquire_frame: meta.get("nvds_acquire_frame_meta_from_pool")?,
                add_frame: meta.get("nvds_add_frame_meta_to_batch")?,
                copy: meta.get("nvds_batch_meta_copy_func")?,
                release: meta.get("nvds_batch_meta_release_func")?,
                attach: gst_meta.get("gst_buffer_add_nvds_meta")?,
            })
        }
    }

    /// A buffer with a batch of [`SOURCES`], made as nvstreammux makes it.
    fn buffer(&self) -> Result<gst::Buffer, String> {
        let mut buffer = gst::Buffer::new();
        // SAFETY: the calls and their order are nvstreammux's own; the buffer owns the batch from
        // `attach` on.
        unsafe {
            let batch = (self.create)(SOURCES.len() as u32);
            if batch.is_null() {
                return Err("nvds_create_batch_meta gives nothing".to_owned());
            }
            let meta = (self.attach)(
                buffer.make_mut().as_mut_ptr(),
                batch.cast(),
                ptr::null_mut(),
                Some(self.copy),
                Some(self.release),
            );
            (*meta).meta_type = BATCH_GST_META;
            (*batch).base.batch_meta = batch;
            (*batch).base.copy_func = Some(self.copy);
            (*batch).base.release_func = Some(self.release);
            (*batch).max_frames_in_batch = SOURCES.len() as u32;
            for (index, source) in SOURCES.into_iter().enumerate() {
                let frame = (self.acquire_frame)(batch);
                if frame.is_null() {
                    return Err("nvds_acquire_frame_meta_from_pool gives nothing".to_owned());
                }
                (*frame).source_id = source;
                (*frame).batch_id = index as u32;
                (*frame).buf_pts = 40_000_000;
                ((*frame).pipeline_width, (*frame).pipeline_height) = (1920, 1080);
                (self.add_frame)(batch, frame);
            }
        }
        Ok(buffer)
    }
}

fn report() -> FrameReport {
    let counted = Some(FrameCount { raw: 12.5, smoothed: 12.25, level: Level::Moderate });
    FrameReport {
        camera: "doctor".into(),
        sequence: 1,
        unique_id: 0,
        pts: Some(40_000_000),
        capture_time: None,
        received_time: 1_700_000_000_000_000_000,
        count: counted,
        stale: false,
        confirmed: false,
        age: 0,
        regions: vec![RegionReport {
            name: "region".to_owned(),
            polygon: vec![[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]],
            count: counted,
        }],
        density: Some(DensityMap {
            grid: Grid { columns: 2, rows: 1, rect: Rect::FRAME },
            cells: Arc::new([12.0, 0.5]),
        }),
        model: "none".into(),
        engine: "none".into(),
        inference_time: 0,
    }
}

/// A batch made up, counted, copied and read, all by DeepStream's own libraries.
fn synthetic(api: &'static Api) -> Result<Vec<(State, String)>, String> {
    let mut said = Vec::new();
    let buffer = Maker::find().map_err(|error| error.to_string())?.buffer()?;
    let live = meta::live();
    let batch = Batch::of(api, &buffer).map_err(|error| error.to_string())?;
    let figures = batch.figures();
    said.push(sizes(&figures)?);
    {
        let locked = batch.lock();
        let frames = locked.frames();
        let found: Vec<_> =
            frames.iter().map(|frame| (frame.source_id, frame.batch_id, frame.size)).collect();
        if found != [(SOURCES[0], 0, (1920, 1080)), (SOURCES[1], 1, (1920, 1080))] {
            return Err(format!("frames come back as {found:?}: {}", super::library::REPORT));
        }
        for frame in &frames {
            locked.set_misc(frame, 0, 12_500);
            locked
                .attach(
                    frame,
                    api.count_type,
                    Piece::count(&report(), frame.source_id),
                    meta::copy_count,
                )
                .map_err(|_| "the pool has no user metadata".to_owned())?;
        }
        match DisplayLayout::verify(&figures, api.version) {
            Ok(layout) => {
                let style = Style { counts: true, font_size: 12 };
                let drawn = display::attach(&locked, &frames[0], layout, style, &report());
                said.push(match drawn {
                    Ok(()) => (State::Good, "display metadata can be attached".to_owned()),
                    Err(_) => (
                        State::Note,
                        "the pool has no display metadata: osd-mode draws nothing".to_owned(),
                    ),
                });
            }
            Err(error) => said.push((State::Note, format!("osd-mode draws nothing: {error}"))),
        }
    }
    let copied = buffer.copy();
    drop(buffer);
    let copy =
        Batch::of(api, &copied).map_err(|error| format!("in a copy of the buffer: {error}"))?;
    {
        let locked = copy.lock();
        for frame in locked.frames() {
            let metas = locked.user_metas(&frame);
            let ours = metas.iter().find(|(kind, _)| *kind == api.count_type);
            // SAFETY: the data of our type is ours, and the lock is held.
            let read = ours.and_then(|(_, data)| unsafe { meta::read(*data) });
            if read != Some((frame.source_id, report())) {
                return Err(format!(
                    "source {} has lost its count in a copy of the buffer: {read:?}",
                    frame.source_id
                ));
            }
        }
    }
    drop(copied);
    let left = meta::live() - live;
    if left != 0 {
        return Err(format!("{left} counts are not released with their buffers"));
    }
    said.push((
        State::Good,
        "counts survive the copy of a buffer and are released with it".to_owned(),
    ));
    Ok(said)
}

/// Sizes of the pools' elements.
fn sizes(figures: &Figures) -> Result<(State, String), String> {
    let Figures { frame_size, user_size, display_size, .. } = *figures;
    let text = format!(
        "metadata of {frame_size} bytes for a frame, {user_size} for a user, {display_size} for a display"
    );
    let user = size_of::<UserMeta>();
    match (frame_size, user_size) {
        (0, 0) => Ok((State::Note, "the pools do not tell the size of what is in them".to_owned())),
        (frame, found) if frame < size_of::<FrameMeta>() || found != user => Err(format!(
            "{text}, where at least {} and {user} were expected: {}",
            size_of::<FrameMeta>(),
            super::library::REPORT
        )),
        (frame, _) if FRAME_META_SIZES.contains(&frame) => Ok((State::Good, text)),
        _ => Ok((State::Note, format!("{text}; frames of no known size, but large enough"))),
    }
}

/// A batch of two test pictures from DeepStream's muxer.
fn muxed() -> Result<String, (State, String)> {
    let missing: Vec<_> = ["nvstreammux", "nvvideoconvert"]
        .into_iter()
        .filter(|element| gst::ElementFactory::find(element).is_none())
        .collect();
    if !missing.is_empty() {
        return Err((
            State::Note,
            format!("no {}: batches of pictures were not looked at", missing.join(", ")),
        ));
    }
    let camera = "videotestsrc num-buffers=3 ! video/x-raw,format=NV12,width=640,height=360,framerate=10/1 ! nvvideoconvert \
                  ! video/x-raw(memory:NVMM),format=NV12";
    let description = format!(
        "nvstreammux name=m batch-size=2 width=640 height=360 batched-push-timeout=2000000 ! fakesink name=out sync=false \
         {camera} ! m.sink_0  {camera} ! m.sink_1"
    );
    let wrong = |error: String| (State::Bad, error);
    let pipeline = gst::parse::launch(&description).map_err(|error| wrong(error.to_string()))?;
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .expect("a description of several elements is a pipeline");
    let seen: Arc<Mutex<Option<Result<String, String>>>> = Arc::default();
    let pad =
        pipeline.by_name("out").and_then(|out| out.static_pad("sink")).expect("a sink has a pad");
    let found = seen.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            found.lock().get_or_insert_with(|| look(buffer));
        }
        gst::PadProbeReturn::Ok
    });
    let _ = pipeline.set_state(gst::State::Playing);
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let bus = pipeline.bus().expect("a pipeline has a bus");
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends);
    let _ = pipeline.set_state(gst::State::Null);
    if let Some(gst::MessageView::Error(error)) = end.as_ref().map(|message| message.view()) {
        return Err(wrong(format!("a pipeline of test pictures fails: {}", error.error())));
    }
    let seen = seen.lock().take();
    seen.unwrap_or_else(|| Err("no batch came within a minute".to_owned())).map_err(wrong)
}

fn look(buffer: &gst::BufferRef) -> Result<String, String> {
    let api = Api::get().map_err(|error| error.to_string())?;
    let batch = Batch::of(api, buffer).map_err(|error| error.to_string())?;
    let frames = batch.lock().frames();
    let surfaces = Surfaces::of(buffer, api.version).map_err(|error| error.to_string())?;
    // As an engine on the GPU would read them, where there is one.
    let mut converter =
        Converter::new(Driver::open().ok().and_then(|driver| driver.context(0).ok()));
    let pictures = frames.iter().map(|frame| surfaces.picture(frame.batch_id, &mut converter));
    let pictures: Vec<Picture> =
        pictures.collect::<Result<_, _>>().map_err(|error| match error {
            PictureError::Setup(error) => error.to_string(),
            PictureError::Now(reason) => reason,
        })?;
    let first = pictures.first().ok_or("a batch without frames")?;
    let copied = if first.converted.is_some() { "copied by NvBufSurfTransform, " } else { "" };
    let place = match first.on_gpu() {
        Some(on_gpu) => format!("{copied}in the memory of GPU {}", on_gpu.gpu),
        None => {
            first.view(|_| ()).map_err(|error| error.to_string())?;
            format!("{copied}where the processor can read them")
        }
    };
    Ok(format!(
        "a batch of {} pictures of {}x{}, {}, {place}",
        pictures.len(),
        first.format.width,
        first.format.height,
        surfaces.layout().name()
    ))
}
