//! `vehicle-count engine inspect`: what TensorRT made of a network.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use vehiclecount_core::cuda::Driver;
use vehiclecount_core::tensorrt::cache::{Label, label_path};
use vehiclecount_core::tensorrt::{Flavour, Library, PrecisionTrials};

use super::build::bytes;

/// Options of `vehicle-count engine inspect`.
#[derive(clap::Args)]
pub struct Options {
    /// The plan
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    /// Library that loads it: tensorrt or tensorrt-rtx; by default that of its label, or what is
    /// there
    #[arg(long, default_value = "auto")]
    runtime: Flavour,
    /// Index of the GPU
    #[arg(long, default_value_t = 0)]
    gpu: u32,
    /// Print TensorRT's own JSON
    #[arg(long)]
    json: bool,
}

/// Prints the label, and where there is a GPU to load the plan onto, its layers.
pub fn run(options: &Options) -> Result<()> {
    let plan = fs::read(&options.plan)
        .with_context(|| format!("{} cannot be read", options.plan.display()))?;
    let label: Option<Label> = fs::read(label_path(&options.plan))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    if !options.json {
        println!("{}: {}", options.plan.display(), bytes(plan.len()));
        if let Some(label) = &label {
            println!(
                "  {} in {}, {}x{}, batches 1 to {}, built by {} {} for {}",
                label.network,
                label.precision,
                label.width,
                label.height,
                label.max_batch,
                label.library,
                label.version,
                label.target()
            );
            let folder = options.plan.parent().unwrap_or(Path::new(""));
            for choice in
                PrecisionTrials::all(folder).iter().filter(|choice| choice.purpose.is_of(label))
            {
                println!("  precision=auto takes {choice}");
            }
        }
    }
    let flavour = match (options.runtime, &label) {
        (Flavour::Auto, Some(label)) => label.library,
        (flavour, _) => flavour,
    };
    let library = Library::open(flavour)
        .context("the layers can be listed only where the plan can be loaded")?;
    let context = Driver::open().and_then(|driver| driver.context(options.gpu))?;
    let _entered = context.enter()?;
    library.load_plugins();
    let plan = library.load(&plan)?;
    let told = plan.inspect()?;
    if options.json {
        println!("{told}");
        return Ok(());
    }
    let [channels, height, width] = plan.input_shape();
    let [_, rows, columns] = plan.output_shape();
    println!(
        "  input {channels} x {height} x {width}, output {rows} x {columns} cells, batches {} to {}, {} of memory for each context, {} profile(s)",
        plan.min_batch(),
        plan.max_batch(),
        bytes(usize::try_from(plan.context_memory()).unwrap_or(usize::MAX)),
        plan.profiles()
    );
    print!("{}", table(&told));
    Ok(())
}

/// The layers as a table, and how many there are of each precision.
fn table(json: &str) -> String {
    let value: Value = serde_json::from_str(json).unwrap_or_default();
    let mut text = String::new();
    let mut precisions: BTreeMap<String, usize> = BTreeMap::new();
    for layer in value["Layers"].as_array().map(Vec::as_slice).unwrap_or_default() {
        // Names alone, where the plan was built without details.
        let name = layer.as_str().or_else(|| layer["Name"].as_str()).unwrap_or("?");
        let output = &layer["Outputs"][0];
        let precision =
            output["Format/Datatype"].as_str().or_else(|| output["Format"].as_str()).unwrap_or("");
        let precision = precision.rsplit(' ').next().unwrap_or("");
        let sizes = output["Dimensions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let sizes: Vec<_> = sizes.iter().map(ToString::to_string).collect();
        let kind = layer["LayerType"].as_str().unwrap_or("");
        text += &format!("  {kind:<24.24}  {precision:<8}  {:<20}  {name:.80}\n", sizes.join("x"));
        if !precision.is_empty() {
            *precisions.entry(precision.to_owned()).or_default() += 1;
        }
    }
    let each: Vec<_> =
        precisions.iter().map(|(name, count)| format!("{count} in {name}")).collect();
    if each.is_empty() { text } else { format!("{text}  layers: {}\n", each.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_listed_with_their_precisions() {
        let json = r#"{"Layers": [
            {"Name": "conv1 + relu", "LayerType": "CaskConvolution", "Outputs": [{"Name": "a", "Dimensions": [1, 16, 192, 192],
             "Format/Datatype": "Thirty-two wide channel vectorized row major Int8"}]},
            {"Name": "pool", "LayerType": "Reduce", "Outputs": [{"Name": "b", "Dimensions": [1, 16, 1, 1], "Format/Datatype": "Row major linear FP16"}]}],
            "Bindings": ["images", "density"]}"#;
        let text = table(json);
        assert!(
            text.contains("CaskConvolution           Int8      1x16x192x192          conv1 + relu"),
            "{text}"
        );
        assert!(text.ends_with("  layers: 1 in FP16, 1 in Int8\n"), "{text}");
        // Names alone, and what is no JSON at all.
        assert!(table(r#"{"Layers": ["conv1", "pool"]}"#).contains("conv1"));
        assert_eq!(table("nothing"), "");
    }
}
