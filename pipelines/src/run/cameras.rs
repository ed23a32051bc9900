//! The cameras at work. They follow the configuration while the service runs, and so do the sinks;
//! those that it leaves as they are notice nothing.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::board::{Board, Camera, State};
use super::camera::{self, CameraThread, Shared};
use super::log;
use super::sinks::Sinks;
use crate::config::edit::{self, Document, Section};
use crate::config::{self, Service};

/// Why a change is not made. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The engine is not open yet, or not any more.
    #[error("cameras cannot be changed while the engine is opened or closed; try again later")]
    NotReady,
    /// There is no such camera or sink.
    #[error("there is none of that name")]
    Unknown,
    /// There is one already.
    #[error("there is one of that name already")]
    Exists,
    /// What was asked for is wrong.
    #[error("{0}")]
    Wrong(String),
    /// The file is in the way.
    #[error("{0}")]
    File(String),
}

/// Keys of a camera, as in the file.
pub type Keys = Map<String, Value>;

/// The name of a camera that has none yet.
const NEW: &str = "the camera";

/// Regions of a camera, and corners of a region, as far as they come over HTTP: whether edges cross
/// is looked for with every pair of them.
const REGIONS: usize = 64;
const CORNERS: usize = 256;

/// All cameras, and the file that describes them.
pub struct Cameras {
    file: PathBuf,
    board: Arc<Board>,
    sinks: Arc<Sinks>,
    work: Mutex<Work>,
}

struct Work {
    /// What the file said when it was last read.
    service: Service,
    threads: BTreeMap<String, CameraThread>,
    /// What a camera needs, while there is an engine.
    shared: Option<Shared>,
}

impl Cameras {
    /// The cameras of a configuration, none of which works yet, and its sinks, which do.
    pub fn new(file: &Path, service: Service, board: Arc<Board>, sinks: Arc<Sinks>) -> Self {
        for settings in &service.cameras {
            board.put(Arc::new(Camera::new(settings.clone())));
        }
        let work = Work { service, threads: BTreeMap::new(), shared: None };
        Self { file: file.to_owned(), board, sinks, work: Mutex::new(work) }
    }

    /// Sets them to work.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(&self, shared: Shared) -> Result<()> {
        let mut work = self.work.lock();
        for camera in self.board.cameras() {
            let name = camera.settings.name.clone();
            work.threads.insert(name, CameraThread::start(camera, shared.clone())?);
        }
        work.shared = Some(shared);
        Ok(())
    }

    /// Ends their work, and lets go of what they needed.
    pub fn stop(&self) {
        let mut work = self.work.lock();
        work.shared = None;
        let threads = std::mem::take(&mut work.threads);
        threads.values().for_each(CameraThread::stop);
    }

    /// Reads the file anew, and changes what it has changed.
    ///
    /// # Errors
    /// Why nothing is changed.
    pub fn reload(&self) -> Result<(), Refusal> {
        let mut work = self.work.lock();
        let service =
            config::read(&self.file).map_err(|problems| Refusal::File(config::told(&problems)))?;
        self.follow(&mut work, service)
    }

    /// Adds a camera or a sink, in the file too.
    ///
    /// # Errors
    /// Why nothing is changed.
    pub fn add(&self, section: Section, name: &str, keys: &Keys) -> Result<(), Refusal> {
        check(section, keys)?;
        self.edit(|document| match document.has(section, name) {
            true => Err(Refusal::Exists),
            false => set(document, section, name, keys),
        })
    }

    /// Changes keys of a camera or a sink, in the file too; null takes a key out.
    ///
    /// # Errors
    /// Why nothing is changed.
    pub fn change(&self, section: Section, name: &str, keys: &Keys) -> Result<(), Refusal> {
        check(section, keys)?;
        self.edit(|document| match document.has(section, name) {
            true => change(document, &self.file, section, name, keys),
            false => Err(Refusal::Unknown),
        })
    }

    /// Removes a camera or a sink, in the file too.
    ///
    /// # Errors
    /// Why nothing is changed.
    pub fn remove(&self, section: Section, name: &str) -> Result<(), Refusal> {
        self.edit(|document| match document.remove(section, name) {
            true => Ok(()),
            false => Err(Refusal::Unknown),
        })
    }

    /// The camera that [`Cameras::add`] would make of `keys`, or [`Cameras::change`] of `name`.
    ///
    /// # Errors
    /// Why it would not.
    pub fn draft(&self, name: Option<&str>, keys: &Keys) -> Result<config::Camera, Refusal> {
        check_camera(keys)?;
        let mut document = self.document()?.1;
        let name = match name {
            Some(name) if document.has(Section::Cameras, name) => name,
            Some(_) => return Err(Refusal::Unknown),
            None => {
                document.remove(Section::Cameras, NEW);
                NEW
            }
        };
        change(&mut document, &self.file, Section::Cameras, name, keys)?;
        camera(&document, &self.file, name)?.ok_or(Refusal::Unknown)
    }

    /// The file as it stands there.
    fn document(&self) -> Result<(String, Document), Refusal> {
        let unreadable = |what: String| {
            Refusal::File(format!("the configuration in the file is to be mended first: {what}"))
        };
        let text = std::fs::read_to_string(&self.file)
            .map_err(|error| unreadable(format!("{}: {error}", self.file.display())))?;
        if let Err(problems) = config::parse(&text, &self.file) {
            return Err(unreadable(problems[0].to_string()));
        }
        let document =
            Document::parse(&text).map_err(|_| unreadable("it is no TOML".to_owned()))?;
        Ok((text, document))
    }

    /// Changes the file, and then what it describes.
    fn edit(
        &self,
        change: impl FnOnce(&mut Document) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut work = self.work.lock();
        if work.shared.is_none() {
            return Err(Refusal::NotReady);
        }
        let (old, mut document) = self.document()?;
        change(&mut document)?;
        let text = document.to_string();
        let service = config::parse(&text, &self.file).map_err(wrong)?;
        if text != old {
            edit::write(&self.file, &text).map_err(|error| {
                let file = self.file.display();
                Refusal::File(format!(
                    "{file} cannot be written, and nothing is changed: {error:#}"
                ))
            })?;
        }
        self.follow(&mut work, service)
    }

    /// Does what the configuration says.
    fn follow(&self, work: &mut Work, service: Service) -> Result<(), Refusal> {
        let Some(shared) = work.shared.clone() else { return Err(Refusal::NotReady) };
        let rest = |service: &Service| Service {
            cameras: Vec::new(),
            sinks: Vec::new(),
            ..service.clone()
        };
        if rest(&work.service) != rest(&service) {
            log(
                "cameras and sinks alone change while the service runs; the rest of the file holds \
                 from the next start on",
            );
        }
        self.sinks.follow(&service.sinks).map_err(|error| Refusal::File(format!("{error:#}")))?;
        let old = std::mem::replace(&mut work.service, service);
        let new = &work.service.cameras;
        let is_in = |cameras: &[config::Camera], name: &str| {
            cameras.iter().any(|camera| camera.name == name)
        };
        let gone = old.cameras.iter().filter(|camera| !new.contains(camera));
        let gone: Vec<_> = gone.map(|camera| camera.name.as_str()).collect();
        let threads: Vec<_> = gone.iter().filter_map(|name| work.threads.remove(*name)).collect();
        threads.iter().for_each(CameraThread::stop);
        drop(threads);
        for name in gone.iter().filter(|name| !is_in(new, name)) {
            self.board.remove(name);
            log(&format!("{name}: removed"));
        }
        for settings in new.iter().filter(|camera| !old.cameras.contains(camera)) {
            let name = &settings.name;
            let changed = if is_in(&old.cameras, name) { "changed" } else { "added" };
            log(&format!("{name}: {changed}"));
            let camera = Arc::new(Camera::new(settings.clone()));
            self.board.put(camera.clone());
            match CameraThread::start(camera.clone(), shared.clone()) {
                Ok(thread) => drop(work.threads.insert(name.clone(), thread)),
                Err(error) => camera::tell(&camera, State::Waiting, Some(format!("{error:#}"))),
            }
        }
        Ok(())
    }
}

fn wrong(problems: Vec<config::Problem>) -> Refusal {
    let problems: Vec<_> = problems.iter().map(config::Problem::what).collect();
    Refusal::Wrong(problems.join("; "))
}

fn set(document: &mut Document, section: Section, name: &str, keys: &Keys) -> Result<(), Refusal> {
    document.set(section, name, keys).map_err(|error| Refusal::Wrong(format!("{error:#}")))
}

/// Changes keys of a camera or a sink. Regions that take the place of a file of regions take that
/// of its polygons: its levels, `input-scale` and `scale-factor` become the camera's own.
fn change(
    document: &mut Document,
    file: &Path,
    section: Section,
    name: &str,
    keys: &Keys,
) -> Result<(), Refusal> {
    let draws = section == Section::Cameras && keys.contains_key("regions");
    let before = if draws { camera(document, file, name)? } else { None };
    set(document, section, name, keys)?;
    let Some(before) = before else { return Ok(()) };
    let Some(after) = camera(document, file, name)? else { return Ok(()) };
    let (old, new) = (&before.regions, &after.regions);
    let kept = [
        ("levels", old.levels != new.levels, serde_json::to_value(old.levels)),
        ("input-scale", old.input_scale != new.input_scale, serde_json::to_value(old.input_scale)),
        ("scale", before.factor() != after.factor(), serde_json::to_value(before.factor())),
    ];
    let kept = kept.into_iter().filter(|(key, is_lost, _)| *is_lost && !keys.contains_key(*key));
    let kept = kept.filter_map(|(key, _, value)| Some((key.to_owned(), value.ok()?)));
    set(document, section, name, &kept.collect())
}

/// The camera that `document` describes under that name.
fn camera(document: &Document, file: &Path, name: &str) -> Result<Option<config::Camera>, Refusal> {
    let service = config::parse(&document.to_string(), file).map_err(wrong)?;
    Ok(service.cameras.into_iter().find(|camera| camera.name == name))
}

/// Files and variables of this machine are named in the configuration alone: what comes over HTTP
/// is not to read or write them.
fn check(section: Section, keys: &Keys) -> Result<(), Refusal> {
    match section {
        Section::Cameras => check_camera(keys),
        Section::Sinks => check_sink(keys),
    }
}

/// As [`check`], for a sink.
fn check_sink(keys: &Keys) -> Result<(), Refusal> {
    check_texts(keys, &["url", "user", "password", "secret"])?;
    let wrong = |what: &str| Err(Refusal::Wrong(what.to_owned()));
    if keys.get("ca-file").is_some_and(|value| !value.is_null()) {
        return wrong("ca-file is set in the configuration alone");
    }
    let url = keys.get("url").and_then(Value::as_str).unwrap_or_default();
    // What is there already, such as the configuration, is not to be written to.
    let is_own = |path: &str| is_inside(path) && path.ends_with(".jsonl");
    if url.strip_prefix("file:").is_some_and(|path| !is_own(path)) {
        return wrong(
            "a file of a sink lies in the folder of the configuration or below, and its \
                      name ends in .jsonl",
        );
    }
    Ok(())
}

/// Whether a path leads into the folder that it begins in.
fn is_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Whether these keys are texts, and the url no shown one.
fn check_texts(keys: &Keys, names: &[&str]) -> Result<(), Refusal> {
    for key in names {
        if keys.get(*key).is_some_and(|value| !value.is_string() && !value.is_null()) {
            let names = names.join(", ");
            return Err(Refusal::Wrong(format!(
                "{names} are texts; what is kept in a variable or a file is named in the \
                 configuration alone"
            )));
        }
    }
    if keys.get("url").and_then(Value::as_str).is_some_and(|url| url.contains("***")) {
        let what = "the url is shown without its password; give it with it";
        return Err(Refusal::Wrong(what.to_owned()));
    }
    Ok(())
}

/// As [`check`], for a camera.
fn check_camera(keys: &Keys) -> Result<(), Refusal> {
    let wrong = |what: &str| Err(Refusal::Wrong(what.to_owned()));
    check_texts(keys, &["url", "user", "password"])?;
    if keys.get("regions-file").is_some_and(|value| !value.is_null()) {
        return wrong("regions-file is set in the configuration alone; give regions");
    }
    if keys.get("levels").is_some_and(|value| !value.is_object() && !value.is_null()) {
        return wrong("levels are { \"moderate\": ..., \"dense\": ..., \"jammed\": ... }");
    }
    let regions = keys.get("regions").and_then(Value::as_array);
    if regions.is_some_and(|regions| regions.len() > REGIONS || !regions.iter().all(is_bounded)) {
        return Err(Refusal::Wrong(format!(
            "a camera has {REGIONS} regions at most, a region {CORNERS} corners at most, and a name of 1 to 64 letters"
        )));
    }
    let url = keys.get("url").and_then(Value::as_str).unwrap_or_default();
    if url.strip_prefix("file:").is_some_and(|path| !is_inside(path)) {
        return wrong("a file of a camera lies in the folder of the configuration or below");
    }
    Ok(())
}

/// Whether a region is not too large. Whether it is right is found out later.
fn is_bounded(region: &Value) -> bool {
    let corners = region["polygon"].as_array().map_or(0, Vec::len);
    let name = region["name"].as_str().unwrap_or("no text");
    corners <= CORNERS
        && (1..=64).contains(&name.chars().count())
        && !name.contains(char::is_control)
}
