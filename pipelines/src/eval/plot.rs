//! The pictures of an evaluation: scatter, histogram, and the pictures that were counted worst.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::path::Path;

use anyhow::{Context as _, Result};
use cairo::{Context, Format, ImageSurface};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage, imageops};
use vehiclecount_core::density::DensityMap;
use vehiclecount_core::heat;

use super::annotations::Sample;
use super::{Counted, read};

/// Colours that are told apart by everybody (Okabe and Ito 2008), without the yellow, which white
/// swallows.
const COLORS: [[f64; 3]; 7] = [
    [0.0, 0.447, 0.698],
    [0.835, 0.369, 0.0],
    [0.0, 0.62, 0.451],
    [0.8, 0.475, 0.655],
    [0.902, 0.624, 0.0],
    [0.337, 0.706, 0.914],
    [0.35, 0.35, 0.38],
];

const INK: [f64; 3] = [0.13, 0.15, 0.18];
const FAINT: [f64; 3] = [0.42, 0.45, 0.5];
const LINE: [f64; 3] = [0.87, 0.88, 0.9];

/// Where text stands to its point.
#[derive(Clone, Copy)]
enum Align {
    Left,
    Middle,
    Right,
}

/// Size in pixels, and whether it is bold.
#[derive(Clone, Copy)]
struct Font(f64, bool);

/// A drawing in memory.
struct Canvas {
    surface: ImageSurface,
    context: Context,
    width: i32,
    height: i32,
}

impl Canvas {
    fn new(width: i32, height: i32, ground: [f64; 3]) -> Result<Self> {
        let surface = ImageSurface::create(Format::Rgb24, width, height)?;
        let context = Context::new(&surface)?;
        let canvas = Self { surface, context, width, height };
        canvas.color(ground, 1.0);
        canvas.context.paint()?;
        Ok(canvas)
    }

    fn color(&self, [red, green, blue]: [f64; 3], alpha: f64) {
        self.context.set_source_rgba(red, green, blue, alpha);
    }

    fn layout(&self, text: &str, Font(size, bold): Font) -> pango::Layout {
        let layout = pangocairo::functions::create_layout(&self.context);
        let mut font = pango::FontDescription::new();
        font.set_family("Sans");
        font.set_absolute_size(size * f64::from(pango::SCALE));
        font.set_weight(if bold { pango::Weight::Bold } else { pango::Weight::Normal });
        layout.set_font_description(Some(&font));
        layout.set_single_paragraph_mode(true);
        layout.set_text(text);
        layout
    }

    /// Writes `text` with its upper edge at `y`, cut short at `most` pixels; returns its width.
    fn text(&self, x: f64, y: f64, text: &str, font: Font, align: Align, most: f64) -> f64 {
        let layout = self.layout(text, font);
        if f64::from(layout.pixel_size().0) > most {
            layout.set_ellipsize(pango::EllipsizeMode::End);
            layout.set_width((most * f64::from(pango::SCALE)) as i32);
        }
        let width = f64::from(layout.pixel_size().0);
        let left = match align {
            Align::Left => x,
            Align::Middle => x - width / 2.0,
            Align::Right => x - width,
        };
        self.context.move_to(left, y);
        pangocairo::functions::show_layout(&self.context, &layout);
        width
    }

    fn line(&self, from: (f64, f64), to: (f64, f64), width: f64) -> Result<()> {
        self.context.move_to(from.0, from.1);
        self.context.line_to(to.0, to.1);
        self.context.set_line_width(width);
        Ok(self.context.stroke()?)
    }

    /// Draws RGB pixels with their upper left corner at (x, y).
    fn picture(&self, picture: &RgbImage, x: f64, y: f64) -> Result<()> {
        let (width, height) = picture.dimensions();
        let mut surface = ImageSurface::create(Format::Rgb24, width as i32, height as i32)?;
        let stride = surface.stride() as usize;
        {
            let mut data = surface.data()?;
            let rows = picture.as_raw().chunks_exact(width as usize * 3);
            for (line, row) in data.chunks_mut(stride).zip(rows) {
                for (word, pixel) in
                    line.as_chunks_mut::<4>().0.iter_mut().zip(row.as_chunks::<3>().0)
                {
                    let [red, green, blue] = pixel.map(u32::from);
                    *word = ((red << 16) | (green << 8) | blue).to_ne_bytes();
                }
            }
        }
        self.context.set_source_surface(&surface, x, y)?;
        Ok(self.context.paint()?)
    }

    fn write(self, path: &Path) -> Result<()> {
        let Self { mut surface, context, width, height } = self;
        drop(context);
        let stride = surface.stride() as usize;
        surface.flush();
        let data = surface.data()?;
        let words = data.chunks(stride).flat_map(|line| &line.as_chunks::<4>().0[..width as usize]);
        let rgb: Vec<u8> = words
            .flat_map(|word| {
                let word = u32::from_ne_bytes(*word);
                [(word >> 16) as u8, (word >> 8) as u8, word as u8]
            })
            .collect();
        let context = || format!("cannot write {}", path.display());
        let file = std::io::BufWriter::new(std::fs::File::create(path).with_context(context)?);
        PngEncoder::new_with_quality(file, CompressionType::Best, FilterType::Adaptive)
            .write_image(&rgb, width as u32, height as u32, ExtendedColorType::Rgb8)
            .with_context(context)
    }
}

/// A step of 1, 2 or 5 times a power of ten, so that `span` has some `wanted` of them.
fn nice_step(span: f64, wanted: f64) -> f64 {
    let rough = (span / wanted).max(1e-6);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= rough * 0.999);
    step.unwrap_or(10.0) * power
}

/// A number on an axis of this step.
fn tick(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    // Never "-0".
    format!("{:.decimals$}", if value.abs() < step / 1e3 { 0.0 } else { value })
}

/// The kinds of scenes and their colours.
fn kinds(samples: &[Sample]) -> BTreeMap<&str, [f64; 3]> {
    let mut kinds: BTreeMap<&str, [f64; 3]> =
        samples.iter().map(|sample| (sample.kind.as_str(), [0.0; 3])).collect();
    kinds.values_mut().zip(COLORS.iter().cycle()).for_each(|(color, own)| *color = *own);
    kinds
}

/// Title, second line and legend.
fn head(canvas: &Canvas, title: &str, note: &str, kinds: &BTreeMap<&str, [f64; 3]>) -> Result<()> {
    let wide = f64::from(canvas.width);
    canvas.color(INK, 1.0);
    canvas.text(28.0, 16.0, title, Font(20.0, true), Align::Left, wide - 56.0);
    canvas.color(FAINT, 1.0);
    canvas.text(28.0, 44.0, note, Font(14.0, false), Align::Left, wide - 56.0);
    let mut x = 28.0;
    for (kind, color) in kinds {
        let length = f64::from(canvas.layout(kind, Font(14.0, false)).pixel_size().0);
        if x + length + 20.0 > wide - 28.0 {
            break;
        }
        canvas.color(*color, 0.85);
        canvas.context.arc(x + 6.0, 81.0, 6.0, 0.0, TAU);
        canvas.context.fill()?;
        canvas.color(INK, 1.0);
        canvas.text(x + 18.0, 72.0, kind, Font(14.0, false), Align::Left, length);
        x += length + 44.0;
    }
    Ok(())
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, number) = values.fold((0.0, 0.0), |(sum, number), value| (sum + value, number + 1.0));
    sum / f64::max(number, 1.0)
}

fn note(counted: &[Counted]) -> String {
    let mae = mean(counted.iter().map(|counted| counted.line.error().abs()));
    let bias = mean(counted.iter().map(|counted| counted.line.error()));
    format!("{} pictures, MAE {mae:.2}, bias {bias:+.2} vehicles", counted.len())
}

/// The plot's inside: left, top, right and bottom margin.
const MARGINS: [f64; 4] = [84.0, 108.0, 32.0, 68.0];

/// Count against truth, a point for each picture.
pub fn scatter(path: &Path, title: &str, samples: &[Sample], counted: &[Counted]) -> Result<()> {
    let canvas = Canvas::new(860, 900, [1.0; 3])?;
    let kinds = kinds(samples);
    head(&canvas, &format!("Count against truth: {title}"), &note(counted), &kinds)?;
    let [left, top, right, bottom] = MARGINS;
    let side =
        (f64::from(canvas.width) - left - right).min(f64::from(canvas.height) - top - bottom);
    let most = counted
        .iter()
        .flat_map(|counted| [counted.line.count, counted.line.truth])
        .fold(1.0, f64::max)
        * 1.04;
    let step = nice_step(most, 7.0);
    let place = |truth: f64, count: f64| {
        (left + truth / most * side, top + side - count.max(0.0) / most * side)
    };
    for number in (0..).map(|number| f64::from(number) * step).take_while(|number| *number <= most)
    {
        canvas.color(LINE, 1.0);
        canvas.line(place(number, 0.0), place(number, most), 1.0)?;
        canvas.line(place(0.0, number), place(most, number), 1.0)?;
        canvas.color(FAINT, 1.0);
        let ((x, _), (_, y)) = (place(number, 0.0), place(0.0, number));
        canvas.text(
            x,
            top + side + 8.0,
            &tick(number, step),
            Font(14.0, false),
            Align::Middle,
            80.0,
        );
        canvas.text(
            left - 10.0,
            y - 10.0,
            &tick(number, step),
            Font(14.0, false),
            Align::Right,
            60.0,
        );
    }
    canvas.color(INK, 0.75);
    canvas.line(place(0.0, 0.0), place(most, most), 1.5)?;
    canvas.text(
        left + side / 2.0,
        top + side + 34.0,
        "vehicles, true",
        Font(15.0, false),
        Align::Middle,
        side,
    );
    canvas.context.save()?;
    canvas.context.translate(20.0, top + side / 2.0);
    canvas.context.rotate(-TAU / 4.0);
    canvas.text(0.0, 0.0, "vehicles, counted", Font(15.0, false), Align::Middle, side);
    canvas.context.restore()?;
    for (sample, counted) in samples.iter().zip(counted) {
        let (x, y) = place(counted.line.truth, counted.line.count);
        canvas.context.arc(x, y, 5.0, 0.0, TAU);
        canvas.color(kinds[sample.kind.as_str()], 0.6);
        canvas.context.fill_preserve()?;
        canvas.color([1.0; 3], 0.9);
        canvas.context.set_line_width(0.8);
        canvas.context.stroke()?;
    }
    canvas.write(path)
}

/// How many pictures were counted too low and too high by how much, the kinds of scenes on top of
/// one another.
pub fn errors(path: &Path, title: &str, samples: &[Sample], counted: &[Counted]) -> Result<()> {
    let canvas = Canvas::new(960, 600, [1.0; 3])?;
    let kinds = kinds(samples);
    head(&canvas, &format!("Error of the count: {title}"), &note(counted), &kinds)?;
    let [left, top, right, bottom] = MARGINS;
    let (wide, high) =
        (f64::from(canvas.width) - left - right, f64::from(canvas.height) - top - bottom);
    let bounds = counted.iter().map(|counted| counted.line.error());
    let (low, high_error) =
        bounds.fold((-0.5f64, 0.5f64), |(low, high), error| (low.min(error), high.max(error)));
    let bin = nice_step(high_error - low, 32.0);
    // A bin's middle is a multiple of its width: one of them is centred on no error.
    let index = |error: f64| (error / bin).round() as i64;
    let (first, last) = (index(low) - 1, index(high_error) + 1);
    let bins = (last - first + 1) as f64;
    let mut stacks: BTreeMap<i64, BTreeMap<&str, f64>> = BTreeMap::new();
    for (sample, counted) in samples.iter().zip(counted) {
        *stacks.entry(index(counted.line.error())).or_default().entry(&sample.kind).or_default() +=
            1.0;
    }
    let most = stacks.values().map(|stack| stack.values().sum::<f64>()).fold(1.0, f64::max) * 1.08;
    let x_of = |error: f64| left + (error / bin - first as f64 + 0.5) / bins * wide;
    let y_of = |number: f64| top + high - number / most * high;
    let step = nice_step(most, 6.0).max(1.0);
    for number in (0..).map(|number| f64::from(number) * step).take_while(|number| *number <= most)
    {
        canvas.color(LINE, 1.0);
        canvas.line((left, y_of(number)), (left + wide, y_of(number)), 1.0)?;
        canvas.color(FAINT, 1.0);
        canvas.text(
            left - 10.0,
            y_of(number) - 10.0,
            &tick(number, step),
            Font(14.0, false),
            Align::Right,
            60.0,
        );
    }
    let across = bin * bins;
    let step = nice_step(across, 10.0);
    let begin = ((first as f64 - 0.5) * bin / step).ceil() as i64;
    for number in
        (begin..).map(|number| number as f64 * step).take_while(|n| *n <= (last as f64 + 0.5) * bin)
    {
        canvas.text(
            x_of(number),
            top + high + 8.0,
            &tick(number, step),
            Font(14.0, false),
            Align::Middle,
            80.0,
        );
    }
    for (index, stack) in &stacks {
        let (from, to) =
            (x_of((*index as f64 - 0.5) * bin) + 1.0, x_of((*index as f64 + 0.5) * bin) - 1.0);
        let mut base = 0.0;
        for (kind, color) in &kinds {
            let number = stack.get(kind).copied().unwrap_or(0.0);
            canvas.context.rectangle(
                from,
                y_of(base + number),
                (to - from).max(1.0),
                y_of(base) - y_of(base + number),
            );
            canvas.color(*color, 0.85);
            canvas.context.fill()?;
            base += number;
        }
    }
    let bias = mean(counted.iter().map(|counted| counted.line.error()));
    canvas.color(INK, 0.9);
    canvas.line((x_of(0.0), top), (x_of(0.0), top + high), 1.5)?;
    canvas.context.set_dash(&[6.0, 4.0], 0.0);
    canvas.line((x_of(bias), top), (x_of(bias), top + high), 1.5)?;
    canvas.context.set_dash(&[], 0.0);
    let beside = if bias < 0.0 { Align::Right } else { Align::Left };
    let gap = if bias < 0.0 { -6.0 } else { 6.0 };
    canvas.text(
        x_of(bias) + gap,
        top,
        &format!("bias {bias:+.2}"),
        Font(13.0, false),
        beside,
        120.0,
    );
    canvas.color(INK, 1.0);
    let words = format!("counted minus true, vehicles (bars of {bin})");
    canvas.text(
        left + wide / 2.0,
        top + high + 34.0,
        &words,
        Font(15.0, false),
        Align::Middle,
        wide,
    );
    canvas.context.save()?;
    canvas.context.translate(20.0, top + high / 2.0);
    canvas.context.rotate(-TAU / 4.0);
    canvas.text(0.0, 0.0, "pictures", Font(15.0, false), Align::Middle, high);
    canvas.context.restore()?;
    canvas.write(path)
}

/// A tile's picture at most, its caption, and the gap around it, in pixels.
const TILE: (u32, u32) = (360, 270);
const CAPTION: f64 = 44.0;
const GAP: f64 = 10.0;

/// Blends the density over `picture`, which shows the whole frame: blue where little is, red where
/// much is.
fn blend_heat(picture: &mut RgbImage, map: &DensityMap) {
    let grid = &map.grid;
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    // Place of a pixel among the cells' centres: the cell before it, the one behind, and how far it
    // is to that one.
    let between = |pixel: u32, length: f64, start: f64, extent: f64, cells: usize| {
        let place = ((f64::from(pixel) + 0.5) / length - start) / extent * cells as f64 - 0.5;
        let place = place.clamp(0.0, (cells - 1) as f64);
        let first = place as usize;
        (first, (first + 1).min(cells - 1), place - first as f64)
    };
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let (left, right, across) = between(x, width, grid.rect.x, grid.rect.width, grid.columns);
        let (above, below, down) = between(y, height, grid.rect.y, grid.rect.height, grid.rows);
        let cell = |row: usize, column: usize| f64::from(map.cells[row * grid.columns + column]);
        let row = |row: usize| cell(row, left) * (1.0 - across) + cell(row, right) * across;
        let density = row(above) * (1.0 - down) + row(below) * down;
        let hot = heat::of_density(density);
        let alpha = (hot * 1.8).min(0.62);
        for (level, color) in pixel.0.iter_mut().zip(heat::color(hot)) {
            *level = (f64::from(*level) * (1.0 - alpha) + color * 255.0 * alpha).round() as u8;
        }
    }
}

/// The `limit` pictures of the largest error, with density, true centres and labelled area; returns
/// how many there are.
pub fn worst(
    path: &Path,
    title: &str,
    samples: &[Sample],
    counted: &[Counted],
    limit: usize,
) -> Result<usize> {
    let mut order: Vec<usize> = (0..counted.len()).collect();
    order.sort_by(|&a, &b| counted[b].line.error().abs().total_cmp(&counted[a].line.error().abs()));
    order.truncate(limit);
    let columns = (order.len() as f64).sqrt().ceil().clamp(1.0, 4.0) as usize;
    let scaled = |sample: &Sample| {
        let scale =
            (f64::from(TILE.0) / sample.width as f64).min(f64::from(TILE.1) / sample.height as f64);
        let side = |pixels: usize| ((pixels as f64 * scale).round() as u32).max(1);
        (side(sample.width), side(sample.height), scale)
    };
    // A row is as high as its highest picture.
    let rows: Vec<&[usize]> = order.chunks(columns).collect();
    let highs: Vec<f64> = rows
        .iter()
        .map(|row| row.iter().map(|&i| f64::from(scaled(&samples[i]).1)).fold(0.0, f64::max))
        .collect();
    let width = columns as f64 * (f64::from(TILE.0) + GAP) + GAP;
    let head = 66.0;
    let height = head + highs.iter().map(|high| high + CAPTION + GAP).sum::<f64>() + GAP;
    let canvas = Canvas::new(width as i32, height as i32, [0.09, 0.1, 0.12])?;
    canvas.color([1.0; 3], 1.0);
    canvas.text(
        GAP,
        10.0,
        &format!("Largest errors: {title}"),
        Font(18.0, true),
        Align::Left,
        width - 2.0 * GAP,
    );
    canvas.color([0.68, 0.71, 0.76], 1.0);
    let words =
        format!("{}; heat: density; dots: true centres; dashes: labelled area", note(counted));
    canvas.text(GAP, 37.0, &words, Font(13.0, false), Align::Left, width - 2.0 * GAP);
    let mut top = head;
    for (row, high) in rows.iter().zip(&highs) {
        for (column, &index) in row.iter().enumerate() {
            let (sample, Counted { line, density }) = (&samples[index], &counted[index]);
            let (across, down, scale) = scaled(sample);
            let left =
                GAP + column as f64 * (f64::from(TILE.0) + GAP) + f64::from(TILE.0 - across) / 2.0;
            let upper = top + (high - f64::from(down)) / 2.0;
            let mut picture =
                imageops::resize(&read(sample)?, across, down, imageops::FilterType::Triangle);
            if let Some(map) = density {
                blend_heat(&mut picture, map);
            }
            canvas.picture(&picture, left, upper)?;
            if let Some([x, y, w, h]) = sample.roi {
                canvas.context.rectangle(left + x * scale, upper + y * scale, w * scale, h * scale);
                canvas.context.set_dash(&[7.0, 5.0], 0.0);
                canvas.color([1.0, 0.9, 0.3], 0.95);
                canvas.context.set_line_width(1.5);
                canvas.context.stroke()?;
                canvas.context.set_dash(&[], 0.0);
            }
            canvas.context.save()?;
            canvas.context.rectangle(left, upper, f64::from(across), f64::from(down));
            canvas.context.clip();
            for [x, y] in sample.centres() {
                for (radius, color) in [(3.2, [0.0; 3]), (2.2, [1.0; 3])] {
                    canvas.context.arc(left + x * scale, upper + y * scale, radius, 0.0, TAU);
                    canvas.color(color, 0.9);
                    canvas.context.fill()?;
                }
            }
            canvas.context.restore()?;
            let left = GAP + column as f64 * (f64::from(TILE.0) + GAP);
            let below = top + high + 3.0;
            canvas.color([1.0; 3], 1.0);
            let words = format!("{:.1} counted, {} true", line.count, line.truth);
            let used = canvas.text(
                left,
                below,
                &words,
                Font(14.0, true),
                Align::Left,
                f64::from(TILE.0) - 70.0,
            );
            canvas.color(if line.error() > 0.0 { [1.0, 0.62, 0.4] } else { [0.5, 0.78, 1.0] }, 1.0);
            let most = f64::from(TILE.0) - used - 10.0;
            canvas.text(
                left + used + 10.0,
                below,
                &format!("{:+.1}", line.error()),
                Font(14.0, true),
                Align::Left,
                most,
            );
            canvas.color([0.68, 0.71, 0.76], 1.0);
            let name = Path::new(&line.file)
                .file_name()
                .map_or(line.file.as_str().into(), |name| name.to_string_lossy());
            canvas.text(
                left,
                below + 19.0,
                &name,
                Font(12.0, false),
                Align::Left,
                f64::from(TILE.0),
            );
        }
        top += high + CAPTION + GAP;
    }
    debug_assert!(top <= f64::from(canvas.height));
    canvas.write(path)?;
    Ok(order.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_ones_twos_and_fives() {
        for (span, wanted, step) in [
            (10.0, 5.0, 2.0),
            (0.9, 9.0, 0.1),
            (130.0, 7.0, 20.0),
            (1.0, 32.0, 0.05),
            (41.0, 9.0, 5.0),
        ] {
            assert!(
                (nice_step(span, wanted) - step).abs() < 1e-12,
                "{span}/{wanted}: {}",
                nice_step(span, wanted)
            );
        }
        assert_eq!(
            (tick(-0.0, 0.5), tick(1.5, 0.5), tick(20.0, 20.0)),
            ("0.0".into(), "1.5".into(), "20".into())
        );
    }

    #[test]
    fn heat_lies_where_the_density_is() {
        use vehiclecount_core::density::{Grid, Rect};
        let mut cells = [0.0f32; 16];
        cells[2 * 4 + 1] = 0.5;
        let map = DensityMap {
            grid: Grid { columns: 4, rows: 4, rect: Rect::FRAME },
            cells: cells.as_slice().into(),
        };
        let mut picture = RgbImage::from_pixel(40, 40, image::Rgb([100, 100, 100]));
        blend_heat(&mut picture, &map);
        assert_eq!(picture.get_pixel(35, 5).0, [100, 100, 100]);
        let [red, _, blue] = picture.get_pixel(15, 25).0;
        assert!(red > 180 && blue < 80, "{red} {blue}");
    }
}
