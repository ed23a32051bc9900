//! `vehicle-count models`: the models on this machine, with what was measured of each.

mod family;
mod page;
mod plot;
mod speed;

use std::path::{Path, PathBuf};
use std::{fs, iter};

use anyhow::{Context, Result, bail};
use vehiclecount_core::engine::EngineKind;
use vehiclecount_core::model::{self, DEFAULT_MODEL, Model, Speed, Speeds};
use vehiclecount_core::preprocess::{InputChoice, InputSize};

use crate::table::say;
pub(crate) use speed::today;

/// Options of `vehicle-count models`.
#[derive(clap::Args)]
pub struct Options {
    /// Measure the speed of each file on this machine; presets choose by it from then on
    #[arg(long)]
    time: bool,
    /// Seconds that each file is measured
    #[arg(long, default_value_t = 2.0, requires = "time")]
    seconds: f64,
    /// Write the page about the models into a folder: models.md, and a plot for each machine in
    /// pictures. The speeds are read from speeds.json in the models' folder; with --time those of
    /// this machine are written there
    #[arg(long, value_name = "FOLDER")]
    page: Option<PathBuf>,
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
    /// Vehicles a picture.
    bias: Option<f64>,
    images: usize,
    /// Parameters of the network.
    parameters: Option<u64>,
    /// On each of the machines that are told of; `None` where it was not measured.
    speeds: Vec<Option<Speed>>,
}

impl Line {
    /// How fast it is on the machine of that number.
    fn speed(&self, machine: usize) -> Option<&Speed> {
        self.speeds.get(machine)?.as_ref()
    }
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
    let models = models(&model::folders())?;
    let mut lines = lines(&models)?;
    // The folder that the page is about is that of the first model.
    let beside = Speeds::beside(&models[0].folder);
    let measured = match options.time {
        true => Some(speed::measure(&lines, options.seconds)?),
        false => Speeds::measured_here(),
    };
    if let (true, Some(speeds)) = (options.time, &measured) {
        keep(speeds);
    }
    let Some(folder) = &options.page else {
        add(&mut lines, measured.as_slice());
        print(&lines);
        return Ok(());
    };
    let mut machines = match Speeds::read(&beside) {
        // The first measurement makes the file.
        Err(_) if options.time && !beside.exists() => Vec::new(),
        read => read.context("--time measures the speeds")?,
    };
    if let (true, Some(speeds)) = (options.time, measured) {
        speeds.put_into(&mut machines);
        write(&beside, &json(&machines)?)?;
    }
    add(&mut lines, &machines);
    for (name, text) in pages(&lines, &machines) {
        write(&folder.join(name), &text)?;
    }
    Ok(())
}

/// The page and its plots, by their names in the folder.
fn pages(lines: &[Line], machines: &[Speeds]) -> Vec<(String, String)> {
    let plots = machines
        .iter()
        .enumerate()
        .map(|(number, machine)| (plot::name(number), plot::plot(lines, machine, number)));
    iter::once(("models.md".to_owned(), page::markdown(lines, machines))).chain(plots).collect()
}

/// Writes a file, and makes its folder.
fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn json(machines: &[Speeds]) -> Result<String> {
    Ok(serde_json::to_string_pretty(machines)? + "\n")
}

/// Remembers the speeds of this machine for presets.
fn keep(speeds: &Speeds) {
    let Some(path) = Speeds::of_user() else { return };
    // What cannot be read, such as a file of an earlier version, gives way.
    let mut machines = Speeds::read(&path).unwrap_or_default();
    speeds.clone().put_into(&mut machines);
    if let Err(error) = json(&machines).and_then(|text| write(&path, &text)) {
        eprintln!("the speeds are not kept for presets: {error:#}");
    }
}

/// Adds the speeds on each machine to the lines that they are of.
fn add(lines: &mut [Line], machines: &[Speeds]) {
    for line in lines {
        let of = machines.iter().map(|speeds| speeds.of(&line.file, line.input).cloned());
        line.speeds = of.collect();
    }
}

/// All models in `folders`, the default model first.
fn models(folders: &[PathBuf]) -> Result<Vec<Model>> {
    let mut models = Model::installed(folders);
    if models.is_empty() {
        let looked: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        bail!(
            "no model was found (looked in {}); VEHICLECOUNT_MODELS names a folder with models",
            looked.join(", ")
        );
    }
    models.sort_by_key(|model| model.manifest.name != DEFAULT_MODEL);
    Ok(models)
}

/// All files of `models`.
fn lines(models: &[Model]) -> Result<Vec<Line>> {
    let lines = models.iter().map(of_model).collect::<Result<Vec<_>>>()?;
    Ok(lines.into_iter().flatten().collect())
}

/// The files of a model, each at its preferred input size first, then at those that it was measured
/// at.
fn of_model(model: &Model) -> Result<Vec<Line>> {
    let manifest = &model.manifest;
    let accuracy = model.accuracy()?;
    let parameters = manifest.parameters.or_else(|| of_file(model));
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
                bias: entry.and_then(|entry| entry.bias),
                images: entry.map_or(0, |entry| entry.images),
                parameters,
                speeds: Vec::new(),
            });
        }
    }
    Ok(lines)
}

/// About as many parameters as the FP32 file has numbers, for manifests that do not say.
fn of_file(model: &Model) -> Option<u64> {
    let file = model.manifest.files.iter().find(|file| file.precision == "fp32")?;
    Some(fs::metadata(model.path(file)).ok()?.len() / 4)
}

/// A line for each file at its preferred input size, and at the others where those were measured;
/// and for each recipe without a model.
fn print(lines: &[Line]) {
    say(format_args!(
        "{:<20} {:<8} {:<9} {:<9} {:>8} {:>7} {:>6} {:>8} {:>9} {:>7} {:>10}  {}",
        "model",
        "version",
        "precision",
        "input",
        "error",
        "counted",
        "bias",
        "images/s",
        "ms/image",
        "MB",
        "parameters",
        "engines, licence"
    ));
    for line in lines.iter().filter(|line| line.preferred || line.speed(0).is_some()) {
        let engines: Vec<_> = line.engines.iter().map(|kind| kind.name()).collect();
        let [rate, time] = page::speed(line, 0);
        say(format_args!(
            "{:<20} {:<8} {:<9} {:<9} {:>8} {:>7} {:>6} {rate:>8} {time:>9} {:>7} {:>10}  {}, {}{}",
            line.model,
            line.version,
            line.precision,
            format!("{}x{}", line.input.width, line.input.height),
            page::percent(line.error),
            page::percent(line.counted),
            page::bias(line.bias),
            page::megabytes(line.size),
            page::millions(line.parameters),
            engines.join(" "),
            line.licence,
            if line.size.is_none() { ", NOT INSTALLED" } else { "" }
        ));
    }
    for member in page::untrained(lines) {
        say(format_args!(
            "{:<20} not installed; recipe engines/recipes/{0}.toml ({})",
            member.name, member.network
        ));
    }
    say(format_args!(
        "\nerror: mean absolute error as a share of the mean number of vehicles; counted: share of the \
         vehicles; bias: vehicles a picture; all on the validation pictures."
    ));
    if lines.iter().all(|line| line.speed(0).is_none()) {
        say(format_args!("--time measures the speed of each on this machine."));
    }
}

#[cfg(test)]
impl Line {
    /// An INT8 file of `model`, without a speed.
    fn of(model: &str, input: InputSize, error: f64) -> Self {
        Self {
            model: model.to_owned(),
            version: "1".to_owned(),
            licence: "MIT".to_owned(),
            file: format!("{model}-int8.onnx"),
            precision: "int8".to_owned(),
            engines: Vec::new(),
            path: PathBuf::new(),
            size: Some(1_500_000),
            input,
            preferred: input.width == 384,
            is_auto: false,
            error: Some(error),
            counted: None,
            bias: None,
            images: 9,
            parameters: Some(1_400_000),
            speeds: Vec::new(),
        }
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
        let all = lines(&models(&[folder.path().to_owned()]).unwrap()).unwrap();
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
        assert_eq!(lines(&models(&[folder.path().to_owned()]).unwrap()).unwrap()[0].error, None);
    }

    #[test]
    fn earlier_folder_hides_a_model_of_the_same_name() {
        let (first, second) = (
            folder_with(&[("small", serde_json::Value::Null)]),
            folder_with(&[("small", serde_json::Value::Null), ("other", serde_json::Value::Null)]),
        );
        let folders = [first.path().to_owned(), second.path().to_owned()];
        let all = lines(&models(&folders).unwrap()).unwrap();
        let names: Vec<_> = all.iter().map(|line| (line.model.as_str(), &line.path)).collect();
        assert_eq!(names.len(), 2);
        assert_eq!(names[0], ("small", &first.path().join("small.onnx")));
        assert_eq!(names[1].0, "other");
    }

    #[test]
    fn page_tells_what_the_manifests_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let docs = root.join("docs");
        let folder = root.join("engines/models");
        let speeds = Speeds::read(&Speeds::beside(&folder)).unwrap();
        let mut lines = lines(&models(&[folder]).unwrap()).unwrap();
        add(&mut lines, &speeds);
        for (file, text) in pages(&lines, &speeds) {
            assert!(
                fs::read_to_string(docs.join(&file)).unwrap() == text,
                "docs/{file} is older than the models: vehicle-count models --page docs"
            );
        }
    }

    #[test]
    fn page_has_a_line_for_each_model_recipe_and_goal() {
        let input = InputSize { width: 384, height: 384 };
        let mut lines = [
            Line { bias: Some(-1.44), ..Line::of("mobilenetv3-large", input, 0.18) },
            Line::of("resnet50-fpn", input, 0.15),
            Line { size: None, ..Line::of("another", input, 0.3) },
        ];
        let machines = [false, true].map(|int8| Speeds { int8, ..Speeds::default() });
        add(&mut lines, &machines);
        let text = page::markdown(&lines, &machines);
        for told in [
            "| Bias | Images/s (1) | ms (1) | Images/s (2) | ms (2) | INT8 MB |",
            "(pictures/models-2.svg)",
            "mobilenetv3-large.md) 1 | 18 % | - | -1.4 | - | - | - | - | 1.5 | - | 1.4 M | MIT |",
            "| [ghostnetv2](../engines/recipes/ghostnetv2.toml): not trained |",
            "| 1.4 M (5 M), reached | open (20) | 20 % (12 %), missed | not measured (1000) |",
            "| open (11 M) | open (45) | open (5 %) | not measured (700) |",
            "| 1.4 M (25 M), reached | open (102) | 0 % (0 %), reached |",
        ] {
            assert!(text.contains(told), "{told} is not in {text}");
        }
        assert!(!text.contains("recipes/resnet50-fpn.toml"), "{text}");
    }

    #[test]
    fn no_model_is_an_error_that_names_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        let error = models(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        assert!(error.contains("VEHICLECOUNT_MODELS"), "{error}");
    }
}
