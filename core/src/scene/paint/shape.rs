//! Shapes in the world, drawn in the picture: blocks and polygons.

use tiny_skia::{Color, FillRule, Paint, Path, PathBuilder, Transform};

use super::light::color;
use super::{Painter, Rgb};
use crate::scene::traffic::OnRoad;
use crate::scene::view::{Pixel, View, World};

/// A block with a rectangle below and one above: from, to along the vehicle, and width, in metres.
pub(super) struct Prism {
    pub low: f64,
    pub high: f64,
    pub bottom: [f64; 3],
    pub top: [f64; 3],
}

impl Painter {
    /// The faces that can be seen, sides before the top. Colours: front, back, sides, top.
    pub(super) fn prism(
        &mut self,
        view: &View,
        vehicle: &OnRoad,
        prism: &Prism,
        [front, back, side, top]: [Rgb; 4],
    ) {
        let Prism { low, high, bottom: [b0, b1, bw], top: [t0, t1, tw] } = *prism;
        let p = |along: f64, beside: f64, up: f64| vehicle.point(along, beside, up);
        let (bw, tw) = (bw / 2.0, tw / 2.0);
        let faces = [
            ([p(b1, -bw, low), p(b1, bw, low), p(t1, tw, high), p(t1, -tw, high)], front),
            ([p(b0, bw, low), p(b0, -bw, low), p(t0, -tw, high), p(t0, tw, high)], back),
            ([p(b0, -bw, low), p(b1, -bw, low), p(t1, -tw, high), p(t0, -tw, high)], side),
            ([p(b1, bw, low), p(b0, bw, low), p(t0, tw, high), p(t1, tw, high)], side),
            ([p(t0, -tw, high), p(t1, -tw, high), p(t1, tw, high), p(t0, tw, high)], top),
        ];
        let middle = p((b0 + b1 + t0 + t1) / 4.0, 0.0, (low + high) / 2.0);
        for (corners, tint) in faces {
            let normal = outward(&corners, middle);
            if view.faces(corners[0], normal) {
                let shade = self.light.shade(tint, normal);
                self.polygon(view, &corners, color(shade, 1.0));
            }
        }
    }

    pub(super) fn polygon(&mut self, view: &View, corners: &[World], color: Color) {
        let mut path = PathBuilder::new();
        for (index, corner) in corners.iter().enumerate() {
            let Some([x, y]): Option<Pixel> = view.pixel(*corner) else { return };
            let (x, y) = ((x * self.scale) as f32, (y * self.scale) as f32);
            if index == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
        }
        path.close();
        self.fill(path.finish(), color);
    }

    pub(super) fn fill(&mut self, path: Option<Path>, color: Color) {
        let Some(path) = path else { return };
        let mut paint = Paint { anti_alias: true, ..Paint::default() };
        paint.set_color(color);
        self.canvas.fill_path(&path, &paint, FillRule::Winding, Transform::identity(), None);
    }
}

/// The unit normal of a face that looks away from `middle`.
fn outward(corners: &[World; 4], middle: World) -> World {
    let edge = |a: World, b: World| [b[0] - a[0], b[1] - a[1], b[2] - a[2]];
    let (u, v) = (edge(corners[0], corners[1]), edge(corners[0], corners[3]));
    let normal = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    let length = normal.iter().map(|part| part * part).sum::<f64>().sqrt().max(1e-9);
    let away = edge(middle, corners[0]);
    let sign = if normal[0] * away[0] + normal[1] * away[1] + normal[2] * away[2] < 0.0 {
        -1.0
    } else {
        1.0
    };
    normal.map(|part| sign * part / length)
}
