//! What nvdsosd draws: `NvDsDisplayMeta` with the regions' outlines and the counts as text.

use std::ptr;

use vehiclecount_core::region::Level;
use vehiclecount_core::report::{FrameCount, FrameReport};

use super::abi::{
    Color, DISPLAY_ELEMENTS, DisplayMeta, DisplayMetaNew, DisplayMetaOld, LineParams, TextParams,
};
use super::batch::{BatchGuard, Figures, Frame, PoolExhausted};
use super::library::{DeepStreamError, REPORT};

/// How display metadata lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplayLayout {
    /// Up to 8.0.
    Old,
    /// 9.0 and later.
    New,
}

impl DisplayLayout {
    const fn size(self) -> usize {
        match self {
            Self::Old => size_of::<DisplayMetaOld>(),
            Self::New => size_of::<DisplayMetaNew>(),
        }
    }

    /// The layout that the pool's element size and the version agree on. Where one of them is not
    /// told, the other decides.
    pub fn verify(figures: &Figures, version: Option<(u32, u32)>) -> Result<Self, DeepStreamError> {
        let expected = version.map(|(major, _)| if major >= 9 { Self::New } else { Self::Old });
        let found =
            [Self::Old, Self::New].into_iter().find(|layout| layout.size() == figures.display_size);
        match (figures.display_size, found, expected) {
            (0, _, Some(layout)) => Ok(layout),
            (_, Some(layout), expected) if expected.is_none_or(|expected| expected == layout) => {
                Ok(layout)
            }
            (size, _, expected) => Err(DeepStreamError::Layout {
                what: "display metadata in the batch's pool".to_owned(),
                found: format!("{size} bytes"),
                expected: match (expected, version) {
                    (Some(layout), Some((major, minor))) => {
                        format!("{} (DeepStream {major}.{minor})", layout.size())
                    }
                    _ => format!("{} or {}", Self::Old.size(), Self::New.size()),
                },
                remedy: REPORT,
            }),
        }
    }
}

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Numbers too, not only outlines and names.
    pub counts: bool,
    /// Points.
    pub font_size: u32,
}

const WHITE: Color = Color { red: 1.0, green: 1.0, blue: 1.0, alpha: 1.0 };
const SHADE: Color = Color { red: 0.0, green: 0.0, blue: 0.0, alpha: 0.6 };

/// Green, yellow, orange, red.
fn color(level: Level) -> Color {
    let (red, green, blue) = match level {
        Level::Free => (0.2, 0.8, 0.3),
        Level::Moderate => (0.95, 0.85, 0.2),
        Level::Dense => (1.0, 0.55, 0.1),
        Level::Jammed => (0.9, 0.15, 0.15),
    };
    Color { red, green, blue, alpha: 1.0 }
}

struct Text {
    x: u32,
    y: u32,
    text: String,
}

struct Line {
    from: [u32; 2],
    to: [u32; 2],
    color: Color,
}

/// Adds to `frame` what is to be drawn for `report`, in as many display metas as it needs.
pub fn attach<'a>(
    locked: &BatchGuard<'_, 'a>,
    frame: &Frame<'a>,
    layout: DisplayLayout,
    style: Style,
    report: &FrameReport,
) -> Result<(), PoolExhausted> {
    let (mut texts, mut lines) = (Vec::new(), Vec::new());
    draw(report, style, frame.size, &mut texts, &mut lines);
    let (mut texts, mut lines) = (texts.into_iter().peekable(), lines.into_iter().peekable());
    while texts.peek().is_some() || lines.peek().is_some() {
        let texts: Vec<_> = texts.by_ref().take(DISPLAY_ELEMENTS).collect();
        let lines: Vec<_> = lines.by_ref().take(DISPLAY_ELEMENTS).collect();
        match layout {
            DisplayLayout::Old => fill::<13>(locked, frame, style, texts, lines)?,
            DisplayLayout::New => fill::<14>(locked, frame, style, texts, lines)?,
        }
    }
    Ok(())
}

fn draw(
    report: &FrameReport,
    style: Style,
    size: (u32, u32),
    texts: &mut Vec<Text>,
    lines: &mut Vec<Line>,
) {
    let pixel = |[x, y]: [f64; 2]| {
        let at = |share: f64, side: u32| {
            (share * f64::from(side)).clamp(0.0, f64::from(side.saturating_sub(1))) as u32
        };
        [at(x, size.0), at(y, size.1)]
    };
    for region in &report.regions {
        let color = region.count.map_or(WHITE, |count| color(count.level));
        let next = region.polygon.iter().cycle().skip(1);
        lines.extend(region.polygon.iter().zip(next).map(|(&from, &to)| Line {
            from: pixel(from),
            to: pixel(to),
            color,
        }));
        let text = match region.count {
            Some(count) if style.counts => format!("{} {}", region.name, figure(&count)),
            _ => region.name.clone(),
        };
        if let Some(&corner) = region.polygon.first() {
            let [x, y] = pixel(corner);
            texts.push(Text { x, y, text });
        }
    }
    if style.counts {
        let text = match &report.count {
            Some(count) => format!("{}: {}, {}", report.camera, figure(count), count.level.name()),
            None => format!("{}: not counted yet", report.camera),
        };
        let age = if report.stale {
            format!(" ({:.1} s old)", report.age as f64 / 1e9)
        } else {
            String::new()
        };
        texts.push(Text { x: 10, y: 10, text: text + &age });
    }
}

/// A count as it is read: whole vehicles.
fn figure(count: &FrameCount) -> String {
    format!("{:.0}", count.smoothed)
}

fn fill<'a, const RECT: usize>(
    locked: &BatchGuard<'_, 'a>,
    frame: &Frame<'a>,
    style: Style,
    texts: Vec<Text>,
    lines: Vec<Line>,
) -> Result<(), PoolExhausted> {
    let api = locked.api().display.ok_or(PoolExhausted)?;
    // SAFETY: the lock is held, so that pool and lists are ours; the layout was verified, so that
    // what the pool gives is as large as is written here. Texts are GLib's, which is how the pool
    // frees them; the font's name is a literal, which is not freed.
    unsafe {
        let meta = (api.acquire)(locked.batch_meta())
            .cast::<DisplayMeta<RECT>>()
            .as_mut()
            .ok_or(PoolExhausted)?;
        (meta.num_rects, meta.num_arrows, meta.num_circles) = (0, 0, 0);
        meta.num_texts = texts.len() as u32;
        meta.num_lines = lines.len() as u32;
        for (place, text) in meta.texts.iter_mut().zip(&texts) {
            let bytes = text.text.replace('\0', " ");
            ptr::write(
                place,
                TextParams {
                    text: glib::ffi::g_strndup(bytes.as_ptr().cast(), bytes.len()),
                    x: text.x,
                    y: text.y,
                    font_name: c"Sans".as_ptr(),
                    font_size: style.font_size,
                    font_color: WHITE,
                    has_background: 1,
                    background: SHADE,
                },
            );
        }
        for (place, line) in meta.lines.iter_mut().zip(&lines) {
            let ([x1, y1], [x2, y2]) = (line.from, line.to);
            ptr::write(place, LineParams { x1, y1, x2, y2, width: 2, color: line.color });
        }
        (api.add)(locked.frame_meta(frame), ptr::from_mut(meta).cast());
    }
    Ok(())
}
