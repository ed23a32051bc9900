//! The configuration of the service: one TOML file, `counter.toml`.
//!
//! [`read`] gives what the file says with all defaults filled in, or every [`Problem`] with its
//! line. `docs/counter.toml` is the reference: all keys, at their defaults.

mod certificate;
mod database;
pub mod edit;
mod problem;
mod resolve;
mod secret;
mod sink;
mod table;
mod value;

use std::path::Path;

pub use certificate::Certificate;
pub use database::Database;
pub use problem::{Problem, told};
pub use resolve::{Camera, Counter, History, HistoryPlace, Http, Place, Service, Token};
pub use secret::Secret;
pub use sink::{Sink, SinkPlace};
pub use table::{Decoder, Engine, File, Precision, RecordKind, Transport, Viewpoint};

/// Reads the configuration in the file at `path`. Paths inside it are relative to its folder.
///
/// # Errors
/// All that is wrong with it; after an error of syntax nothing further is looked for.
pub fn read(path: &Path) -> Result<Service, Vec<Problem>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return Err(vec![Problem::unreadable(path, &error)]),
    };
    parse(&text, path)
}

/// As [`read`], of a `text` that stands in the file at `path`.
///
/// # Errors
/// As there.
pub fn parse(text: &str, path: &Path) -> Result<Service, Vec<Problem>> {
    let file: File =
        toml::from_str(text).map_err(|error| vec![Problem::of_syntax(path, text, &error)])?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let wrong = |problems: value::Problems| {
        problems.iter().map(|(key, what)| Problem::of_value(path, text, key, what)).collect()
    };
    resolve::resolve(&file, folder).map_err(wrong)
}

/// What the `service` of the configuration at `path` reads from or writes to and is not there at
/// the moment: it may come, such as what lies on a medium that is not mounted yet.
pub fn absent(service: &Service, path: &Path) -> Vec<Problem> {
    let cameras = service.cameras.iter().filter_map(|camera| match &camera.place {
        Place::File(file) if !file.is_file() => {
            let keys = value::path(&["cameras", &camera.name, "url"]);
            Some((keys, format!("there is no file {}", file.display())))
        }
        _ => None,
    });
    let sinks = service.sinks.iter().filter_map(|sink| match &sink.place {
        SinkPlace::File(file, _) => {
            let folder = file.parent().filter(|folder| !folder.is_dir())?;
            let keys = value::path(&["sinks", &sink.name, "url"]);
            Some((keys, format!("there is no folder {}", folder.display())))
        }
        _ => None,
    });
    let problems: Vec<_> = cameras.chain(sinks).collect();
    if problems.is_empty() {
        return Vec::new();
    }
    // To show the lines.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let problems = problems.iter();
    problems.map(|(keys, what)| Problem::of_value(path, &text, keys, what)).collect()
}

/// The JSON Schema of the file, for editors.
pub fn schema() -> serde_json::Value {
    table::schema()
}

#[cfg(test)]
mod tests;
