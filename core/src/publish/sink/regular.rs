//! A regular file to which whole lines are appended.

use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::de::IgnoredAny;

use super::{Log, Report, Sent, Sink, SinkError};

/// Tells files apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// That of the file with `metadata`.
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The regular files that this process is writing to, each as often as it is open.
static OPEN_FILES: Mutex<Vec<Identity>> = Mutex::new(Vec::new());

/// How long another process may hold the lock of the file. Then lines are appended without it.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);

/// Every report begins with this.
const BEGINNING: &[u8] = b"{\"schema\":";

/// How far back the end of the last whole line is looked for.
const LONGEST_LINE: u64 = 16 << 20;

/// Whole lines in one piece.
#[derive(Default)]
pub struct Lines {
    text: Vec<u8>,
    /// Where each line ends in the text.
    ends: Vec<usize>,
}

impl Lines {
    /// Bytes of all lines.
    pub fn size(&self) -> u64 {
        self.text.len() as u64
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a line, and its line feed.
    pub fn push(&mut self, line: &str) {
        self.text.extend_from_slice(line.as_bytes());
        self.text.push(b'\n');
        self.ends.push(self.text.len());
    }
}

/// A regular file, open for appending.
///
/// Lines are written in one piece, under the file's advisory lock, so that processes can share the
/// file. What a full disk leaves of a line is cut off again.
pub struct RegularFile {
    file: File,
    readable: bool,
    identity: Identity,
}

impl RegularFile {
    /// A file that was opened, or inherited, with these rights.
    pub fn new(file: File, readable: bool, metadata: &Metadata) -> Self {
        let identity = Identity::of(metadata);
        OPEN_FILES.lock().push(identity);
        Self { file, readable, identity }
    }

    /// Empties the file, unless this process has it open more than once. Returns whether it did.
    pub fn empty(&self) -> io::Result<bool> {
        // The lock is released before the file is touched: a file system that hangs
        // holds no other writer.
        let alone =
            OPEN_FILES.lock().iter().filter(|identity| **identity == self.identity).count() == 1;
        if alone {
            self.file.set_len(0)?;
        }
        Ok(alone)
    }

    /// The length in bytes.
    pub fn length(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    /// Takes the lock, unless another process does not give it back. Where the file system has no
    /// locks, this process is taken to be alone.
    pub fn lock(&self) -> bool {
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match self.file.try_lock() {
                Ok(()) => return true,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(2))
                }
                Err(TryLockError::WouldBlock) => return false,
                Err(TryLockError::Error(_)) => return true,
            }
        }
    }

    /// Gives the lock back, if it was taken.
    pub fn unlock(&self, locked: bool) {
        if locked {
            // Fails only where the file system has lost the lock.
            let _ = self.file.unlock();
        }
    }

    /// Ends the file with a whole line: a process may have been killed, or a disk filled up, in
    /// the middle of one. A fragment of a report, or of zeros, is cut off; anything else becomes a
    /// line.
    ///
    /// Without the lock nothing is cut off: another process may be writing the line.
    pub fn mend(&mut self, locked: bool, log: &Log) -> Result<(), SinkError> {
        let length = self.length()?;
        let mut last = [0];
        if !self.readable
            || length == 0
            || self.file.read_at(&mut last, length - 1)? == 0
            || last == *b"\n"
        {
            return Ok(());
        }
        let fragment = self.fragment(length)?;
        let cut = locked && fragment.len() as u64 <= LONGEST_LINE && is_torn(&fragment);
        if cut && self.file.set_len(length - fragment.len() as u64).is_ok() {
            log(format!(
                "cut off {} bytes of an unfinished line at the end of the file",
                fragment.len()
            ));
            return Ok(());
        }
        log(format!("ended an unfinished line of {} bytes at the end of the file", fragment.len()));
        write_all(&self.file, b"\n").1.map_or(Ok(()), |error| Err(error.into()))
    }

    /// What stands after the last line feed; more than [`LONGEST_LINE`] bytes where none is found.
    fn fragment(&self, length: u64) -> io::Result<Vec<u8>> {
        const STEP: u64 = 64 << 10;
        let mut fragment = Vec::new();
        let mut begin = length;
        while begin > 0 && fragment.len() as u64 <= LONGEST_LINE {
            let step = begin.min(STEP);
            let mut piece = vec![0; step as usize];
            self.file.read_exact_at(&mut piece, begin - step)?;
            let feed = piece.iter().rposition(|byte| *byte == b'\n');
            piece.drain(..feed.map_or(0, |feed| feed + 1));
            piece.append(&mut fragment);
            fragment = piece;
            if feed.is_some() {
                break;
            }
            begin -= step;
        }
        Ok(fragment)
    }

    /// Appends `lines`. Returns how many were written: all.
    ///
    /// # Errors
    /// What was written of a line that has no end is taken back.
    pub fn append(&mut self, lines: &Lines, log: &Log) -> Result<usize, SinkError> {
        let Lines { text, ends } = lines;
        let (written, error) = write_all(&self.file, text);
        let Some(error) = error else { return Ok(ends.len()) };
        let lines = ends.partition_point(|end| *end <= written);
        let surplus = written - lines.checked_sub(1).map_or(0, |last| ends[last]);
        if surplus > 0
            && let Err(error) = self.take_back(surplus as u64)
        {
            log(format!(
                "{surplus} bytes of an unfinished line stay at the end of the file: {error}"
            ));
        }
        Err(SinkError::from(error).after(lines))
    }

    /// Cuts off the last `count` bytes, which this file has written just now.
    fn take_back(&mut self, count: u64) -> io::Result<()> {
        let end = self.file.stream_position()?;
        if self.length()? != end {
            return Err(io::Error::other("another process has written behind them"));
        }
        self.file.set_len(end - count)?;
        // Without O_APPEND, as a shell opens it, the offset would leave a hole.
        self.file.seek(SeekFrom::Start(end - count)).map(drop)
    }
}

impl Drop for RegularFile {
    fn drop(&mut self) {
        let mut open = OPEN_FILES.lock();
        if let Some(index) = open.iter().position(|identity| *identity == self.identity) {
            open.swap_remove(index);
        }
    }
}

/// Standard output that leads into a file: neither followed nor rotated, since it is not ours.
pub struct SharedFile {
    /// The file.
    pub file: RegularFile,
    /// Takes what is decided.
    pub log: Log,
}

impl Sink for SharedFile {
    fn send(&mut self, reports: &[Report]) -> Result<Sent, SinkError> {
        let mut lines = Lines::default();
        reports.iter().for_each(|report| lines.push(&report.json));
        let locked = self.file.lock();
        self.file.mend(locked, &self.log)?;
        let delivered = self.file.append(&lines, &self.log)?;
        self.file.unlock(locked);
        Ok(Sent { delivered })
    }
}

/// Writes all of `bytes`. Returns how many were written, and what stopped it before the end.
fn write_all(mut file: &File, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

/// Whether the end of a file, without a line feed, is what is left of a report: its beginning, or
/// the zeros that a file system shows in place of data that it lost.
fn is_torn(fragment: &[u8]) -> bool {
    let zeros = fragment.iter().take_while(|byte| **byte == 0).count();
    let text = &fragment[zeros..];
    let ours = text.starts_with(BEGINNING) || BEGINNING.starts_with(text);
    ours && serde_json::from_slice::<IgnoredAny>(text).is_err()
}
