//! A model on disk: its manifest, its files, and which engine takes which.

mod error;
mod manifest;
mod measured;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use error::ModelError;
pub use manifest::{File, Golden, GoldenCount, Input, Manifest, Output, SCHEMA};
use manifest::{MAX_SIDE, check};
pub use measured::{Accuracy, Speed, Speeds};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::engine::EngineKind;
use crate::places;
use crate::preprocess::{InputChoice, InputShapes, InputSize, Resize};

/// Name of the model that is used when none is named.
pub const DEFAULT_MODEL: &str = "mobilenetv3-large";

/// A model: its manifest and the folder that it lies in.
#[derive(Clone, Debug)]
pub struct Model {
    /// What the manifest says.
    pub manifest: Manifest,
    /// The manifest's folder.
    pub folder: PathBuf,
    /// The one file to use, where an ONNX file was named instead of the model.
    chosen: Option<usize>,
    /// A TensorRT plan of the user's own making.
    plan: Option<PathBuf>,
}

impl Model {
    /// Opens the model that `name` means: a manifest (`.json`), an `.onnx` file beside its
    /// manifest, or the name of a model in one of `folders`. An empty name is [`DEFAULT_MODEL`].
    pub fn open(name: &str, folders: &[PathBuf]) -> Result<Self, ModelError> {
        let name = if name.is_empty() { DEFAULT_MODEL } else { name };
        let path = Path::new(name);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Self::from_manifest(path),
            Some("onnx") => Self::from_onnx(path),
            Some("plan" | "engine") => Self::from_plan(path),
            _ => {
                let candidates: Vec<PathBuf> = folders
                    .iter()
                    .map(|folder| folder.join(name).with_added_extension("json"))
                    .collect();
                match candidates.iter().find(|path| path.is_file()) {
                    Some(path) => Self::from_manifest(path),
                    None => Err(ModelError::NotFound {
                        name: name.to_owned(),
                        looked: looked(&candidates),
                    }),
                }
            }
        }
    }

    fn from_manifest(path: &Path) -> Result<Self, ModelError> {
        let text = fs::read_to_string(path).map_err(|source| io_error(path, source))?;
        let manifest: Manifest = serde_json::from_str(&text)
            .map_err(|source| ModelError::Parse { path: path.to_owned(), source })?;
        check(path, &manifest)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { manifest, folder, chosen: None, plan: None })
    }

    /// The models whose manifests lie in `folder`, in the order of the files' names. Another JSON
    /// file in it, such as golden densities or speeds, is none of our business.
    fn in_folder(folder: &Path) -> io::Result<impl Iterator<Item = Self>> {
        let files = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        let is_json = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
        let mut manifests: Vec<_> = files.filter(is_json).collect();
        manifests.sort();
        Ok(manifests.into_iter().filter_map(|path| Self::from_manifest(&path).ok()))
    }

    /// Looks through the manifests in the file's folder for the one that lists it.
    fn from_onnx(path: &Path) -> Result<Self, ModelError> {
        if !path.is_file() {
            let looked = path.display().to_string();
            return Err(ModelError::NotFound { name: looked.clone(), looked });
        }
        let folder = match path.parent() {
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) => folder,
            None => Path::new("."),
        };
        for mut model in Self::in_folder(folder).map_err(|source| io_error(folder, source))? {
            let listed = model
                .manifest
                .files
                .iter()
                .position(|file| path.file_name() == Some(file.file.as_ref()));
            if listed.is_some() {
                model.chosen = listed;
                return Ok(model);
            }
        }
        Err(ModelError::NoManifest { path: path.to_owned() })
    }

    /// The model that `path`, a plan that was built by hand, is one of: the manifest beside it
    /// whose name the plan's begins with, or the only one there.
    fn from_plan(path: &Path) -> Result<Self, ModelError> {
        if !path.is_file() {
            let looked = path.display().to_string();
            return Err(ModelError::NotFound { name: looked.clone(), looked });
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let models = Self::in_folder(folder).map_err(|source| io_error(folder, source))?;
        let mut models: Vec<_> = models.collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if models.len() != 1 {
            models.retain(|model| name.starts_with(&model.manifest.name));
            models.sort_by_key(|model| model.manifest.name.len());
        }
        let model = models.pop().ok_or_else(|| ModelError::NoManifest { path: path.to_owned() })?;
        Ok(model.with_plan(path.to_owned()))
    }

    /// The model with a TensorRT plan that was built by hand, by trtexec perhaps, instead of its
    /// files.
    #[must_use]
    pub fn with_plan(self, plan: PathBuf) -> Self {
        Self { plan: Some(plan), ..self }
    }

    /// The TensorRT plan to use as it is, where one was named.
    pub fn plan(&self) -> Option<&Path> {
        self.plan.as_deref()
    }

    /// The model with `file`, one of its own, as the one to use on every engine.
    #[must_use]
    pub fn with_file(&self, file: &File) -> Self {
        let chosen = self.manifest.files.iter().position(|own| own.file == file.file);
        Self { chosen, ..self.clone() }
    }

    /// The one file to use, where an ONNX file was named instead of the model.
    pub fn chosen_file(&self) -> Option<&File> {
        self.chosen.and_then(|index| self.manifest.files.get(index))
    }

    /// The model of the scripted engine: no files, input 64x64, stride 8.
    pub fn scripted() -> Self {
        let input = Input {
            name: "images".to_owned(),
            width: 64,
            height: 64,
            multiple_of: 8,
            resize: Resize::Letterbox,
        };
        let manifest = Manifest {
            schema: SCHEMA,
            name: "scripted".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            input,
            output: Output { name: "density".to_owned(), stride: 8 },
            files: Vec::new(),
            parameters: None,
            licence: "Apache-2.0".to_owned(),
            attribution: Vec::new(),
            accuracy: serde_json::Value::Null,
            golden: None,
        };
        Self { manifest, folder: PathBuf::new(), chosen: None, plan: None }
    }

    /// The file that `kind` takes, if there is one: the first in the manifest's order that lists
    /// it, INT8 before others. A file that was named by itself is taken by any engine.
    pub fn file_for(&self, kind: EngineKind) -> Option<&File> {
        if let Some(chosen) = self.chosen {
            return self.manifest.files.get(chosen);
        }
        let takes = |file: &&File| file.engines.contains(&kind);
        let mut files = self.manifest.files.iter().filter(takes);
        files.clone().find(|file| file.precision == "int8").or_else(|| files.next())
    }

    /// The file of that precision that `kind` takes.
    pub fn file_in(&self, kind: EngineKind, precision: &str) -> Option<&File> {
        if let Some(chosen) = self.chosen_file() {
            return (chosen.precision == precision).then_some(chosen);
        }
        self.manifest
            .files
            .iter()
            .find(|file| file.precision == precision && file.engines.contains(&kind))
    }

    /// Where `file` lies.
    pub fn path(&self, file: &File) -> PathBuf {
        self.folder.join(&file.file)
    }

    /// Reads `file` through and compares its SHA-256 with the manifest's.
    pub fn verify(&self, file: &File) -> Result<(), ModelError> {
        let path = self.path(file);
        let mut reader = fs::File::open(&path).map_err(|source| io_error(&path, source))?;
        let mut hash = Sha256::new();
        let mut block = vec![0; 1 << 16];
        loop {
            match reader.read(&mut block).map_err(|source| io_error(&path, source))? {
                0 => break,
                read => hash.update(&block[..read]),
            }
        }
        let got = hex(&hash.finalize());
        if got == file.sha256 {
            return Ok(());
        }
        Err(ModelError::Checksum { path, expected: file.sha256.clone(), got })
    }

    /// As [`verify`](Self::verify), but a file that was right is not read again in this process
    /// until it changes.
    pub fn verify_once(&self, file: &File) -> Result<(), ModelError> {
        static RIGHT: Mutex<BTreeSet<(PathBuf, u64, SystemTime, String)>> =
            Mutex::new(BTreeSet::new());
        let path = self.path(file);
        let stamp =
            fs::metadata(&path).and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
        let (length, modified) = stamp.map_err(|source| io_error(&path, source))?;
        let key = (path, length, modified, file.sha256.clone());
        if RIGHT.lock().contains(&key) {
            return Ok(());
        }
        self.verify(file)?;
        RIGHT.lock().insert(key);
        Ok(())
    }

    /// The sizes of the input that `asked` names. A plan that was built by hand has one; so has a
    /// model that stretches its pictures, as another aspect ratio would look otherwise to it.
    pub fn input_shapes(&self, asked: InputChoice) -> Result<InputShapes, ModelError> {
        let side = match asked {
            InputChoice::Fixed(size) => return self.input_size(Some(size)).map(InputShapes::fixed),
            InputChoice::Auto(side) => side,
        };
        let base = self.input_size(side.map(|side| InputSize { width: side, height: side }))?;
        let input = &self.manifest.input;
        if self.plan.is_some() || input.resize == Resize::Stretch {
            return Ok(InputShapes::fixed(base));
        }
        Ok(InputShapes::around(base, input.multiple_of, MAX_SIDE))
    }

    /// The size of the input: `asked`, or the manifest's own.
    pub fn input_size(&self, asked: Option<InputSize>) -> Result<InputSize, ModelError> {
        let input = &self.manifest.input;
        let size = asked.unwrap_or(InputSize { width: input.width, height: input.height });
        let fits =
            |side: usize| side > 0 && side.is_multiple_of(input.multiple_of) && side <= MAX_SIDE;
        if fits(size.width) && fits(size.height) {
            return Ok(size);
        }
        Err(ModelError::Value {
            path: self.folder.join(format!("{}.json", self.manifest.name)),
            key: "input size".to_owned(),
            value: format!("{}x{}", size.width, size.height),
            remedy: format!(
                "both sides must be multiples of {} and at most {MAX_SIDE}",
                input.multiple_of
            ),
        })
    }
}

/// Folders in which models are looked for by name: that in `VEHICLECOUNT_MODELS`, `engines/models`
/// above the plugin or the program, and `share/vehiclecount/models` in its prefix, `/usr/local` and
/// `/usr`.
pub fn folders() -> Vec<PathBuf> {
    places::folders("VEHICLECOUNT_MODELS", "engines/models", "share/vehiclecount/models")
}

/// The places where a manifest was looked for: those whose folder is there, or that there is none.
fn looked(candidates: &[PathBuf]) -> String {
    let name = |path: &PathBuf| path.display().to_string();
    let existing: Vec<_> = candidates
        .iter()
        .filter(|path| path.parent().is_some_and(Path::is_dir))
        .map(name)
        .collect();
    if !existing.is_empty() {
        return existing.join(", ");
    }
    let folders = candidates
        .iter()
        .filter_map(|path| path.parent())
        .map(|folder| folder.display().to_string());
    let mut folders: Vec<_> = folders.collect();
    let more = folders.len().saturating_sub(6);
    if more > 0 {
        // The nearest, and the system's.
        folders.splice(3..3 + more, [format!("{more} more above these")]);
    }
    match folders.is_empty() {
        true => "no folder: VEHICLECOUNT_MODELS names one".to_owned(),
        false => format!(
            "{}: none of these folders is there; VEHICLECOUNT_MODELS names another",
            folders.join(", ")
        ),
    }
}

fn io_error(path: &Path, source: io::Error) -> ModelError {
    ModelError::Io { path: path.to_owned(), source }
}
