//! When a file is begun anew, and what becomes of the old one.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use jiff::Timestamp;

/// When a file is begun anew. Zeros mean never.
///
/// The file keeps its name while it is written; then it gets the time (UTC) of its end in its name:
/// `counts.jsonl` becomes `counts-20260131T090500.040Z.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes that the file does not exceed, unless a single line does.
    pub max_size: u64,
    /// Time after its beginning from which on nothing is added to the file.
    pub max_duration: Duration,
    /// Files that are kept, the one that is being written included; the oldest are removed. 0: all.
    pub max_files: u32,
}

/// What a rotation did.
pub struct Rotated {
    /// The old file's new name.
    pub kept_as: PathBuf,
    /// Older files that were to be removed, and whether they were.
    pub removed: Vec<(PathBuf, io::Result<()>)>,
}

impl Rotation {
    /// Whether files are ever begun anew.
    pub fn is_wanted(&self) -> bool {
        self.max_size > 0 || !self.max_duration.is_zero()
    }

    /// Whether a file of `length` bytes and `age` is begun anew before the next line, of `next`
    /// bytes. An empty one never is.
    pub fn is_due(&self, length: u64, next: u64, age: Duration) -> bool {
        let full = self.max_size > 0 && length.saturating_add(next) > self.max_size;
        let old = !self.max_duration.is_zero() && age >= self.max_duration;
        length > 0 && (full || old)
    }

    /// Bytes that go into a file of `length` bytes.
    pub fn room(&self, length: u64) -> u64 {
        if self.max_size == 0 { u64::MAX } else { self.max_size.saturating_sub(length) }
    }

    /// Gives the file at `path` the name of one that ended `now`, and removes the oldest ones.
    pub fn rotate(&self, path: &Path, now: SystemTime) -> io::Result<Rotated> {
        // Where the path is a link, the file behind it moves, and the link leads to the new one.
        let path = path.canonicalize()?;
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let name = RotatedName::of(&path)?;
        let entries = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
        let mut old: Vec<_> =
            entries.filter_map(|path| Some((name.time(path.file_name()?)?, path))).collect();
        old.sort_unstable();
        // Of files that end within the same millisecond the later ones get later times, so that
        // their names are in order. A clock that was set back by more than a second is believed.
        let end = Timestamp::try_from(now).map_err(io::Error::other)?;
        let later = |by| end.checked_add(Duration::from_millis(by)).map_err(io::Error::other);
        let (mut time, limit) = (written(end), written(later(1000)?));
        for by in 1.. {
            if !old.iter().any(|(other, _)| (&time..&limit).contains(&other)) {
                break;
            }
            time = written(later(by)?);
        }
        let kept_as = path.with_file_name(name.with(&time));
        fs::rename(&path, &kept_as)?;
        // Beside the old ones there are the one that was just moved and the one that is begun.
        let surplus = if self.max_files == 0 {
            0
        } else {
            (old.len() + 2).saturating_sub(self.max_files as usize)
        };
        let removed =
            old.into_iter().take(surplus).map(|(_, path)| (path.clone(), fs::remove_file(path)));
        let mut removed: Vec<_> = removed.collect();
        if self.max_files == 1 {
            removed.push((kept_as.clone(), fs::remove_file(&kept_as)));
        }
        Ok(Rotated { kept_as, removed })
    }
}

/// A time as it stands in a name.
fn written(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%S%.3fZ").to_string()
}

/// The names that a file gets when it is rotated: `STEM-TIME.EXTENSION`.
struct RotatedName<'a> {
    stem: &'a OsStr,
    extension: Option<&'a OsStr>,
}

impl<'a> RotatedName<'a> {
    fn of(path: &'a Path) -> io::Result<Self> {
        let stem = path.file_stem().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { stem, extension: path.extension() })
    }

    fn with(&self, time: &str) -> OsString {
        let mut name = self.stem.to_owned();
        name.push("-");
        name.push(time);
        if let Some(extension) = self.extension {
            name.push(".");
            name.push(extension);
        }
        name
    }

    /// The time in `name`, if it is such a name.
    fn time(&self, name: &OsStr) -> Option<String> {
        let rest = name.to_str()?.strip_prefix(self.stem.to_str()?)?.strip_prefix('-')?;
        let time = match self.extension {
            Some(extension) => rest.strip_suffix(extension.to_str()?)?.strip_suffix('.')?,
            None => rest,
        };
        const FORM: &str = "00000000T000000.000Z";
        let fits = |(byte, form): (u8, u8)| {
            if form == b'0' { byte.is_ascii_digit() } else { byte == form }
        };
        let is_one = time.len() == FORM.len() && time.bytes().zip(FORM.bytes()).all(fits);
        is_one.then(|| time.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_begun_anew_before_it_grows_too_large_or_too_old() {
        let rotation =
            Rotation { max_size: 100, max_duration: Duration::from_secs(60), max_files: 0 };
        let young = Duration::from_secs(59);
        assert!(!rotation.is_due(60, 40, young));
        assert!(rotation.is_due(60, 41, young));
        assert!(rotation.is_due(1, 1, Duration::from_secs(60)));
        assert!(!rotation.is_due(0, 500, Duration::from_secs(600)), "an empty file is new");
        assert_eq!((rotation.room(60), rotation.room(200)), (40, 0));
        let never = Rotation::default();
        assert!(!never.is_wanted() && !never.is_due(u64::MAX, 1, Duration::MAX));
        assert_eq!(never.room(7), u64::MAX);
    }

    #[test]
    fn rotated_files_are_told_from_others_by_their_names() {
        let name = RotatedName::of(Path::new("/tmp/counts.jsonl")).unwrap();
        let time = "20260131T090500.040Z";
        assert_eq!(name.time(&name.with(time)).as_deref(), Some(time));
        for other in [
            "counts.jsonl",
            "counts-20260131T090500.040Z.json",
            "counts-20260131T090500.040Z-.jsonl",
            "counts-20260131T090500.040Zx.jsonl",
            "counts-2026-01-31T09.jsonl",
            "counts-north-20260131T090500.040Z.jsonl",
            "mycounts-20260131T090500.040Z.jsonl",
        ] {
            assert_eq!(name.time(OsStr::new(other)), None, "{other}");
        }
        let bare = RotatedName::of(Path::new("/tmp/counts")).unwrap();
        assert_eq!(bare.with(time), "counts-20260131T090500.040Z");
        assert!(bare.time(&bare.with(time)).is_some());
    }

    #[test]
    fn oldest_files_go_and_no_file_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts.jsonl");
        let rotation = Rotation { max_files: 3, ..Rotation::default() };
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        fs::write(folder.path().join("counts-old.jsonl"), "").unwrap();
        // Several end at the same time.
        for (text, second) in [("first", 1), ("second", 1), ("third", 2), ("fourth", 2)] {
            fs::write(&path, text).unwrap();
            rotation.rotate(&path, at(second)).unwrap();
        }
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        left.sort();
        let texts: Vec<_> = left.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(texts, ["third", "fourth", ""], "{left:?}");
    }

    #[test]
    fn link_stays_and_the_file_behind_it_moves() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("data.jsonl"), folder.path().join("current.jsonl"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let done = Rotation::default().rotate(&link, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(fs::read_to_string(done.kept_as).unwrap(), "old");
        assert!(link.is_symlink() && !file.exists());
    }
}
