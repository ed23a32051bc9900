//! What the tables have in common: names, files, and what is wrong.

use std::path::{Path, PathBuf};

use vehiclecount_core::publish::sink::tls;

/// Keys that lead to a value, and what is wrong with it.
pub type Problems = Vec<(Vec<String>, String)>;

/// Keys that lead to a value.
pub fn path(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// Whether a camera or a sink may be called so.
pub fn is_name(name: &str) -> bool {
    let bad = |letter: char| letter.is_control() || "/#+".contains(letter);
    !name.trim().is_empty() && name.chars().count() <= 64 && !name.contains(bad)
}

/// The file that `url` means, of which `rest` follows `file:`; relative to `folder`.
pub fn file_at(url: &str, rest: &str, folder: &Path) -> Result<PathBuf, String> {
    if !rest.starts_with("//") {
        return Ok(folder.join(rest));
    }
    match glib::filename_from_uri(url) {
        Ok((path, _)) => Ok(path),
        Err(error) => Err(format!("it is no URL of a file: {}", error.message())),
    }
}

/// The certificates of authorities in a file, as it holds them.
///
/// # Errors
/// There are none in it.
pub fn authorities(file: &Path) -> Result<Vec<u8>, String> {
    let read = std::fs::read(file).map_err(|error| error.to_string());
    let checked = read.and_then(|pem| tls::authorities(Some(&pem)).map(|_| pem));
    checked.map_err(|what| format!("{}: {what}", file.display()))
}
