//! The errors of many pictures, with how far they would lie from that on others.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::annotations::Sample;
use super::{Line, SampleCount};

/// Bootstrap samples for an interval.
const DRAWS: usize = 2000;

/// Everything that is left to chance follows from it.
const SEED: u64 = 20_150_617;

/// From so many scenes on, scenes are drawn; with fewer, pictures.
const SCENES: usize = 4;

/// What is measured: MAE, MAE as a share of the mean true count, the share of the vehicles that is
/// counted, bias, RMSE, GAME 1 to 3.
const MEASURES: usize = 8;

/// A line of the summary.
#[derive(Clone, Debug)]
pub struct Row {
    name: String,
    images: usize,
    truth: f64,
    values: [f64; MEASURES],
    /// 95 % of the bootstrap samples lie between these.
    intervals: [(f64, f64); MEASURES],
    /// Whether scenes were drawn, not pictures.
    clustered: bool,
    /// MAE of always answering the mean of the true counts.
    baseline: f64,
    /// The largest count.
    most: f64,
}

/// Sums over some pictures, from which all measures follow.
#[derive(Clone, Copy, Default)]
struct Sums {
    images: f64,
    error: f64,
    square: f64,
    count: f64,
    truth: f64,
    game: [f64; 3],
}

impl Sums {
    fn of(counted: &SampleCount) -> Self {
        let Line { count, truth, game1, game2, game3, .. } = counted.line;
        let error = count - truth;
        let game = [game1, game2, game3];
        Self { images: 1.0, error: error.abs(), square: error * error, count, truth, game }
    }

    fn add(&mut self, other: &Self) {
        self.images += other.images;
        self.error += other.error;
        self.square += other.square;
        self.count += other.count;
        self.truth += other.truth;
        self.game.iter_mut().zip(other.game).for_each(|(sum, more)| *sum += more);
    }

    /// Shares are not a number where there are no vehicles.
    fn measures(&self) -> [f64; MEASURES] {
        let mean = |sum: f64| sum / self.images;
        let [game1, game2, game3] = self.game.map(mean);
        let bias = mean(self.count - self.truth);
        let (relative, share) = (self.error / self.truth, self.count / self.truth);
        [mean(self.error), relative, share, bias, mean(self.square).sqrt(), game1, game2, game3]
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Chance(u64);

impl Chance {
    /// Uniform in 0..`bound`; the bias of the multiplication is far below a draw.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * bound as u128) >> 64) as usize
    }
}

/// Percentile intervals (Efron 1979): as many units as there are, drawn with replacement, measured
/// together, over and over. A unit is a scene with all its pictures (Field and Welsh 2007) or a
/// picture.
fn bootstrap(units: &[Sums]) -> [(f64, f64); MEASURES] {
    let mut chance = Chance(SEED);
    let mut drawn: [Vec<f64>; MEASURES] = std::array::from_fn(|_| Vec::with_capacity(DRAWS));
    for _ in 0..DRAWS {
        let mut sums = Sums::default();
        (0..units.len()).for_each(|_| sums.add(&units[chance.below(units.len())]));
        drawn.iter_mut().zip(sums.measures()).for_each(|(all, value)| all.push(value));
    }
    drawn.map(|mut all| {
        all.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| all[((DRAWS - 1) as f64 * share).round() as usize];
        (at(0.025), at(0.975))
    })
}

fn row(name: String, pictures: &[(&Sample, &SampleCount)]) -> Row {
    let mut all = Sums::default();
    let mut scenes: BTreeMap<&str, Sums> = BTreeMap::new();
    for (sample, counted) in pictures {
        let sums = Sums::of(counted);
        all.add(&sums);
        scenes.entry(&sample.scene).or_default().add(&sums);
    }
    let clustered = scenes.len() >= SCENES;
    let units: Vec<_> = match clustered {
        true => scenes.into_values().collect(),
        false => pictures.iter().map(|(_, counted)| Sums::of(counted)).collect(),
    };
    let images = pictures.len();
    let mean = |value: &dyn Fn(f64) -> f64| {
        pictures.iter().map(|(_, counted)| value(counted.line.truth)).sum::<f64>() / images as f64
    };
    let truth = mean(&|truth| truth);
    let baseline = mean(&|value| (value - truth).abs());
    let most = pictures.iter().map(|(_, counted)| counted.line.count).fold(0.0, f64::max);
    let (values, intervals) = (all.measures(), bootstrap(&units));
    Row { name, images, truth, values, intervals, clustered, baseline, most }
}

/// Pictures with what was counted on them.
type Pairs<'a> = Vec<(&'a Sample, &'a SampleCount)>;

/// A row for each kind of scene, and one for all; with `per_scene` each scene under its kind.
pub fn summarise(samples: &[Sample], counted: &[SampleCount], per_scene: bool) -> Vec<Row> {
    let all: Pairs<'_> = samples.iter().zip(counted).collect();
    let mut kinds: BTreeMap<&str, BTreeMap<&str, Pairs<'_>>> = BTreeMap::new();
    for pair in &all {
        kinds.entry(&pair.0.kind).or_default().entry(&pair.0.scene).or_default().push(*pair);
    }
    let mut rows = Vec::new();
    for (kind, scenes) in &kinds {
        if kinds.len() > 1 {
            rows.push(row(
                (*kind).to_owned(),
                &scenes.values().flatten().copied().collect::<Vec<_>>(),
            ));
        }
        if per_scene {
            rows.extend(scenes.iter().map(|(scene, pictures)| row(format!("  {scene}"), pictures)));
        }
    }
    rows.push(row("all".to_owned(), &all));
    rows
}

/// How a measure is written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Number,
    Signed,
    Share,
}

/// Heading, width and form of each measure.
const COLUMNS: [(&str, usize, Form); MEASURES] = [
    ("MAE", 11, Form::Number),
    ("of truth", 8, Form::Share),
    ("counted", 9, Form::Share),
    ("bias", 13, Form::Signed),
    ("RMSE", 11, Form::Number),
    ("GAME 1", 11, Form::Number),
    ("GAME 2", 11, Form::Number),
    ("GAME 3", 11, Form::Number),
];

/// Two decimals where they say something.
fn number(value: f64, form: Form) -> String {
    let decimals = if value.abs() < 9.995 { 2 } else { 1 };
    match form {
        Form::Share if !value.is_finite() => "-".to_owned(),
        Form::Share => format!("{:.0}%", value * 100.0),
        Form::Signed => format!("{value:+.decimals$}"),
        Form::Number => format!("{value:.decimals$}"),
    }
}

fn interval((low, high): (f64, f64), form: Form) -> String {
    match form {
        Form::Share if !(low.is_finite() && high.is_finite()) => String::new(),
        Form::Share => format!("{:.0}..{:.0}%", low * 100.0, high * 100.0),
        _ => format!("{}..{}", number(low, form), number(high, form)),
    }
}

/// The table, in at most 132 columns where names are short.
pub fn table(rows: &[Row]) -> String {
    let wide = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(8);
    let line =
        |name: &str, images: &str, truth: &str, cells: [String; COLUMNS.len()], mean: &str| {
            let mut text = format!("{name:wide$}  {images:>6}  {truth:>5} ");
            for (cell, (_, width, _)) in cells.iter().zip(COLUMNS) {
                let _ = write!(text, " {cell:>width$}");
            }
            format!("{} {mean:>6}", text).trim_end().to_owned() + "\n"
        };
    let heads = COLUMNS.map(|(head, ..)| head.to_owned());
    let mut text = line("", "images", "truth", heads, "mean");
    for row in rows {
        let images = format!("{}{}", row.images, if row.clustered { " " } else { "*" });
        let empty = row.truth == 0.0;
        let cells = std::array::from_fn(|at| match COLUMNS[at] {
            ("counted", ..) if empty => format!("max {}", number(row.most, Form::Number)),
            (_, _, form) => number(row.values[at], form),
        });
        let (truth, mean) = (number(row.truth, Form::Number), number(row.baseline, Form::Number));
        text += &line(&row.name, &images, &truth, cells, &mean);
        let cells = std::array::from_fn(|at| interval(row.intervals[at], COLUMNS[at].2));
        text += &line("", "", "", cells, "");
    }
    let _ = writeln!(
        text,
        "\nof truth: MAE as a share of the mean true count. counted: the share of the vehicles that is counted, above\n\
         100% where more are counted than there are; without vehicles, the largest count of a picture.\n\
         Second lines: 95 % intervals, from {DRAWS} bootstrap samples of scenes; where marked *, of pictures, since there\n\
         are fewer than {SCENES} scenes: that interval is for more pictures of these scenes, not for other scenes.\n\
         mean: the MAE of always answering the mean of the true counts of that line."
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(scene: &str, count: f64, truth: f64) -> (Sample, SampleCount) {
        let mut sample = Sample::of(8, 8, &[], None);
        sample.scene = scene.to_owned();
        let error = (count - truth).abs();
        let (file, scene) = (String::new(), scene.to_owned());
        let kind = scene.clone();
        let line = Line {
            file,
            scene,
            kind,
            count,
            truth,
            game0: error,
            game1: error,
            game2: error + 1.0,
            game3: error + 2.0,
            inputs: 1,
        };
        (sample, SampleCount { line, density: None })
    }

    #[test]
    fn measures_are_those_of_the_textbook() {
        let (samples, counted): (Vec<_>, Vec<_>) =
            [counted("a", 1.0, 2.0), counted("a", 4.0, 6.0)].into_iter().unzip();
        let rows = summarise(&samples, &counted, false);
        assert_eq!(rows.len(), 1);
        let [mae, relative, share, bias, rmse, game1, game2, _] = rows[0].values;
        assert_eq!((mae, bias, game1, game2), (1.5, -1.5, 1.5, 2.5));
        // 3 of 8 vehicles too few; 5 of 8 counted.
        assert_eq!((relative, share), (0.375, 0.625));
        assert!((rmse - 2.5f64.sqrt()).abs() < 1e-12);
        assert_eq!((rows[0].truth, rows[0].baseline), (4.0, 2.0));
    }

    #[test]
    fn pictures_of_one_scene_are_no_independent_witnesses() {
        // Six scenes of 30 alike pictures: as good as six pictures.
        let error = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let pictures = |scenes: usize| {
            let of = |index: usize| counted(&format!("s{}", index % scenes), error[index % 6], 0.0);
            let (samples, counted): (Vec<_>, Vec<_>) = (0..180).map(of).unzip();
            summarise(&samples, &counted, false).pop().unwrap()
        };
        let (clustered, alone) = (pictures(6), pictures(180));
        let width = |row: &Row| row.intervals[0].1 - row.intervals[0].0;
        assert!(clustered.clustered && alone.clustered);
        // The standard error of a mean of 6 is the square root of 30 times that of one of 180.
        let ratio = width(&clustered) / width(&alone);
        assert!((4.0..7.0).contains(&ratio), "{ratio}");
        // 1.96 standard errors of a mean of 180 each way: 2 * 1.96 * 1.708 / sqrt(180).
        assert!((width(&alone) - 0.499).abs() < 0.04, "{}", width(&alone));
        assert!(alone.intervals[0].0 < 2.5 && alone.intervals[0].1 > 2.5);
    }

    #[test]
    fn table_fits_132_columns() {
        let pictures = (0..40).map(|index| counted("s", 30.0 + f64::from(index), 10.0));
        let (mut samples, counted): (Vec<_>, Vec<_>) = pictures.unzip();
        for (index, sample) in samples.iter_mut().enumerate() {
            sample.kind = ["roadside", "top-down"][index % 2].to_owned();
        }
        let text = table(&summarise(&samples, &counted, true));
        for line in text.lines() {
            assert!(line.chars().count() <= 132, "{} columns: {line}", line.chars().count());
        }
        assert!(text.contains("40*"), "{text}");
    }

    #[test]
    fn pictures_without_vehicles_have_no_shares_and_tell_their_largest_count() {
        let pictures = [counted("roof", 0.25, 0.0), counted("roof", 1.25, 0.0)];
        let (samples, counted): (Vec<_>, Vec<_>) = pictures.into_iter().unzip();
        let text = table(&summarise(&samples, &counted, false));
        assert!(
            text.contains("max 1.25") && !text.contains("NaN") && !text.contains("inf"),
            "{text}"
        );
    }
}
