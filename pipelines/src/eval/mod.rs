//! `vehicle-count eval`: the error of a model on pictures whose vehicles are known, with any
//! engine.

pub(crate) mod annotations;
pub(crate) mod look;
pub(crate) mod metrics;
pub(crate) mod picture;
mod plot;
mod summary;

pub(crate) use plot::COLORS;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use vehiclecount_core::density::DensityMap;
use vehiclecount_core::engine::{Engine, EngineInfo, EngineKind, EngineRequest};
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::{InputChoice, InputShapes, InputSize, Resize};
use vehiclecount_core::preset::Preset;
use vehiclecount_core::region::{Region, RegionsFile};

use crate::preset::Given;
use annotations::Sample;
use look::{Enlargement, Eye};
use metrics::LEVELS;

/// Options of `vehicle-count eval`.
#[derive(clap::Args)]
pub struct Options {
    /// Need
    #[arg(long, help = crate::preset::help())]
    preset: Option<Preset>,
    /// Model: a name, a manifest (.json) or an .onnx file
    #[arg(long, default_value = "")]
    model: String,
    /// Folders with annotations.jsonl
    #[arg(long, required = true, num_args = 1.., value_name = "FOLDER")]
    data: Vec<PathBuf>,
    /// Which of its pictures
    #[arg(long, default_value = "val")]
    split: String,
    /// File to write, a JSON line for each picture: file, scene, count, truth, GAME
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Engine
    #[arg(long, default_value = "auto", help = crate::engine::help())]
    engine: EngineKind,
    /// Size of the model's input in pixels: auto (where nothing is given), auto:SIDE or WxH, as the
    /// elements take it
    #[arg(long, value_name = "SIZE")]
    input_size: Option<InputChoice>,
    /// Index of the GPU, for engines that run on one
    #[arg(long, default_value_t = 0)]
    gpu: u32,
    /// Folder to write scatter.png, errors.png and worst.png into
    #[arg(long, value_name = "FOLDER")]
    plot: Option<PathBuf>,
    /// Number of pictures in worst.png
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=200))]
    worst: u16,
    /// Regions file: regions with detail are shown enlarged, those of the camera of a scene's name
    #[arg(long, value_name = "FILE")]
    regions: Option<PathBuf>,
    /// Show the whole picture enlarged so many times too, as a region with that detail
    #[arg(long, value_name = "FACTOR", conflicts_with = "regions")]
    detail: Option<Enlargement>,
    /// Show every scene, not only every kind of scene
    #[arg(long)]
    per_scene: bool,
}

/// What is said of a picture, as a line of JSON.
#[derive(Clone, Debug, Serialize)]
struct Line {
    file: String,
    scene: String,
    kind: String,
    /// Vehicles that the model counts inside the labelled area.
    count: f64,
    /// Vehicles whose centre lies inside it.
    truth: f64,
    game0: f64,
    game1: f64,
    game2: f64,
    game3: f64,
    /// Inputs in which it was counted.
    inputs: usize,
}

impl Line {
    fn error(&self) -> f64 {
        self.count - self.truth
    }
}

/// A picture that was counted.
struct SampleCount {
    line: Line,
    /// Kept for the contact sheet alone.
    density: Option<DensityMap>,
}

/// Counts all pictures, prints the summary, writes what was asked for.
pub fn run(options: &Options) -> Result<()> {
    let samples = annotations::load(&options.data, &options.split)?;
    let given = Given {
        model: options.model.clone(),
        input: options.input_size,
        engine: options.engine,
        gpu: options.gpu,
    };
    let taken = given.with(options.preset)?;
    let model = match options.engine {
        EngineKind::Scripted if options.model.is_empty() => Model::scripted(),
        _ => Model::open(&taken.model, &model::folders())?,
    };
    let resize = model.manifest.input.resize;
    let shapes = model.input_shapes(taken.input)?;
    let request = EngineRequest {
        gpu: options.gpu,
        name: "eval".to_owned(),
        precision: taken.precision,
        ..EngineRequest::new(options.engine, Arc::new(model))
    };
    let (info, engines) = open(&request, &samples, &shapes)?;
    let closer = Closer::new(options)?;
    let counted = count(&samples, &engines, &shapes, resize, &closer, options.plot.is_some())?;
    let input = match taken.input {
        InputChoice::Fixed(size) => size.to_string(),
        choice => format!("{choice} ({})", sizes(&samples, &shapes)),
    };

    let manifest = &request.model.manifest;
    println!(
        "{} {} ({}) on {} {}, {}, input {input}",
        manifest.name, manifest.version, info.precision, info.kind, info.version, info.device
    );
    let rows = summary::summarise(&samples, &counted, options.per_scene);
    let folders: Vec<_> = options.data.iter().map(|folder| folder.display().to_string()).collect();
    println!("{}, split {:?}", folders.join(", "), options.split);
    if !matches!(closer, Closer::None) {
        let inputs: usize = counted.iter().map(|counted| counted.line.inputs).sum();
        println!(
            "regions with detail: {:.2} inputs a picture",
            inputs as f64 / counted.len() as f64
        );
    }
    println!();
    print!("{}", summary::table(&rows));
    if let Some(path) = &options.json {
        write_lines(path, &counted)?;
        println!("\nlines   {}", path.display());
    }
    if let Some(folder) = &options.plot {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        println!("\npictures in {}:", folder.display());
        let titled =
            format!("{} {}, {}, {}", manifest.name, info.precision, info.kind, taken.input);
        plot::scatter(&folder.join("scatter.png"), &titled, &samples, &counted)?;
        println!("  scatter.png  count against truth");
        plot::errors(&folder.join("errors.png"), &titled, &samples, &counted)?;
        println!("  errors.png   histogram of the error");
        let number = plot::worst(
            &folder.join("worst.png"),
            &titled,
            &samples,
            &counted,
            options.worst.into(),
        )?;
        println!("  worst.png    the {number} pictures of the largest error, density over them");
    }
    Ok(())
}

/// What is looked at more closely.
enum Closer {
    None,
    Regions(RegionsFile),
    Whole(Enlargement),
}

impl Closer {
    fn new(options: &Options) -> Result<Self> {
        Ok(match (&options.regions, options.detail) {
            (Some(path), _) => Self::Regions(RegionsFile::read(path)?),
            (None, Some(factor)) => Self::Whole(factor),
            (None, None) => Self::None,
        })
    }

    fn regions(&self, scene: &str) -> Vec<Region> {
        match self {
            Self::None => Vec::new(),
            Self::Regions(file) => file.for_camera(scene).regions,
            Self::Whole(factor) => vec![factor.region()],
        }
    }
}

/// The engine at each input size that a picture needs.
type Engines = BTreeMap<(usize, usize), Arc<dyn Engine>>;

/// The input size for the picture of `sample`.
fn size_for(sample: &Sample, shapes: &InputShapes) -> InputSize {
    shapes.fit(sample.width, sample.height)
}

/// Opens the engine at each input size that `samples` need; all of one kind and precision.
fn open(
    request: &EngineRequest,
    samples: &[Sample],
    shapes: &InputShapes,
) -> Result<(EngineInfo, Engines)> {
    let mut engines = Engines::new();
    let mut info: Option<EngineInfo> = None;
    for size in samples.iter().map(|sample| size_for(sample, shapes)) {
        if engines.contains_key(&(size.width, size.height)) {
            continue;
        }
        let opened = look::open(request, size, info.as_ref())?;
        for (kind, reason) in &opened.passed_over {
            eprintln!("passed over {kind}: {reason}");
        }
        info.get_or_insert_with(|| opened.engine.info().clone());
        engines.insert((size.width, size.height), opened.engine);
    }
    Ok((info.context("there are no pictures")?, engines))
}

/// The input sizes, and how many pictures go into each.
fn sizes(samples: &[Sample], shapes: &InputShapes) -> String {
    let mut counts = BTreeMap::<(usize, usize), usize>::new();
    for InputSize { width, height } in samples.iter().map(|sample| size_for(sample, shapes)) {
        *counts.entry((width, height)).or_default() += 1;
    }
    let told = counts.iter().map(|((width, height), count)| format!("{width}x{height}: {count}"));
    told.collect::<Vec<_>>().join(", ")
}

fn write_lines(path: &Path, counted: &[SampleCount]) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut file = BufWriter::new(File::create(path).with_context(context)?);
    for counted in counted {
        writeln!(file, "{}", serde_json::to_string(&counted.line)?).with_context(context)?;
    }
    file.flush().with_context(context)
}

/// Counts on every lane of the engine at the same time; each takes the next picture, to the engine
/// at its input size. The result is in the samples' order.
fn count(
    samples: &[Sample],
    engines: &Engines,
    shapes: &InputShapes,
    resize: Resize,
    closer: &Closer,
    keep: bool,
) -> Result<Vec<SampleCount>> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let progress = std::io::stderr().is_terminal();
    let work = || -> Result<Vec<(usize, Result<SampleCount>)>> {
        let mut lanes = BTreeMap::new();
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(sample) = samples.get(index).filter(|_| !failed.load(Ordering::Relaxed))
            else {
                return Ok(done);
            };
            let mut one = || -> Result<SampleCount> {
                let rgb = picture::of(sample)?;
                let InputSize { width, height } = size_for(sample, shapes);
                let engine = engines.get(&(width, height)).context("each size was opened")?;
                let eye = match lanes.entry((width, height)) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(place) => place.insert(Eye::new(engine, resize)?),
                };
                let seen = eye.see(&rgb, &closer.regions(&sample.scene));
                let seen = seen.with_context(|| sample.path.display().to_string())?;
                let (cells, placement) = (seen.cells(), &seen.placement);
                let mask = sample.read_mask()?;
                let game = LEVELS
                    .map(|level| metrics::game(&cells, sample, mask.as_ref(), placement, level));
                let line = Line {
                    file: sample.file.clone(),
                    scene: sample.scene.clone(),
                    kind: sample.kind.clone(),
                    count: metrics::count(&cells, sample, mask.as_ref(), placement),
                    truth: metrics::truth(sample, mask.as_ref()),
                    game0: game[0],
                    game1: game[1],
                    game2: game[2],
                    game3: game[3],
                    inputs: seen.inputs,
                };
                Ok(SampleCount { line, density: keep.then_some(seen.density) })
            };
            let result = one();
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            done.push((index, result));
            if progress {
                eprint!("\r{} of {} pictures\x1b[K", index + 1, samples.len());
            }
        }
    };
    let threads = engines.values().map(|engine| engine.info().lanes).max().unwrap_or(1).max(1);
    let results = thread::scope(|scope| {
        let lanes: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = lanes.into_iter().map(|lane| match lane.join() {
            Ok(done) => done,
            Err(_) => bail!("a lane panicked"),
        });
        joined.collect::<Result<Vec<_>>>()
    });
    if progress {
        eprint!("\r\x1b[K");
    }
    let mut results = results?.into_iter().flatten().collect::<Vec<_>>();
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
