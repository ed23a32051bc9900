//! The drawings: each a small picture with its place in the frame, kept until what it shows
//! changes.

use cairo::{Context, Format, ImageSurface, LineJoin};
use vehiclecount_core::density::{DensityMap, Grid};
use vehiclecount_core::heat::{self, WARM};
use vehiclecount_core::region::{Level, Polygon};

/// Text of the panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// The camera's name.
    pub camera: String,
    /// The count, or "–".
    pub count: String,
    /// What the level is called, and its colour.
    pub level: Option<Level>,
    /// "0.4 s old", or nothing.
    pub age: String,
    /// "truth 12", or nothing.
    pub truth: String,
}

/// A region and its label.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// Corners in 0..1 of the frame.
    pub polygon: Polygon,
    /// Name and count.
    pub label: String,
    /// Gives the colour.
    pub level: Option<Level>,
}

/// Why nothing can be drawn: Cairo has no memory, say.
pub type DrawError = cairo::Error;

/// A piece of a drawing.
pub type Rectangle = gst_video::VideoOverlayRectangle;

/// Side of a frame that is not scaled: text has the size below at 360 rows.
const ROWS: f64 = 360.0;

/// Text smaller than at this scale, 9 pixels, is hard to read: small frames get larger text than
/// their share, where there is room.
const LEGIBLE: f64 = 0.75;

/// Below this scale a panel is a blot.
const SMALLEST: f64 = 0.3;

/// How large text and lines are on `frame`: 1 at 360 rows of 16:9, times what the user wants.
fn scale_of(frame: (u32, u32), text_scale: f64) -> f64 {
    (f64::from(frame.1.min(frame.0 * 9 / 16)) / ROWS).max(LEGIBLE) * text_scale
}

fn level_color(level: Option<Level>) -> [f64; 3] {
    match level {
        Some(Level::Free) => [0.25, 0.78, 0.45],
        Some(Level::Moderate) => [0.98, 0.8, 0.24],
        Some(Level::Dense) => [0.98, 0.53, 0.18],
        Some(Level::Jammed) => [0.92, 0.24, 0.26],
        None => [0.65, 0.68, 0.72],
    }
}

/// `rows` rows of premultiplied pixels in Cairo's words, to be shown at (x, y), each a pixel of the
/// frame.
fn rectangle(
    pixels: Vec<u8>,
    x: usize,
    y: usize,
    columns: usize,
    rows: usize,
) -> Option<Rectangle> {
    let mut buffer = gst::Buffer::from_mut_slice(pixels);
    // Cairo's ARGB32 is premultiplied, in the machine's byte order.
    let format = if cfg!(target_endian = "little") {
        gst_video::VideoFormat::Bgra
    } else {
        gst_video::VideoFormat::Argb
    };
    let (flags, width, height) = (gst_video::VideoFrameFlags::empty(), columns as u32, rows as u32);
    let stride = [columns as i32 * 4];
    gst_video::VideoMeta::add_full(buffer.get_mut()?, flags, format, width, height, &[0], &stride)
        .ok()?;
    let flags = gst_video::VideoOverlayFormatFlags::PREMULTIPLIED_ALPHA;
    Some(Rectangle::new_raw(&buffer, x as i32, y as i32, width, height, flags))
}

/// Blending costs by the pixel, see-through ones too, and each rectangle costs as much in every row
/// that it touches as this share of the frame's width does: so drawings are cut into rectangles
/// around what can be seen, and nearer pieces are left together.
const GAP: usize = 8;

/// Runs of what is `seen` among 0..`length`, as start and end; those nearer than `gap` are one.
fn runs(length: usize, gap: usize, seen: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for place in (0..length).filter(|&place| seen(place)) {
        match runs.last_mut() {
            Some((_, end)) if place - *end <= gap => *end = place + 1,
            _ => runs.push((place, place + 1)),
        }
    }
    runs
}

/// Rows that are cut alike.
const BAND: usize = 32;

/// The rectangles of a surface that lies at (x, y) of a frame of width `frame_width`.
fn cut(mut surface: ImageSurface, x: usize, y: usize, frame_width: u32) -> Vec<Rectangle> {
    let (columns, rows, stride) =
        (surface.width() as usize, surface.height() as usize, surface.stride() as usize);
    surface.flush();
    let Ok(data) = surface.data() else { return Vec::new() };
    let mut rectangles = Vec::new();
    let mut seen = vec![false; columns];
    for top in (0..rows).step_by(BAND) {
        let bottom = (top + BAND).min(rows);
        seen.fill(false);
        for line in data[top * stride..].chunks(stride).take(bottom - top) {
            for (seen, pixel) in seen.iter_mut().zip(line.as_chunks::<4>().0) {
                *seen |= *pixel != [0; 4];
            }
        }
        for (left, right) in runs(columns, frame_width as usize / GAP, |column| seen[column]) {
            let lines = data[top * stride..].chunks(stride).take(bottom - top);
            let pixels = lines.flat_map(|line| &line[left * 4..right * 4]).copied().collect();
            rectangles.extend(rectangle(pixels, x + left, y + top, right - left, bottom - top));
        }
    }
    rectangles
}

/// Steps of [`heat_colors`], and the density that they reach, in [`WARM`].
const STEPS: usize = 1024;
const REACH: f32 = 6.0;

/// Colours by density from cold to hot, premultiplied, in Cairo's words; alpha grows with the heat.
fn heat_colors(opacity: f64) -> Vec<u32> {
    let color = |step: usize| {
        let heat = heat::of_density(f64::from(WARM * REACH) * step as f64 / STEPS as f64);
        let alpha = opacity * (heat * 2.5).min(1.0);
        let [red, green, blue] =
            heat::color(heat).map(|channel| (channel * alpha * 255.0).round() as u32);
        (((alpha * 255.0).round() as u32) << 24) | (red << 16) | (green << 8) | blue
    };
    (0..STEPS).map(color).collect()
}

/// A pixel's cell and its neighbours along one axis, with their shares: the quadratic B-spline,
/// which reaches one and a half cells and never overshoots.
struct Neighbours {
    cells: [usize; 3],
    shares: [f32; 3],
}

impl Neighbours {
    /// For pixel `pixel` of `length` where `cells` cells begin at `start` and are `cell` wide, both
    /// in 0..1 of the frame.
    fn new(pixel: usize, length: usize, start: f64, cell: f64, cells: usize) -> Self {
        let place = ((pixel as f64 + 0.5) / length as f64 - start) / cell;
        let own = (place.max(0.0) as usize).min(cells - 1);
        let t = (place - own as f64).clamp(0.0, 1.0) as f32;
        let shares = [0.5 * (1.0 - t) * (1.0 - t), 0.75 - (t - 0.5) * (t - 0.5), 0.5 * t * t];
        Self { cells: [own.saturating_sub(1), own, (own + 1).min(cells - 1)], shares }
    }
}

/// Rows of cells that are drawn together.
const CELL_ROWS: usize = 4;

/// The heat map, around what is warm; nothing where nothing is on the road.
pub fn heat_map(map: &DensityMap, opacity: f64, frame: (u32, u32)) -> Vec<Rectangle> {
    let Grid { columns, rows, rect } = map.grid;
    let (cell_width, cell_height) = (rect.width / columns as f64, rect.height / rows as f64);
    let (width, height) = (frame.0 as usize, frame.1 as usize);
    // First pixel of a cell; what lies outside the frame, the border of a letterbox, has none.
    let pixel = |start: f64, cell: f64, index: usize, length: usize| {
        ((start + index as f64 * cell) * length as f64).round().clamp(0.0, length as f64) as usize
    };
    let colors = heat_colors(opacity);
    let to_step = STEPS as f32 / (WARM * REACH);
    // Not a number is cold, too.
    let warm = |column: usize, row: usize| map.cells[row * columns + column] > WARM * 0.02;
    let mut rectangles = Vec::new();
    for first in (0..rows).step_by(CELL_ROWS) {
        let last = (first + CELL_ROWS).min(rows);
        let (top, bottom) =
            (pixel(rect.y, cell_height, first, height), pixel(rect.y, cell_height, last, height));
        let near_rows = first.saturating_sub(1)..(last + 1).min(rows);
        let lit = |column: usize| {
            let near_columns = column.saturating_sub(1)..(column + 2).min(columns);
            near_rows.clone().any(|row| near_columns.clone().any(|column| warm(column, row)))
        };
        for (from, to) in runs(columns, columns / GAP, lit) {
            let (left, right) =
                (pixel(rect.x, cell_width, from, width), pixel(rect.x, cell_width, to, width));
            if left >= right || top >= bottom {
                continue;
            }
            let across: Vec<_> = (left..right)
                .map(|x| Neighbours::new(x, width, rect.x, cell_width, columns))
                .collect();
            let mut pixels = Vec::with_capacity((right - left) * (bottom - top) * 4);
            let mut line = vec![0.0f32; columns];
            for y in top..bottom {
                let Neighbours { cells, shares } =
                    Neighbours::new(y, height, rect.y, cell_height, rows);
                let [above, own, below] = cells.map(|row| &map.cells[row * columns..][..columns]);
                for (column, cell) in line.iter_mut().enumerate() {
                    *cell = above[column] * shares[0]
                        + own[column] * shares[1]
                        + below[column] * shares[2];
                }
                for Neighbours { cells: [before, own, behind], shares } in &across {
                    let density = line[*before] * shares[0]
                        + line[*own] * shares[1]
                        + line[*behind] * shares[2];
                    let step = ((density * to_step) as usize).min(STEPS - 1);
                    pixels.extend_from_slice(&colors[step].to_ne_bytes());
                }
            }
            rectangles.extend(rectangle(pixels, left, top, right - left, bottom - top));
        }
    }
    rectangles
}

/// Sets `text` in a sans-serif of `size` pixels, cut short with an ellipsis at `most` pixels.
fn layout(context: &Context, text: &str, size: f64, bold: bool, most: f64) -> pango::Layout {
    let layout = pangocairo::functions::create_layout(context);
    let mut font = pango::FontDescription::new();
    font.set_family("Sans");
    font.set_absolute_size(size * f64::from(pango::SCALE));
    font.set_weight(if bold { pango::Weight::Bold } else { pango::Weight::Medium });
    layout.set_font_description(Some(&font));
    layout.set_single_paragraph_mode(true);
    layout.set_text(text);
    let most = (most * f64::from(pango::SCALE)).max(0.0) as i32;
    if layout.size().0 > most {
        layout.set_ellipsize(pango::EllipsizeMode::End);
        layout.set_width(most);
    }
    layout
}

/// A context of one pixel, to measure text with.
fn measuring() -> Result<Context, DrawError> {
    Context::new(ImageSurface::create(Format::ARgb32, 1, 1)?)
}

fn rounded(context: &Context, x: f64, y: f64, width: f64, height: f64, radius: f64) {
    use std::f64::consts::{FRAC_PI_2, PI};
    context.new_sub_path();
    context.arc(x + width - radius, y + radius, radius, -FRAC_PI_2, 0.0);
    context.arc(x + width - radius, y + height - radius, radius, 0.0, FRAC_PI_2);
    context.arc(x + radius, y + height - radius, radius, FRAC_PI_2, PI);
    context.arc(x + radius, y + radius, radius, PI, PI + FRAC_PI_2);
    context.close_path();
}

/// The panel in the top left corner, smaller where the frame has little room; nothing where it has
/// none.
pub fn panel(
    panel: &Panel,
    text_scale: f64,
    frame: (u32, u32),
) -> Result<Vec<Rectangle>, DrawError> {
    let mut scale = scale_of(frame, text_scale);
    while scale >= SMALLEST {
        if let Some(rectangles) = panel_at(panel, scale, frame)? {
            return Ok(rectangles);
        }
        scale *= 0.8;
    }
    Ok(Vec::new())
}

/// The panel at `scale`, or `None` where the frame has no room for it.
fn panel_at(
    panel: &Panel,
    scale: f64,
    frame: (u32, u32),
) -> Result<Option<Vec<Rectangle>>, DrawError> {
    let px = |size: f64| size * scale;
    let measure = measuring()?;
    // A long name takes no more than two thirds of the frame.
    let most = f64::from(frame.0) * 2.0 / 3.0;
    let text = |text: &str, size: f64, bold: bool| {
        let (width, height) = layout(&measure, text, px(size), bold, most).pixel_size();
        (f64::from(width), f64::from(height))
    };
    let level = panel.level.map_or("no count yet", Level::name);
    let notes =
        [panel.age.as_str(), panel.truth.as_str()].into_iter().filter(|note| !note.is_empty());
    let notes = notes.collect::<Vec<_>>().join("  ");
    let (name, count, chip, note) = (
        text(&panel.camera, 12.0, false),
        text(&panel.count, 30.0, true),
        text(level, 12.0, true),
        text(&notes, 11.0, false),
    );
    let pad = px(9.0);
    let beside = if notes.is_empty() { chip.0 + px(14.0) } else { (chip.0 + px(14.0)).max(note.0) };
    let width = (name.0.max(count.0 + px(10.0) + beside) + 2.0 * pad).ceil();
    let height = (name.1 + count.1 + 1.6 * pad).ceil();
    let margin = px(8.0).round();
    if width + margin > f64::from(frame.0) || height + margin > f64::from(frame.1) {
        return Ok(None);
    }
    let surface = ImageSurface::create(Format::ARgb32, width as i32, height as i32)?;
    {
        let context = Context::new(&surface)?;
        let [red, green, blue] = level_color(panel.level);
        rounded(&context, 0.0, 0.0, width, height, px(7.0));
        context.set_source_rgba(0.04, 0.05, 0.07, 0.72);
        context.fill_preserve()?;
        context.clip();
        context.rectangle(0.0, 0.0, px(3.5), height);
        context.set_source_rgb(red, green, blue);
        context.fill()?;
        let put = |x: f64, y: f64, text: &str, size: f64, bold: bool| {
            context.move_to(x, y);
            pangocairo::functions::show_layout(
                &context,
                &layout(&context, text, px(size), bold, most),
            );
        };
        context.set_source_rgba(1.0, 1.0, 1.0, 0.82);
        put(pad, pad * 0.6, &panel.camera, 12.0, false);
        let second = pad * 0.6 + name.1;
        context.set_source_rgb(1.0, 1.0, 1.0);
        put(pad, second, &panel.count, 30.0, true);
        let right = pad + count.0 + px(10.0);
        let chip_top =
            if notes.is_empty() { second + (count.1 - chip.1) / 2.0 } else { second + px(3.0) };
        rounded(&context, right, chip_top - px(1.0), chip.0 + px(14.0), chip.1 + px(2.0), px(6.0));
        context.set_source_rgb(red, green, blue);
        context.fill()?;
        context.set_source_rgb(0.06, 0.06, 0.07);
        put(right + px(7.0), chip_top, level, 12.0, true);
        if !notes.is_empty() {
            let [red, green, blue] =
                if panel.age.is_empty() { [0.85, 0.88, 0.92] } else { [1.0, 0.72, 0.4] };
            context.set_source_rgb(red, green, blue);
            put(right, chip_top + chip.1 + px(3.0), &notes, 11.0, false);
        }
    }
    Ok(Some(cut(surface, margin as usize, margin as usize, frame.0)))
}

/// All regions with their labels.
pub fn outlines(
    outlines: &[Outline],
    text_scale: f64,
    frame: (u32, u32),
) -> Result<Vec<Rectangle>, DrawError> {
    let corners = || outlines.iter().flat_map(|outline| &outline.polygon);
    if corners().next().is_none() {
        return Ok(Vec::new());
    }
    let (width, height) = (f64::from(frame.0), f64::from(frame.1));
    let scale = scale_of(frame, text_scale);
    let line = (2.0 * scale / text_scale).max(1.0);
    let measure = measuring()?;
    // Each label in the middle of its region, kept inside the frame: x, y, width and height of its
    // plate.
    let plates = outlines.iter().map(|outline| {
        let (w, h) =
            layout(&measure, &outline.label, 12.0 * scale, true, width - 10.0 * scale).pixel_size();
        let (w, h) = (f64::from(w) + 8.0 * scale, f64::from(h) + 2.0 * scale);
        let number = outline.polygon.len().max(1) as f64;
        let middle =
            |axis: usize| outline.polygon.iter().map(|corner| corner[axis]).sum::<f64>() / number;
        let place = |axis: usize, side: f64, size: f64| {
            (middle(axis) * side - size / 2.0).min(side - size).max(0.0)
        };
        [place(0, width, w), place(1, height, h), w, h]
    });
    let plates: Vec<[f64; 4]> = plates.collect();
    let low = |axis: usize, side: f64| {
        let line = corners().map(|c| c[axis] * side - 2.0 * line);
        line.chain(plates.iter().map(|plate| plate[axis])).fold(side, f64::min).floor().max(0.0)
    };
    let high = |axis: usize, side: f64| {
        let line = corners().map(|c| c[axis] * side + 2.0 * line);
        line.chain(plates.iter().map(|plate| plate[axis] + plate[axis + 2]))
            .fold(0.0, f64::max)
            .ceil()
            .min(side)
    };
    let (left, top, right, bottom) =
        (low(0, width), low(1, height), high(0, width), high(1, height));
    let (across, down) = ((right - left).max(1.0), (bottom - top).max(1.0));
    let surface = ImageSurface::create(Format::ARgb32, across as i32, down as i32)?;
    {
        let context = Context::new(&surface)?;
        context.translate(-left, -top);
        context.set_line_join(LineJoin::Round);
        for outline in outlines {
            let [red, green, blue] = level_color(outline.level);
            for [x, y] in &outline.polygon {
                context.line_to(x * width, y * height);
            }
            context.close_path();
            // A dark rim first: the line shows on snow and on asphalt.
            context.set_source_rgba(0.04, 0.05, 0.07, 0.35);
            context.set_line_width(line * 2.0);
            context.stroke_preserve()?;
            context.set_source_rgba(red, green, blue, 0.95);
            context.set_line_width(line);
            context.stroke()?;
        }
        // Labels over all lines.
        for (outline, [x, y, w, h]) in outlines.iter().zip(plates) {
            let [red, green, blue] = level_color(outline.level);
            rounded(&context, x, y, w, h, 4.0 * scale);
            context.set_source_rgba(0.04, 0.05, 0.07, 0.7);
            context.fill()?;
            context.set_source_rgb(red, green, blue);
            context.move_to(x + 4.0 * scale, y + scale);
            let text = layout(&context, &outline.label, 12.0 * scale, true, width - 10.0 * scale);
            pangocairo::functions::show_layout(&context, &text);
        }
    }
    Ok(cut(surface, left as usize, top as usize, frame.0))
}
