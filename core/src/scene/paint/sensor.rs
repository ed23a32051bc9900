//! What lies between the world and the picture: rain, the lens and the sensor.

use tiny_skia::{Paint, PathBuilder, Stroke, Transform};

use super::Painter;
use super::light::color;
use crate::scene::Chance;

/// What lens and sensor do to every picture of a camera.
#[derive(Clone, Copy)]
pub(super) struct Lens {
    /// Share of each of the four neighbours in a pixel, of 256.
    pub blur: u16,
    /// Exposure: a factor, and its slow swing's share and phase.
    pub gain: f64,
    pub swing: f64,
}

/// Pixels of noise to choose a row's from.
pub(super) const GRAIN: u64 = 16384;

impl Painter {
    pub(super) fn rain(&mut self, tick: u64) {
        let mut chance = Chance::new(self.noise, tick);
        let (width, height) = (f64::from(self.canvas.width()), f64::from(self.canvas.height()));
        let mut paths = PathBuilder::new();
        for _ in 0..90 {
            let (x, y, length) = (
                chance.unit() * width,
                chance.unit() * height,
                chance.between(0.02, 0.06) * height,
            );
            paths.move_to(x as f32, y as f32);
            paths.line_to((x + length * 0.12) as f32, (y + length) as f32);
        }
        let Some(path) = paths.finish() else { return };
        let mut paint = Paint { anti_alias: true, ..Paint::default() };
        paint.set_color(color([0.8, 0.82, 0.85], 0.22));
        let stroke = Stroke { width: (height / 360.0).max(0.7) as f32, ..Stroke::default() };
        self.canvas.stroke_path(&path, &paint, &stroke, Transform::identity(), None);
    }

    /// Canvas to RGB through lens and sensor: a slight blur, the exposure, then noise: each row
    /// reads the grain from another place.
    pub(super) fn develop(&mut self, time: f64, tick: u64, rgb: &mut [u8]) {
        let Lens { blur, gain, swing } = self.lens;
        // Automatic exposure hunts a little. In 1/128, so that a level times it fits 16 bits.
        let gain =
            (gain * (1.0 + 0.03 * ((time / 17.0 + swing) * std::f64::consts::TAU).sin()) * 128.0)
                .round() as u16;
        let mut chance = Chance::new(self.noise, tick);
        let stride = self.canvas.width() as usize * 4;
        let data = self.canvas.data();
        let rows = data.len() / stride;
        let line = |row: usize| &data[row * stride..][..stride];
        self.soft.resize(stride, 0);
        for (row, out) in rgb.chunks_exact_mut(stride / 4 * 3).enumerate() {
            let (above, here, below) =
                (line(row.saturating_sub(1)), line(row), line((row + 1).min(rows - 1)));
            self.soft.copy_from_slice(here);
            // The first and the last column stay sharp. Equal lengths let the compiler use vectors.
            let inner = stride - 8;
            let (left, middle, right) = (&here[..inner], &here[4..][..inner], &here[8..][..inner]);
            let (above, below) = (&above[4..][..inner], &below[4..][..inner]);
            let soft = &mut self.soft[4..][..inner];
            let grain = &self.grain[(chance.next() % GRAIN) as usize * 4..][..inner];
            for at in 0..inner {
                let [l, m, r, a, b] =
                    [left[at], middle[at], right[at], above[at], below[at]].map(u16::from);
                // At most 255 * 256.
                let level = (m * (256 - 4 * blur) + (l + r + a + b) * blur) >> 8;
                let exposed = ((level * gain) >> 7).min(255) as i16;
                soft[at] = (exposed + i16::from(grain[at])).clamp(0, 255) as u8;
            }
            for (out, pixel) in
                out.as_chunks_mut::<3>().0.iter_mut().zip(self.soft.as_chunks::<4>().0)
            {
                out.copy_from_slice(&pixel[..3]);
            }
        }
    }
}
