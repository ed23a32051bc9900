//! `vehicle-count engine verify`: does every engine count what the model is known to count?

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use vehiclecount_core::engine::{self, EngineKind, EngineRequest};
use vehiclecount_core::golden::{self, Comparison, Reference};
use vehiclecount_core::model::{self, File, Model};

/// Options of `vehicle-count engine verify`.
#[derive(clap::Args)]
pub struct Options {
    /// Model: a name, a manifest (.json) or an .onnx file
    #[arg(default_value = "")]
    model: String,
    /// The one engine to look at; by default every one that opens
    #[arg(long, default_value = "auto", help = format!("The one engine to look at, of {}; by default every one that opens", super::networks()))]
    engine: EngineKind,
    /// Index of the GPU, for engines that run on one
    #[arg(long, default_value_t = 0)]
    gpu: u32,
}

/// What is known of one file on one engine.
enum Finding {
    /// It ran.
    Counted { on: String, comparison: Comparison },
    /// It did not: the reason.
    Failed(String),
    /// The engine is not on this machine, and was not asked for by name.
    Absent(String),
}

/// Compares, prints a line for each file on each engine, and fails where one of them does.
pub fn run(options: &Options) -> Result<()> {
    let model = Model::open(&options.model, &model::folders())?;
    let asked = options.engine != EngineKind::Auto;
    if options.engine == EngineKind::Scripted {
        bail!("the scripted engine runs no network: choose one of {}", super::networks());
    }
    let color = std::io::stdout().is_terminal();
    println!("{} {} in {}", model.manifest.name, model.manifest.version, model.folder.display());
    println!(
        "  {:<6}  {:<11}  {:<28}  {:>8}  {:>17}  {:>15}",
        "", "engine", "file", "count", "expected", "largest cell"
    );
    let (mut counted, mut failed) = (0, 0);
    for kind in EngineKind::networks().filter(|&kind| !asked || kind == options.engine) {
        let mut files: Vec<&File> = match model.chosen_file() {
            Some(file) => vec![file],
            None => {
                model.manifest.files.iter().filter(|file| file.engines.contains(&kind)).collect()
            }
        };
        files.sort_by(|a, b| a.file.cmp(&b.file));
        if files.is_empty() && asked {
            bail!("the manifest lists no file for {kind}; name an .onnx file to verify that one");
        }
        for file in files {
            let finding = look(&model, file, kind, options.gpu, asked)?;
            let good =
                matches!(&finding, Finding::Counted { comparison, .. } if comparison.agrees());
            counted += usize::from(!matches!(finding, Finding::Absent(_)));
            failed += usize::from(!good && !matches!(finding, Finding::Absent(_)));
            print(&finding, kind, file, color);
            if matches!(finding, Finding::Absent(_)) {
                break;
            }
        }
    }
    if counted == 0 {
        bail!("no engine opens: `vehicle-count doctor` tells what is missing");
    }
    if failed > 0 {
        bail!(
            "{failed} of {counted} do not count what {} must: do not use them; install the engine's library and the model again",
            model.manifest.name
        );
    }
    Ok(())
}

fn print(finding: &Finding, kind: EngineKind, file: &File, color: bool) {
    let (word, paint) = match finding {
        Finding::Counted { comparison, .. } if comparison.agrees() => ("agrees", 32),
        Finding::Counted { .. } | Finding::Failed(_) => ("FAILS", 31),
        Finding::Absent(_) => ("absent", 33),
    };
    let word = if color { format!("\x1b[{paint}m{word:<6}\x1b[0m") } else { format!("{word:<6}") };
    match finding {
        Finding::Counted { on, comparison } => {
            let Comparison { count, expected, cell } = comparison;
            let expectation = format!("{:.3} ± {:.3}", expected.count, expected.tolerance);
            let cell = cell.map_or("not known".to_owned(), |(got, allowed)| {
                format!("{got:.4} / {allowed:.4}")
            });
            println!(
                "  {word}  {kind:<11}  {:<28}  {count:>8.3}  {expectation:>17}  {cell:>15}  {on}",
                file.file
            );
        }
        Finding::Failed(reason) => println!("  {word}  {kind:<11}  {:<28}  {reason}", file.file),
        Finding::Absent(reason) => println!("  {word}  {kind:<11}  {reason}"),
    }
}

fn look(model: &Model, file: &File, kind: EngineKind, gpu: u32, asked: bool) -> Result<Finding> {
    let reference = Reference::read(model, file)?.with_context(|| {
        format!(
            "the manifest has no golden values for {}: engines/verify.py MANIFEST --golden PICTURE.png writes them",
            file.file
        )
    })?;
    let request = EngineRequest {
        input: Some(reference.size()),
        // On a GPU, the plan that the counter runs.
        max_batch: 0,
        gpu,
        name: "verify".to_owned(),
        ..EngineRequest::new(kind, Arc::new(model.with_file(file)))
    };
    let result = engine::open_unchecked(&request, kind).and_then(|engine| {
        let comparison = golden::verify(&request.model, file, &reference, &*engine)?;
        let info = engine.info();
        Ok(Finding::Counted { on: format!("{} on {}", info.version, info.device), comparison })
    });
    Ok(result.unwrap_or_else(|error| {
        let absent = error.is_absence();
        if absent && !asked {
            Finding::Absent(error.to_string())
        } else {
            Finding::Failed(error.to_string())
        }
    }))
}
