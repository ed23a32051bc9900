//! Files of the cache folder: written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::sha256 as digest;

/// Tells texts apart in file names.
pub(crate) fn short_digest(text: &str) -> String {
    short(&digest(text.as_bytes())).to_owned()
}

/// The beginning of a digest, which tells it from others in messages and names.
pub(super) fn short(digest: &str) -> &str {
    &digest[..digest.len().min(12)]
}

/// The content of a file of [`write_checked`]; `None` where it is not there, or damaged.
pub(super) fn read_checked(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    let begin = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let content = bytes.split_off(begin);
    (bytes.trim_ascii_end() == digest(&content).as_bytes()).then_some(content)
}

/// Writes a file whose first line is the SHA-256 of the rest, whole or not at all.
pub(super) fn write_checked(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let mut bytes = digest(content).into_bytes();
    bytes.push(b'\n');
    bytes.extend_from_slice(content);
    write_whole(path, &bytes)
}

/// Writes a file under another name beside it, and moves it into place.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Its own for each process and each writer in it.
    static WRITERS: AtomicU64 = AtomicU64::new(0);
    let writer = WRITERS.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_added_extension(format!("{}-{writer}.part", std::process::id()));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let moved = written.and_then(|()| fs::rename(&beside, path));
    if moved.is_err() {
        let _ = fs::remove_file(&beside);
    }
    moved
}
