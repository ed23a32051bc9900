//! Lamps of vehicles, and the light that they throw on the road.

use super::{Painter, Rgb};
use crate::scene::Weather;
use crate::scene::traffic::Kind;
use crate::scene::view::{Body, View, World};

impl Painter {
    /// Lamps at both ends, and the light that they throw on the road.
    pub(super) fn lamps(&mut self, view: &View, body: &Body, weather: Weather) {
        let vehicle = &body.vehicle;
        let [length, width, _] = vehicle.kind.size();
        let [hx, hy] = vehicle.heading;
        let night = weather == Weather::Night;
        let strength = if night { 1.0 } else { 0.45 };
        let ends = [
            (1.0, [1.0, 0.95, 0.82], 0.5),
            (-1.0, [0.95, 0.08, 0.05], if vehicle.braking { 0.45 } else { 0.26 }),
        ];
        for (end, tint, size) in ends {
            if end > 0.0 && night {
                let pool = vehicle.point(length / 2.0 + 4.0, 0.0, 0.0);
                self.glow(view, pool, [4.6, 4.6 * view.roundness(pool)], [0.9, 0.85, 0.7], 0.3);
            }
            if !view.faces(vehicle.point(end * length / 2.0, 0.0, 0.7), [hx * end, hy * end, 0.0]) {
                continue;
            }
            let sides: &[f64] =
                if vehicle.kind == Kind::Motorcycle { &[0.0] } else { &[-0.38, 0.38] };
            for side in sides {
                let lamp = vehicle.point(end * (length / 2.0 + 0.02), side * width, 0.72);
                self.glow(view, lamp, [size * 3.0; 2], tint, 0.5 * strength);
                self.glow(view, lamp, [size * 0.9; 2], tint, 1.3 * strength);
                if weather == Weather::Rain {
                    // Mirrored in the wet road, drawn out towards the camera.
                    let mirrored = vehicle.point(end * (length / 2.0 + 0.1), side * width, -1.1);
                    let drawn_out = 3.6 * (1.0 - view.roundness(mirrored));
                    self.glow(view, mirrored, [size * 1.2, size * (1.2 + drawn_out)], tint, 0.4);
                }
            }
        }
    }

    /// Adds light that fades from the middle outwards; radii across and up in metres.
    fn glow(&mut self, view: &View, at: World, [across, up]: [f64; 2], tint: Rgb, strength: f64) {
        let Some([x, y]) = view.pixel(at) else { return };
        let zoom = view.zoom(at) * self.scale;
        let (x, y) = ((x * self.scale) as f32, (y * self.scale) as f32);
        let (across, up) = ((across * zoom).max(0.8) as f32, (up * zoom).max(0.8) as f32);
        let (width, height) = (self.canvas.width() as f32, self.canvas.height() as f32);
        let light = tint.map(|channel| (channel * strength * 255.0) as f32);
        let (left, right) = (
            (x - across).max(0.0).floor() as usize,
            (x + across).clamp(0.0, width).ceil() as usize,
        );
        let (top, bottom) =
            ((y - up).max(0.0).floor() as usize, (y + up).clamp(0.0, height).ceil() as usize);
        let stride = self.canvas.width() as usize * 4;
        for row in top..bottom {
            let dy = (row as f32 + 0.5 - y) / up;
            let line = &mut self.canvas.data_mut()[row * stride..][..stride];
            for column in left..right {
                let dx = (column as f32 + 0.5 - x) / across;
                let fade = 1.0 - (dx * dx + dy * dy).sqrt();
                if fade > 0.0 {
                    let pixel = &mut line[column * 4..column * 4 + 3];
                    (0..3).for_each(|c| {
                        pixel[c] = pixel[c].saturating_add((light[c] * fade * fade) as u8)
                    });
                }
            }
        }
    }
}
