//! `annotations.jsonl`: pictures and their vehicles, an object a line, in the form that
//! engines/README.md tells.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// One picture.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its name, as the line has it.
    pub file: String,
    /// Where it lies.
    pub path: PathBuf,
    /// File and number of its line, for messages.
    pub place: String,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Its vehicles: x, y, width and height of the box in pixels; a point is a box of no size. In
    /// f32, as the training chain holds them: so a centre on the edge of a part falls on the same
    /// side there.
    pub boxes: Vec<[f32; 4]>,
    /// Pictures of one camera.
    pub scene: String,
    /// What kind of scene that is: the line's `kind`, or the scene's name up to the first
    /// underscore.
    pub kind: String,
    /// Labels are complete inside this alone: x, y, width, height in pixels.
    pub roi: Option<[f64; 4]>,
    /// Labels are complete where this picture is white alone.
    mask: Option<PathBuf>,
    /// Labels are complete inside this polygon alone, [x, y] in pixels. A mask goes before it.
    area: Option<Vec<[f64; 2]>>,
}

#[derive(Deserialize)]
struct Entry {
    file: String,
    width: usize,
    height: usize,
    boxes: Option<Vec<[f32; 4]>>,
    points: Option<Vec<[f32; 2]>>,
    #[serde(default = "all")]
    scene: String,
    kind: Option<String>,
    #[serde(default = "train")]
    split: String,
    roi: Option<[f64; 4]>,
    mask: Option<String>,
    area: Option<Vec<[f64; 2]>>,
    #[serde(rename = "copy-of")]
    copy_of: Option<serde_json::Value>,
}

fn all() -> String {
    "all".to_owned()
}

fn train() -> String {
    "train".to_owned()
}

/// Reads the pictures of `split` that the folders list. A folder may have none of it; all together
/// must.
pub fn load(folders: &[PathBuf], split: &str) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut splits = BTreeSet::new();
    for folder in folders {
        let path = folder.join("annotations.jsonl");
        let text = fs::read_to_string(&path).with_context(|| {
            format!("cannot read {} (engines/prepare.py makes it from other forms)", path.display())
        })?;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = format!("{}:{}", path.display(), number + 1);
            let (sample, own, copy) = parse(folder, line, &place).with_context(|| place.clone())?;
            // The training chain leaves out what is in training twice.
            if own == split && !(copy && split == "train") {
                samples.push(sample);
            }
            splits.insert(own);
        }
    }
    if samples.is_empty() {
        let splits: Vec<_> = splits.into_iter().collect();
        let names: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        bail!(
            "{}: no picture of split {split:?}; there is {}",
            names.join(", "),
            splits.join(", ")
        );
    }
    Ok(samples)
}

/// The picture, its split, and whether it is a copy of another.
fn parse(folder: &Path, line: &str, place: &str) -> Result<(Sample, String, bool)> {
    let entry: Entry = serde_json::from_str(line)
        .context("a line needs file, width, height, and boxes [[x, y, w, h]] or points [[x, y]]")?;
    let Entry { file, width, height, scene, roi, .. } = entry;
    ensure!(
        width > 0 && height > 0,
        "{file} is {width}x{height}: both sides must be at least 1 pixel"
    );
    let boxes = match (entry.boxes, entry.points) {
        (Some(boxes), _) => boxes,
        (None, Some(points)) => points.into_iter().map(|[x, y]| [x, y, 0.0, 0.0]).collect(),
        (None, None) => bail!("{file} has neither boxes [[x, y, w, h]] nor points [[x, y]]"),
    };
    for (number, sides) in boxes.iter().enumerate() {
        let whole = sides.iter().all(|side| side.is_finite()) && sides[2] >= 0.0 && sides[3] >= 0.0;
        ensure!(
            whole,
            "{file}: box {} is {sides:?}: x, y, w, h, neither w nor h below 0",
            number + 1
        );
    }
    if let Some([x, y, w, h]) = roi {
        let inside = x >= 0.0 && y >= 0.0 && x + w <= width as f64 && y + h <= height as f64;
        ensure!(
            w > 0.0 && h > 0.0 && inside,
            "{file}: roi is [{x}, {y}, {w}, {h}]: it must cover something of the picture's {width}x{height}, and nothing outside"
        );
    }
    if let Some(area) = &entry.area {
        let finite = area.iter().flatten().all(|side| side.is_finite());
        ensure!(
            area.len() >= 3 && finite,
            "{file}: area has {} corners: give at least three, [[x, y], ...]",
            area.len()
        );
    }
    // A roi says the same more exactly.
    let area = entry.area.filter(|_| roi.is_none());
    let kind = entry.kind.unwrap_or_else(|| scene.split('_').next().unwrap_or(&scene).to_owned());
    let path = folder.join(&file);
    let mask = entry.mask.map(|mask| folder.join(mask));
    let place = place.to_owned();
    let sample = Sample { file, path, place, width, height, boxes, scene, kind, roi, mask, area };
    Ok((sample, entry.split, entry.copy_of.is_some()))
}

/// Where labels are complete, by the pixel, rows without padding.
pub struct Mask(pub Vec<bool>);

impl Sample {
    /// A picture without labels.
    pub fn whole(path: &Path, width: usize, height: usize) -> Self {
        let file = path.display().to_string();
        Self {
            path: path.to_owned(),
            place: file.clone(),
            file,
            width,
            height,
            boxes: Vec::new(),
            scene: all(),
            kind: all(),
            roi: None,
            mask: None,
            area: None,
        }
    }

    /// A sample for tests.
    #[cfg(test)]
    pub fn of(width: usize, height: usize, boxes: &[[f32; 4]], roi: Option<[f64; 4]>) -> Self {
        Self {
            file: "none.png".to_owned(),
            boxes: boxes.to_vec(),
            scene: "here".to_owned(),
            kind: "here".to_owned(),
            roi,
            ..Self::whole(Path::new(""), width, height)
        }
    }

    /// Reads the mask, or fills the area, where there is one.
    pub fn read_mask(&self) -> Result<Option<Mask>> {
        let Some(path) = &self.mask else {
            return Ok(self.area.as_ref().map(|area| Mask(inside(area, self.width, self.height))));
        };
        let picture = image::open(path)
            .with_context(|| format!("{}: cannot read {}", self.place, path.display()))?;
        ensure!(
            (picture.width() as usize, picture.height() as usize) == (self.width, self.height),
            "{}: the mask {} is not as large as its picture",
            self.place,
            path.display()
        );
        Ok(Some(Mask(picture.into_luma8().iter().map(|&level| level > 127).collect())))
    }

    /// Centres of the boxes in pixels.
    pub fn centres(&self) -> impl Iterator<Item = [f64; 2]> {
        self.boxes.iter().map(|[x, y, w, h]| [f64::from(x + w / 2.0), f64::from(y + h / 2.0)])
    }
}

/// The pixels of a picture whose centre lies inside the polygon `area`, by the even-odd rule, row
/// by row.
fn inside(area: &[[f64; 2]], width: usize, height: usize) -> Vec<bool> {
    let mut pixels = vec![false; width * height];
    for (y, row) in pixels.chunks_exact_mut(width).enumerate() {
        let y = y as f64 + 0.5;
        for (&[x0, y0], &[x1, y1]) in area.iter().zip(area.iter().cycle().skip(1)) {
            if y < y0.min(y1) || y >= y0.max(y1) {
                continue;
            }
            let at = x0 + (y - y0) * ((x1 - x0) / (y1 - y0));
            let right = row.iter_mut().enumerate().filter(|(x, _)| *x as f64 + 0.5 > at);
            right.for_each(|(_, pixel)| *pixel = !*pixel);
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(lines: &[&str]) -> Result<Vec<Sample>> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("annotations.jsonl"), lines.join("\n")).unwrap();
        load(&[folder.path().to_owned()], "val")
    }

    #[test]
    fn broken_lines_are_named_with_what_is_wrong() {
        let good = r#"{"file": "a.png", "width": 8, "height": 8, "boxes": [], "split": "val"}"#;
        for (line, word) in [
            (r#"{"file": "b.png", "width": 8"#, "EOF"),
            (r#"{"file": "b.png", "width": 8, "boxes": []}"#, "height"),
            (r#"{"file": "b.png", "width": 8, "height": 8}"#, "neither boxes"),
            (r#"{"file": "b.png", "width": 8, "height": 0, "boxes": []}"#, "8x0"),
            (r#"{"file": "b.png", "width": 8, "height": 8, "boxes": [[1, 2, 3]]}"#, "boxes"),
            (
                r#"{"file": "b.png", "width": 8, "height": 8, "boxes": [[0, 0, 1, 1], [1, 2, -3, 4]]}"#,
                "box 2",
            ),
            (
                r#"{"file": "b.png", "width": 8, "height": 8, "boxes": [], "roi": [0, 0, 9, 8]}"#,
                "roi",
            ),
            (
                r#"{"file": "b.png", "width": 8, "height": 8, "boxes": [], "area": [[0, 0], [8, 8]]}"#,
                "area",
            ),
        ] {
            let said = format!("{:#}", loaded(&[good, "", line]).unwrap_err());
            assert!(said.contains("annotations.jsonl:3") && said.contains(word), "{said}");
        }
        let said = format!("{:#}", loaded(&[&good.replace("val", "test")]).unwrap_err());
        assert!(said.contains("split \"val\"") && said.contains("there is test"), "{said}");
    }

    #[test]
    fn area_is_filled_by_the_even_odd_rule() {
        // A square of 4 pixels a side with a hole, drawn in one line.
        let square = [[1.0, 1.0], [5.0, 1.0], [5.0, 5.0], [1.0, 5.0], [1.0, 1.0]];
        let hole = [[2.0, 2.0], [3.0, 2.0], [3.0, 3.0], [2.0, 3.0], [2.0, 2.0]];
        let pixels = inside(&[square, hole].concat(), 6, 6);
        assert_eq!(pixels.iter().filter(|inside| **inside).count(), 15);
        assert!(pixels[6 + 1] && !pixels[2 * 6 + 2] && !pixels[5 * 6 + 5]);
    }

    #[test]
    fn kind_of_a_scene_is_its_first_word_unless_said() {
        let line = r#"{"file": "a.png", "width": 8, "height": 8, "points": [[3, 4]], "scene": "aerial_x_2", "split": "val"}"#;
        let samples =
            loaded(&[line, &line.replace("\"split\"", "\"kind\": \"drone\", \"split\"")]).unwrap();
        assert_eq!([&samples[0].kind, &samples[1].kind], ["aerial", "drone"]);
        assert_eq!(samples[0].boxes, [[3.0, 4.0, 0.0, 0.0]]);
    }
}
