//! One camera: its pair of pads, its queue, and the two threads that meet there.
//!
//! The streaming thread preprocesses a frame, queues it and hands it to the engine; the pusher, the source pad's task, takes frames from
//! the queue in order, each when it is counted or when its deadline has come. Neither ever waits for another camera.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::prelude::*;
use vehiclecount_core::account::{FailureEdge, GridPlacement, Labels, ReportSettings};
use vehiclecount_core::batch::{Dispatcher, Lease, Outcome, Seat};
use vehiclecount_core::density::Grid;
use vehiclecount_core::engine::Input;
use vehiclecount_core::engine::gpu::RegionWeights;
use vehiclecount_core::frame::{FrameFormat, FrameView, Plane};
use vehiclecount_core::preprocess::{Placement, Preprocessor, Resize};
use vehiclecount_core::report::unix_nanoseconds;

use super::VehicleCounterPad;
use super::formats::format_of;
use super::holding::Holding;
use super::imp::{CAT, VehicleCounter};
use super::stream::{Deadline, Frame, FrameState, Item, Stream};
use crate::cuda::{self, Lent, SharedContext};
use crate::meta;
use crate::time::StreamTime;

/// Frames of a file that are held at most: enough to fill two batches for each lane, within reason for full-size frames.
const MAX_FRAMES: usize = 32;

/// Events that are held at most.
const MAX_EVENTS: usize = 256;

/// How long a camera that is released waits for a push in progress before downstream is flushed.
const GRACE: Duration = Duration::from_millis(500);

/// What is needed to count, from READY to PAUSED and back.
#[derive(Clone)]
pub struct Link {
    /// This camera's way to the engine.
    pub way: Arc<Seat>,
    /// How pictures are fitted into the model's input.
    pub resize: Resize,
    /// The engine's CUDA context, where frames in GPU memory can be taken.
    pub cuda: Option<Arc<SharedContext>>,
}

/// One camera. Lock order: `stream`, then `link`, the dispatcher's own or the settings of element
/// and pad. No lock is held while pushing, posting or preprocessing.
pub struct Camera {
    /// The pad's number.
    pub index: u32,
    /// Where frames come in.
    pub sinkpad: VehicleCounterPad,
    /// Where they go out.
    pub srcpad: gst::Pad,
    element: glib::WeakRef<super::VehicleCounter>,
    me: Weak<Self>,
    stream: Mutex<Stream>,
    changed: Condvar,
    link: Mutex<Option<Link>>,
    /// Used by the streaming thread alone.
    preprocessor: Mutex<Option<Preprocessor>>,
    /// Used by the streaming thread alone.
    weights: Mutex<Option<Weights>>,
    /// A function of this camera has panicked.
    broken: AtomicBool,
}

/// The regions as the engine's device holds them; `None` where it cannot.
struct Weights {
    generation: u64,
    grid: Grid,
    weights: Option<Arc<RegionWeights>>,
}

/// The pad functions of a camera that may be gone: a closure that upgrades it, contains panics, and
/// calls the method.
macro_rules! pad_function {
    ($camera:ident, $gone:expr, |$this:ident, $imp:ident, $pad:ident $(, $argument:ident)*| $body:expr) => {{
        let $camera = $camera.clone();
        move |$pad, parent: Option<&gst::Object> $(, $argument)*| {
            let (Some($this), Some(element)) =
                (Weak::upgrade(&$camera), parent.and_then(|parent| parent.downcast_ref::<super::VehicleCounter>()))
            else {
                return $gone;
            };
            let $imp = element.imp();
            $this.contain(|| $body).unwrap_or_else(|| $gone)
        }
    }};
}

impl Camera {
    /// A camera with both pads, not yet added to `element`.
    pub fn new(
        element: &super::VehicleCounter,
        index: u32,
        sink: &gst::PadTemplate,
        src: &gst::PadTemplate,
    ) -> Arc<Self> {
        Arc::new_cyclic(|camera: &Weak<Self>| Self {
            index,
            sinkpad: Self::build_sinkpad(camera, index, sink),
            srcpad: Self::build_srcpad(camera, index, src),
            element: element.downgrade(),
            me: camera.clone(),
            stream: Mutex::new(Stream::new()),
            changed: Condvar::new(),
            link: Mutex::new(None),
            preprocessor: Mutex::new(None),
            weights: Mutex::new(None),
            broken: AtomicBool::new(false),
        })
    }

    fn build_sinkpad(camera: &Weak<Self>, index: u32, template: &gst::PadTemplate) -> VehicleCounterPad {
        gst::PadBuilder::<VehicleCounterPad>::from_template(template)
            .name(format!("sink_{index}"))
            .chain_function(pad_function!(camera, Err(gst::FlowError::Flushing), |this, imp, _pad, buffer| {
                this.chain(imp, buffer)
            }))
            .event_full_function(pad_function!(camera, Err(gst::FlowError::Flushing), |this, _imp, pad, event| {
                this.sink_event(pad, event)
            }))
            .query_function(pad_function!(camera, false, |this, imp, pad, query| this.sink_query(imp, pad, query)))
            .activatemode_function(activation(camera, |this, _pad, active| {
                this.set_flushing(!active);
                Ok(())
            }))
            .iterate_internal_links_function(pad_function!(
                camera,
                gst::Iterator::from_vec(vec![]),
                |this, _imp, _pad| gst::Iterator::from_vec(vec![this.srcpad.clone()])
            ))
            .flags(gst::PadFlags::PROXY_CAPS)
            .build()
    }

    fn build_srcpad(camera: &Weak<Self>, index: u32, template: &gst::PadTemplate) -> gst::Pad {
        gst::Pad::builder_from_template(template)
            .name(format!("src_{index}"))
            .event_function(pad_function!(camera, false, |this, imp, pad, event| this.src_event(imp, pad, event)))
            .query_function(pad_function!(camera, false, |this, imp, pad, query| this.src_query(imp, pad, query)))
            .activatemode_function(activation(camera, |this, pad, active| {
                if active { this.start_pusher(pad) } else { this.stop_pusher(pad) }
            }))
            .iterate_internal_links_function(pad_function!(
                camera,
                gst::Iterator::from_vec(vec![]),
                |this, _imp, _pad| gst::Iterator::from_vec(vec![this.sinkpad.clone().upcast::<gst::Pad>()])
            ))
            .flags(gst::PadFlags::PROXY_CAPS)
            .build()
    }

    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, stream: MutexGuard<'a, Stream>) -> MutexGuard<'a, Stream> {
        self.changed.wait(stream).unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits for a change of `stream`.
    fn wake(&self, stream: &mut Stream) {
        if let Some(alarm) = stream.alarm.take() {
            alarm.unschedule();
        }
        self.changed.notify_all();
    }

    /// The camera's id in reports.
    pub fn id(&self) -> String {
        let id = self.sinkpad.imp().settings().camera_id;
        if id.is_empty() { format!("camera-{}", self.index) } else { id }
    }

    /// Calls `body`. Where that panics, the camera is broken: an error names it once, and from then on
    /// nothing of it is called; other cameras go on. `None` where the camera is broken.
    fn contain<T>(&self, body: impl FnOnce() -> T) -> Option<T> {
        if self.broken.load(Ordering::Relaxed) {
            return None;
        }
        let panic = match panic::catch_unwind(AssertUnwindSafe(body)) {
            Ok(value) => return Some(value),
            Err(panic) => panic,
        };
        self.broken.store(true, Ordering::Relaxed);
        {
            let mut stream = self.lock();
            stream.flow = Err(gst::FlowError::Error);
            stream.pushing = false;
            self.wake(&mut stream);
        }
        let cause = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let cause = cause.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        if let Some(element) = self.element.upgrade() {
            gst::element_error!(
                element,
                gst::LibraryError::Failed,
                ("Camera {}: a fault of the counter has stopped it: {cause}; other cameras go on", self.id())
            );
        }
        None
    }

    /// Reads from the stream's state.
    pub fn with_stream<T>(&self, read: impl FnOnce(&mut Stream) -> T) -> T {
        read(&mut self.lock())
    }

    /// The engine will come: until then live frames pass uncounted, and others wait.
    pub fn await_engine(&self) {
        self.broken.store(false, Ordering::Relaxed);
        let mut stream = self.lock();
        stream.restart();
        stream.opening = true;
        stream.account.labels.camera = self.id();
    }

    /// The engine will not come.
    pub fn give_up(&self) {
        let mut stream = self.lock();
        stream.opening = false;
        stream.flow = Err(gst::FlowError::Error);
        self.wake(&mut stream);
    }

    /// Joins the engine, if it has not: from now on frames are counted.
    pub fn join(self: &Arc<Self>, dispatcher: &Arc<Dispatcher>, resize: Resize, cuda: Option<Arc<SharedContext>>) {
        let info = dispatcher.info();
        let on_gpu = cuda.is_some();
        {
            let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
            if link.is_some() {
                return;
            }
            let camera = Arc::downgrade(self);
            let way = dispatcher.join(move |ticket, outcome| {
                if let Some(camera) = camera.upgrade() {
                    camera.report(ticket, &outcome);
                }
            });
            *link = Some(Link { way: Arc::new(way), resize, cuda });
        }
        let mut stream = self.lock();
        stream.account.labels =
            Labels { camera: self.id(), model: info.model.clone(), engine: info.kind.name().to_owned() };
        stream.opening = false;
        let in_vain = !on_gpu && stream.format.as_ref().is_some_and(|(.., in_gpu_memory)| *in_gpu_memory);
        self.wake(&mut stream);
        drop(stream);
        if in_vain {
            // Frames in GPU memory were agreed upon for an engine that did not come.
            self.sinkpad.push_event(gst::event::Reconfigure::new());
        }
    }

    /// Leaves the engine.
    pub fn leave(&self) {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Dropped with no lock held: it may be the last of the dispatcher, which waits for its threads.
        drop(link);
        {
            let mut stream = self.lock();
            stream.restart();
            stream.opening = false;
        }
        *self.preprocessor.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.weights.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Ends both pads, for good. A push in progress gets time to end while downstream `runs`; then downstream
    /// is flushed.
    pub fn release(&self, runs: bool) {
        let mut stream = self.lock();
        stream.stopped = true;
        stream.flushing = true;
        self.wake(&mut stream);
        if runs {
            let busy = |stream: &mut Stream| stream.pushing || stream.querying;
            let waited = self.changed.wait_timeout_while(stream, GRACE, busy);
            (stream, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let stuck = stream.pushing || stream.querying;
        drop(stream);
        if stuck {
            gst::debug!(CAT, obj = self.srcpad, "Flushing downstream, which holds a frame, to release the camera");
            self.srcpad.push_event(gst::event::FlushStart::new());
        }
        let _ = self.sinkpad.set_active(false);
        if stuck {
            let _ = self.srcpad.stop_task();
            // What is linked downstream may be linked to another camera later.
            self.srcpad.push_event(gst::event::FlushStop::new(false));
        }
        let _ = self.srcpad.set_active(false);
    }

    fn link(&self) -> Option<Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_flushing(&self, flushing: bool) {
        let mut stream = self.lock();
        stream.flushing = flushing;
        self.wake(&mut stream);
    }

    // ---- in: the streaming thread ----

    fn chain(&self, imp: &VehicleCounter, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (arrival, received_time) = (Instant::now(), unix_nanoseconds(SystemTime::now()));
        let timing = imp.timing();
        let live = self.is_live();
        let clock = imp.clock();
        let came = clock.time();
        let link = self.await_link(live)?;
        let interval = u32::try_from(self.sinkpad.imp().interval()).unwrap_or(timing.interval);

        let holding = live.then(|| self.holding(imp, timing.max_latency.into()));
        let limit = holding.map_or_else(|| link.as_ref().map_or(MAX_FRAMES, depth), |holding| holding.frames);
        let deadline = holding.map(|Holding { latency, .. }| Deadline {
            time: came + gst::ClockTime::from_nseconds(latency.as_nanos() as u64),
            clock: clock.clone(),
            held: latency,
        });
        let mut stream = self.wait_for_room(limit, live)?;
        let Some((info, format, in_gpu_memory)) = stream.format.clone() else {
            return Err(gst::FlowError::NotNegotiated);
        };
        let stamp = stream.begin(&buffer, &clock, interval);
        drop(stream);

        // The picture is read here and nowhere else: what is queued is never mapped again.
        let mut input = None;
        if stamp.due
            && let Some(link) = &link
        {
            match self.preprocess(imp, link, &info, format, &buffer, in_gpu_memory) {
                Ok((mut slot, grid)) => {
                    let (weights, generation) = self.weights(link, &grid, timing.density_map);
                    slot.weights = weights;
                    input = Some((slot, GridPlacement { grid, generation }));
                }
                Err(reason) => self.complain(imp, &reason),
            }
        }
        let placement = input.as_ref().map(|&(_, placement)| placement);

        let mut stream = self.lock();
        if stream.flushing {
            return Err(gst::FlowError::Flushing);
        }
        let order = input.map(|(slot, _)| (stream.ticket(), slot));
        let state = match &order {
            Some((ticket, _)) => FrameState::Waiting(*ticket),
            None if stamp.due => FrameState::Missed,
            None => FrameState::NotDue,
        };
        stream.push(Item::Frame(Box::new(Frame { buffer, stamp, arrival, received_time, deadline, placement, state })));
        self.wake(&mut stream);
        drop(stream);
        if let (Some((ticket, slot)), Some(link)) = (order, &link) {
            let keep = if live { 1 } else { depth(link) };
            link.way.submit(ticket, slot, keep);
        }
        Ok(gst::FlowSuccess::Ok)
    }

    /// The way to the engine. While that is being opened, a live frame goes without, and others wait.
    fn await_link(&self, live: bool) -> Result<Option<Link>, gst::FlowError> {
        let mut stream = self.lock();
        loop {
            if stream.flushing {
                return Err(gst::FlowError::Flushing);
            }
            if let Some(link) = self.link() {
                return Ok(Some(link));
            }
            stream.flow?;
            match (stream.opening, live) {
                (false, _) => return Err(gst::FlowError::Flushing),
                (true, true) => return Ok(None),
                (true, false) => stream = self.wait(stream),
            }
        }
    }

    /// Waits until the queue takes another frame. The head of a full live queue leaves uncounted: the video goes on.
    fn wait_for_room(&self, limit: usize, live: bool) -> Result<MutexGuard<'_, Stream>, gst::FlowError> {
        let mut stream = self.lock();
        loop {
            if stream.flushing {
                return Err(gst::FlowError::Flushing);
            }
            stream.flow?;
            if stream.eos {
                return Err(gst::FlowError::Eos);
            }
            if stream.frames < limit && stream.events() < MAX_EVENTS {
                stream.hurry = false;
                return Ok(stream);
            }
            if live && !stream.hurry {
                stream.hurry = true;
                self.wake(&mut stream);
            }
            stream = self.wait(stream);
        }
    }

    /// How frames of a live camera are held for `max_latency`. Where they cannot be held that long, that is
    /// said, once for each `max_latency` and format.
    fn holding(&self, imp: &VehicleCounter, max_latency: Duration) -> Holding {
        let mut stream = self.lock();
        let holding = stream.holding(max_latency);
        let said = holding.limited.map(|_| (max_latency, holding.frames));
        let changed = std::mem::replace(&mut stream.limit_said, said) != said;
        drop(stream);
        if changed {
            if let Some((bytes, rate)) = holding.limited {
                gst::element_imp_warning!(
                    imp,
                    gst::ResourceError::Settings,
                    (
                        "Camera {}: max-latency={} does not fit: {} frames of {bytes} bytes are held at most, at {rate} \
                         frames a second {} ms; then they leave with the last count",
                        self.id(),
                        max_latency.as_millis(),
                        holding.frames,
                        holding.latency.as_millis()
                    )
                );
            }
            let element = imp.obj();
            let _ = element.post_message(gst::message::Latency::builder().src(&*element).build());
        }
        holding
    }

    /// Asks upstream once whether it is live.
    fn is_live(&self) -> bool {
        if let Some(live) = self.lock().live {
            return live;
        }
        let mut query = gst::query::Latency::new();
        let live = self.sinkpad.peer_query(&mut query) && query.result().0;
        self.lock().live = Some(live);
        live
    }

    fn preprocess(
        &self,
        imp: &VehicleCounter,
        link: &Link,
        info: &gst_video::VideoInfo,
        format: FrameFormat,
        buffer: &gst::Buffer,
        in_gpu_memory: bool,
    ) -> Result<(Lease, Grid), String> {
        if let Some(cuda) = link.cuda.as_ref().filter(|_| in_gpu_memory) {
            match cuda.map(buffer, info, format.pixels.planes()) {
                Ok(lent) => return Self::lend(link, format, lent),
                // Mapped below, it is copied to the host.
                Err(reason) if !self.with_stream(|stream| std::mem::replace(&mut stream.through_host, true)) => {
                    gst::element_imp_warning!(
                        imp,
                        gst::ResourceError::Settings,
                        ("Camera {}: its frames are copied through host memory: {reason}", self.id())
                    );
                }
                Err(reason) => gst::trace!(CAT, obj = self.sinkpad, "{reason}: it is copied through host memory"),
            }
        }
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info)
            .map_err(|_| format!("a frame of {} bytes does not hold a picture of its caps", buffer.size()))?;
        let mut planes = [Plane { data: &[], stride: 0 }; 3];
        let count = format.pixels.planes();
        for (index, plane) in planes.iter_mut().enumerate().take(count) {
            let data = frame.plane_data(index as u32).map_err(|error| error.to_string())?;
            let stride = frame.plane_stride()[index];
            *plane = Plane { data, stride: usize::try_from(stride).map_err(|_| format!("stride of {stride} bytes"))? };
        }
        let view = FrameView::new(format, &planes[..count]).map_err(|error| error.to_string())?;
        let info = link.way.dispatcher().info();
        let mut slot = link.way.slot();
        let values = match &mut slot.input {
            Input::Values(values) => values,
            Input::Picture(picture) => {
                let placement = Placement::new(link.resize, format.width, format.height, info.input);
                picture.stage(&view, placement).map_err(|error| error.to_string())?;
                return Ok((slot, placement.grid(info.columns, info.rows)));
            }
        };
        let mut preprocessor = self.preprocessor.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |held: &&mut Preprocessor| held.format() == format && held.placement().input == info.input;
        let preprocessor = match preprocessor.as_mut().filter(fits) {
            Some(_) => preprocessor.as_mut().expect("just seen"),
            None => preprocessor.insert(Preprocessor::new(format, link.resize, info.input)),
        };
        preprocessor.run(&view, values);
        Ok((slot, preprocessor.placement().grid(info.columns, info.rows)))
    }

    /// A frame that lies on the GPU already.
    fn lend(link: &Link, format: FrameFormat, lent: Lent) -> Result<(Lease, Grid), String> {
        let info = link.way.dispatcher().info();
        let placement = Placement::new(link.resize, format.width, format.height, info.input);
        let mut slot = link.way.slot();
        let picture = slot.input.picture_mut().expect("an engine with a CUDA context takes pictures");
        // SAFETY: the planes are those of the mapped frame, which `keep` keeps mapped, in the
        // engine's own context; so is the stream.
        unsafe { picture.lend(format, placement, &lent.planes, lent.producer, lent.keep) }
            .map_err(|error| error.to_string())?;
        Ok((slot, placement.grid(info.columns, info.rows)))
    }

    /// The regions for an engine that counts in them by itself, where nobody wants the map; and which settings they are of.
    fn weights(&self, link: &Link, grid: &Grid, with_map: bool) -> (Option<Arc<RegionWeights>>, u64) {
        let generation = self.with_stream(|stream| stream.account.generation());
        let engine = link.way.dispatcher().engine();
        if with_map || engine.picture().is_none() {
            return (None, generation);
        }
        let mut held = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(|held| held.generation != generation || held.grid != *grid) {
            let (generation, coverage) =
                self.with_stream(|stream| (stream.account.generation(), stream.account.coverage(grid).to_vec()));
            let weights = match engine.weights(&coverage) {
                Some(Ok(weights)) => Some(weights),
                Some(Err(error)) => {
                    gst::warning!(CAT, obj = self.sinkpad, "{error}; the regions are counted on the processor");
                    None
                }
                None => None,
            };
            *held = Some(Weights { generation, grid: *grid, weights });
        }
        let held = held.as_ref().expect("set above");
        (held.weights.clone(), held.generation)
    }

    /// One camera's broken frames are that camera's event: a warning, and the video goes on.
    fn complain(&self, imp: &VehicleCounter, reason: &str) {
        if self.with_stream(|stream| stream.account.note_failed()).is_some() {
            gst::element_imp_warning!(
                imp,
                gst::StreamError::Failed,
                ("Camera {}: {reason}; it is passed on uncounted", self.id())
            );
        } else {
            gst::debug!(CAT, obj = self.sinkpad, "{reason}");
        }
    }

    /// What a source that is being stopped must be told is that it flushes: of a mere failure it makes an error of its own.
    fn sink_event(&self, pad: &VehicleCounterPad, event: gst::Event) -> Result<gst::FlowSuccess, gst::FlowError> {
        gst::log!(CAT, obj = pad, "Handling {event:?}");
        let passed = |taken| if taken { Ok(gst::FlowSuccess::Ok) } else { Err(gst::FlowError::Error) };
        match event.view() {
            gst::EventView::FlushStart(_) => {
                self.set_flushing(true);
                if let Some(link) = self.link() {
                    link.way.cancel();
                }
                passed(self.srcpad.push_event(event))
            }
            gst::EventView::FlushStop(_) => {
                // What the pusher had in hand comes back as soon as downstream flushes; it must not arrive after the flush.
                let mut stream = self.lock();
                while stream.pushing {
                    stream = self.wait(stream);
                }
                drop(stream);
                let taken = self.srcpad.push_event(event);
                let mut stream = self.lock();
                // What describes the stream outlives a flush, also where it had not been pushed yet: nobody sends it again.
                for item in &stream.items {
                    if let Item::Event(held) = item
                        && held.is_sticky()
                        && !matches!(held.type_(), gst::EventType::Segment | gst::EventType::Eos)
                    {
                        let _ = self.srcpad.store_sticky_event(held);
                    }
                }
                stream.flush();
                stream.flushing = false;
                self.wake(&mut stream);
                passed(taken)
            }
            _ if !event.is_serialized() => passed(self.srcpad.push_event(event)),
            _ => self.enqueue(event),
        }
    }

    /// A serialized event takes its place behind the frames that came before it.
    fn enqueue(&self, event: gst::Event) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut stream = self.lock();
        while !stream.flushing && stream.flow.is_ok() && stream.events() >= MAX_EVENTS {
            stream = self.wait(stream);
        }
        match event.view() {
            gst::EventView::StreamStart(_) => {
                stream.eos = false;
                stream.live = None;
                stream.account.flush();
                if stream.flow == Err(gst::FlowError::Eos) {
                    stream.flow = Ok(gst::FlowSuccess::Ok);
                }
            }
            gst::EventView::Caps(caps) => {
                stream.format = format_of(caps.caps());
                stream.fps = rate_of(caps.caps());
                if stream.format.is_none() {
                    gst::warning!(CAT, obj = self.sinkpad, "Cannot read frames of {}", caps.caps());
                    return Err(gst::FlowError::NotNegotiated);
                }
            }
            gst::EventView::Segment(segment) => stream.time = StreamTime::of(segment.segment()),
            gst::EventView::Eos(_) => stream.eos = true,
            _ => {}
        }
        if stream.flushing {
            return Err(gst::FlowError::Flushing);
        }
        stream.flow?;
        stream.push(Item::Event(event));
        self.wake(&mut stream);
        Ok(gst::FlowSuccess::Ok)
    }

    fn sink_query(&self, imp: &VehicleCounter, pad: &VehicleCounterPad, query: &mut gst::QueryRef) -> bool {
        if query.is_serialized() && !self.wait_until_empty() {
            return false;
        }
        let answered = self.answer_sink_query(imp, pad, query);
        if query.is_serialized() {
            let mut stream = self.lock();
            stream.querying = false;
            self.wake(&mut stream);
        }
        answered
    }

    fn answer_sink_query(&self, imp: &VehicleCounter, pad: &VehicleCounterPad, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Context(asked) = query.view_mut()
            && let Some(context) = imp.shared_context(asked.context_type())
        {
            asked.set_context(&context);
            return true;
        }
        match query.view_mut() {
            gst::QueryViewMut::Allocation(allocation) => {
                let _ = self.srcpad.peer_query(allocation.query_mut());
                self.announce_held(imp, allocation);
                true
            }
            gst::QueryViewMut::Drain(drain) => self.srcpad.peer_query(drain.query_mut()),
            gst::QueryViewMut::AcceptCaps(accept) if cuda::is_in(accept.caps()) && !self.takes_gpu_memory() => {
                accept.set_result(false);
                true
            }
            _ => {
                let answered = gst::Pad::query_default(pad, Some(&*imp.obj()), query);
                if let gst::QueryViewMut::Caps(caps) = query.view_mut()
                    && !self.takes_gpu_memory()
                {
                    let host = caps.result_owned().map(|caps| cuda::without(&caps));
                    caps.set_result(&host.unwrap_or_else(gst::Caps::new_empty));
                }
                answered
            }
        }
    }

    /// Tells upstream how many of its frames are held here: so many more must there be.
    fn announce_held(&self, imp: &VehicleCounter, allocation: &mut gst::query::Allocation) {
        let (caps, _) = allocation.get();
        let info = caps.and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok().map(|info| (info, rate_of(caps))));
        let held = if self.is_live() {
            let (bytes, fps) = info.as_ref().map_or((None, None), |(info, fps)| (Some(info.size()), *fps));
            Holding::new(imp.timing().max_latency.into(), fps, bytes).frames
        } else {
            self.link().map_or(MAX_FRAMES, |link| depth(&link))
        };
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        let pools: Vec<_> = allocation.allocation_pools().collect();
        for (index, (pool, size, min, max)) in pools.iter().enumerate() {
            let max = if *max == 0 { 0 } else { max.saturating_add(held) };
            let min = min.saturating_add(held);
            allocation.set_nth_allocation_pool(index as u32, pool.as_ref(), *size, min, max);
        }
        if let ([], Some((info, _))) = (pools.as_slice(), &info) {
            let size = u32::try_from(info.size()).unwrap_or(u32::MAX);
            allocation.add_allocation_pool(None::<&gst::BufferPool>, size, held, 0);
        }
        gst::debug!(CAT, obj = self.sinkpad, "{held} frames are held at most");
    }

    /// Whether frames in GPU memory can be read where they are; before the engine has opened, whether that may come.
    fn takes_gpu_memory(&self) -> bool {
        self.link().map_or_else(cuda::is_available, |link| link.cuda.is_some())
    }

    /// Waits until everything that came before has been pushed: downstream is asked now. `false` while
    /// flushing.
    fn wait_until_empty(&self) -> bool {
        let mut stream = self.lock();
        while !stream.flushing && stream.flow.is_ok() && (stream.pushing || !stream.items.is_empty()) {
            stream = self.wait(stream);
        }
        stream.querying = !stream.flushing;
        stream.querying
    }

    // ---- back from the engine ----

    fn report(&self, ticket: u64, outcome: &Outcome<'_>) {
        let mut stream = self.lock();
        let edge = stream.report(ticket, outcome, Instant::now());
        self.wake(&mut stream);
        drop(stream);
        let (Some(edge), Some(element)) = (edge, self.element.upgrade()) else { return };
        match (edge, outcome) {
            (FailureEdge::Begin, Outcome::Failed(error)) => gst::element_warning!(
                element,
                gst::LibraryError::Failed,
                ("Camera {}: {error}; its last count is passed on, marked stale", self.id())
            ),
            (FailureEdge::Begin, _) => {}
            (FailureEdge::End, _) => {
                gst::element_info!(element, gst::LibraryError::Failed, ("Camera {}: counting again", self.id()));
            }
        }
    }

    // ---- out: the pusher ----

    fn start_pusher(&self, pad: &gst::Pad) -> Result<(), gst::LoggableError> {
        {
            let mut stream = self.lock();
            stream.stopped = false;
            stream.flushing = false;
        }
        let camera = self.me.clone();
        let task = move || {
            let Some(camera) = camera.upgrade() else { return };
            let Some(element) = camera.element.upgrade() else { return };
            if camera.contain(|| camera.push_next(element.imp())).is_none() {
                // Called again it would do nothing, and at once.
                let _ = camera.srcpad.pause_task();
            }
        };
        pad.start_task(task).map_err(|error| gst::loggable_error!(CAT, "Cannot start the pusher: {error}"))
    }

    fn stop_pusher(&self, pad: &gst::Pad) -> Result<(), gst::LoggableError> {
        {
            let mut stream = self.lock();
            stream.stopped = true;
            stream.flushing = true;
            self.wake(&mut stream);
        }
        pad.stop_task().map_err(|error| gst::loggable_error!(CAT, "Cannot stop the pusher: {error}"))
    }

    /// Pushes the next item when it may go.
    fn push_next(&self, imp: &VehicleCounter) {
        let mut stream = self.lock();
        let item = loop {
            if stream.stopped {
                return;
            }
            if stream.flushing || stream.flow.is_err() {
                stream = self.wait(stream);
                continue;
            }
            let deadline = match stream.items.front() {
                Some(Item::Frame(frame)) if matches!(frame.state, FrameState::Waiting(_)) && !stream.hurry => {
                    frame.deadline.clone()
                }
                Some(_) => break stream.pop().expect("the front was just seen"),
                None => None,
            };
            let Some(Deadline { clock, time, .. }) = deadline else {
                stream = self.wait(stream);
                continue;
            };
            if clock.time() >= time {
                break stream.pop().expect("the front was just seen");
            }
            let alarm = clock.new_single_shot_id(time);
            stream.alarm = Some(alarm.clone());
            drop(stream);
            // Ended early by `wake`, also when that comes before the wait.
            let _ = alarm.wait();
            stream = self.lock();
            stream.alarm = None;
        };
        stream.pushing = true;
        let result = match item {
            Item::Event(event) => {
                drop(stream);
                gst::log!(CAT, obj = self.srcpad, "Pushing {event:?}");
                self.srcpad.push_event(event);
                None
            }
            Item::Frame(mut frame) => {
                let timing = imp.timing();
                let settings = ReportSettings { unique_id: timing.unique_id, density: timing.density_map };
                // In one with taking it from the queue: its count may come at any time.
                let report = stream.leave(&mut frame, settings, Instant::now());
                drop(stream);
                let mut buffer = frame.buffer;
                // Copies the buffer's header where somebody else holds it too, never the picture.
                meta::count::attach(buffer.make_mut(), &report);
                #[cfg(feature = "analytics")]
                if let Some(info) =
                    self.srcpad.current_caps().and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok())
                {
                    meta::analytics::attach(buffer.make_mut(), &report, info.width(), info.height());
                }
                Some(self.srcpad.push(buffer))
            }
        };
        let mut stream = self.lock();
        stream.pushing = false;
        if let Some(result) = result {
            stream.flow = result;
        }
        self.wake(&mut stream);
    }

    fn src_event(&self, imp: &VehicleCounter, pad: &gst::Pad, event: gst::Event) -> bool {
        if let gst::EventView::Reconfigure(_) = event.view() {
            // Somebody was linked: a camera that had nobody to go to goes on.
            let mut stream = self.lock();
            if stream.flow == Err(gst::FlowError::NotLinked) && !stream.flushing {
                stream.flow = Ok(gst::FlowSuccess::Ok);
                self.wake(&mut stream);
            }
        }
        gst::Pad::event_default(pad, Some(&*imp.obj()), event)
    }

    fn src_query(&self, imp: &VehicleCounter, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Context(asked) = query.view_mut()
            && let Some(context) = imp.shared_context(asked.context_type())
        {
            asked.set_context(&context);
            return true;
        }
        let gst::QueryViewMut::Latency(latency) = query.view_mut() else {
            return gst::Pad::query_default(pad, Some(&*imp.obj()), query);
        };
        if !self.sinkpad.peer_query(latency.query_mut()) {
            return false;
        }
        let (live, min, max) = latency.result();
        if live {
            // A live frame is held this long at most, and no frame is thrown away before.
            let own = self.lock().holding(imp.timing().max_latency.into()).latency;
            let own = gst::ClockTime::from_nseconds(own.as_nanos() as u64);
            latency.set(live, min + own, max.map(|max| max + own));
        }
        self.lock().live = Some(live);
        true
    }
}

/// The activation function of a pad. It also runs where the camera is broken: what it started must end.
fn activation<P: IsA<gst::Pad>>(
    camera: &Weak<Camera>,
    activate: impl Fn(&Camera, &P, bool) -> Result<(), gst::LoggableError> + Send + Sync + 'static,
) -> impl Fn(&P, Option<&gst::Object>, gst::PadMode, bool) -> Result<(), gst::LoggableError> + Send + Sync + 'static {
    let camera = camera.clone();
    move |pad, _parent, _mode, active| match camera.upgrade() {
        Some(camera) => activate(&camera, pad, active),
        None => Err(gst::loggable_error!(CAT, "The camera is gone")),
    }
}

/// Frames of a file that are held at most.
fn depth(link: &Link) -> usize {
    let dispatcher = link.way.dispatcher();
    (2 * dispatcher.info().lanes * dispatcher.settings().batch_size).clamp(2, MAX_FRAMES)
}

/// Frames a second, as the caps say: at most so many, where the rate varies.
fn rate_of(caps: &gst::CapsRef) -> Option<f64> {
    let structure = caps.structure(0)?;
    let rate = |field| structure.get::<gst::Fraction>(field).ok().filter(|rate| rate.numer() > 0);
    let rate = rate("framerate").or_else(|| rate("max-framerate"))?;
    Some(f64::from(rate.numer()) / f64::from(rate.denom()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn panic_stops_its_camera_and_is_told_once() {
        gst::init().unwrap();
        let element = glib::Object::builder::<super::super::VehicleCounter>().build();
        element.set_property_from_str("engine", "scripted");
        element.set_property("engine-id", "panic");
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let pads = [0, 1].map(|index| element.request_pad_simple(&format!("sink_{index}")).unwrap());
        element.set_state(gst::State::Playing).unwrap();
        let camera = element.imp().camera(0).unwrap();
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        assert!(pads[0].send_event(gst::event::StreamStart::new("0")));
        assert!(pads[0].send_event(gst::event::Segment::new(&segment)));
        // As the pusher, a pad function and a second pad function.
        for number in 0..3 {
            assert_eq!(camera.contain(|| assert_eq!(number, 9, "out of order")), None);
        }
        let errors: Vec<_> = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Error])).collect();
        let [error] = errors.as_slice() else { panic!("{errors:?}") };
        let gst::MessageView::Error(error) = error.view() else { unreachable!() };
        let text = error.error().to_string();
        assert!(text.contains("camera-0") && text.contains("out of order"), "{text}");
        // Nothing of it is called any more.
        assert_eq!(pads[0].chain(gst::Buffer::new()), Err(gst::FlowError::Flushing));
        assert_eq!(element.imp().camera(1).unwrap().contain(|| 7), Some(7), "other cameras go on");
        // It ends, and works again when it starts again.
        element.set_state(gst::State::Ready).unwrap();
        element.set_state(gst::State::Playing).unwrap();
        assert_eq!(camera.contain(|| 8), Some(8));
        drop(errors);
        element.set_state(gst::State::Null).unwrap();
        element.set_bus(None);
        bus.set_flushing(true);
        drop((pads, camera));
        let weak = element.downgrade();
        drop(element);
        assert!(weak.upgrade().is_none(), "the element is leaked");
    }
}
