//! The pictures of the largest errors, side by side.

use std::f64::consts::TAU;
use std::path::Path;

use anyhow::Result;
use image::{RgbImage, imageops};
use vehiclecount_core::density::DensityMap;
use vehiclecount_core::heat;

use super::super::annotations::Sample;
use super::super::{SampleCount, picture};
use super::canvas::{Align, Canvas, Font};
use super::note;

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
    counted: &[SampleCount],
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
            let (sample, SampleCount { line, density }) = (&samples[index], &counted[index]);
            let (across, down, scale) = scaled(sample);
            let left =
                GAP + column as f64 * (f64::from(TILE.0) + GAP) + f64::from(TILE.0 - across) / 2.0;
            let upper = top + (high - f64::from(down)) / 2.0;
            let mut picture = imageops::resize(
                &picture::of(sample)?,
                across,
                down,
                imageops::FilterType::Triangle,
            );
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
