//! The element: reports of the frames that pass go to a publisher of `core`.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;
use vehiclecount_core::publish::sink::Rotation;
use vehiclecount_core::publish::{
    Account, Cause, Event, FrameTime, Listener, PublishSettings, Publisher, Report, SinkSettings,
    Statistics, Thinning, TroubleEnd,
};
use vehiclecount_core::report::FrameReport;

use crate::{meta, topmost};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vehiclecountpublish",
        gst::DebugColorFlags::empty(),
        Some("Publishes vehicle counts"),
    )
});

/// What the user chose.
#[derive(Clone, Debug)]
struct Settings {
    location: Option<String>,
    append: bool,
    density: bool,
    every: Duration,
    queue_size: u32,
    rotation: Rotation,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            location: None,
            append: false,
            density: false,
            every: Duration::ZERO,
            queue_size: 1024,
            rotation: Rotation::default(),
        }
    }
}

/// What the stream made: from start to stop.
struct State {
    publisher: Arc<Publisher>,
    thinning: Thinning,
    start: Instant,
}

/// See [`super::VehicleCountPublish`]. Lock order: `state`, `settings`, `account`. None is held
/// while a message is posted or the publisher is waited for.
#[derive(Default)]
pub struct VehicleCountPublish {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    /// Of the reports since the last start; kept after stop.
    account: Mutex<Account>,
}

impl VehicleCountPublish {
    fn publish(&self, buffer: &gst::BufferRef) {
        let (density, every) = {
            let settings = self.settings.lock();
            (settings.density, settings.every)
        };
        for report in meta::count::all(buffer) {
            let FrameReport { camera, sequence, unique_id, .. } = &report;
            let Some((publisher, due)) = self.is_due(&report, buffer, every) else { return };
            if !due {
                gst::log!(
                    CAT,
                    imp = self,
                    "{camera} frame {sequence}, counter {unique_id}: left out, every={every:?}"
                );
                continue;
            }
            let json = match serde_json::to_string(&report.to_json(density)) {
                Ok(json) => json,
                Err(error) => {
                    gst::error!(
                        CAT,
                        imp = self,
                        "{camera} frame {sequence}: no JSON can be made of it: {error}"
                    );
                    continue;
                }
            };
            let dropped =
                publisher.push(Report { camera: camera.to_string(), unique_id: *unique_id, json });
            let fate = if dropped { "queued, the oldest line dropped" } else { "queued" };
            gst::log!(CAT, imp = self, "{camera} frame {sequence}, counter {unique_id}: {fate}");
        }
    }

    /// Whether `every` leaves the report of this frame in, and who publishes it.
    fn is_due(
        &self,
        report: &FrameReport,
        buffer: &gst::BufferRef,
        every: Duration,
    ) -> Option<(Arc<Publisher>, bool)> {
        let mut state = self.state.lock();
        let State { publisher, thinning, start } = state.as_mut()?;
        let time = self.frame_time(buffer, *start);
        let due = thinning.is_due(&report.camera, report.unique_id, time, every);
        Some((publisher.clone(), due))
    }

    /// The running time of the buffer, and of its arrival.
    fn frame_time(&self, buffer: &gst::BufferRef, start: Instant) -> FrameTime {
        let element = self.obj();
        let segment = element.segment();
        let segment = segment.downcast_ref::<gst::ClockTime>();
        let running =
            segment.and_then(|segment| segment.to_running_time(buffer.pts().or(buffer.dts())));
        // Without a clock, which a pipeline that is paused has not got, time passes all the same.
        let arrival =
            element.current_running_time().map_or_else(|| start.elapsed(), Duration::from);
        FrameTime { running: running.map(Duration::from), arrival }
    }

    fn publisher(&self) -> Option<Arc<Publisher>> {
        self.state.lock().as_ref().map(|state| state.publisher.clone())
    }

    fn statistics(&self) -> Statistics {
        let account = self.account.lock().clone();
        *account.lock()
    }

    /// Logs and posts what the publisher has to say, from any thread.
    fn listener(&self) -> Listener {
        let element = self.obj().downgrade();
        let call = move |event: &Event| {
            if let Some(element) = element.upgrade() {
                element.imp().tell(event);
            }
        };
        // The pipeline's address tells pipelines apart.
        let group = topmost(&*self.obj()).as_ptr().addr();
        Listener { group, call: Arc::new(call) }
    }

    fn tell(&self, event: &Event) {
        match event {
            Event::Remark(remark) => gst::info!(CAT, imp = self, "{remark}"),
            Event::Trouble { place, cause: Cause::Overflow(limit), .. } => {
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Write,
                    ("Counts come faster than they can be written: the oldest are dropped, see `dropped`"),
                    ["{place}: more than {limit} lines wait"]
                )
            }
            Event::Trouble { place, cause, limit } => gst::element_imp_warning!(
                self,
                gst::ResourceError::Write,
                ("Counts could not be written to {place}: {cause}; they wait to be written later, {limit} of them at most")
            ),
            Event::TroubleEnd { place, end } => {
                let TroubleEnd { recovered, lost, duration } = *end;
                if lost > 0 || !recovered {
                    gst::warning!(
                        CAT,
                        imp = self,
                        "{place}: {lost} lines lost in {duration:?}, recovered: {recovered}"
                    );
                } else {
                    gst::info!(
                        CAT,
                        imp = self,
                        "{place}: all lines are written again after {duration:?}"
                    );
                }
                let message = gst::Structure::builder("vehiclecount-publish")
                    .field("location", place)
                    .field("recovered", recovered)
                    .field("lost", lost)
                    .field("duration", u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
                    .build();
                let element = self.obj();
                let message = gst::message::Element::builder(message).src(&*element).build();
                let _ = element.post_message(message);
            }
        }
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
                    .blurb(
                        "Path or file:// URL of the file or FIFO to write, mqtt://HOST:PORT/TOPIC, kafka://HOST:PORT/TOPIC, \
                         or https://HOST/PATH of a webhook \
                         (empty or -: standard output)",
                    )
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
                        "Milliseconds of stream time between two lines of a counter (unique-id) on a camera at least \
                         (0: a line for each frame)",
                    )
                    .default_value(defaults.every.as_millis() as u32)
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
                glib::ParamSpecUInt64::builder("max-file-size")
                    .nick("Maximum file size")
                    .blurb("Bytes after which the file is renamed and begun anew (0: never)")
                    .default_value(defaults.rotation.max_size)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt64::builder("max-file-duration")
                    .nick("Maximum file duration")
                    .blurb("Nanoseconds after which the file is renamed and begun anew (0: never)")
                    .default_value(defaults.rotation.max_duration.as_nanos() as u64)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("max-files")
                    .nick("Maximum files")
                    .blurb("Files to keep, the one being written included; the oldest are removed (0: all)")
                    .default_value(defaults.rotation.max_files)
                    .mutable_ready()
                    .build(),
                figure("published", "Published", "Lines written since the start"),
                figure(
                    "dropped",
                    "Dropped",
                    "Lines dropped since the start, because they could not be written in time",
                ),
                glib::ParamSpecBoxed::builder::<gst::Structure>("statistics")
                    .nick("Statistics")
                    .blurb("Lines since the start: delivered (written), waiting, dropped")
                    .read_only()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        const TYPED: &str = "type checked upstream";
        let mut settings = self.settings.lock();
        match pspec.name() {
            "location" => settings.location = value.get().expect(TYPED),
            "append" => settings.append = value.get().expect(TYPED),
            "density" => settings.density = value.get().expect(TYPED),
            "every" => {
                settings.every = Duration::from_millis(value.get::<u32>().expect(TYPED).into())
            }
            "queue-size" => settings.queue_size = value.get().expect(TYPED),
            "max-file-size" => settings.rotation.max_size = value.get().expect(TYPED),
            "max-file-duration" => {
                settings.rotation.max_duration = Duration::from_nanos(value.get().expect(TYPED))
            }
            "max-files" => settings.rotation.max_files = value.get().expect(TYPED),
            _ => unimplemented!("property {}", pspec.name()),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings.lock();
        match pspec.name() {
            "location" => settings.location.to_value(),
            "append" => settings.append.to_value(),
            "density" => settings.density.to_value(),
            "every" => (settings.every.as_millis() as u32).to_value(),
            "queue-size" => settings.queue_size.to_value(),
            "max-file-size" => settings.rotation.max_size.to_value(),
            "max-file-duration" => (settings.rotation.max_duration.as_nanos() as u64).to_value(),
            "max-files" => settings.rotation.max_files.to_value(),
            "published" => self.statistics().delivered.to_value(),
            "dropped" => self.statistics().dropped.to_value(),
            "statistics" => {
                let Statistics { delivered, waiting, dropped } = self.statistics();
                gst::Structure::builder("vehiclecount-publish-statistics")
                    .field("delivered", delivered)
                    .field("waiting", waiting)
                    .field("dropped", dropped)
                    .build()
                    .to_value()
            }
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
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                    .expect("a valid template")
            };
            vec![pad("sink", gst::PadDirection::Sink), pad("src", gst::PadDirection::Src)]
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for VehicleCountPublish {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = true;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = true;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let Settings { location, append, queue_size, rotation, .. } = self.settings.lock().clone();
        let settings = PublishSettings {
            queue_size: queue_size as usize,
            sink: SinkSettings { append, rotation },
        };
        let publisher =
            Publisher::open(location.as_deref().unwrap_or_default(), &settings, self.listener());
        let publisher = publisher.map_err(|error| {
            gst::error_msg!(
                gst::ResourceError::OpenWrite,
                ("Cannot write counts to {error}; name a file in a folder that exists and can be written, or a broker, in `location`")
            )
        })?;
        gst::debug!(CAT, imp = self, "publishing to {} with {settings:?}", publisher.place());
        *self.account.lock() = publisher.account();
        *self.state.lock() = Some(State {
            publisher: Arc::new(publisher),
            thinning: Thinning::default(),
            start: Instant::now(),
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let state = self.state.lock().take();
        // Waits for what is left, with its bound. A state change downwards must not fail: lines
        // that are lost have been told of by the listener.
        drop(state);
        let Statistics { delivered, waiting, dropped } = self.statistics();
        gst::debug!(
            CAT,
            imp = self,
            "stopped: {delivered} lines written, {dropped} dropped, {waiting} left to others"
        );
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Eos
            && let Some(publisher) = self.publisher()
        {
            let waiting = publisher.flush();
            gst::debug!(CAT, imp = self, "EOS: {waiting} lines still wait");
        }
        self.parent_sink_event(event)
    }

    fn transform_ip_passthrough(
        &self,
        buffer: &gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.publish(buffer);
        Ok(gst::FlowSuccess::Ok)
    }
}
