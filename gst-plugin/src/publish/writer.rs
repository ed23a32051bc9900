//! The worker that writes lines, and its bounded queue.

use std::collections::{HashMap, VecDeque};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};

/// Where lines go in the end. Files and standard output today; a broker is another one.
pub trait Sink: Send {
    /// Writes whole lines, each with its line feed.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;
}

impl<W: Write + Send> Sink for W {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.write_all(lines)?;
        self.flush()
    }
}

/// What the queue had to say of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It will be written.
    Whole,
    /// It will be written; the oldest waiting one will not.
    DroppedOldest,
}

struct State {
    lines: VecDeque<String>,
    limit: usize,
    /// Lines ever pushed: the number of the next one.
    pushed: u64,
    /// Number of the first line of the block that is being written.
    writing: Option<u64>,
    stopping: bool,
    /// The last error, until it is asked for.
    error: Option<String>,
}

impl State {
    /// Number of the oldest line in the queue, or of the next one.
    fn first_waiting(&self) -> u64 {
        self.pushed - self.lines.len() as u64
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker with its queue. Dropping it writes what waits, and ends it.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

type Writers = HashMap<Option<PathBuf>, Weak<Writer>>;

/// The open writers by file; none is standard output.
static WRITERS: LazyLock<Mutex<Writers>> = LazyLock::new(Mutex::default);

impl Writer {
    /// The writer of the file at `location`, or of standard output: the one that is open, or a new one.
    pub fn open(location: Option<PathBuf>, append: bool, limit: usize) -> io::Result<Arc<Self>> {
        let mut writers = WRITERS.lock().unwrap_or_else(PoisonError::into_inner);
        writers.retain(|_, writer| writer.strong_count() > 0);
        // Two ways to write the same file's name are one file once it exists.
        let key = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        if let Some(writer) = writers.get(&location.as_ref().map(key)).and_then(Weak::upgrade) {
            return Ok(writer);
        }
        let sink: Box<dyn Sink> = match &location {
            None => Box::new(io::stdout()),
            Some(path) => {
                let mut options = OpenOptions::new();
                options.create(true).write(true).append(append).truncate(!append);
                Box::new(options.open(path)?)
            }
        };
        let writer = Arc::new(Self::start(sink, limit)?);
        writers.insert(location.as_ref().map(key), Arc::downgrade(&writer));
        Ok(writer)
    }

    /// A writer to `sink`.
    pub fn start(mut sink: Box<dyn Sink>, limit: usize) -> io::Result<Self> {
        let state = State {
            lines: VecDeque::new(),
            limit: limit.max(1),
            pushed: 0,
            writing: None,
            stopping: false,
            error: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let own = shared.clone();
        let thread = thread::Builder::new().name("vehicle-lines".to_owned()).spawn(move || work(&own, &mut *sink))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Puts a line, without its line feed, into the queue.
    pub fn push(&self, line: String) -> Queued {
        let mut state = self.shared.lock();
        let full = state.lines.len() >= state.limit;
        if full {
            state.lines.pop_front();
        }
        state.lines.push_back(line);
        state.pushed += 1;
        drop(state);
        self.shared.changed.notify_all();
        if full { Queued::DroppedOldest } else { Queued::Whole }
    }

    /// Waits until everything that was pushed so far has been written (or dropped); lines that others go on to push are not waited for.
    pub fn flush(&self) {
        self.wait(self.mark());
    }

    /// Number of the line that would be pushed next.
    fn mark(&self) -> u64 {
        self.shared.lock().pushed
    }

    /// Waits until every line before number `end` is written or dropped.
    fn wait(&self, end: u64) {
        let mut state = self.shared.lock();
        while state.first_waiting() < end || state.writing.is_some_and(|first| first < end) {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The last error that writing met, once.
    pub fn take_error(&self) -> Option<String> {
        self.shared.lock().error.take()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A sink that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, sink: &mut dyn Sink) {
    let mut block = String::new();
    loop {
        let mut state = shared.lock();
        while state.lines.is_empty() && !state.stopping {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.lines.is_empty() {
            return;
        }
        block.clear();
        state.writing = Some(state.first_waiting());
        for line in state.lines.drain(..) {
            block.push_str(&line);
            block.push('\n');
        }
        drop(state);
        let result = sink.write(block.as_bytes());
        let mut state = shared.lock();
        state.writing = None;
        if let Err(error) = result {
            state.error = Some(error.to_string());
        }
        drop(state);
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A disk that writes when it is told to.
    struct Gated {
        arrived: mpsc::Sender<()>,
        gate: mpsc::Receiver<io::Result<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Sink for Gated {
        fn write(&mut self, lines: &[u8]) -> io::Result<()> {
            self.arrived.send(()).unwrap();
            self.gate.recv().unwrap()?;
            self.written.lock().unwrap().extend_from_slice(lines);
            Ok(())
        }
    }

    #[test]
    fn slow_disk_costs_the_oldest_lines_and_nothing_else() {
        let (arrived, arrivals) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer::start(Box::new(Gated { arrived, gate, written: written.clone() }), 2).unwrap();
        assert_eq!(writer.push("1".to_owned()), Queued::Whole);
        arrivals.recv().unwrap();
        // The disk is busy with line 1: two more wait, and the older one of those goes.
        assert_eq!(writer.push("2".to_owned()), Queued::Whole);
        assert_eq!(writer.push("3".to_owned()), Queued::Whole);
        assert_eq!(writer.push("4".to_owned()), Queued::DroppedOldest);
        open.send(Ok(())).unwrap();
        open.send(Ok(())).unwrap();
        drop(writer);
        assert_eq!(*written.lock().unwrap(), b"1\n3\n4\n");
    }

    #[test]
    fn end_of_one_camera_does_not_wait_for_the_lines_of_another() {
        let (arrived, arrivals) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer::start(Box::new(Gated { arrived, gate, written: written.clone() }), 8).unwrap();
        writer.push("north".to_owned());
        arrivals.recv().unwrap();
        let north = writer.mark();
        writer.push("south".to_owned());
        writer.push("south again".to_owned());
        open.send(Ok(())).unwrap();
        // South's lines are at the gate, which stays shut.
        arrivals.recv().unwrap();
        writer.wait(north);
        assert_eq!(*written.lock().unwrap(), b"north\n");
        open.send(Ok(())).unwrap();
        writer.flush();
        assert_eq!(*written.lock().unwrap(), b"north\nsouth\nsouth again\n");
    }

    #[test]
    fn full_disk_is_told_and_writing_goes_on() {
        let (arrived, _arrivals) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer::start(Box::new(Gated { arrived, gate, written: written.clone() }), 8).unwrap();
        open.send(Err(io::Error::from(io::ErrorKind::StorageFull))).unwrap();
        writer.push("lost".to_owned());
        writer.flush();
        assert!(writer.take_error().is_some_and(|error| error.contains("storage")));
        assert_eq!(writer.take_error(), None);
        open.send(Ok(())).unwrap();
        writer.push("kept".to_owned());
        writer.flush();
        assert_eq!(*written.lock().unwrap(), b"kept\n");
    }
}
