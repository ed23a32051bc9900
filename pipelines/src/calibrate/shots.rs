//! The pictures of one camera, with the vehicles that are in them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;

use super::Options;
use super::grab;
use crate::eval::annotations::{self, Mask, Sample};
use crate::eval::{metrics, picture};

/// Fewer pictures say too little.
pub const LEAST: usize = 3;

/// Sides of pictures of one camera differ by this share at most: converters round.
const SLACK: f64 = 0.02;

/// A picture of which the count is known.
pub struct Shot {
    /// Its file.
    pub name: String,
    /// The picture.
    pub picture: RgbImage,
    /// Where its labels are complete; of a typed count, the whole picture.
    pub sample: Sample,
    /// That area by the pixel, where it is not a rectangle.
    pub mask: Option<Mask>,
    /// The vehicles in it.
    pub truth: f64,
}

/// A count that a person gives: FILE=NUMBER.
#[derive(Clone, Debug)]
pub struct Typed {
    file: String,
    count: f64,
}

impl FromStr for Typed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?}: write FILE=NUMBER, such as gate-1.jpg=12");
        let (file, count) = text.rsplit_once('=').ok_or_else(form)?;
        let count = count.trim().parse::<f64>().ok();
        let count = count.filter(|count| count.is_finite() && (0.0..=100_000.0).contains(count));
        match (file.is_empty(), count) {
            (false, Some(count)) => Ok(Self { file: file.to_owned(), count }),
            _ => Err(form()),
        }
    }
}

/// What the call names.
pub enum Gathered {
    /// Pictures with their counts.
    Shots(Vec<Shot>),
    /// Pictures that were taken now, whose vehicles are still to be counted.
    Taken(Vec<PathBuf>),
}

/// The pictures of the call and their counts: labelled, typed, or asked for on a terminal.
pub fn gather(options: &Options) -> Result<Gathered> {
    let mut shots = Vec::new();
    if !options.data.is_empty() {
        let scene = options.scene.as_deref();
        let samples = annotations::load(&options.data, &options.split)?;
        let mut scenes: Vec<_> = samples.iter().map(|sample| sample.scene.clone()).collect();
        scenes.sort_unstable();
        scenes.dedup();
        let found = samples.into_iter().filter(|sample| scene.is_none_or(|s| s == sample.scene));
        for sample in found {
            shots.push(labelled(sample)?);
        }
        match scene {
            Some(scene) if shots.is_empty() => {
                bail!("there is no scene {scene:?}; there is {}", scenes.join(", "))
            }
            None if scenes.len() > 1 => bail!(
                "the pictures are of {} scenes, and a calibration is of one camera: choose with \
                 --scene one of {}",
                scenes.len(),
                scenes.join(", ")
            ),
            _ => {}
        }
    }
    let (mut paths, mut taken) = (Vec::new(), Vec::new());
    for source in &options.sources {
        if !source.contains("://") && is_picture(Path::new(source))? {
            paths.push(PathBuf::from(source));
            continue;
        }
        let Some(folder) = &options.save else {
            bail!(
                "{}: its pictures must be seen to be counted: give --save FOLDER, where they are written",
                crate::source::redact::url(source)
            );
        };
        let number = options.frames.into();
        taken.extend(grab::pictures(source, number, folder)?);
    }
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !taken.is_empty() && options.counts.is_empty() && !asks {
        return Ok(Gathered::Taken(taken));
    }
    paths.extend(taken);
    let mut counts = assigned(&paths, &options.counts)?;
    for path in paths {
        let count = match counts.remove(&path) {
            Some(count) => count,
            None if asks => ask(&path)?,
            None => bail!(
                "{}: how many vehicles are in it? Say --count {}=NUMBER",
                path.display(),
                path.file_name().unwrap_or_default().to_string_lossy()
            ),
        };
        shots.push(typed(&path, count)?);
    }
    check(&shots)?;
    Ok(Gathered::Shots(shots))
}

/// What a calibration cannot do without.
fn check(shots: &[Shot]) -> Result<()> {
    for (index, shot) in shots.iter().enumerate() {
        let size = shot.picture.dimensions();
        let same = shots[..index].iter().find(|other| other.picture == shot.picture);
        if let Some(other) = same {
            bail!(
                "{} and {} are the same picture: it would count twice. Leave one out",
                other.name,
                shot.name
            );
        }
        let first = shots[0].picture.dimensions();
        let is_near = |a: u32, b: u32| f64::from(a.abs_diff(b)) <= SLACK * f64::from(b);
        ensure!(
            is_near(size.0, first.0) && is_near(size.1, first.1),
            "{} is {}x{} and {} is {}x{}: a calibration is of one camera's pictures, of one size",
            shots[0].name,
            first.0,
            first.1,
            shot.name,
            size.0,
            size.1
        );
    }
    ensure!(
        shots.len() >= LEAST,
        "{} picture{}: give at least {LEAST}, better ten, of different traffic: on fewer nothing can be judged",
        shots.len(),
        if shots.len() == 1 { "" } else { "s" }
    );
    let with = shots.iter().filter(|shot| shot.truth > 0.0).count();
    ensure!(
        with >= LEAST,
        "{with} of {} pictures show vehicles: give at least {LEAST} that do",
        shots.len()
    );
    Ok(())
}

/// Whether the file is a picture, by its content; another file is taken for a clip.
fn is_picture(path: &Path) -> Result<bool> {
    let context = || format!("cannot read {}", path.display());
    ensure!(
        !fs::metadata(path).with_context(context)?.is_dir(),
        "{} is a folder: give the pictures in it",
        path.display()
    );
    let reader = image::ImageReader::open(path).with_context(context)?;
    Ok(reader
        .with_guessed_format()
        .with_context(context)?
        .format()
        .is_some_and(|format| matches!(format, image::ImageFormat::Jpeg | image::ImageFormat::Png)))
}

/// The typed count of each picture, by its path or its file's name.
fn assigned(paths: &[PathBuf], typed: &[Typed]) -> Result<BTreeMap<PathBuf, f64>> {
    let mut counts = BTreeMap::new();
    for Typed { file, count } in typed {
        let is_it = |path: &&PathBuf| {
            path.as_path() == Path::new(file)
                || path.file_name().is_some_and(|name| name == file.as_str())
        };
        let found: Vec<_> = paths.iter().filter(is_it).collect();
        let exact = found.iter().find(|path| path.as_path() == Path::new(file));
        let path = match (found.as_slice(), exact) {
            ([path], _) | (_, Some(path)) => *path,
            ([], None) => {
                let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                bail!("--count {file}: there is no such picture; there is {}", names.join(", "))
            }
            _ => bail!("--count {file}: several pictures have that name; give its path"),
        };
        if counts.insert(path.clone(), *count).is_some() {
            bail!("--count {file}: it is given twice");
        }
    }
    Ok(counts)
}

fn ask(path: &Path) -> Result<f64> {
    loop {
        eprint!("vehicles in {}: ", path.display());
        std::io::stderr().flush()?;
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line)?;
        ensure!(read > 0, "{}: no count was given", path.display());
        match line.trim().parse::<f64>() {
            Ok(count) if count.is_finite() && count >= 0.0 => return Ok(count),
            _ => eprintln!("write a number, such as 12"),
        }
    }
}

fn typed(path: &Path, count: f64) -> Result<Shot> {
    let picture = picture::read_upright(path)?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let sample = Sample::whole(path, width, height);
    let name = path.display().to_string();
    Ok(Shot { name, picture, sample, mask: None, truth: count })
}

fn labelled(sample: Sample) -> Result<Shot> {
    let picture = picture::of(&sample)?;
    let mask = sample.read_mask()?;
    let truth = metrics::truth(&sample, mask.as_ref());
    let name = sample.path.display().to_string();
    Ok(Shot { name, picture, sample, mask, truth })
}
