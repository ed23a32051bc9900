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
    /// Width of the pictures in pixels; where neither side is given, sizes vary
    #[arg(long)]
    width: Option<usize>,
    /// Height of the pictures in pixels; by default 9/16 of the width
    #[arg(long)]
    height: Option<usize>,
    /// The split that they belong to
    #[arg(long, default_value = "train")]
    split: String,
    /// Threads that paint; the pictures do not depend on it
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// Width and height of pictures whose size was not asked for.
const SIZES: [(usize, usize); 7] =
    [(640, 360), (960, 540), (480, 270), (640, 480), (360, 480), (800, 450), (352, 288)];

/// Writes the pictures and their annotations, in the form that engines/ reads.
pub fn run(options: &Options) -> Result<()> {
    let size = match (options.width, options.height) {
        (None, None) => None,
        (Some(width), Some(height)) => Some((width, height)),
        (Some(width), None) => Some((width, width * 9 / 16)),
        (None, Some(height)) => Some((height * 16 / 9, height)),
    };
    if let Some((width, height)) = size {
        anyhow::ensure!(
            (16..=8192).contains(&width) && (16..=8192).contains(&height),
            "{width}x{height}: both sides must lie between 16 and 8192 pixels"
        );
    }
    let images = options.out.join("images");
    fs::create_dir_all(&images).with_context(|| format!("cannot make {}", images.display()))?;
    // Each thread takes every n-th picture; the lines come in the pictures' order.
    let threads = options.threads.clamp(1, 256) as u64;
    let lines = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    (first..options.images)
                        .step_by(threads as usize)
                        .map(|number| Ok((number, write_picture(options, size, number)?)))
                        .collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a painting thread does not panic"))
            .collect::<Result<Vec<_>>>()
    })?;
    let mut lines = lines.concat();
    lines.sort_unstable_by_key(|(number, _)| *number);
    let path = options.out.join("annotations.jsonl");
    let context = || format!("cannot write {}", path.display());
    let mut annotations = BufWriter::new(File::create(&path).with_context(context)?);
    for (_, line) in lines {
        writeln!(annotations, "{line}").with_context(context)?;
    }
    annotations.flush().with_context(context)?;
    println!("{} pictures in {}", options.images, options.out.display());
    Ok(())
}

/// Paints and writes picture `number`; returns its line of annotations.
fn write_picture(options: &Options, size: Option<(usize, usize)>, number: u64) -> Result<String> {
    // Counting on with strides that share no factor spreads the choices evenly over the numbers.
    let turn = number.wrapping_add(options.seed.wrapping_mul(7919));
    let viewpoint = Viewpoint::ALL[(turn % 5) as usize];
    let weather = [Weather::Day, Weather::Day, Weather::Night, Weather::Day, Weather::Rain]
        [(turn / 5 % 5) as usize];
    let traffic = [0.9, 1.6, 0.35, 1.2, 0.05, 2.2][(turn / 3 % 6) as usize];
    let (width, height) = size.unwrap_or(SIZES[(turn / 2 % 7) as usize]);
    let mut rgb = vec![0; width * height * 3];
    let mut scene =
        Scene::new(SceneSettings { viewpoint, weather, seed: turn, width, height, traffic });
    scene.render((turn % 97) as f64, &mut rgb);
    let name = format!("synth_{}_{}_{turn:06}.jpg", viewpoint.name(), weather.name());
    let path = options.out.join("images").join(&name);
    write_jpeg(&path, &rgb, width as u32, height as u32, 60 + (turn % 36) as u8)?;
    // Annotators draw boxes inside the picture.
    let side = |from: f64, length: f64, pixels: usize| {
        let tenth = |value: f64| (value.clamp(0.0, 1.0) * pixels as f64 * 10.0).round() / 10.0;
        let (begin, end) = (tenth(from), tenth(from + length));
        [begin, ((end - begin) * 10.0).round() / 10.0]
    };
    let boxes = scene.truth().iter().map(|vehicle| {
        let ([x, w], [y, h]) =
            (side(vehicle.x, vehicle.width, width), side(vehicle.y, vehicle.height, height));
        [x, y, w, h]
    });
    let boxes: Vec<_> = boxes.collect();
    Ok(json!({
        "file": format!("images/{name}"), "width": width, "height": height,
        "boxes": boxes, "count": boxes.len(),
        "scene": format!("synth_{}_{}", viewpoint.name(), weather.name()),
        "kind": viewpoint.name(), "split": options.split,
        "source": "synthetic", "licence": "Apache-2.0",
    })
    .to_string())
}

fn write_jpeg(path: &Path, rgb: &[u8], width: u32, height: u32, quality: u8) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    JpegEncoder::new_with_quality(BufWriter::new(file), quality)
        .write_image(rgb, width, height, ExtendedColorType::Rgb8)
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn written(folder: &Path, seed: u64, threads: usize) -> (String, Vec<Vec<u8>>) {
        let out = folder.to_owned();
        let split = "val".to_owned();
        run(&Options { out, images: 6, seed, width: Some(96), height: None, split, threads })
            .unwrap();
        let annotations = fs::read_to_string(folder.join("annotations.jsonl")).unwrap();
        let pictures = annotations.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((line["width"].as_u64(), line["height"].as_u64()), (Some(96), Some(54)));
            assert_eq!(
                line["count"].as_u64().unwrap(),
                line["boxes"].as_array().unwrap().len() as u64
            );
            for sides in line["boxes"].as_array().unwrap() {
                let [x, y, w, h] = [0, 1, 2, 3].map(|side| sides[side].as_f64().unwrap());
                assert!(
                    x >= 0.0 && y >= 0.0 && x + w <= 96.05 && y + h <= 54.05 && w > 0.0 && h > 0.0,
                    "{line}"
                );
            }
            fs::read(folder.join(line["file"].as_str().unwrap())).unwrap()
        });
        let pictures = pictures.collect();
        (annotations, pictures)
    }

    #[test]
    fn pictures_follow_from_the_seed_whatever_the_threads() {
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let one = written(folders[0].path(), 4, 1);
        assert_eq!(one.1.len(), 6);
        assert!(one == written(folders[1].path(), 4, 3));
        assert!(one.1 != written(folders[2].path(), 5, 1).1);
    }
}
