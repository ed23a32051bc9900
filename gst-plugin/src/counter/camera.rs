//! One camera: its pair of pads, and the two threads that meet there.
//!
//! In the order in which a frame meets them: `arrival` takes it in, `shape` finds its input size,
//! `confirmation` compares it, `input` makes the engine's input of it, `queue` holds it, `pusher`
//! sends it on; `negotiation` answers what the neighbours ask, and `release` ends the camera. No
//! camera waits for another.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::{Condvar, Mutex};
use vehiclecount_core::account::{DeviceRegions, Labels};
use vehiclecount_core::batch::Seat;
use vehiclecount_core::change::ChangeDetector;
use vehiclecount_core::preprocess::{Preprocessor, Resize};

use super::VehicleCounterPad;
use super::arrival::MAX_FRAMES;
use super::imp::{CAT, State, rank};
use super::looks::CloserLooks;
use super::shape::Shape;
use super::state::CameraState;
use crate::cuda::SharedContext;
use crate::ranked::{Guard, Ranked};

/// What is needed to count, from READY to PAUSED and back.
#[derive(Clone)]
pub struct Link {
    /// This camera's seat at the engine.
    pub seat: Arc<Seat>,
    /// How pictures are fitted into the model's input.
    pub resize: Resize,
    /// The engine's CUDA context, where frames in GPU memory can be taken.
    pub cuda: Option<Arc<SharedContext>>,
}

impl Link {
    /// Frames of a file that are held at most: two batches for each lane, which keep the engine
    /// busy, or one where others keep it busy already. So each of many cameras needs the memory of
    /// one input, and one beside many that rest has the engine for itself.
    pub fn depth(&self) -> usize {
        let dispatcher = self.seat.dispatcher();
        let busy = 2 * dispatcher.info().lanes * dispatcher.settings().batch_size;
        if dispatcher.totals().waiting < busy { busy.clamp(2, MAX_FRAMES) } else { 1 }
    }
}

/// One camera. Lock order: that of [`rank`], then the dispatcher's own. None of them is held
/// while pushing, posting or preprocessing.
pub struct Camera {
    /// The pad's number.
    pub index: u32,
    /// Where frames come in.
    pub sinkpad: VehicleCounterPad,
    /// Where they go out.
    pub srcpad: gst::Pad,
    pub(super) element: glib::WeakRef<super::VehicleCounter>,
    pub(super) me: Weak<Self>,
    state: Ranked<CameraState, { rank::CAMERA_STATE }>,
    changed: Condvar,
    link: Ranked<Option<Link>, { rank::LINK }>,
    /// Used by the streaming thread, and reset by [`Camera::leave`].
    pub(super) preprocessor: Mutex<Option<Preprocessor>>,
    /// Used by the streaming thread, and reset by [`Camera::leave`].
    pub(super) changes: Mutex<Option<ChangeDetector>>,
    pub(super) looks: Mutex<CloserLooks>,
    /// Used by the streaming thread, and reset by [`Camera::leave`].
    pub(super) shape: Mutex<Shape>,
    /// Used by the streaming thread, and reset by [`Camera::leave`].
    pub(super) device_regions: Mutex<DeviceRegions>,
    /// A function of this camera has panicked.
    broken: AtomicBool,
}

/// The pad functions of a camera that may be gone: a closure that upgrades it, contains panics, and
/// calls the method.
macro_rules! pad_function {
    (
        $camera:ident, $gone:expr,
        |$this:ident, $imp:ident, $pad:ident $(, $argument:ident)*| $body:expr
    ) => {{
        let $camera = $camera.clone();
        move |$pad, parent: Option<&gst::Object> $(, $argument)*| {
            let (Some($this), Some(element)) =
                (
                    Weak::upgrade(&$camera),
                    parent.and_then(|parent| parent.downcast_ref::<super::VehicleCounter>()),
                )
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
            state: Ranked::new(CameraState::new()),
            changed: Condvar::new(),
            link: Ranked::new(None),
            preprocessor: Mutex::new(None),
            changes: Mutex::new(None),
            looks: Mutex::default(),
            shape: Mutex::default(),
            device_regions: Mutex::default(),
            broken: AtomicBool::new(false),
        })
    }

    fn build_sinkpad(
        camera: &Weak<Self>,
        index: u32,
        template: &gst::PadTemplate,
    ) -> VehicleCounterPad {
        gst::PadBuilder::<VehicleCounterPad>::from_template(template)
            .name(format!("sink_{index}"))
            .chain_function(pad_function!(
                camera,
                Err(gst::FlowError::Flushing),
                |this, imp, _pad, buffer| { this.chain(imp, buffer) }
            ))
            .event_full_function(pad_function!(
                camera,
                Err(gst::FlowError::Flushing),
                |this, _imp, pad, event| { this.sink_event(pad, event) }
            ))
            .query_function(pad_function!(camera, false, |this, imp, pad, query| this
                .sink_query(imp, pad, query)))
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
            .event_function(pad_function!(camera, false, |this, imp, pad, event| this
                .src_event(imp, pad, event)))
            .query_function(pad_function!(camera, false, |this, imp, pad, query| this
                .src_query(imp, pad, query)))
            .activatemode_function(activation(camera, |this, pad, active| {
                if active { this.start_pusher(pad) } else { this.stop_pusher(pad) }
            }))
            .iterate_internal_links_function(pad_function!(
                camera,
                gst::Iterator::from_vec(vec![]),
                |this, _imp, _pad| gst::Iterator::from_vec(vec![
                    this.sinkpad.clone().upcast::<gst::Pad>()
                ])
            ))
            .flags(gst::PadFlags::PROXY_CAPS)
            .build()
    }

    pub(super) fn lock(&self) -> Guard<'_, CameraState> {
        self.state.lock()
    }

    /// Waits for a change of `state`.
    pub(super) fn wait<'a>(&self, mut state: Guard<'a, CameraState>) -> Guard<'a, CameraState> {
        self.changed.wait(state.inner());
        state
    }

    /// Waits while `condition` holds, `bound` at most.
    pub(super) fn wait_while<'a>(
        &self,
        mut state: Guard<'a, CameraState>,
        bound: Duration,
        condition: impl FnMut(&mut CameraState) -> bool,
    ) -> Guard<'a, CameraState> {
        self.changed.wait_while_for(state.inner(), condition, bound);
        state
    }

    /// Wakes the threads that wait for a change of `state`.
    pub(super) fn wake(&self, state: &mut CameraState) {
        if let Some(alarm) = state.alarm.take() {
            alarm.unschedule();
        }
        self.changed.notify_all();
    }

    /// The camera's id in reports.
    pub fn id(&self) -> String {
        let id = self.sinkpad.imp().settings().camera_id;
        if id.is_empty() { format!("camera-{}", self.index) } else { id }
    }

    /// Calls `body`. Where that panics, the camera is broken: an error names it once, and from then
    /// on nothing of it is called; other cameras go on. `None` where the camera is broken.
    pub(super) fn contain<T>(&self, body: impl FnOnce() -> T) -> Option<T> {
        if self.broken.load(Ordering::Relaxed) {
            return None;
        }
        let panic = match panic::catch_unwind(AssertUnwindSafe(body)) {
            Ok(value) => return Some(value),
            Err(panic) => panic,
        };
        self.broken.store(true, Ordering::Relaxed);
        {
            let mut state = self.lock();
            state.flow = Err(gst::FlowError::Error);
            state.pushing = false;
            state.querying = false;
            self.wake(&mut state);
        }
        let cause = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let cause = cause.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        if let Some(element) = self.element.upgrade() {
            gst::element_error!(
                element,
                gst::LibraryError::Failed,
                (
                    "Camera {}: a fault of the counter has stopped it: {cause}; other cameras go on",
                    self.id()
                )
            );
        }
        None
    }

    /// Reads from the camera's state.
    pub fn with_state<T>(&self, read: impl FnOnce(&mut CameraState) -> T) -> T {
        read(&mut self.lock())
    }

    /// The engine will come: until then live frames pass uncounted, and others wait.
    pub fn await_engine(&self) {
        self.broken.store(false, Ordering::Relaxed);
        let mut state = self.lock();
        state.restart();
        state.opening = true;
        state.account.labels.camera = self.id().into();
    }

    /// The engine will not come.
    pub fn give_up(&self) {
        let mut state = self.lock();
        state.opening = false;
        state.flow = Err(gst::FlowError::Error);
        self.wake(&mut state);
    }

    /// Joins the engine, if it has not: from now on frames are counted.
    pub(super) fn join(self: &Arc<Self>, running: &State) {
        let State { dispatcher, resize, cuda } = running;
        let info = dispatcher.info();
        {
            let mut link = self.link.lock();
            if link.is_some() {
                return;
            }
            let camera = Arc::downgrade(self);
            let seat = dispatcher.join(move |ticket, outcome| {
                if let Some(camera) = camera.upgrade() {
                    camera.report(ticket, &outcome);
                }
            });
            *link = Some(Link { seat: Arc::new(seat), resize: *resize, cuda: cuda.clone() });
        }
        let mut state = self.lock();
        state.account.labels = Labels {
            camera: self.id().into(),
            model: info.model.as_str().into(),
            engine: info.kind.name().into(),
        };
        state.opening = false;
        gst::debug!(CAT, obj = self.sinkpad, "Frames go to {} from now on", info.kind);
        let in_vain =
            cuda.is_none() && state.format.as_ref().is_some_and(|format| format.in_gpu_memory);
        self.wake(&mut state);
        drop(state);
        if in_vain {
            // Frames in GPU memory were agreed upon for an engine that did not come.
            self.sinkpad.push_event(gst::event::Reconfigure::new());
        }
    }

    /// Leaves the engine.
    pub fn leave(&self) {
        self.forget_shape();
        let link = self.link.lock().take();
        // Dropped with no lock held: it may be the last of the dispatcher, which waits for its
        // threads.
        drop(link);
        {
            let mut state = self.lock();
            state.restart();
            state.opening = false;
        }
        *self.preprocessor.lock() = None;
        *self.changes.lock() = None;
        *self.looks.lock() = CloserLooks::default();
        *self.device_regions.lock() = DeviceRegions::default();
    }

    pub(super) fn link(&self) -> Option<Link> {
        self.link.lock().clone()
    }

    pub(super) fn set_flushing(&self, flushing: bool) {
        let mut state = self.lock();
        state.flushing = flushing;
        self.wake(&mut state);
    }
}

/// The activation function of a pad. It also runs where the camera is broken: what it started must
/// end.
fn activation<P: IsA<gst::Pad>>(
    camera: &Weak<Camera>,
    activate: impl Fn(&Camera, &P, bool) -> Result<(), gst::LoggableError> + Send + Sync + 'static,
) -> impl Fn(&P, Option<&gst::Object>, gst::PadMode, bool) -> Result<(), gst::LoggableError>
+ Send
+ Sync
+ 'static {
    let camera = camera.clone();
    move |pad, _parent, _mode, active| match camera.upgrade() {
        Some(camera) => activate(&camera, pad, active),
        None => Err(gst::loggable_error!(CAT, "The camera is gone")),
    }
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
        let pads =
            [0, 1].map(|index| element.request_pad_simple(&format!("sink_{index}")).unwrap());
        element.set_state(gst::State::Playing).unwrap();
        let camera = element.imp().camera(0).unwrap();
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        assert!(pads[0].send_event(gst::event::StreamStart::new("0")));
        assert!(pads[0].send_event(gst::event::Segment::new(&segment)));
        // As the pusher, a pad function and a second pad function.
        for number in 0..3 {
            let panics = || {
                camera.with_state(|state| (state.pushing, state.querying) = (true, true));
                assert_eq!(number, 9, "out of order");
            };
            assert_eq!(camera.contain(panics), None);
        }
        let busy = camera.with_state(|state| state.pushing || state.querying);
        assert!(!busy, "nothing waits for what has panicked");
        let errors: Vec<_> =
            std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Error])).collect();
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
