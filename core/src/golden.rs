//! The golden picture: an engine that opens is not yet an engine that counts.
//!
//! A network can be run wrongly without any error: an INT8 plan whose scales were lost counts
//! nothing, on every picture. So a model comes with a picture and with what each of its files makes
//! of it, the count and the density, measured by another implementation (`engines/verify.py`). When
//! a file is opened on an engine for the first time on a machine, the picture is run through and
//! compared ([`check_once`]); that it agreed is remembered in the cache folder, for the very file,
//! expectation, engine, version, device, processor and input size.
//!
//! What is expected holds for one input size. At another one
//!
//! - the file is opened once more at the golden size and compared there, where that is quick: on
//!   processors. On a GPU it would mean to build another plan, for minutes;
//! - the engine in the size that was asked for must count something like it on the scaled picture
//!   ([`Reference::roughly`]), which shows an engine that counts nothing, or far too much.

use std::collections::BTreeMap;
use std::fs::{self, File as StdFile, OpenOptions};
use std::io::{BufReader, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache;
use crate::engine::{Engine, EngineError, EngineInfo, EngineKind, EngineRequest, Slot};
use crate::frame::{FrameFormat, FrameView, PixelFormat, Plane};
use crate::model::{File, Golden, GoldenCount, Model, ModelError};
use crate::preprocess::{InputSize, Preprocessor};
use crate::tensorrt::Precision;

/// The companion file: the density that each ONNX file makes of the golden picture.
#[derive(Deserialize)]
struct Densities {
    files: BTreeMap<String, Cells>,
}

#[derive(Deserialize)]
struct Cells {
    #[serde(rename = "cell-tolerance")]
    tolerance: f32,
    /// Rows of cells.
    density: Vec<Vec<f32>>,
}

/// The golden picture of a model, and what one of its files makes of it.
pub struct Reference {
    /// Name of the picture, and path of the ONNX file.
    picture: String,
    file: String,
    size: InputSize,
    /// RGB, rows without padding.
    rgb: Vec<u8>,
    expected: GoldenCount,
    density: Option<Cells>,
}

/// What an engine made of the golden picture, beside what was expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Vehicles that the engine counted.
    pub count: f64,
    /// What it should count, and how near.
    pub expected: GoldenCount,
    /// Where a density is known: the largest difference of a cell, and how large it may be, in
    /// vehicles.
    pub cell: Option<(f32, f32)>,
}

impl Comparison {
    /// Whether the count and every cell are as expected.
    pub fn agrees(&self) -> bool {
        // Not a number agrees with nothing.
        (self.count - self.expected.count).abs() <= self.expected.tolerance
            && self.cell.is_none_or(|(difference, allowed)| difference <= allowed)
    }
}

impl Reference {
    /// Reads what is known of `file`; `None` where the manifest has no golden picture for it.
    pub fn read(model: &Model, file: &File) -> Result<Option<Self>, ModelError> {
        let Some((golden, &expected)) = expectation(model, file) else { return Ok(None) };
        let path = model.folder.join(&golden.picture);
        let (rgb, width, height) = read_png(&path)?;
        if (width, height) != (golden.width, golden.height) {
            return Err(ModelError::Value {
                path,
                key: "the golden picture's size".to_owned(),
                value: format!("{width}x{height}"),
                remedy: format!("the manifest says {}x{}: {AGAIN}", golden.width, golden.height),
            });
        }
        let density = golden
            .density
            .as_ref()
            .map(|name| read_density(model, golden, name, file))
            .transpose()?;
        let size = InputSize { width, height };
        let (picture, file) = (golden.picture.clone(), model.path(file).display().to_string());
        Ok(Some(Self { picture, file, size, rgb, expected, density }))
    }

    /// What is expected of an engine that runs the file in `precision`. In FP16, made from the FP32
    /// file, sums of 11 bits take three times the tolerance of FP32's.
    #[must_use]
    pub fn in_precision(mut self, precision: &str) -> Self {
        if precision == "fp16" && !self.file.ends_with("-fp16.onnx") {
            self.expected.tolerance *= 3.0;
            if let Some(cells) = &mut self.density {
                cells.tolerance *= 3.0;
            }
        }
        self
    }

    /// The input size for which the expectation holds.
    pub fn size(&self) -> InputSize {
        self.size
    }

    /// Runs the picture through `engine`, which must have been opened at [`size`](Self::size).
    pub fn compare(&self, engine: &dyn Engine) -> Result<Comparison, EngineError> {
        let mut slot = Slot::new(engine.info());
        let values = slot.input.values_mut().expect("made for values");
        for (plane, values) in
            values.chunks_exact_mut(self.size.width * self.size.height).enumerate()
        {
            for (value, pixel) in values.iter_mut().zip(self.rgb.as_chunks::<3>().0) {
                *value = f32::from(pixel[plane]);
            }
        }
        let count = self.infer(engine, &mut slot)?;
        let cell = self.density.as_ref().map(|cells| {
            let expected = cells.density.iter().flatten();
            let got = slot.output.map().unwrap_or_default();
            let differences =
                got.iter().zip(expected).map(|(got, expected)| (got - expected).abs());
            (differences.fold(0.0, f32::max), cells.tolerance)
        });
        Ok(Comparison { count, expected: self.expected, cell })
    }

    /// Counts on the picture scaled to the size that `engine` was opened at, and tells between what
    /// bounds that must lie: a quarter of the expectation and four times it. A network counts
    /// differently at another scale, though not nothing. `None` where the scale is below a half, at
    /// which vehicles may vanish, or hardly any are expected.
    pub fn roughly(
        &self,
        model: &Model,
        engine: &dyn Engine,
    ) -> Result<Option<(f64, RangeInclusive<f64>)>, EngineError> {
        let (input, expected) = (engine.info().input, self.expected.count);
        if expected < 2.0
            || input.width * 2 < self.size.width
            || input.height * 2 < self.size.height
        {
            return Ok(None);
        }
        let InputSize { width, height } = self.size;
        let pixels = PixelFormat::Rgb;
        let format = FrameFormat::new(pixels, width, height);
        let plane = Plane { data: &self.rgb, stride: width * 3 };
        let frame =
            FrameView::new(format, &[plane]).expect("the picture has been read in this size");
        let mut slot = Slot::new(engine.info());
        Preprocessor::new(format, model.manifest.input.resize, input)
            .run(&frame, slot.input.values_mut().expect("made for values"));
        let count = self.infer(engine, &mut slot)?;
        Ok(Some((count, expected / 4.0..=expected * 4.0)))
    }

    /// The comparison as an error, unless it agrees.
    fn judge(&self, engine: &dyn Engine) -> Result<(), EngineError> {
        let comparison = self.compare(engine)?;
        let Comparison { count, expected: GoldenCount { count: expected, tolerance }, cell } =
            comparison;
        if comparison.agrees() {
            return Ok(());
        }
        let what = match cell {
            Some((difference, allowed)) if (count - expected).abs() <= tolerance => {
                format!(
                    "a cell of the density is off by {difference:.4} vehicles, where {allowed:.4} are allowed"
                )
            }
            _ => {
                format!(
                    "it counts {count:.2} vehicles on {}, where {expected:.2} within {tolerance:.2} are expected",
                    self.picture
                )
            }
        };
        Err(self.failed(engine.info(), &what))
    }

    fn failed(&self, info: &EngineInfo, what: &str) -> EngineError {
        let EngineInfo { kind, version, device, input, .. } = info;
        let what =
            format!("{what} ({kind} {version} on {device}, {}x{})", input.width, input.height);
        EngineError::Golden { kind: info.kind, file: self.file.clone(), what }
    }

    /// Vehicles that `engine` counts on the input in `slot`, where it leaves the density. An
    /// inference that fails on the golden picture has failed it: scales that were lost may show as
    /// cells that are no number.
    fn infer(&self, engine: &dyn Engine, slot: &mut Slot) -> Result<f64, EngineError> {
        engine.lane().and_then(|mut lane| lane.infer(std::slice::from_mut(slot))).map_err(
            |error| match error {
                EngineError::Infer { reason, .. } => self.failed(
                    engine.info(),
                    &format!("the inference of {} fails: {reason}", self.picture),
                ),
                other => other,
            },
        )?;
        Ok(slot.output.total())
    }
}

const AGAIN: &str =
    "install the model again, or write its golden values anew (engines/verify.py --golden)";

/// The file of the model that an engine which says `info` of itself runs.
fn file_of<'a>(model: &'a Model, info: &EngineInfo) -> Option<&'a File> {
    let own = match info.kind {
        EngineKind::TensorRt => {
            info.precision.parse::<Precision>().ok().and_then(|precision| precision.file(model))
        }
        kind => model.file_in(kind, &info.precision),
    };
    own.or_else(|| model.file_for(info.kind))
}

/// What the manifest says of `file`.
fn expectation<'a>(model: &'a Model, file: &File) -> Option<(&'a Golden, &'a GoldenCount)> {
    let golden = model.manifest.golden.as_ref()?;
    Some((golden, golden.files.get(&file.file)?))
}

/// RGB, width and height of the picture in `path`: 8 bits a sample, grey or colour.
fn read_png(path: &Path) -> Result<(Vec<u8>, usize, usize), ModelError> {
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    let wrong = |what: String| ModelError::Value {
        path: path.to_owned(),
        key: "the golden picture".to_owned(),
        value: what,
        remedy: AGAIN.to_owned(),
    };
    let mut decoder = png::Decoder::new(BufReader::new(StdFile::open(path).map_err(io)?));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(|error| wrong(error.to_string()))?;
    let size = reader.output_buffer_size().ok_or_else(|| wrong("too large".to_owned()))?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(|error| wrong(error.to_string()))?;
    pixels.truncate(info.buffer_size());
    let channels = match info.color_type {
        png::ColorType::Rgb | png::ColorType::Rgba => [0, 1, 2],
        png::ColorType::Grayscale | png::ColorType::GrayscaleAlpha => [0, 0, 0],
        png::ColorType::Indexed => return Err(wrong("a palette that was not expanded".to_owned())),
    };
    let rgb = pixels
        .chunks_exact(info.color_type.samples())
        .flat_map(|pixel| channels.map(|index| pixel[index]));
    Ok((rgb.collect(), info.width as usize, info.height as usize))
}

/// The density of `file`, of the shape that the golden size gives.
fn read_density(
    model: &Model,
    golden: &Golden,
    name: &str,
    file: &File,
) -> Result<Cells, ModelError> {
    let path = model.folder.join(name);
    let text = fs::read_to_string(&path)
        .map_err(|source| ModelError::Io { path: path.clone(), source })?;
    let mut densities: Densities = serde_json::from_str(&text)
        .map_err(|source| ModelError::Parse { path: path.clone(), source })?;
    let wrong = |value: String, remedy: String| ModelError::Value {
        path: path.clone(),
        key: "the golden density".to_owned(),
        value,
        remedy,
    };
    let Some(cells) = densities.files.remove(&file.file) else {
        return Err(wrong(format!("nothing for {}", file.file), AGAIN.to_owned()));
    };
    let stride = model.manifest.output.stride;
    let (columns, rows) = (golden.width / stride, golden.height / stride);
    if cells.density.len() != rows || cells.density.iter().any(|row| row.len() != columns) {
        let found = cells.density.first().map_or(0, Vec::len);
        let value = format!("{found}x{} cells for {}", cells.density.len(), file.file);
        return Err(wrong(value, format!("{columns}x{rows} are needed: {AGAIN}")));
    }
    Ok(cells)
}

/// What has agreed, as a line of the state file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Agreement {
    /// SHA-256 of the ONNX file.
    file: String,
    engine: EngineKind,
    version: String,
    /// A GPU runs one file in several.
    #[serde(default)]
    precision: String,
    /// SHA-256 of the plan that was built of the file: another build is another plan.
    #[serde(default)]
    plan: String,
    device: String,
    /// A home folder may be one for many machines.
    processor: String,
    input: String,
    /// What was expected: a new expectation is compared anew.
    golden: String,
}

impl Agreement {
    fn new(
        engine: &dyn Engine,
        input: InputSize,
        file: &File,
        golden: &Golden,
        expected: &GoldenCount,
    ) -> Self {
        let info = engine.info();
        Self {
            file: file.sha256.clone(),
            engine: info.kind,
            version: info.version.clone(),
            precision: info.precision.clone(),
            plan: engine.plan().unwrap_or_default().to_owned(),
            device: info.device.clone(),
            processor: processor(),
            input: format!("{}x{}", input.width, input.height),
            golden: format!(
                "{} within {} at {}x{}",
                expected.count, expected.tolerance, golden.width, golden.height
            ),
        }
    }
}

/// The processor's name, where the system tells.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// The file of what has agreed, a JSON object a line. It may be lost, damaged or not writable: then
/// there is no more than a comparison too many.
struct State {
    path: Option<PathBuf>,
    text: String,
}

/// A state file beyond this size, bytes, begins anew: each update of a library adds lines.
const STATE_LIMIT: usize = 1 << 18;

impl State {
    fn read() -> Self {
        let path = cache::folder().map(|folder| folder.join("golden.jsonl"));
        let text = path.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        Self { path, text }
    }

    fn has(&self, agreement: &Agreement) -> bool {
        self.text.lines().any(|line| {
            serde_json::from_str(line).is_ok_and(|known: Agreement| known == *agreement)
        })
    }

    /// Appends a line, in one write: other processes may do the same.
    fn add(&self, agreement: &Agreement) {
        let (Some(path), Ok(line)) = (&self.path, serde_json::to_string(agreement)) else { return };
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            let mut options = OpenOptions::new();
            options.create(true);
            if self.text.len() > STATE_LIMIT {
                options.write(true).truncate(true)
            } else {
                options.append(true)
            };
            options.open(path)?.write_all(format!("{line}\n").as_bytes())
        };
        // It is compared again the next time.
        let _ = write();
    }
}

/// Opens an engine once more, for another request.
pub(crate) type Reopen<'a> = &'a dyn Fn(&EngineRequest) -> Result<Arc<dyn Engine>, EngineError>;

/// Compares `engine`, opened for `request`, with the golden picture, unless it has agreed on this
/// machine before. Nothing to do where the manifest has no golden picture for the file. Where
/// `reopen` is `None`, opening it at the golden size takes too long.
pub(crate) fn check_once(
    request: &EngineRequest,
    engine: &dyn Engine,
    reopen: Option<Reopen<'_>>,
) -> Result<(), EngineError> {
    let (model, info) = (&request.model, engine.info());
    let Some(file) = file_of(model, info) else { return Ok(()) };
    let Some((golden, expected)) = expectation(model, file) else { return Ok(()) };
    let state = State::read();
    let agreement = Agreement::new(engine, info.input, file, golden, expected);
    if state.has(&agreement) {
        return Ok(());
    }
    let unreadable =
        |error: ModelError| EngineError::Model { kind: info.kind, reason: error.to_string() };
    let Some(reference) = Reference::read(model, file).map_err(unreadable)? else { return Ok(()) };
    let reference = reference.in_precision(&info.precision);
    if info.input == reference.size {
        reference.judge(engine)?;
    } else {
        let agreement = Agreement::new(engine, reference.size, file, golden, expected);
        if let Some(reopen) = reopen.filter(|_| !state.has(&agreement)) {
            let engine = reopen(&EngineRequest {
                input: Some(reference.size),
                max_batch: 1,
                ..request.clone()
            })?;
            reference.judge(&*engine)?;
            state.add(&agreement);
        }
        let rough = reference.roughly(model, engine)?;
        if let Some((count, bounds)) = rough.filter(|(count, bounds)| !bounds.contains(count)) {
            let what = format!(
                "it counts {count:.2} vehicles on {} scaled to its input, where {:.1} to {:.1} are expected",
                reference.picture,
                bounds.start(),
                bounds.end()
            );
            return Err(reference.failed(info, &what));
        }
    }
    state.add(&agreement);
    Ok(())
}

/// Compares `engine` with the golden picture of `file`, whatever was seen before, and remembers
/// that it agreed. The engine must have been opened at [`Reference::size`].
pub fn verify(
    model: &Model,
    file: &File,
    reference: &Reference,
    engine: &dyn Engine,
) -> Result<Comparison, EngineError> {
    let info = engine.info();
    let comparison = reference.compare(engine)?;
    if let Some((golden, expected)) = expectation(model, file).filter(|_| comparison.agrees()) {
        let (state, agreement) =
            (State::read(), Agreement::new(engine, info.input, file, golden, expected));
        if !state.has(&agreement) {
            state.add(&agreement);
        }
    }
    Ok(comparison)
}
