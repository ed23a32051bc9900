//! The element: scene time follows the stream's.

use std::sync::LazyLock;

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use gst_video::prelude::*;
use parking_lot::Mutex;
use vehiclecount_core::scene::{Scene, SceneSettings};

use super::{Viewpoint, Weather};
use crate::meta::truth::{self, Truth};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vehicletestsrc",
        gst::DebugColorFlags::empty(),
        Some("Simulated traffic camera"),
    )
});

/// What the user chose.
#[derive(Clone, Copy, Debug)]
struct Settings {
    viewpoint: Viewpoint,
    weather: Weather,
    seed: u64,
    traffic: f64,
    is_live: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            viewpoint: Viewpoint::default(),
            weather: Weather::default(),
            seed: 0,
            traffic: 1.0,
            is_live: false,
        }
    }
}

/// What the stream made: from caps to stop.
struct State {
    info: gst_video::VideoInfo,
    scene: Scene,
    rgb: Vec<u8>,
    /// The frame that comes next, counted from the stream's time 0.
    frame: u64,
    /// Frames end here, exclusively.
    end: Option<u64>,
}

/// See [`super::VehicleTestSrc`]. Lock order: `state`, then `settings`.
#[derive(Default)]
pub struct VehicleTestSrc {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
}

/// Time at which frame `number` begins.
fn time_of(number: u64, fps: gst::Fraction) -> gst::ClockTime {
    let nanoseconds = number
        .mul_div_round(fps.denom() as u64 * gst::ClockTime::SECOND.nseconds(), fps.numer() as u64);
    gst::ClockTime::from_nseconds(nanoseconds.unwrap_or(u64::MAX - 1))
}

/// The frame that is shown at `time`.
fn frame_at(time: gst::ClockTime, fps: gst::Fraction) -> u64 {
    let frames = time
        .nseconds()
        .mul_div_round(fps.numer() as u64, fps.denom() as u64 * gst::ClockTime::SECOND.nseconds());
    frames.unwrap_or(0)
}

#[glib::object_subclass]
impl ObjectSubclass for VehicleTestSrc {
    const NAME: &'static str = "GstVehicleTestSrc";
    type Type = super::VehicleTestSrc;
    type ParentType = gst_base::BaseSrc;
}

impl ObjectImpl for VehicleTestSrc {
    fn constructed(&self) {
        self.parent_constructed();
        let source = self.obj();
        source.set_format(gst::Format::Time);
        source.set_live(Settings::default().is_live);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let defaults = Settings::default();
            vec![
                glib::ParamSpecEnum::builder_with_default("viewpoint", defaults.viewpoint)
                    .nick("Viewpoint")
                    .blurb("From where the camera looks")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("weather", defaults.weather)
                    .nick("Weather")
                    .blurb("Light and weather")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt64::builder("seed")
                    .nick("Seed")
                    .blurb("Everything that is left to chance follows from it")
                    .default_value(defaults.seed)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecDouble::builder("traffic")
                    .nick("Traffic")
                    .blurb("How busy the road is (0: empty, 1: usual, 2: jammed); it swings around this over time")
                    .minimum(0.0)
                    .maximum(4.0)
                    .default_value(defaults.traffic)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoolean::builder("is-live")
                    .nick("Is live")
                    .blurb("Frames come at their time, as from a camera")
                    .default_value(defaults.is_live)
                    .mutable_ready()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        const TYPED: &str = "type checked upstream";
        let mut settings = self.settings.lock();
        match pspec.name() {
            "viewpoint" => settings.viewpoint = value.get().expect(TYPED),
            "weather" => settings.weather = value.get().expect(TYPED),
            "seed" => settings.seed = value.get().expect(TYPED),
            "traffic" => settings.traffic = value.get().expect(TYPED),
            "is-live" => {
                settings.is_live = value.get().expect(TYPED);
                let live = settings.is_live;
                drop(settings);
                self.obj().set_live(live);
            }
            _ => unimplemented!("property {}", pspec.name()),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings.lock();
        match pspec.name() {
            "viewpoint" => settings.viewpoint.to_value(),
            "weather" => settings.weather.to_value(),
            "seed" => settings.seed.to_value(),
            "traffic" => settings.traffic.to_value(),
            "is-live" => settings.is_live.to_value(),
            _ => unimplemented!("property {}", pspec.name()),
        }
    }
}

impl GstObjectImpl for VehicleTestSrc {}

impl ElementImpl for VehicleTestSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Vehicle test source",
                "Source/Video",
                "Simulates a traffic camera and knows the true number of vehicles",
                "The vehiclecount authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            use gst_video::VideoFormat::{Bgrx, I420, Nv12, Rgb, Rgbx};
            let caps = gst_video::VideoCapsBuilder::new()
                .format_list([I420, Nv12, Rgb, Rgbx, Bgrx])
                .width_range(16..=8192)
                .height_range(16..=8192)
                .framerate_range(gst::Fraction::new(1, 1)..=gst::Fraction::new(240, 1))
                .build();
            let src = gst::PadTemplate::new(
                "src",
                gst::PadDirection::Src,
                gst::PadPresence::Always,
                &caps,
            );
            vec![src.expect("a valid template")]
        });
        &TEMPLATES
    }
}

impl BaseSrcImpl for VehicleTestSrc {
    fn fixate(&self, mut caps: gst::Caps) -> gst::Caps {
        caps.truncate();
        if let Some(structure) = caps.make_mut().structure_mut(0) {
            structure.fixate_field_nearest_int("width", 640);
            structure.fixate_field_nearest_int("height", 360);
            structure.fixate_field_nearest_fraction("framerate", gst::Fraction::new(25, 1));
        }
        let mut caps = self.parent_fixate(caps);
        // The caps always say what the conversion uses: BT.601 for small pictures,
        // BT.709 for large ones.
        if let Ok(info) = gst_video::VideoInfo::from_caps(&caps)
            && let Some(structure) = caps.make_mut().structure_mut(0)
            && info.is_yuv()
            && !structure.has_field("colorimetry")
        {
            structure.set("colorimetry", info.colorimetry().to_string());
        }
        caps
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = gst_video::VideoInfo::from_caps(caps)
            .map_err(|_| gst::loggable_error!(CAT, "Cannot make frames of {caps}"))?;
        let settings = *self.settings.lock();
        let (width, height) = (info.width() as usize, info.height() as usize);
        let scene = Scene::new(SceneSettings {
            viewpoint: settings.viewpoint.into(),
            weather: settings.weather.into(),
            seed: settings.seed,
            width,
            height,
            traffic: settings.traffic,
        });
        self.obj().set_blocksize(info.size() as u32);
        let mut state = self.state.lock();
        let (frame, end) = match &*state {
            // The stream goes on where it was.
            Some(old) => {
                let at = |frame| frame_at(time_of(frame, old.info.fps()), info.fps());
                (at(old.frame), old.end.map(at))
            }
            None => (0, None),
        };
        *state = Some(State { info, scene, rgb: vec![0; width * height * 3], frame, end });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.state.lock() = None;
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        !self.settings.lock().is_live
    }

    fn do_seek(&self, segment: &mut gst::Segment) -> bool {
        let Some(segment) = segment.downcast_mut::<gst::ClockTime>() else { return false };
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else {
            // Before the caps are known only the beginning can be meant.
            return segment.start().is_none_or(|start| start == gst::ClockTime::ZERO);
        };
        if segment.rate() < 0.0 {
            return false;
        }
        let fps = state.info.fps();
        state.frame = frame_at(segment.start().unwrap_or_default(), fps);
        state.end = segment.stop().map(|stop| frame_at(stop, fps));
        segment.set_position(time_of(state.frame, fps));
        segment.set_time(segment.start());
        true
    }

    /// A live frame comes at its own time.
    fn times(&self, buffer: &gst::BufferRef) -> (Option<gst::ClockTime>, Option<gst::ClockTime>) {
        if !self.settings.lock().is_live {
            return (None, None);
        }
        let end = buffer.pts().zip(buffer.duration()).map(|(pts, duration)| pts + duration);
        (buffer.pts(), end)
    }

    fn fill(
        &self,
        _offset: u64,
        _length: u32,
        buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = self.state.lock();
        let state = state.as_mut().ok_or(gst::FlowError::NotNegotiated)?;
        if state.end.is_some_and(|end| state.frame >= end) {
            return Err(gst::FlowError::Eos);
        }
        let fps = state.info.fps();
        let (begin, end) = (time_of(state.frame, fps), time_of(state.frame + 1, fps));
        state.scene.render(begin.nseconds() as f64 / 1e9, &mut state.rgb);
        {
            let mut frame = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, &state.info)
                .map_err(|_| {
                    gst::element_imp_error!(
                        self,
                        gst::ResourceError::Write,
                        ("A buffer of the pool does not hold a frame")
                    );
                    gst::FlowError::Error
                })?;
            write(&state.rgb, &mut frame);
        }
        buffer.set_pts(begin);
        buffer.set_duration(end - begin);
        buffer.set_offset(state.frame);
        buffer.set_offset_end(state.frame + 1);
        let truth = Truth::new(state.frame, state.scene.truth());
        gst::log!(CAT, imp = self, "Frame {}: {} vehicles, at {begin}", state.frame, truth.count);
        truth::attach(buffer, &truth);
        state.frame += 1;
        Ok(gst::FlowSuccess::Ok)
    }
}

/// Packed RGB into the frame's own format.
fn write(rgb: &[u8], frame: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>) {
    use gst_video::VideoFormat;
    let (format, width, height) = (frame.format(), frame.width() as usize, frame.height() as usize);
    let matrix = frame.info().colorimetry();
    let strides: Vec<usize> = frame.plane_stride().iter().map(|&stride| stride as usize).collect();
    let planes = frame.planes_data_mut();
    let rows = || rgb.chunks_exact(width * 3);
    match format {
        VideoFormat::Rgb => {
            for (to, from) in planes[0].chunks_mut(strides[0]).zip(rows()) {
                to[..width * 3].copy_from_slice(from);
            }
        }
        VideoFormat::Rgbx | VideoFormat::Bgrx => {
            let order = if format == VideoFormat::Rgbx { [0, 1, 2] } else { [2, 1, 0] };
            for (to, from) in planes[0].chunks_mut(strides[0]).zip(rows()) {
                for (to, from) in to.chunks_exact_mut(4).zip(from.chunks_exact(3)) {
                    (to[0], to[1], to[2], to[3]) =
                        (from[order[0]], from[order[1]], from[order[2]], 255);
                }
            }
        }
        _ => {
            let yuv = Yuv::new(&matrix);
            for (to, from) in planes[0].chunks_mut(strides[0]).zip(rows()) {
                for (to, from) in to.iter_mut().zip(from.chunks_exact(3)) {
                    *to = yuv.luma([from[0], from[1], from[2]].map(i32::from));
                }
            }
            for row in 0..height.div_ceil(2) {
                let lines = [2 * row, (2 * row + 1).min(height - 1)];
                for column in 0..width.div_ceil(2) {
                    let mut sum = [0i32; 3];
                    for y in lines {
                        for x in [2 * column, (2 * column + 1).min(width - 1)] {
                            let at = (y * width + x) * 3;
                            (0..3).for_each(|channel| sum[channel] += i32::from(rgb[at + channel]));
                        }
                    }
                    let [u, v] = yuv.chroma(sum.map(|channel| (channel + 2) / 4));
                    if format == VideoFormat::Nv12 {
                        let at = row * strides[1] + 2 * column;
                        (planes[1][at], planes[1][at + 1]) = (u, v);
                    } else {
                        planes[1][row * strides[1] + column] = u;
                        planes[2][row * strides[2] + column] = v;
                    }
                }
            }
        }
    }
}

/// RGB to Y'CbCr in 16-bit fixed point (ITU-R BT.601 or BT.709, limited or full range).
struct Yuv {
    luma: [i32; 3],
    blue: [i32; 3],
    red: [i32; 3],
    floor: i32,
}

impl Yuv {
    fn new(colorimetry: &gst_video::VideoColorimetry) -> Self {
        let (kr, kb) = match colorimetry.matrix() {
            gst_video::VideoColorMatrix::Bt709 => (0.2126, 0.0722),
            _ => (0.299, 0.114),
        };
        let (luma, chroma, floor) = match colorimetry.range() {
            gst_video::VideoColorRange::Range0_255 => (1.0, 1.0, 0),
            _ => (219.0 / 255.0, 224.0 / 255.0, 16),
        };
        let fixed = |value: f64| (value * 65536.0).round() as i32;
        let kg = 1.0 - kr - kb;
        let (cb, cr) = (chroma / (2.0 * (1.0 - kb)), chroma / (2.0 * (1.0 - kr)));
        Self {
            luma: [kr * luma, kg * luma, kb * luma].map(fixed),
            blue: [-kr * cb, -kg * cb, (1.0 - kb) * cb].map(fixed),
            red: [(1.0 - kr) * cr, -kg * cr, -kb * cr].map(fixed),
            floor,
        }
    }

    fn luma(&self, rgb: [i32; 3]) -> u8 {
        (self.floor + weigh(self.luma, rgb)).clamp(0, 255) as u8
    }

    fn chroma(&self, rgb: [i32; 3]) -> [u8; 2] {
        [self.blue, self.red].map(|weights| (128 + weigh(weights, rgb)).clamp(0, 255) as u8)
    }
}

fn weigh(weights: [i32; 3], rgb: [i32; 3]) -> i32 {
    (weights[0] * rgb[0] + weights[1] * rgb[1] + weights[2] * rgb[2] + 32768) >> 16
}
