//! The drawings: each a small picture with its place in the frame, kept until what it shows changes.

use cairo::{Context, Format, ImageSurface, LineJoin};
use vehiclecount_core::density::{DensityMap, Grid};
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

/// Side of a frame that is not scaled: text has the size below at 360 rows.
const ROWS: f64 = 360.0;

/// At this density, vehicles per cell, a heat map has gone 63% of the way from cold to hot.
const WARM: f32 = 0.07;

/// Text smaller than at this scale, 9 pixels, is hard to read: small frames get larger text than their share, where there is room.
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

/// Pixels of a surface as a buffer that the composition takes, placed at (x, y) and shown at `width` x `height`.
fn rectangle(
    mut surface: ImageSurface,
    x: i32,
    y: i32,
    width: u32,
    height: u32,
) -> Option<gst_video::VideoOverlayRectangle> {
    let (columns, rows, stride) = (surface.width(), surface.height(), surface.stride());
    surface.flush();
    let pixels = surface.data().ok()?.to_vec();
    let mut buffer = gst::Buffer::from_mut_slice(pixels);
    // Cairo's ARGB32 is premultiplied, in the machine's byte order.
    let format =
        if cfg!(target_endian = "little") { gst_video::VideoFormat::Bgra } else { gst_video::VideoFormat::Argb };
    let flags = gst_video::VideoFrameFlags::empty();
    let header = buffer.get_mut()?;
    gst_video::VideoMeta::add_full(header, flags, format, columns as u32, rows as u32, &[0], &[stride]).ok()?;
    let flags = gst_video::VideoOverlayFormatFlags::PREMULTIPLIED_ALPHA;
    Some(gst_video::VideoOverlayRectangle::new_raw(&buffer, x, y, width, height, flags))
}

/// Colours of a heat map from cold to hot, premultiplied, in Cairo's words; alpha grows with the heat.
fn heat_colors(opacity: f64) -> [u32; 256] {
    const COLORS: [[f64; 3]; 4] = [[0.1, 0.25, 0.95], [0.0, 0.85, 0.75], [1.0, 0.85, 0.1], [1.0, 0.15, 0.1]];
    std::array::from_fn(|heat| {
        let place = heat as f64 / 255.0 * (COLORS.len() - 1) as f64;
        let index = (place as usize).min(COLORS.len() - 2);
        let share = place - index as f64;
        let alpha = opacity * (heat as f64 / 255.0 * 2.5).min(1.0);
        let channel = |channel: usize| {
            let mixed = COLORS[index][channel] * (1.0 - share) + COLORS[index + 1][channel] * share;
            (mixed * alpha * 255.0).round() as u32
        };
        ((alpha * 255.0).round() as u32) << 24 | channel(0) << 16 | channel(1) << 8 | channel(2)
    })
}

/// Pixels of the heat map for each cell, both ways: enough that the colours follow the smoothed density and not the cells.
const FINE: usize = 4;

/// Shares of the cell before, the cell itself and the cell behind at each of a cell's fine pixels: the quadratic B-spline, which reaches
/// one and a half cells and never overshoots.
fn spline() -> [[f32; 3]; FINE] {
    std::array::from_fn(|pixel| {
        let t = (pixel as f32 + 0.5) / FINE as f32;
        [0.5 * (1.0 - t) * (1.0 - t), 0.75 - (t - 0.5) * (t - 0.5), 0.5 * t * t]
    })
}

/// The heat map, [`FINE`] pixels a cell: the composition scales it up to the frame. `None` where nothing is on the road.
pub fn heat_map(map: &DensityMap, opacity: f64, frame: (u32, u32)) -> Option<gst_video::VideoOverlayRectangle> {
    let Grid { columns, rows, rect } = map.grid;
    // What lies wholly outside the frame, the border of a letterbox, is left out.
    let inside = |start: f64, length: f64, cells: usize| {
        let cell = length / cells as f64;
        let first = ((-start / cell).floor().max(0.0)) as usize;
        let last = (((1.0 - start) / cell).ceil().max(0.0) as usize).min(cells);
        (first.min(last), last, cell)
    };
    let (left, right, cell_width) = inside(rect.x, rect.width, columns);
    let (top, bottom, cell_height) = inside(rect.y, rect.height, rows);
    if left == right || top == bottom || map.cells.iter().all(|&cell| cell < WARM * 0.02) {
        return None;
    }
    let (fine_width, fine_height) = ((right - left) * FINE, (bottom - top) * FINE);
    let mut surface = ImageSurface::create(Format::ARgb32, fine_width as i32, fine_height as i32).ok()?;
    let stride = surface.stride() as usize;
    {
        let (colors, spline) = (heat_colors(opacity), spline());
        let mut data = surface.data().ok()?;
        let mut blended = vec![0.0f32; columns];
        for (y, line) in data.chunks_exact_mut(stride).enumerate() {
            let (row, [above, own, below]) = (top + y / FINE, spline[y % FINE]);
            let row_at = |row: usize| &map.cells[row * columns..][..columns];
            let around = [row_at(row.saturating_sub(1)), row_at(row), row_at((row + 1).min(rows - 1))];
            for (column, cell) in blended.iter_mut().enumerate() {
                *cell = around[0][column] * above + around[1][column] * own + around[2][column] * below;
            }
            for (x, pixel) in line[..fine_width * 4].chunks_exact_mut(4).enumerate() {
                let (column, [before, own, behind]) = (left + x / FINE, spline[x % FINE]);
                let density = blended[column.saturating_sub(1)] * before
                    + blended[column] * own
                    + blended[(column + 1).min(columns - 1)] * behind;
                // Rises fast and never quite arrives, so that a crowd still has structure. Not a number counts as cold.
                let heat = 1.0 - (-density.max(0.0) / WARM).exp();
                pixel.copy_from_slice(&colors[(heat * 255.0) as usize].to_ne_bytes());
            }
        }
    }
    let (width, height) = (f64::from(frame.0), f64::from(frame.1));
    let x = ((rect.x + left as f64 * cell_width) * width).round() as i32;
    let y = ((rect.y + top as f64 * cell_height) * height).round() as i32;
    let across = ((right - left) as f64 * cell_width * width).round().max(1.0) as u32;
    let down = ((bottom - top) as f64 * cell_height * height).round().max(1.0) as u32;
    rectangle(surface, x, y, across, down)
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

/// The panel in the top left corner, smaller where the frame has little room; `None` where it has none.
pub fn panel(
    panel: &Panel,
    text_scale: f64,
    frame: (u32, u32),
) -> Result<Option<gst_video::VideoOverlayRectangle>, DrawError> {
    let mut scale = scale_of(frame, text_scale);
    while scale >= SMALLEST {
        if let Some(rectangle) = panel_at(panel, scale, frame)? {
            return Ok(Some(rectangle));
        }
        scale *= 0.8;
    }
    Ok(None)
}

/// The panel at `scale`, or `None` where the frame has no room for it.
fn panel_at(
    panel: &Panel,
    scale: f64,
    frame: (u32, u32),
) -> Result<Option<gst_video::VideoOverlayRectangle>, DrawError> {
    let px = |size: f64| size * scale;
    let measure = measuring()?;
    // A long name takes no more than two thirds of the frame.
    let most = f64::from(frame.0) * 2.0 / 3.0;
    let text = |text: &str, size: f64, bold: bool| {
        let (width, height) = layout(&measure, text, px(size), bold, most).pixel_size();
        (f64::from(width), f64::from(height))
    };
    let level = panel.level.map_or("no count yet", Level::name);
    let notes = [panel.age.as_str(), panel.truth.as_str()].into_iter().filter(|note| !note.is_empty());
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
            pangocairo::functions::show_layout(&context, &layout(&context, text, px(size), bold, most));
        };
        context.set_source_rgba(1.0, 1.0, 1.0, 0.82);
        put(pad, pad * 0.6, &panel.camera, 12.0, false);
        let second = pad * 0.6 + name.1;
        context.set_source_rgb(1.0, 1.0, 1.0);
        put(pad, second, &panel.count, 30.0, true);
        let right = pad + count.0 + px(10.0);
        let chip_top = if notes.is_empty() { second + (count.1 - chip.1) / 2.0 } else { second + px(3.0) };
        rounded(&context, right, chip_top - px(1.0), chip.0 + px(14.0), chip.1 + px(2.0), px(6.0));
        context.set_source_rgb(red, green, blue);
        context.fill()?;
        context.set_source_rgb(0.06, 0.06, 0.07);
        put(right + px(7.0), chip_top, level, 12.0, true);
        if !notes.is_empty() {
            let [red, green, blue] = if panel.age.is_empty() { [0.85, 0.88, 0.92] } else { [1.0, 0.72, 0.4] };
            context.set_source_rgb(red, green, blue);
            put(right, chip_top + chip.1 + px(3.0), &notes, 11.0, false);
        }
    }
    Ok(rectangle(surface, margin as i32, margin as i32, width as u32, height as u32))
}

/// All regions, as one picture that covers them and their labels.
pub fn outlines(
    outlines: &[Outline],
    text_scale: f64,
    frame: (u32, u32),
) -> Result<Option<gst_video::VideoOverlayRectangle>, DrawError> {
    let corners = || outlines.iter().flat_map(|outline| &outline.polygon);
    if corners().next().is_none() {
        return Ok(None);
    }
    let (width, height) = (f64::from(frame.0), f64::from(frame.1));
    let scale = scale_of(frame, text_scale);
    let line = (2.0 * scale / text_scale).max(1.0);
    let measure = measuring()?;
    // Each label in the middle of its region, kept inside the frame: x, y, width and height of its plate.
    let plates = outlines.iter().map(|outline| {
        let (w, h) = layout(&measure, &outline.label, 12.0 * scale, true, width - 10.0 * scale).pixel_size();
        let (w, h) = (f64::from(w) + 8.0 * scale, f64::from(h) + 2.0 * scale);
        let number = outline.polygon.len().max(1) as f64;
        let middle = |axis: usize| outline.polygon.iter().map(|corner| corner[axis]).sum::<f64>() / number;
        let place = |axis: usize, side: f64, size: f64| (middle(axis) * side - size / 2.0).min(side - size).max(0.0);
        [place(0, width, w), place(1, height, h), w, h]
    });
    let plates: Vec<[f64; 4]> = plates.collect();
    let low = |axis: usize, side: f64| {
        let line = corners().map(|c| c[axis] * side - 2.0 * line);
        line.chain(plates.iter().map(|plate| plate[axis])).fold(side, f64::min).floor().max(0.0)
    };
    let high = |axis: usize, side: f64| {
        let line = corners().map(|c| c[axis] * side + 2.0 * line);
        line.chain(plates.iter().map(|plate| plate[axis] + plate[axis + 2])).fold(0.0, f64::max).ceil().min(side)
    };
    let (left, top, right, bottom) = (low(0, width), low(1, height), high(0, width), high(1, height));
    let (across, down) = ((right - left).max(1.0), (bottom - top).max(1.0));
    let surface = ImageSurface::create(Format::ARgb32, across as i32, down as i32)?;
    {
        let context = Context::new(&surface)?;
        context.translate(-left, -top);
        context.set_line_width(line);
        context.set_line_join(LineJoin::Round);
        for outline in outlines {
            let [red, green, blue] = level_color(outline.level);
            for [x, y] in &outline.polygon {
                context.line_to(x * width, y * height);
            }
            context.close_path();
            context.set_source_rgba(red, green, blue, 0.1);
            context.fill_preserve()?;
            context.set_source_rgba(red, green, blue, 0.95);
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
    Ok(rectangle(surface, left as i32, top as i32, across as u32, down as u32))
}
