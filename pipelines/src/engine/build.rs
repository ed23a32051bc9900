//! `vehicle-count engine build`: a plan before the first camera needs it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use vehiclecount_core::cuda::Driver;
use vehiclecount_core::model::{self, File, Model};
use vehiclecount_core::preprocess::{InputChoice, InputSize};
use vehiclecount_core::tensorrt::cache::{self, Label, Origin, PlanRequest};
use vehiclecount_core::tensorrt::{Flavour, Library, Precision};

use super::progress::BuildProgress;

/// Options of `vehicle-count engine build`.
#[derive(clap::Args)]
pub struct Options {
    /// Model: a name, a manifest (.json) or an .onnx file
    #[arg(default_value = "")]
    model: String,
    /// Library that builds: auto, tensorrt or tensorrt-rtx
    #[arg(long, default_value = "auto")]
    runtime: Flavour,
    /// Precision: fp32, fp16, int8, or auto for each that the engine would try
    #[arg(long, default_value = "auto")]
    precision: Precision,
    /// Batches from 1 to this many pictures
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,
    /// Sizes of the network's input in pixels, separated by commas: WIDTHxHEIGHT, or auto for each
    /// that input-size=auto uses, or auto:SIDE. By default that for 16:9 cameras, which elements
    /// open first
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    input_size: Vec<InputChoice>,
    /// Compute capability of the GPUs to build for, such as 8.9; TensorRT-RTX alone, which needs no
    /// GPU for it. By default the GPU at hand
    #[arg(long, value_name = "X.Y", value_parser = capability)]
    compute_capability: Vec<u32>,
    /// An existing calibration table; TensorRT 10 alone
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Index of the GPU
    #[arg(long, default_value_t = 0)]
    gpu: u32,
    /// Where to write the plan: a file, with its label (FILE.json) beside it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Times ten, as CUDA's own names have it (sm_89).
fn capability(text: &str) -> Result<u32, String> {
    let parts = text
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)));
    match parts {
        Some((major, minor)) if major < 100 && minor < 10 => Ok(major * 10 + minor),
        _ => Err("not a compute capability such as 8.9".to_owned()),
    }
}

/// Builds, shows progress, and says where the plan is.
pub fn run(options: &Options) -> Result<()> {
    let model = Model::open(&options.model, &model::folders())?;
    let inputs = inputs(&model, &options.input_size)?;
    if inputs.len() > 1 && options.out.is_some() {
        bail!("--out names one plan: give one --input-size WIDTHxHEIGHT with it");
    }
    let library = Library::open_to_build(options.runtime)?;
    println!("{library}, headers {}", vehiclecount_core::tensorrt::headers());
    if let Some(table) = &options.calibration {
        if library.flavour() != Flavour::TensorRt || library.version().major != 10 {
            bail!(
                "{library} takes no calibration table: use the Q/DQ file of the model (--precision int8), made by engines/quantize.py"
            );
        }
        if options.out.is_none() {
            bail!(
                "a plan by a calibration table is used by its name: give --out FILE, and name it to vehiclecounter as model-engine-file"
            );
        }
        eprintln!(
            "warning: {}: calibration tables are deprecated, and good for the very network they were made of; a Q/DQ file (engines/quantize.py) works with every TensorRT",
            table.display()
        );
    }
    let (capabilities, gpu) = if options.compute_capability.is_empty() {
        let here = Driver::open().and_then(|driver| driver.device(options.gpu));
        let device = here.context("no --compute-capability was given, and no GPU is at hand")?;
        println!("building for {}", device.name);
        (vec![device.compute_capability.0 * 10 + device.compute_capability.1], device.model())
    } else if library.flavour() == Flavour::TensorRtRtx {
        (options.compute_capability.clone(), String::new())
    } else {
        bail!(
            "{library} builds for the GPU at hand alone: leave --compute-capability out, or take --runtime tensorrt-rtx"
        );
    };
    // A calibration table is of the FP32 network.
    let chosen = match (options.precision, &options.calibration) {
        (Precision::Auto, Some(_)) => Precision::Int8,
        (precision, _) => precision,
    };
    let wanted: Vec<(Precision, &File)> = match chosen {
        Precision::Auto => vehiclecount_core::tensorrt::candidates(&model),
        precision => {
            let from = if options.calibration.is_some() { Precision::Fp32 } else { precision };
            from.file(&model).map(|file| (precision, file)).into_iter().collect()
        }
    };
    if wanted.is_empty() {
        bail!(
            "model {} has no file for {}: its manifest lists {}",
            model.manifest.name,
            options.precision,
            listed(&model)
        );
    }
    // Given to one file, `auto` is what the engine would try first.
    let wanted = if options.out.is_some() { &wanted[..1] } else { &wanted[..] };
    // TensorRT builds on the GPU whose context is current.
    let context = match library.flavour() {
        Flavour::TensorRtRtx => None,
        _ => Some(Driver::open().and_then(|driver| driver.context(options.gpu))?),
    };
    let _entered = context.as_ref().map(|context| context.enter()).transpose()?;
    for (&(precision, file), &input) in
        inputs.iter().flat_map(|input| wanted.iter().map(move |wanted| (wanted, input)))
    {
        model.verify_once(file)?;
        let path = model.path(file);
        let request = PlanRequest {
            library: &library,
            onnx: &path,
            sha256: &file.sha256,
            precision,
            input,
            max_batch: options.batch as usize,
            capability: capabilities[0],
            gpu: &gpu,
            refused: None,
            calibration: options.calibration.as_deref(),
            detailed: true,
        };
        match &options.out {
            Some(out) => to_file(&request, &capabilities, out)?,
            None => to_cache(&request, &capabilities)?,
        }
    }
    Ok(())
}

/// The input sizes to build for, each once.
fn inputs(model: &Model, choices: &[InputChoice]) -> Result<Vec<InputSize>> {
    let mut sizes = Vec::new();
    for &choice in choices {
        for &size in model.input_shapes(choice)?.sizes() {
            if !sizes.contains(&size) {
                sizes.push(size);
            }
        }
    }
    if sizes.is_empty() {
        sizes.push(model.input_shapes(InputChoice::default())?.first());
    }
    Ok(sizes)
}

fn listed(model: &Model) -> String {
    let files =
        model.manifest.files.iter().map(|file| format!("{} ({})", file.file, file.precision));
    files.collect::<Vec<_>>().join(", ")
}

fn to_file(request: &PlanRequest<'_>, capabilities: &[u32], out: &Path) -> Result<()> {
    let shown = begin(request);
    let own: &[u32] =
        if request.library.flavour() == Flavour::TensorRtRtx { capabilities } else { &[] };
    let plan = cache::build(request, own, &|progress| shown.show(progress))?;
    shown.end();
    cache::write(out, &plan, &Label::of(request)?)
        .with_context(|| format!("{} cannot be written", out.display()))?;
    println!("{}: {}, {}", out.display(), bytes(plan.len()), for_what(request, capabilities));
    Ok(())
}

fn to_cache(request: &PlanRequest<'_>, capabilities: &[u32]) -> Result<()> {
    for &capability in capabilities {
        let request = PlanRequest { capability, ..request.clone() };
        let shown = begin(&request);
        let found = cache::plan_for(&request, &|progress| shown.show(progress))?;
        shown.end();
        let place =
            found.path.map_or_else(|| "not kept".to_owned(), |path| path.display().to_string());
        println!("{place}: {}, {}", bytes(found.plan.len()), for_what(&request, &[capability]));
        match found.origin {
            Origin::Kept => println!("  it was there already"),
            Origin::Built { instead, unkept } => {
                instead.iter().for_each(|reason| println!("  built anew: {reason}"));
                unkept.iter().for_each(|reason| println!("  it is not kept: {reason}"));
            }
        }
    }
    Ok(())
}

fn for_what(request: &PlanRequest<'_>, capabilities: &[u32]) -> String {
    let capabilities: Vec<_> =
        capabilities.iter().map(|value| format!("{}.{}", value / 10, value % 10)).collect();
    format!(
        "{}, {}, batches 1 to {}, compute capability {}",
        request.precision,
        request.input,
        request.max_batch,
        capabilities.join(", ")
    )
}

fn begin(request: &PlanRequest<'_>) -> BuildProgress {
    println!("building {} in {} at {}", request.onnx.display(), request.precision, request.input);
    BuildProgress::default()
}

/// As a person reads it.
pub(super) fn bytes(count: usize) -> String {
    format!("{:.1} MB", count as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_and_sizes_are_read_as_people_write_them() {
        assert_eq!((capability("8.9"), capability("12.0")), (Ok(89), Ok(120)));
        assert!(["89", "8.", "8.10", "x.1"].iter().all(|text| capability(text).is_err()));
        assert_eq!("640x384".parse(), Ok(InputSize { width: 640, height: 384 }));
        assert!("640".parse::<InputSize>().is_err());
    }

    #[test]
    fn each_size_is_built_once_and_by_default_the_commonest() {
        let model = Model::scripted();
        let sizes = |choices: &[&str]| {
            let choices = choices.iter().map(|text| text.parse().expect("a choice"));
            let sizes = inputs(&model, &choices.collect::<Vec<_>>()).expect("sizes");
            sizes.iter().map(InputSize::to_string).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), ["88x48"]);
        assert_eq!(sizes(&["64x64", "128x64", "64x64"]), ["64x64", "128x64"]);
        let all = sizes(&["auto", "64x64"]);
        assert_eq!((all.len(), all.first().map(String::as_str)), (6, Some("88x48")));
    }
}
