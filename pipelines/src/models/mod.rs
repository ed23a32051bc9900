//! `vehicle-count models`: the models on this machine, with what was measured of each.

mod page;
mod speed;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use vehiclecount_core::engine::EngineKind;
use vehiclecount_core::model::{self, DEFAULT_MODEL, Model};
use vehiclecount_core::preprocess::{InputChoice, InputSize};

use crate::table::say;
use speed::Speeds;

/// Options of `vehicle-count models`.
#[derive(clap::Args)]
pub struct Options {
    /// Measure the speed of each file on this machine
    #[arg(long)]
    time: bool,
    /// Seconds that each file is measured
    #[arg(long, default_value_t = 2.0, requires = "time")]
    seconds: f64,
    /// Write the page about the models into a folder: models.md, pictures/models.svg and, with
    /// --time, models.json, the speeds; without --time these are read from there
    #[arg(long, value_name = "FOLDER")]
    page: Option<PathBuf>,
}

/// What a file of a model counts wrongly at one input size: a part of an entry of `accuracy` in
/// the manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Accuracy {
    file: String,
    width: usize,
    height: usize,
    /// Pictures.
    images: usize,
    /// Mean absolute error as a share of the mean number of vehicles. Entries that lack it were
    /// held against labels that leave vehicles out.
    relative: Option<f64>,
    /// Vehicles counted as a share of those that are there.
    counted: Option<f64>,
}

/// A file of a model at one input size.
#[derive(Clone, Debug)]
struct Line {
    model: String,
    version: String,
    licence: String,
    file: String,
    precision: String,
    engines: Vec<EngineKind>,
    /// Where the file lies.
    path: PathBuf,
    /// Bytes; `None` where the file is not there.
    size: Option<u64>,
    input: InputSize,
    /// Whether the input is the manifest's own.
    preferred: bool,
    /// Whether `input-size=auto` takes this input for some cameras.
    is_auto: bool,
    error: Option<f64>,
    counted: Option<f64>,
    images: usize,
    speed: Option<Speed>,
}

/// How fast a file of a model was at one input size.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Speed {
    file: String,
    width: usize,
    height: usize,
    engine: String,
    /// With all lanes at work.
    images_per_second: f64,
    /// For one picture, with nothing beside it, median.
    milliseconds: f64,
}

/// Lists the models.
///
/// # Errors
/// A manifest that cannot be read, no model at all, a folder that cannot be written.
pub fn run(options: &Options) -> Result<()> {
    anyhow::ensure!(
        options.seconds > 0.0 && options.seconds < 600.0,
        "--seconds {}: between 0 and 600",
        options.seconds
    );
    let mut lines = lines(&model::folders())?;
    let speeds = match &options.page {
        _ if options.time => Some(speed::measure(&lines, options.seconds)?),
        Some(folder) => Some(read_speeds(&folder.join("models.json"))?),
        None => None,
    };
    for line in &mut lines {
        line.speed = speeds.as_ref().and_then(|speeds| speeds.of(&line.file, line.input));
    }
    if let Some(folder) = &options.page {
        let speeds = speeds.context("speeds are measured, or read")?;
        let pictures = folder.join("pictures");
        fs::create_dir_all(&pictures).with_context(|| pictures.display().to_string())?;
        let write = |path: PathBuf, text: String| {
            fs::write(&path, text).with_context(|| path.display().to_string())
        };
        if options.time {
            let text = serde_json::to_string_pretty(&speeds)? + "\n";
            write(folder.join("models.json"), text)?;
        }
        write(folder.join("models.md"), page::markdown(&lines, &speeds))?;
        write(pictures.join("models.svg"), page::plot(&lines, &speeds))?;
        return Ok(());
    }
    print(&lines);
    Ok(())
}

fn read_speeds(path: &Path) -> Result<Speeds> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("{}: measure the speeds with --time", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// All files of all models in `folders`, the default model first. A model in an earlier folder
/// hides one of its name in a later one.
fn lines(folders: &[PathBuf]) -> Result<Vec<Line>> {
    let mut seen = BTreeSet::new();
    let mut lines = Vec::new();
    for folder in folders {
        // A folder that is not there holds no models.
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "json")) {
            // Densities of golden pictures are JSON files, too.
            let Ok(model) = Model::open(&path.to_string_lossy(), &[]) else { continue };
            if seen.insert(model.manifest.name.clone()) {
                lines.extend(of_model(&model)?);
            }
        }
    }
    if lines.is_empty() {
        let looked: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        bail!(
            "no model was found (looked in {}); VEHICLECOUNT_MODELS names a folder with models",
            looked.join(", ")
        );
    }
    lines.sort_by_key(|line| line.model != DEFAULT_MODEL);
    Ok(lines)
}

/// The files of a model, each at its preferred input size first, then at those that it was measured
/// at.
fn of_model(model: &Model) -> Result<Vec<Line>> {
    let manifest = &model.manifest;
    let accuracy: Vec<Accuracy> = match manifest.accuracy.is_null() {
        true => Vec::new(),
        false => serde_json::from_value(manifest.accuracy.clone())
            .with_context(|| format!("accuracy in the manifest of {}", manifest.name))?,
    };
    let own = InputSize { width: manifest.input.width, height: manifest.input.height };
    let shapes = model.input_shapes(InputChoice::default())?;
    let mut lines = Vec::new();
    for file in &manifest.files {
        let path = model.folder.join(&file.file);
        let size = fs::metadata(&path).ok().map(|entry| entry.len());
        let measured = |size: InputSize| {
            accuracy.iter().find(|entry| {
                entry.file == file.file
                    && (entry.width, entry.height) == (size.width, size.height)
                    && entry.relative.is_some()
            })
        };
        let mut inputs = vec![own];
        for entry in accuracy.iter().filter(|entry| entry.file == file.file) {
            let input = InputSize { width: entry.width, height: entry.height };
            if !inputs.contains(&input) {
                inputs.push(input);
            }
        }
        for input in inputs {
            let entry = measured(input);
            lines.push(Line {
                model: manifest.name.clone(),
                version: manifest.version.clone(),
                licence: manifest.licence.clone(),
                file: file.file.clone(),
                precision: file.precision.clone(),
                engines: file.engines.clone(),
                path: path.clone(),
                size,
                input,
                preferred: input == own,
                is_auto: shapes.sizes().contains(&input),
                error: entry.and_then(|entry| entry.relative),
                counted: entry.and_then(|entry| entry.counted),
                images: entry.map_or(0, |entry| entry.images),
                speed: None,
            });
        }
    }
    Ok(lines)
}

/// A line for each file at its preferred input size, and at the others where those were measured.
fn print(lines: &[Line]) {
    say(format_args!(
        "{:<20} {:<8} {:<9} {:<9} {:>8} {:>7} {:>8} {:>9} {:>7}  {}",
        "model",
        "version",
        "precision",
        "input",
        "error",
        "counted",
        "images/s",
        "ms/image",
        "MB",
        "engines, licence"
    ));
    for line in lines.iter().filter(|line| line.preferred || line.speed.is_some()) {
        let engines: Vec<_> = line.engines.iter().map(|kind| kind.name()).collect();
        say(format_args!(
            "{:<20} {:<8} {:<9} {:<9} {:>8} {:>7} {:>8} {:>9} {:>7}  {}, {}",
            line.model,
            line.version,
            line.precision,
            format!("{}x{}", line.input.width, line.input.height),
            page::percent(line.error),
            page::percent(line.counted),
            line.speed
                .as_ref()
                .map_or("-".into(), |speed| format!("{:.0}", speed.images_per_second)),
            line.speed.as_ref().map_or("-".into(), |speed| format!("{:.2}", speed.milliseconds)),
            page::megabytes(line.size),
            engines.join(" "),
            line.licence
        ));
    }
    say(format_args!(
        "\nerror: mean absolute error as a share of the mean number of vehicles; counted: share of the \
         vehicles; both on the validation pictures."
    ));
    if lines.iter().all(|line| line.speed.is_none()) {
        say(format_args!("--time measures the speed of each on this machine."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(manifests: &[(&str, serde_json::Value)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, accuracy) in manifests {
            let manifest = serde_json::json!({
                "schema": 1, "name": name, "version": "1.2.3", "task": "vehicle-density",
                "input": {"name": "images", "width": 384, "height": 384, "multiple-of": 32},
                "output": {"name": "density", "stride": 8},
                "files": [{"file": format!("{name}.onnx"), "precision": "int8",
                           "sha256": "0".repeat(64), "engines": ["openvino"]}],
                "licence": "MIT", "accuracy": accuracy,
            });
            fs::write(folder.path().join(format!("{name}.json")), manifest.to_string()).unwrap();
        }
        fs::write(folder.path().join("golden-density.json"), "{\"other\": 1}").unwrap();
        folder
    }

    #[test]
    fn each_input_size_that_was_measured_has_a_line_and_the_default_model_is_first() {
        let accuracy = |relative: Option<f64>| {
            serde_json::json!([
                {"file": "small.onnx", "width": 384, "height": 384, "images": 9,
                 "relative": relative, "counted": 0.9},
                {"file": "small.onnx", "width": 512, "height": 288, "images": 9, "relative": 0.1,
                 "counted": 0.95},
            ])
        };
        let folder = folder_with(&[
            ("another", serde_json::Value::Null),
            (DEFAULT_MODEL, serde_json::Value::Null),
            ("small", accuracy(Some(0.25))),
        ]);
        let all = lines(&[folder.path().to_owned()]).unwrap();
        let told: Vec<_> = all
            .iter()
            .map(|line| (line.model.as_str(), line.input.width, line.error, line.size))
            .collect();
        assert_eq!(
            told,
            [
                (DEFAULT_MODEL, 384, None, None),
                ("another", 384, None, None),
                ("small", 384, Some(0.25), None),
                ("small", 512, Some(0.1), None),
            ]
        );
        // An error of the time before labels were complete is not shown.
        let folder = folder_with(&[("small", accuracy(None))]);
        assert_eq!(lines(&[folder.path().to_owned()]).unwrap()[0].error, None);
    }

    #[test]
    fn earlier_folder_hides_a_model_of_the_same_name() {
        let (first, second) = (
            folder_with(&[("small", serde_json::Value::Null)]),
            folder_with(&[("small", serde_json::Value::Null), ("other", serde_json::Value::Null)]),
        );
        let all = lines(&[first.path().to_owned(), second.path().to_owned()]).unwrap();
        let names: Vec<_> = all.iter().map(|line| (line.model.as_str(), &line.path)).collect();
        assert_eq!(names.len(), 2);
        assert_eq!(names[0], ("small", &first.path().join("small.onnx")));
        assert_eq!(names[1].0, "other");
    }

    #[test]
    fn page_tells_what_the_manifests_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let docs = root.join("docs");
        let speeds = read_speeds(&docs.join("models.json")).unwrap();
        let mut lines = lines(&[root.join("engines/models")]).unwrap();
        for line in &mut lines {
            line.speed = speeds.of(&line.file, line.input);
        }
        for (file, text) in [
            ("models.md", page::markdown(&lines, &speeds)),
            ("pictures/models.svg", page::plot(&lines, &speeds)),
        ] {
            assert!(
                fs::read_to_string(docs.join(file)).unwrap() == text,
                "docs/{file} is older than the models: vehicle-count models --page docs"
            );
        }
    }

    #[test]
    fn no_model_is_an_error_that_names_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        let error = lines(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        assert!(error.contains("VEHICLECOUNT_MODELS"), "{error}");
    }
}
