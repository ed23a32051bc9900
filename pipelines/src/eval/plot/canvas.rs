//! A drawing in memory: text, lines and pictures.

use std::path::Path;

use anyhow::{Context as _, Result};
use cairo::{Context, Format, ImageSurface};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage};

/// Where text stands to its point.
#[derive(Clone, Copy)]
pub(super) enum Align {
    Left,
    Middle,
    Right,
}

/// Size in pixels, and whether it is bold.
#[derive(Clone, Copy)]
pub(super) struct Font(pub f64, pub bool);

/// A drawing in memory.
pub(super) struct Canvas {
    surface: ImageSurface,
    pub context: Context,
    pub width: i32,
    pub height: i32,
}

impl Canvas {
    pub fn new(width: i32, height: i32, ground: [f64; 3]) -> Result<Self> {
        let surface = ImageSurface::create(Format::Rgb24, width, height)?;
        let context = Context::new(&surface)?;
        let canvas = Self { surface, context, width, height };
        canvas.color(ground, 1.0);
        canvas.context.paint()?;
        Ok(canvas)
    }

    pub fn color(&self, [red, green, blue]: [f64; 3], alpha: f64) {
        self.context.set_source_rgba(red, green, blue, alpha);
    }

    pub fn layout(&self, text: &str, Font(size, bold): Font) -> pango::Layout {
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
    pub fn text(&self, x: f64, y: f64, text: &str, font: Font, align: Align, most: f64) -> f64 {
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

    pub fn line(&self, from: (f64, f64), to: (f64, f64), width: f64) -> Result<()> {
        self.context.move_to(from.0, from.1);
        self.context.line_to(to.0, to.1);
        self.context.set_line_width(width);
        Ok(self.context.stroke()?)
    }

    /// Draws RGB pixels with their upper left corner at (x, y).
    pub fn picture(&self, picture: &RgbImage, x: f64, y: f64) -> Result<()> {
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

    pub fn write(self, path: &Path) -> Result<()> {
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
