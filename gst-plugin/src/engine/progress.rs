//! Opening an engine in a thread of its own.
//!
//! Most engines are open in a moment, and the caller waits for that. A TensorRT plan that must be
//! built first takes minutes: then the element goes on, its state change ends, and the thread tells
//! on the bus how far the build has come (progress messages, which gst-launch-1.0 prints) and hands
//! the engine over when it is there. Ending the element ends the build.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gst::prelude::*;
use parking_lot::Mutex;
use vehiclecount_core::engine::{Progress, ProgressSink};

/// The code of our progress messages.
const CODE: &str = "vehiclecount-engine";

/// Steps of a build are told no more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// How an engine comes.
pub enum Start<T> {
    /// It is open.
    Opened(T),
    /// That takes long, and goes on in a thread of its own.
    Later(PendingEngine),
}

/// An engine that is being opened in a thread of its own. Dropping it ends the opening and waits
/// for the thread: a build ends at TensorRT's next step.
pub struct PendingEngine {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for PendingEngine {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // The thread itself may let go of the element last.
        if let Some(thread) =
            self.thread.take().filter(|held| held.thread().id() != thread::current().id())
        {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// What the thread sends to the caller that waits.
enum ThreadMessage<T> {
    TakesLong,
    Done(Result<T, gst::ErrorMessage>),
}

/// Runs `open` in a thread of its own, and waits for its end, or until it says that it takes long,
/// or takes longer than `patience`: then `done` is called with its end, in that thread, unless the
/// [`PendingEngine`] was dropped before.
pub fn start<T: Send + 'static>(
    element: &gst::Element,
    patience: Option<Duration>,
    open: impl FnOnce(&ProgressSink) -> Result<T, gst::ErrorMessage> + Send + 'static,
    done: impl FnOnce(Result<T, gst::ErrorMessage>) + Send + 'static,
) -> Result<Start<T>, gst::ErrorMessage> {
    let (sender, news) = mpsc::channel();
    let ended = Arc::new(AtomicBool::new(false));
    let teller = Arc::new(ProgressReporter {
        element: element.downgrade(),
        ended: ended.clone(),
        takes_long: Mutex::new(Some(Box::new({
            let sender: Sender<ThreadMessage<T>> = sender.clone();
            move || drop(sender.send(ThreadMessage::TakesLong))
        }))),
        told: Mutex::new(BuildState {
            since: Instant::now(),
            last: None,
            what: String::new(),
            phases: Vec::new(),
            kept: None,
        }),
    });
    let watched = teller.clone();
    let work = move || {
        let watch = ProgressSink::new({
            let teller = teller.clone();
            move |progress| teller.tell(progress)
        });
        // A panic has told its reason already; the element must hear that nothing more comes.
        let result = catch_unwind(AssertUnwindSafe(|| open(&watch))).unwrap_or_else(|_| {
            Err(gst::error_msg!(gst::LibraryError::Init, ("opening the engine ended in a panic")))
        });
        let waited_for = teller.takes_long.lock().take().is_some();
        if waited_for {
            // Where the element is gone, the receiver is gone too.
            let _ = sender.send(ThreadMessage::Done(result));
        } else {
            teller.end(result.as_ref().err());
            if !teller.ended.load(Ordering::Relaxed) {
                done(result);
            }
        }
    };
    let refused =
        |error| gst::error_msg!(gst::ResourceError::Failed, ("cannot start a thread: {error}"));
    let thread =
        thread::Builder::new().name("vehicles-open".to_owned()).spawn(work).map_err(refused)?;
    let opening = PendingEngine { ended, thread: Some(thread) };
    let told = match patience {
        None => news.recv().ok(),
        Some(patience) => match news.recv_timeout(patience) {
            Ok(told) => Some(told),
            // Its end may have come at this moment.
            Err(RecvTimeoutError::Timeout) if watched.let_go() => Some(ThreadMessage::TakesLong),
            Err(_) => news.recv().ok(),
        },
    };
    match told {
        Some(ThreadMessage::TakesLong) => Ok(Start::Later(opening)),
        Some(ThreadMessage::Done(result)) => result.map(Start::Opened),
        None => Err(gst::error_msg!(gst::LibraryError::Init, ("opening the engine ended early"))),
    }
}

/// Tells on the bus how far it is.
struct ProgressReporter {
    element: glib::WeakRef<gst::Element>,
    ended: Arc<AtomicBool>,
    /// Tells the caller that waits that it takes long; once.
    takes_long: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    told: Mutex<BuildState>,
}

struct BuildState {
    since: Instant,
    /// The last message.
    last: Option<Instant>,
    /// What is built.
    what: String,
    /// Phases of the build, each with its steps done and in all.
    phases: Vec<(String, u32, u32)>,
    /// Whether what was built is kept for the next start, or why not; `None`: nothing was built.
    kept: Option<Result<(), String>>,
}

impl ProgressReporter {
    /// Whoever waited waits no more: the end is told on the bus. `false` where that is so already,
    /// or there is nothing more to wait for.
    fn let_go(&self) -> bool {
        let waited = self.takes_long.lock().take().is_some();
        if waited {
            self.post(gst::ProgressType::Start, "opening the engine");
        }
        waited
    }

    /// Whether the opening is to go on.
    fn tell(&self, progress: Progress<'_>) -> bool {
        let long =
            matches!(progress, Progress::Waiting | Progress::Building { .. } | Progress::Compiling);
        let begins = if long { self.takes_long.lock().take() } else { None };
        let mut told = self.told.lock();
        let text = match progress {
            Progress::Waiting => Some("waiting for another that builds the same engine".to_owned()),
            Progress::Building { what, instead } => {
                told.what = what.to_owned();
                told.phases.clear();
                told.last = None;
                let why = instead.map(|reason| format!(" ({reason})")).unwrap_or_default();
                Some(format!(
                    "building {what}{why}: minutes with TensorRT, seconds with TensorRT-RTX, and once; the next start takes it from the cache"
                ))
            }
            Progress::Built { unkept } => {
                told.kept = Some(unkept.map_or(Ok(()), |reason| Err(reason.to_owned())));
                None
            }
            Progress::Timing { precision } => Some(format!("timing {precision}")),
            Progress::Compiling => Some("compiling the plan for this GPU".to_owned()),
            Progress::Begin { phase, steps, .. } => {
                told.phases.push((phase.to_owned(), 0, steps));
                told.phase()
            }
            Progress::Step { phase, step } => {
                told.phases
                    .iter_mut()
                    .filter(|(name, ..)| name == phase)
                    .for_each(|(_, done, _)| *done = step + 1);
                told.phase()
            }
            Progress::End { phase } => {
                if let Some(at) = told.phases.iter().rposition(|(name, ..)| name == phase) {
                    told.phases.remove(at);
                }
                None
            }
        };
        let due = told.last.is_none_or(|last| last.elapsed() >= PAUSE);
        let text = text.filter(|_| due || matches!(progress, Progress::Timing { .. }));
        if text.is_some() {
            told.last = Some(Instant::now());
        }
        drop(told);
        if let Some(text) = text {
            let kind = if begins.is_some() {
                gst::ProgressType::Start
            } else {
                gst::ProgressType::Continue
            };
            // What is timed from plans that were there takes no time to speak of.
            if begins.is_some() || self.takes_long.lock().is_none() {
                self.post(kind, &text);
            }
        }
        if let Some(begins) = begins {
            begins();
        }
        !self.ended.load(Ordering::Relaxed)
    }

    /// The last message.
    fn end(&self, error: Option<&gst::ErrorMessage>) {
        let (seconds, kept) = {
            let told = self.told.lock();
            (told.since.elapsed().as_secs_f64(), told.kept.clone())
        };
        if self.ended.load(Ordering::Relaxed) {
            self.post(
                gst::ProgressType::Canceled,
                "ended before the engine was open; the next start goes on from what is in the cache",
            );
            return;
        }
        match (error, kept) {
            (Some(_), _) => self.post(
                gst::ProgressType::Error,
                &format!("the engine does not open, after {seconds:.0} s"),
            ),
            (None, None) => self.post(
                gst::ProgressType::Complete,
                &format!("the engine is open after {seconds:.0} s"),
            ),
            (None, Some(kept)) => {
                let next = match kept {
                    Ok(()) => "the next start takes it from the cache".to_owned(),
                    Err(reason) => format!("it is not kept for the next start: {reason}"),
                };
                self.post(
                    gst::ProgressType::Complete,
                    &format!("the engine is open after {seconds:.0} s; {next}"),
                );
            }
        }
    }

    fn post(&self, kind: gst::ProgressType, text: &str) {
        let Some(element) = self.element.upgrade() else { return };
        let _ = element
            .post_message(gst::message::Progress::builder(kind, CODE, text).src(&element).build());
    }
}

impl BuildState {
    /// How far the build is: TensorRT's outermost phases, and the time so far.
    fn phase(&self) -> Option<String> {
        let phases: Vec<_> = self
            .phases
            .iter()
            .take(2)
            .map(|(name, done, steps)| format!("{name} {done}/{steps}"))
            .collect();
        (!phases.is_empty())
            .then(|| format!("{}, {:.0} s", phases.join(" > "), self.since.elapsed().as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_of_an_opening_is_its_end_whether_it_is_waited_for_or_not() {
        gst::init().unwrap();
        let element = gst::Bin::new().upcast::<gst::Element>();
        let open = |_: &ProgressSink| -> Result<(), _> { panic!("a driver's fault") };
        let done = |_| panic!("the caller waits");
        let error = start(&element, None, open, done).err().expect("it does not open");
        assert!(error.to_string().contains("panic"), "{error}");

        let (sender, end) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        let open = move |sink: &ProgressSink| -> Result<(), _> {
            sink.tell(Progress::Waiting);
            gone.recv().unwrap();
            panic!("a driver's fault")
        };
        let started = start(&element, None, open, move |result| sender.send(result).unwrap());
        let Ok(Start::Later(_opening)) = started else { panic!("it takes long") };
        go.send(()).unwrap();
        let error = end.recv().unwrap().expect_err("it does not open");
        assert!(error.to_string().contains("panic"), "{error}");
    }
}
