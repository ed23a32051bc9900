//! The element: a line for each frame that was counted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::subclass::prelude::*;

use super::writer::{Queued, Writer};
use crate::meta;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("vehiclecountpublish", gst::DebugColorFlags::empty(), Some("Writes vehicle counts as JSON"))
});

/// What the user chose.
#[derive(Clone, Debug)]
struct Settings {
    location: Option<PathBuf>,
    append: bool,
    density: bool,
    every: gst::ClockTime,
    queue_size: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { location: None, append: false, density: false, every: gst::ClockTime::ZERO, queue_size: 1024 }
    }
}

/// What the stream made: from start to stop.
struct State {
    writer: Arc<Writer>,
    /// Time stamp of each camera's last line.
    last: HashMap<String, u64>,
    /// Lines are being dropped; said once.
    dropping: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    published: u64,
    dropped: u64,
}

/// See [`super::VehicleCountPublish`]. Lock order: `state`, `settings`, `figures`.
#[derive(Default)]
pub struct VehicleCountPublish {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    figures: Mutex<Figures>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What went wrong with a line, to be said with no lock held.
enum Trouble {
    Dropping,
    Writing(String),
}

impl VehicleCountPublish {
    fn publish(&self, buffer: &gst::BufferRef) -> Option<Trouble> {
        let mut state = lock(&self.state);
        let state = state.as_mut()?;
        let (density, every) = {
            let settings = lock(&self.settings);
            (settings.density, settings.every.nseconds())
        };
        let mut trouble = None;
        for report in meta::count::all(buffer) {
            if let (Some(pts), true) = (report.pts, every > 0) {
                let last = state.last.get(&report.camera);
                // A time stamp that went back is a new beginning.
                if last.is_some_and(|&last| pts >= last && pts - last < every) {
                    continue;
                }
                state.last.insert(report.camera.clone(), pts);
            }
            let line = match serde_json::to_string(&report.to_json(density)) {
                Ok(line) => line,
                Err(error) => {
                    gst::error!(CAT, imp = self, "Cannot write the report of {}: {error}", report.camera);
                    continue;
                }
            };
            let queued = state.writer.push(line);
            let mut figures = lock(&self.figures);
            figures.published += 1;
            if queued == Queued::DroppedOldest {
                figures.dropped += 1;
                if !std::mem::replace(&mut state.dropping, true) {
                    trouble = Some(Trouble::Dropping);
                }
            } else {
                state.dropping = false;
            }
        }
        state.writer.take_error().map(Trouble::Writing).or(trouble)
    }
}

#[glib::object_subclass]
impl ObjectSubclass for VehicleCountPublish {
    const NAME: &'static str = "GstVehicleCountPublish";
    type Type = super::VehicleCountPublish;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for VehicleCountPublish {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let defaults = Settings::default();
            let figure = |name: &'static str, nick: &'static str, blurb: &'static str| {
                glib::ParamSpecUInt64::builder(name).nick(nick).blurb(blurb).read_only().build()
            };
            vec![
                glib::ParamSpecString::builder("location")
                    .nick("Location")
                    .blurb("File to write (empty or -: standard output)")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoolean::builder("append")
                    .nick("Append")
                    .blurb("Append to the file instead of writing it anew")
                    .default_value(defaults.append)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoolean::builder("density")
                    .nick("Density")
                    .blurb("Write the density map too")
                    .default_value(defaults.density)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("every")
                    .nick("Every")
                    .blurb(
                        "Milliseconds of stream time between two lines of a camera at least (0: a line for each frame)",
                    )
                    .default_value(defaults.every.mseconds() as u32)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("queue-size")
                    .nick("Queue size")
                    .blurb("Lines that wait to be written at most; then the oldest is dropped")
                    .minimum(1)
                    .maximum(1_000_000)
                    .default_value(defaults.queue_size)
                    .mutable_ready()
                    .build(),
                figure("published", "Published", "Lines handed to the writer since the start"),
                figure("dropped", "Dropped", "Lines dropped since the start, because writing was too slow"),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        const TYPED: &str = "type checked upstream";
        let mut settings = lock(&self.settings);
        match pspec.name() {
            "location" => {
                let location = value.get::<Option<String>>().expect(TYPED).unwrap_or_default();
                settings.location = (!location.is_empty() && location != "-").then(|| PathBuf::from(location));
            }
            "append" => settings.append = value.get().expect(TYPED),
            "density" => settings.density = value.get().expect(TYPED),
            "every" => settings.every = gst::ClockTime::from_mseconds(value.get::<u32>().expect(TYPED).into()),
            "queue-size" => settings.queue_size = value.get().expect(TYPED),
            _ => unimplemented!("property {}", pspec.name()),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = lock(&self.settings);
        match pspec.name() {
            "location" => settings.location.as_ref().map(|path| path.display().to_string()).to_value(),
            "append" => settings.append.to_value(),
            "density" => settings.density.to_value(),
            "every" => (settings.every.mseconds() as u32).to_value(),
            "queue-size" => settings.queue_size.to_value(),
            "published" => lock(&self.figures).published.to_value(),
            "dropped" => lock(&self.figures).dropped.to_value(),
            _ => unimplemented!("property {}", pspec.name()),
        }
    }
}

impl GstObjectImpl for VehicleCountPublish {}

impl ElementImpl for VehicleCountPublish {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Vehicle count publisher",
                "Filter/Metadata",
                "Writes vehicle counts as lines of JSON",
                "The vehiclecount authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst::Caps::new_any();
            let pad = |name, direction| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).expect("a valid template")
            };
            vec![pad("sink", gst::PadDirection::Sink), pad("src", gst::PadDirection::Src)]
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for VehicleCountPublish {
    const MODE: gst_base::subclass::BaseTransformMode = gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = true;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = true;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        let limit = settings.queue_size as usize;
        let writer = Writer::open(settings.location.clone(), settings.append, limit).map_err(|error| {
            let place = settings.location.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
            gst::error_msg!(
                gst::ResourceError::OpenWrite,
                ("Cannot write counts to {place}: {error}; name a file in a folder that exists and can be written in `location`")
            )
        })?;
        *lock(&self.figures) = Figures::default();
        *lock(&self.state) = Some(State { writer, last: HashMap::new(), dropping: false });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let state = lock(&self.state).take();
        let Some(State { writer, .. }) = state else { return Ok(()) };
        writer.flush();
        match writer.take_error() {
            None => Ok(()),
            Some(error) => {
                Err(gst::error_msg!(gst::ResourceError::Write, ("The last counts could not be written: {error}")))
            }
        }
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Eos {
            let writer = lock(&self.state).as_ref().map(|state| state.writer.clone());
            if let Some(writer) = writer {
                writer.flush();
            }
        }
        self.parent_sink_event(event)
    }

    fn transform_ip_passthrough(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        match self.publish(buffer) {
            None => {}
            Some(Trouble::Dropping) => gst::element_imp_warning!(
                self,
                gst::ResourceError::Write,
                ("Counts come faster than they can be written: the oldest are dropped, see `dropped`")
            ),
            Some(Trouble::Writing(error)) => {
                gst::element_imp_warning!(self, gst::ResourceError::Write, ("Counts could not be written: {error}"));
            }
        }
        Ok(gst::FlowSuccess::Ok)
    }
}
