//! The golden picture with what a file makes of it, and the comparison of an engine with it.

use std::collections::BTreeMap;
use std::fs::{self, File as StdFile};
use std::io::BufReader;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;

use super::expectation;
use crate::engine::{Engine, EngineError, EngineInfo, Slot};
use crate::frame::{FrameFormat, FrameView, PixelFormat, Plane};
use crate::model::{File, Golden, GoldenCount, Model, ModelError};
use crate::preprocess::{InputSize, Preprocessor};

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
    pub(super) picture: String,
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
        let mut slot = Slot::preprocessed_for(engine);
        let plane = self.size.width * self.size.height;
        slot.input.set_levels(|index| self.rgb[3 * (index % plane) + index / plane]);
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
        let mut slot = Slot::preprocessed_for(engine);
        let mut preprocessor = Preprocessor::new(format, model.manifest.input.resize, input);
        slot.input.preprocess(&mut preprocessor, &frame);
        let count = self.infer(engine, &mut slot)?;
        Ok(Some((count, expected / 4.0..=expected * 4.0)))
    }

    /// The comparison as an error, unless it agrees.
    pub(super) fn judge(&self, engine: &dyn Engine) -> Result<(), EngineError> {
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

    pub(super) fn failed(&self, info: &EngineInfo, what: &str) -> EngineError {
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
