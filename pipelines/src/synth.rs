//! `vehicle-count synth`: labelled pictures of simulated traffic, to train and test on.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde_json::json;
use vehiclecount_core::scene::{Scene, SceneSettings, Viewpoint, Weather};

/// Options of `vehicle-count synth`.
#[derive(clap::Args)]
pub struct Options {
    /// Folder to write images/ and annotations.jsonl into
    #[arg(long)]
    out: PathBuf,
    /// Number of pictures
    #[arg(long, default_value_t = 100)]
    images: u64,
    /// Everything follows from it: the same seed, the same pictures
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Width of the pictures in pixels
    #[arg(long, default_value_t = 640)]
    width: usize,
    /// Height of the pictures in pixels
    #[arg(long, default_value_t = 360)]
    height: usize,
    /// The split that they belong to
    #[arg(long, default_value = "train")]
    split: String,
}

/// Writes the pictures and their annotations, in the form that engines/ reads.
pub fn run(options: &Options) -> Result<()> {
    anyhow::ensure!(
        (16..=8192).contains(&options.width) && (16..=8192).contains(&options.height),
        "{}x{}: both sides must lie between 16 and 8192 pixels",
        options.width,
        options.height
    );
    let images = options.out.join("images");
    fs::create_dir_all(&images).with_context(|| format!("cannot make {}", images.display()))?;
    let path = options.out.join("annotations.jsonl");
    let mut annotations =
        BufWriter::new(File::create(&path).with_context(|| format!("cannot write {}", path.display()))?);
    let mut rgb = vec![0; options.width * options.height * 3];
    for number in 0..options.images {
        // A linear congruence spreads the choices evenly over the numbers.
        let turn = number + options.seed * 7919;
        let viewpoint = Viewpoint::ALL[(turn % 5) as usize];
        let weather =
            [Weather::Day, Weather::Day, Weather::Night, Weather::Day, Weather::Rain][(turn / 5 % 5) as usize];
        let traffic = [0.9, 1.6, 0.35, 1.2, 0.05, 2.2][(turn / 3 % 6) as usize];
        let (width, height) = (options.width, options.height);
        let mut scene = Scene::new(SceneSettings { viewpoint, weather, seed: turn, width, height, traffic });
        scene.render((turn % 97) as f64, &mut rgb);
        let name = format!("synth_{}_{}_{:06}.jpg", viewpoint.name(), weather.name(), turn);
        write_jpeg(&images.join(&name), &rgb, width as u32, height as u32, 60 + (turn % 36) as u8)?;
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        let boxes = scene.truth().iter().map(|vehicle| {
            [
                tenth(vehicle.x * width as f64),
                tenth(vehicle.y * height as f64),
                tenth(vehicle.width * width as f64),
                tenth(vehicle.height * height as f64),
            ]
        });
        let boxes: Vec<_> = boxes.collect();
        let line = json!({
            "file": format!("images/{name}"), "width": width, "height": height, "boxes": boxes, "count": boxes.len(),
            "scene": format!("synth_{}_{}", viewpoint.name(), weather.name()), "split": options.split,
            "source": "synthetic", "licence": "Apache-2.0",
        });
        writeln!(annotations, "{line}").with_context(|| format!("cannot write {}", path.display()))?;
    }
    annotations.flush().with_context(|| format!("cannot write {}", path.display()))?;
    println!("{} pictures in {}", options.images, options.out.display());
    Ok(())
}

fn write_jpeg(path: &Path, rgb: &[u8], width: u32, height: u32, quality: u8) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    JpegEncoder::new_with_quality(BufWriter::new(file), quality)
        .write_image(rgb, width, height, ExtendedColorType::Rgb8)
        .with_context(|| format!("cannot write {}", path.display()))
}
