//! The element: reads the metadata, keeps drawings that still hold, blends.

use std::sync::LazyLock;

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::subclass::prelude::*;
use gst_video::prelude::*;
use gst_video::subclass::prelude::*;
use parking_lot::Mutex;
use vehiclecount_core::density::DensityMap;
use vehiclecount_core::report::{FrameCount, FrameReport};

use super::draw::{self, Outline, Panel, Rectangle};
use crate::crop::Crop;
use crate::meta;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vehiclecountoverlay",
        gst::DebugColorFlags::empty(),
        Some("Draws vehicle counts"),
    )
});

/// What the user chose.
#[derive(Clone, Copy, Debug)]
struct Settings {
    heat_map: bool,
    heat_opacity: f64,
    regions: bool,
    labels: bool,
    truth: bool,
    /// Of text, 1 as the frame's size has it.
    text_scale: f64,
    /// The counter whose counts are drawn; -1 takes the first.
    unique_id: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heat_map: true,
            heat_opacity: 0.6,
            regions: true,
            labels: true,
            truth: false,
            text_scale: 1.0,
            unique_id: -1,
        }
    }
}

/// A drawing and what it shows.
struct Drawing<T> {
    of: T,
    /// Opacity of the heat map, scale of the text.
    setting: f64,
    frame: (u32, u32),
    rectangles: Vec<Rectangle>,
}

/// Drawings that are kept while they hold.
#[derive(Default)]
struct State {
    heat: Option<Drawing<DensityMap>>,
    panel: Option<Drawing<Panel>>,
    outlines: Option<Drawing<Vec<Outline>>>,
}

/// See [`super::VehicleCountOverlay`]. Lock order: `state`, then `settings`.
#[derive(Default)]
pub struct VehicleCountOverlay {
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

/// The kept drawing, or a new one where it shows something else.
fn kept<T: PartialEq>(
    place: &mut Option<Drawing<T>>,
    of: T,
    setting: f64,
    frame: (u32, u32),
    draw: impl FnOnce(&T) -> Result<Vec<Rectangle>, draw::DrawError>,
) -> Result<&[Rectangle], draw::DrawError> {
    let holds = |drawing: &&mut Drawing<T>| {
        drawing.frame == frame && drawing.setting == setting && drawing.of == of
    };
    if place.as_mut().filter(holds).is_none() {
        let rectangles = draw(&of)?;
        *place = Some(Drawing { of, setting, frame, rectangles });
    }
    Ok(place.as_ref().map_or(&[], |drawing| &drawing.rectangles))
}

/// A count as it is shown: smoothed, one decimal below ten.
fn shown(count: Option<FrameCount>) -> String {
    match count.map(|count| count.smoothed) {
        None => "–".to_owned(),
        Some(count) if count < 9.95 => format!("{count:.1}"),
        Some(count) => format!("{count:.0}"),
    }
}

/// A drawing for the part of a picture that `crop` leaves, in the whole picture.
fn moved(mut rectangle: Rectangle, crop: Crop) -> Rectangle {
    let (x, y, width, height) = rectangle.render_rectangle();
    let (x, y) = (x.saturating_add_unsigned(crop.x), y.saturating_add_unsigned(crop.y));
    rectangle.make_mut().set_render_rectangle(x, y, width, height);
    rectangle
}

impl VehicleCountOverlay {
    fn rectangles(
        &self,
        report: &FrameReport,
        truth: Option<u32>,
        frame: (u32, u32),
    ) -> Result<Vec<Rectangle>, draw::DrawError> {
        let mut state = self.state.lock();
        let settings = *self.settings.lock();
        let text_scale = settings.text_scale;
        let mut rectangles = Vec::new();
        if let Some(map) = report.density.as_ref().filter(|_| settings.heat_map) {
            let opacity = settings.heat_opacity;
            rectangles.extend_from_slice(kept(
                &mut state.heat,
                map.clone(),
                opacity,
                frame,
                |map| Ok(draw::heat_map(map, opacity, frame)),
            )?);
        }
        if settings.regions {
            let outlines = report.regions.iter().map(|region| Outline {
                polygon: region.polygon.clone(),
                label: format!("{}  {}", region.name, shown(region.count)),
                level: region.count.map(|count| count.level),
            });
            rectangles.extend_from_slice(kept(
                &mut state.outlines,
                outlines.collect(),
                text_scale,
                frame,
                |of| draw::outlines(of, text_scale, frame),
            )?);
        }
        if settings.labels {
            let age = report.age as f64 / 1e9;
            let panel = Panel {
                camera: report.camera.to_string(),
                count: shown(report.count),
                level: report.count.map(|count| count.level),
                age: if report.stale && report.count.is_some() {
                    format!("{age:.1} s old")
                } else {
                    String::new()
                },
                truth: truth
                    .filter(|_| settings.truth)
                    .map(|truth| format!("truth {truth}"))
                    .unwrap_or_default(),
            };
            rectangles.extend_from_slice(kept(&mut state.panel, panel, text_scale, frame, |of| {
                draw::panel(of, text_scale, frame)
            })?);
        }
        Ok(rectangles)
    }
}

#[glib::object_subclass]
impl ObjectSubclass for VehicleCountOverlay {
    const NAME: &'static str = "GstVehicleCountOverlay";
    type Type = super::VehicleCountOverlay;
    type ParentType = gst_video::VideoFilter;
}

impl ObjectImpl for VehicleCountOverlay {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let defaults = Settings::default();
            let flag =
                |name: &'static str, nick: &'static str, blurb: &'static str, default: bool| {
                    glib::ParamSpecBoolean::builder(name)
                        .nick(nick)
                        .blurb(blurb)
                        .default_value(default)
                        .mutable_playing()
                        .build()
                };
            vec![
                flag("heat-map", "Heat map", "Draw the density as a heat map", defaults.heat_map),
                glib::ParamSpecDouble::builder("heat-opacity")
                    .nick("Heat opacity")
                    .blurb("Opacity of the heat map where it is hottest (0: invisible, 1: opaque)")
                    .minimum(0.0)
                    .maximum(1.0)
                    .default_value(defaults.heat_opacity)
                    .mutable_playing()
                    .build(),
                flag("regions", "Regions", "Draw the regions with their counts", defaults.regions),
                flag(
                    "labels",
                    "Labels",
                    "Draw the panel with camera, count, level and age",
                    defaults.labels,
                ),
                flag(
                    "truth",
                    "Truth",
                    "Add the true count to the panel, where the camera is a simulated one",
                    defaults.truth,
                ),
                glib::ParamSpecDouble::builder("text-scale")
                    .nick("Text scale")
                    .blurb("Size of the text (1: as the frame's size has it, 2: twice that); what does not fit is drawn smaller")
                    .minimum(0.25)
                    .maximum(4.0)
                    .default_value(defaults.text_scale)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecInt::builder("unique-id")
                    .nick("Unique id")
                    .blurb("Draw the counts of the counter with this unique id (-1: the first)")
                    .minimum(-1)
                    .default_value(defaults.unique_id)
                    .mutable_playing()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        const TYPED: &str = "type checked upstream";
        let mut settings = self.settings.lock();
        match pspec.name() {
            "heat-map" => settings.heat_map = value.get().expect(TYPED),
            "heat-opacity" => settings.heat_opacity = value.get().expect(TYPED),
            "regions" => settings.regions = value.get().expect(TYPED),
            "labels" => settings.labels = value.get().expect(TYPED),
            "truth" => settings.truth = value.get().expect(TYPED),
            "text-scale" => settings.text_scale = value.get().expect(TYPED),
            "unique-id" => settings.unique_id = value.get().expect(TYPED),
            _ => unimplemented!("property {}", pspec.name()),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings.lock();
        match pspec.name() {
            "heat-map" => settings.heat_map.to_value(),
            "heat-opacity" => settings.heat_opacity.to_value(),
            "regions" => settings.regions.to_value(),
            "labels" => settings.labels.to_value(),
            "truth" => settings.truth.to_value(),
            "text-scale" => settings.text_scale.to_value(),
            "unique-id" => settings.unique_id.to_value(),
            _ => unimplemented!("property {}", pspec.name()),
        }
    }
}

impl GstObjectImpl for VehicleCountOverlay {}

impl ElementImpl for VehicleCountOverlay {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Vehicle count overlay",
                "Filter/Editor/Video",
                "Draws vehicle counts, regions and density onto the picture",
                "The vehiclecount authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst_video::VideoCapsBuilder::new().build();
            let pad = |name, direction| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                    .expect("a valid template")
            };
            vec![pad("sink", gst::PadDirection::Sink), pad("src", gst::PadDirection::Src)]
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for VehicleCountOverlay {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.state.lock() = State::default();
        Ok(())
    }
}

impl VideoFilterImpl for VehicleCountOverlay {
    fn transform_frame_ip(
        &self,
        frame: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let wanted = u32::try_from(self.settings.lock().unique_id).ok();
        let mut reports = meta::count::all(frame.buffer());
        let Some(report) = reports.find(|report| wanted.is_none_or(|id| id == report.unique_id))
        else {
            gst::log!(
                CAT,
                imp = self,
                "A frame without a count of unique-id {wanted:?}: nothing is drawn"
            );
            return Ok(gst::FlowSuccess::Ok);
        };
        drop(reports);
        let truth = meta::truth::read(frame.buffer()).map(|truth| truth.count);
        // Of a cropped picture, only the part that is shown is drawn on.
        let crop = Crop::of(frame.buffer());
        let shown = crop.map_or((frame.width(), frame.height()), |crop| (crop.width, crop.height));
        if shown.0 == 0 || shown.1 == 0 {
            return Ok(gst::FlowSuccess::Ok);
        }
        let drawn = self.rectangles(&report, truth, shown).map(|rectangles| match crop {
            Some(crop) => rectangles.into_iter().map(|rectangle| moved(rectangle, crop)).collect(),
            None => rectangles,
        });
        // A frame without its drawing is better than no frame.
        match drawn {
            Ok(rectangles) if rectangles.is_empty() => {
                gst::log!(
                    CAT,
                    imp = self,
                    "{}, frame {}: nothing is to be drawn",
                    report.camera,
                    report.sequence
                );
            }
            Ok(rectangles) => {
                let (camera, pieces) = (&report.camera, rectangles.len());
                gst::log!(
                    CAT,
                    imp = self,
                    "{camera}, frame {}: draws {pieces} pieces",
                    report.sequence
                );
                let composition = gst_video::VideoOverlayComposition::new(rectangles.iter());
                if composition.and_then(|composition| composition.blend(frame)).is_err() {
                    gst::warning!(
                        CAT,
                        imp = self,
                        "Cannot blend onto frames of {:?}",
                        frame.format()
                    );
                }
            }
            Err(error) => gst::warning!(CAT, imp = self, "Cannot draw: {error}"),
        }
        Ok(gst::FlowSuccess::Ok)
    }
}
