//! Pipes, FIFOs, terminals and sockets: lines go in as there is room, and nothing waits for long.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Instant;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;

use super::regular::{RegularFile, SharedFile};
use super::{Destination, Log, Report, Sent, Sink, SinkError, TURN};

/// So much goes into a pipe in one piece or not at all: POSIX's PIPE_BUF, as Linux has it.
const PIPE_BUF: usize = 4096;

/// A pipe is enlarged to so many bytes at most: what Linux lets any user do.
const MAX_PIPE: usize = 1 << 20;

/// How often a pipe is looked at that has no room for a whole line, in milliseconds.
const LOOK: u16 = 2;

/// A standard stream of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl Standard {
    /// The stream that `path` names.
    pub fn from_path(path: &str) -> Option<Self> {
        match path {
            "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => Some(Self::Output),
            "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => Some(Self::Error),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Output => "standard output",
            Self::Error => "standard error",
        }
    }

    /// The same stream under a path, which opens it a second time.
    fn path(self) -> &'static str {
        match self {
            Self::Output => "/proc/self/fd/1",
            Self::Error => "/proc/self/fd/2",
        }
    }

    fn duplicate(self) -> io::Result<OwnedFd> {
        match self {
            Self::Output => io::stdout().as_fd().try_clone_to_owned(),
            Self::Error => io::stderr().as_fd().try_clone_to_owned(),
        }
    }

    fn flags(self) -> nix::Result<(FdFlag, OFlag)> {
        fn flags(descriptor: BorrowedFd<'_>) -> nix::Result<(FdFlag, OFlag)> {
            let descriptor_flags = FdFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFD)?);
            Ok((descriptor_flags, OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL)?)))
        }
        match self {
            Self::Output => flags(io::stdout().as_fd()),
            Self::Error => flags(io::stderr().as_fd()),
        }
    }

    fn open(self, log: &Log) -> Result<Box<dyn Sink>, SinkError> {
        let closed = || SinkError::permanent("it is closed");
        let (descriptor, status) = self.flags().map_err(|_| closed())?;
        // An inherited stream outlives exec. What does not is a file of some library, which got the
        // number of a stream that was closed.
        if descriptor.contains(FdFlag::FD_CLOEXEC) {
            return Err(closed());
        }
        let file = File::from(self.duplicate()?);
        if is_own_socket(&file) {
            return Err(closed());
        }
        if status & OFlag::O_ACCMODE == OFlag::O_RDONLY {
            return Err(SinkError::permanent("it is open for reading only"));
        }
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        if kind.is_file() {
            // Opened a second time, its end can be read, and mended: a shell's >> continues a file
            // that an earlier process may have left within a line.
            let appends = status.contains(OFlag::O_APPEND);
            let own = OpenOptions::new()
                .read(true)
                .append(true)
                .open(self.path())
                .ok()
                .filter(|_| appends);
            let readable = own.is_some();
            let file = RegularFile::new(own.unwrap_or(file), readable, &metadata);
            return Ok(Box::new(SharedFile { file, log: log.clone() }));
        }
        if !kind.is_fifo() && !kind.is_char_device() && !kind.is_socket() {
            return Err(SinkError::permanent("it is no file, pipe, terminal or socket"));
        }
        // O_NONBLOCK on the stream itself would change it for all programs that share it. Opened a
        // second time it is ours alone; sockets, and streams of other users, do not allow that.
        let own = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(self.path());
        Ok(Box::new(match own {
            Ok(own) => Stream::new(own, true, self.name()),
            Err(_) => Stream::new(file, status.contains(OFlag::O_NONBLOCK), self.name()),
        }))
    }
}

/// Whether both ends of a socket were made by this process: some library talks to itself.
fn is_own_socket(file: &File) -> bool {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of_val(&credentials) as libc::socklen_t;
    let value = (&raw mut credentials).cast();
    // SAFETY: the descriptor is open, and the kernel writes at most `size` bytes of a `ucred`.
    let result = unsafe {
        libc::getsockopt(file.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, value, &mut size)
    };
    result == 0 && u32::try_from(credentials.pid) == Ok(std::process::id())
}

/// The destination that is a standard stream.
pub fn standard(standard: Standard) -> Destination {
    Destination {
        key: standard.name().to_owned(),
        place: standard.name().to_owned(),
        open: Box::new(move |log| standard.open(log)),
    }
}

/// The rests of lines that streams were left in, by key: the next stream of that key goes on there.
static RESTS: Mutex<Option<HashMap<String, Vec<u8>>>> = Mutex::new(None);

/// A stream that is written to without waiting.
pub struct Stream {
    file: File,
    /// Writing never blocks. Otherwise, no more is written than has room for certain.
    nonblocking: bool,
    key: String,
    /// Lines that are being written.
    text: Vec<u8>,
    /// Line feeds in the text that are not reports of this stream.
    foreign: usize,
    /// The last byte that was written stands within a line.
    within_line: bool,
}

impl Stream {
    /// A stream to `file`. Streams of the same `key` follow each other.
    pub fn new(file: File, nonblocking: bool, key: &str) -> Self {
        let text = RESTS.lock().as_mut().and_then(|rests| rests.remove(key)).unwrap_or_default();
        let within_line = !text.is_empty();
        Self {
            file,
            nonblocking,
            key: key.to_owned(),
            foreign: within_line.into(),
            text,
            within_line,
        }
    }

    /// Writes some of the text. Returns how many reports were completed.
    fn write(&mut self) -> io::Result<usize> {
        let mut piece = &self.text[..];
        if !self.nonblocking {
            if !self.has_room(0)? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            piece = &piece[..piece.len().min(PIPE_BUF)];
        }
        let count = self.file.write(piece)?;
        let written = &self.text[..count];
        let Some(last) = written.last() else { return Err(io::ErrorKind::WriteZero.into()) };
        self.within_line = *last != b'\n';
        let lines = written.iter().filter(|byte| **byte == b'\n').count();
        let foreign = self.foreign.min(lines);
        self.foreign -= foreign;
        self.text.drain(..count);
        Ok(lines - foreign)
    }

    /// Whether the line that is next would go into a pipe as a whole, so that a process that is
    /// killed, or ends, leaves none within. A pipe that is too small is enlarged. Lines that no
    /// pipe takes as a whole, and other streams, do not wait for that.
    fn takes_whole(&self) -> bool {
        let bytes = self.text.len();
        if self.within_line || bytes <= PIPE_BUF {
            return true;
        }
        let Some((held, mut size)) = pipe_fill(&self.file) else { return true };
        let page = page_size();
        // Pages of a pipe are half full on the average at least, but for the first and the last.
        let needed = |held: usize| if held == 0 { bytes } else { bytes + 2 * held + 3 * page };
        if size < needed(bytes) {
            let wanted = needed(bytes).next_power_of_two().min(MAX_PIPE);
            if wanted > size
                && let Ok(set) = fcntl(&self.file, FcntlArg::F_SETPIPE_SZ(wanted as i32))
            {
                size = set as usize;
            }
        }
        size < bytes || needed(held) <= size
    }

    /// Waits a moment for the reader to read. `true` where there is none any more.
    fn reader_has_gone(&self) -> io::Result<bool> {
        self.poll(PollFlags::empty(), LOOK)
    }

    /// Waits for room, `milliseconds` at most. A stream that is broken has room: writing says why.
    fn has_room(&self, milliseconds: u16) -> io::Result<bool> {
        self.poll(PollFlags::POLLOUT, milliseconds)
    }

    /// Waits for `wanted`, or for a stream that is broken, `milliseconds` at most.
    fn poll(&self, wanted: PollFlags, milliseconds: u16) -> io::Result<bool> {
        let mut wanted = [PollFd::new(self.file.as_fd(), wanted)];
        match poll(&mut wanted, PollTimeout::from(milliseconds)) {
            Err(nix::errno::Errno::EINTR) => Ok(false),
            result => Ok(result? > 0),
        }
    }
}

/// What a pipe holds and its size, bytes; `None` where `file` is no pipe.
fn pipe_fill(file: &File) -> Option<(usize, usize)> {
    let size = fcntl(file, FcntlArg::F_GETPIPE_SZ).ok()?;
    let mut held: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the kernel writes one integer.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::FIONREAD, &raw mut held) };
    (result == 0).then_some((held.try_into().ok()?, size.try_into().ok()?))
}

fn page_size() -> usize {
    // SAFETY: reads a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(PIPE_BUF)
}

impl Sink for Stream {
    fn send(&mut self, reports: &[Report]) -> Result<Sent, SinkError> {
        let end = Instant::now() + TURN;
        let mut delivered = 0;
        while delivered < reports.len() {
            if self.text.is_empty() {
                // As many lines as go into a pipe in one piece, or one that does not.
                for report in &reports[delivered..] {
                    if !self.text.is_empty() && self.text.len() + report.json.len() >= PIPE_BUF {
                        break;
                    }
                    self.text.extend_from_slice(report.json.as_bytes());
                    self.text.push(b'\n');
                }
            }
            if !self.takes_whole() && !self.reader_has_gone()? {
                if Instant::now() >= end {
                    return Ok(Sent { delivered });
                }
                continue;
            }
            match self.write() {
                Ok(lines) => delivered += lines,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(Sent { delivered });
                    }
                    self.has_room(left.as_millis().clamp(1, 1000) as u16)
                        .map_err(SinkError::from)?;
                }
                Err(error) => {
                    self.text.clear();
                    let gone = error.kind() == io::ErrorKind::BrokenPipe;
                    let error = if gone {
                        SinkError::temporary("its reader has gone")
                    } else {
                        error.into()
                    };
                    return Err(error.after(delivered));
                }
            }
        }
        Ok(Sent { delivered })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.within_line && !self.text.is_empty() {
            let end = self
                .text
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(self.text.len(), |feed| feed + 1);
            self.text.truncate(end);
            let rest = std::mem::take(&mut self.text);
            RESTS
                .lock()
                .get_or_insert_with(HashMap::new)
                .insert(std::mem::take(&mut self.key), rest);
        }
    }
}
