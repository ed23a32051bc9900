//! Paths: regular files that are appended to, followed and rotated, and pipes and devices.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{self, Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::regular::{Identity, Lines, RegularFile};
use super::rotation::Rotation;
use super::stream::{self, Standard, Stream};
use super::{Destination, LocationError, Log, Report, Sent, Sink, SinkError, SinkSettings};

/// `file://` and an absolute path, in which `%` and two hexadecimal digits are a byte.
pub fn from_url(rest: &str, settings: &SinkSettings) -> Result<Destination, LocationError> {
    let malformed = |reason: &str| LocationError::Malformed {
        location: format!("file://{rest}"),
        reason: reason.to_owned(),
    };
    if !rest.starts_with('/') {
        return Err(malformed(
            "a file:// location has an absolute path, such as file:///tmp/counts.jsonl",
        ));
    }
    let path = super::decode(rest).ok_or_else(|| {
        malformed("each % is followed by two hexadecimal digits, and makes UTF-8")
    })?;
    from_path(&path, settings)
}

/// A path. The same path is the same destination; links are not followed.
pub fn from_path(location: &str, settings: &SinkSettings) -> Result<Destination, LocationError> {
    if let Some(standard) = Standard::from_path(location) {
        return Ok(stream::standard(standard));
    }
    let path = path::absolute(location).map_err(|error| LocationError::Malformed {
        location: location.to_owned(),
        reason: error.to_string(),
    })?;
    let key = path.display().to_string();
    let rotation = settings.rotation.clone();
    let mut anew = !settings.append;
    let open = move |log: &Log| -> Result<Box<dyn Sink>, SinkError> {
        let sink =
            FileSink::open(&path, rotation.clone(), anew, log.clone(), Box::new(SystemTime::now))?;
        // After a failure the file is continued.
        anew = false;
        Ok(Box::new(sink))
    };
    Ok(Destination { key, place: location.to_owned(), open: Box::new(open) })
}

/// Time between two tries to rotate a file that cannot be renamed.
const ROTATION_PAUSE: Duration = Duration::from_secs(60);

/// How often a file is opened again for one report: processes that share it may rotate it in
/// between, and there are file systems that change the identity of a file all the time.
const MAX_OPENINGS: u32 = 20;

/// The time of day.
type WallClock = Box<dyn Fn() -> SystemTime + Send>;

/// What is at a path.
pub struct FileSink {
    path: PathBuf,
    rotation: Rotation,
    log: Log,
    now: WallClock,
    target: Target,
    identity: Identity,
    /// When the file was begun, for [`Rotation::max_duration`].
    begun: SystemTime,
    /// The file could not be rotated: not tried again before this time.
    rotation_pause: Option<Instant>,
}

enum Target {
    Regular(RegularFile),
    /// A FIFO or a character device.
    Stream(Stream),
}

impl FileSink {
    /// Opens what is at `path`, and makes a file where nothing is. With `anew`, a file is emptied,
    /// unless this process is writing to it already.
    pub fn open(
        path: &Path,
        rotation: Rotation,
        anew: bool,
        log: Log,
        now: WallClock,
    ) -> Result<Self, SinkError> {
        let (target, metadata) = open(path)?;
        if let (Target::Stream(_), true) = (&target, rotation.is_wanted()) {
            log(format!("{} is no regular file and is never rotated", path.display()));
        }
        let mut emptied = false;
        if let Target::Regular(file) = &target
            && anew
        {
            emptied = file.empty()?;
        }
        let begun = if emptied { now() } else { begun(&metadata, &now) };
        log(format!("opened {}", path.display()));
        Ok(Self {
            path: path.to_owned(),
            rotation,
            log,
            now,
            target,
            identity: Identity::of(&metadata),
            begun,
            rotation_pause: None,
        })
    }

    /// Whether something else is at the path now: the file was moved or deleted.
    fn is_moved(&self) -> Result<bool, SinkError> {
        let moved = match (fs::metadata(&self.path), &self.target) {
            (Ok(metadata), _) => Identity::of(&metadata) != self.identity,
            (Err(error), target) if error.kind() == io::ErrorKind::NotFound => {
                // Nothing has taken the place of a FIFO: its reader may be there all the same.
                matches!(target, Target::Regular(_))
            }
            (Err(error), _) => return Err(error.into()),
        };
        if moved {
            (self.log)(format!("{} was moved or deleted: it is opened again", self.path.display()));
        }
        Ok(moved)
    }

    fn reopen(&mut self) -> Result<(), SinkError> {
        let (target, metadata) = open(&self.path)?;
        self.target = target;
        self.identity = Identity::of(&metadata);
        self.begun = begun(&metadata, &self.now);
        Ok(())
    }

    /// Writes reports, as many as there is room for, or as go into the file before it is rotated.
    /// Returns how many; nothing where another file has been opened in place of this one, which has
    /// happened for the first of them `openings` times already.
    fn write(&mut self, reports: &[Report], openings: u32) -> Result<Option<usize>, SinkError> {
        // Under the lock, no process that shares the file rotates it. Closing the file gives the
        // lock back, so the paths that open another one need not.
        let locked = match &self.target {
            Target::Regular(file) => file.lock(),
            Target::Stream(_) => false,
        };
        let moved = self.is_moved()?;
        if moved && openings < MAX_OPENINGS {
            return self.reopen().map(|()| None);
        }
        let file = match &mut self.target {
            Target::Regular(file) => file,
            Target::Stream(stream) => return stream.send(reports).map(|sent| Some(sent.delivered)),
        };
        file.mend(locked, &self.log)?;
        let length = file.length()?;
        let age = (self.now)().duration_since(self.begun).unwrap_or_default();
        let next = reports[0].json.len() as u64 + 1;
        let rotates =
            locked && !moved && self.rotation_pause.is_none_or(|end| Instant::now() >= end);
        if rotates && self.rotation.is_due(length, next, age) {
            self.rotate();
            return self.reopen().map(|()| None);
        }
        let room = if rotates { self.rotation.room(length) } else { u64::MAX };
        let mut lines = Lines::default();
        for report in reports {
            if !lines.is_empty() && lines.size() + report.json.len() as u64 + 1 > room {
                break;
            }
            lines.push(&report.json);
        }
        let count = file.append(&lines, &self.log)?;
        file.unlock(locked);
        Ok(Some(count))
    }

    /// Moves the file out of the way. Where that fails, writing goes on in it.
    fn rotate(&mut self) {
        match self.rotation.rotate(&self.path, (self.now)()) {
            Ok(done) => {
                (self.log)(format!(
                    "{} is full or old: moved to {}",
                    self.path.display(),
                    done.kept_as.display()
                ));
                for (path, result) in done.removed {
                    match result {
                        Ok(()) => {
                            (self.log)(format!("removed {}, beyond max-files", path.display()))
                        }
                        Err(error) => {
                            (self.log)(format!("{} cannot be removed: {error}", path.display()))
                        }
                    }
                }
            }
            Err(error) => {
                (self.log)(format!(
                    "{} cannot be rotated and grows on: {error}",
                    self.path.display()
                ));
                self.rotation_pause = Some(Instant::now() + ROTATION_PAUSE);
            }
        }
    }
}

impl Sink for FileSink {
    fn send(&mut self, reports: &[Report]) -> Result<Sent, SinkError> {
        let (mut delivered, mut openings) = (0, 0);
        // Each round delivers a report or opens another file.
        while delivered < reports.len() {
            let count = self
                .write(&reports[delivered..], openings)
                .map_err(|error| error.after(delivered))?;
            openings = if count.is_none() { openings + 1 } else { 0 };
            delivered += count.unwrap_or(0);
            // A stream has waited for room already.
            if count.is_some() && matches!(self.target, Target::Stream(_)) {
                break;
            }
        }
        Ok(Sent { delivered })
    }
}

/// When the file began: now, where it is empty or its file system keeps no time of birth.
fn begun(metadata: &Metadata, now: &WallClock) -> SystemTime {
    if metadata.len() == 0 { now() } else { metadata.created().unwrap_or_else(|_| now()) }
}

/// Opens what is at `path` without waiting for anybody, and says what it is.
fn open(path: &Path) -> Result<(Target, Metadata), SinkError> {
    // Neither a FIFO without a reader nor a terminal line without a carrier is waited for.
    const FLAGS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;
    let kind = fs::metadata(path).map(|metadata| metadata.file_type());
    if let Ok(kind) = &kind {
        if kind.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
        }
        if kind.is_socket() {
            return Err(SinkError::permanent("it is a socket"));
        }
        if kind.is_block_device() {
            return Err(SinkError::permanent("it is a block device"));
        }
    }
    if kind.is_ok_and(|kind| kind.is_fifo() || kind.is_char_device()) {
        let file =
            OpenOptions::new().write(true).custom_flags(FLAGS).open(path).map_err(|error| {
                match error.raw_os_error() {
                    Some(libc::ENXIO) => SinkError::temporary("no process reads from it"),
                    _ => error.into(),
                }
            })?;
        let metadata = file.metadata()?;
        return Ok((
            Target::Stream(Stream::new(file, true, &path.display().to_string())),
            metadata,
        ));
    }
    let options = |read: bool| {
        let mut options = OpenOptions::new();
        options.read(read).append(true).create(true).custom_flags(FLAGS);
        options
    };
    let (file, readable): (File, bool) = match options(true).open(path) {
        // A file that may be written and not read.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            (options(false).open(path)?, false)
        }
        other => (other?, true),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(SinkError::temporary("it changed while it was opened"));
    }
    Ok((Target::Regular(RegularFile::new(file, readable, &metadata)), metadata))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    fn report(number: u32) -> Report {
        Report { camera: "north".to_owned(), unique_id: 0, json: number.to_string() }
    }

    #[test]
    fn file_is_rotated_by_its_age_which_a_restart_does_not_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts.jsonl");
        let hour = Duration::from_secs(3600);
        let now = Arc::new(Mutex::new(SystemTime::now()));
        let rotation = Rotation { max_duration: hour, ..Rotation::default() };
        let open = |anew: bool| {
            let now = now.clone();
            FileSink::open(
                &path,
                rotation.clone(),
                anew,
                Arc::new(|_| {}),
                Box::new(move || *now.lock()),
            )
            .unwrap()
        };
        let files = || {
            let mut files: Vec<_> =
                fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            // The current one last.
            files.sort();
            files.iter().map(|path| fs::read_to_string(path).unwrap()).collect::<Vec<_>>()
        };
        let mut sink = open(false);
        sink.send(&[report(1)]).unwrap();
        *now.lock() += hour / 2;
        sink.send(&[report(2)]).unwrap();
        assert_eq!(files(), ["1\n2\n"]);
        drop(sink);
        // The file system's own time of birth, where it keeps one, is a little later than ours.
        let keeps_birth = fs::metadata(&path).unwrap().created().is_ok();
        let mut sink = open(false);
        *now.lock() += hour / 2 + Duration::from_secs(60);
        if !keeps_birth {
            *now.lock() += hour / 2;
        }
        sink.send(&[report(3), report(4)]).unwrap();
        assert_eq!(files(), ["1\n2\n", "3\n4\n"]);
        *now.lock() += hour - Duration::from_secs(1);
        sink.send(&[report(5)]).unwrap();
        assert_eq!(files(), ["1\n2\n", "3\n4\n5\n"]);
        // A clock that is set back rotates nothing.
        *now.lock() -= 3 * hour;
        sink.send(&[report(6)]).unwrap();
        assert_eq!(files(), ["1\n2\n", "3\n4\n5\n6\n"]);
        // Written anew, the file begins now.
        drop(sink);
        *now.lock() += 5 * hour;
        let mut sink = open(true);
        sink.send(&[report(7)]).unwrap();
        assert_eq!(files(), ["1\n2\n", "7\n"]);
    }

    #[test]
    fn file_that_cannot_be_rotated_grows_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts.jsonl");
        let rotation = Rotation { max_size: 4, ..Rotation::default() };
        let remarks = Arc::new(Mutex::new(String::new()));
        let log = remarks.clone();
        // Before 1970 or after 9999 no name can be made.
        let clock = || SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        let log: Log = Arc::new(move |remark| log.lock().push_str(&remark));
        let mut sink = FileSink::open(&path, rotation, false, log, Box::new(clock)).unwrap();
        for number in [11, 12, 13] {
            assert_eq!(sink.send(&[report(number)]), Ok(Sent { delivered: 1 }));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "11\n12\n13\n");
        assert_eq!(remarks.lock().matches("cannot be rotated").count(), 1);
    }
}
