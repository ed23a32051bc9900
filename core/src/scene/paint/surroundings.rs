//! Trees and buildings beside the road.

use tiny_skia::PathBuilder;

use super::Painter;
use super::ground::lattice;
use super::light::color;
use super::shape::Prism;
use crate::scene::traffic::{Kind, OnRoad};
use crate::scene::view::{View, World};
use crate::scene::{Chance, Viewpoint};

impl Painter {
    /// Buildings and trees, where they hide no road.
    pub(super) fn paint_surroundings(
        &mut self,
        viewpoint: Viewpoint,
        view: &View,
        chance: &mut Chance,
    ) {
        let mut places: Vec<(World, bool)> = Vec::new();
        let mut put = |chance: &mut Chance, number: usize, x: [f64; 2], y: [f64; 2], tree: f64| {
            for _ in 0..number {
                let side = if chance.unit() < 0.5 { -1.0 } else { 1.0 };
                let at = [side * chance.between(x[0], x[1]), chance.between(y[0], y[1]), 0.0];
                places.push((at, chance.unit() < tree));
            }
        };
        match viewpoint {
            Viewpoint::Highway => put(chance, 45, [17.0, 90.0], [25.0, 330.0], 0.85),
            Viewpoint::Junction => put(chance, 34, [15.0, 90.0], [58.0, 190.0], 0.5),
            Viewpoint::TopDown => {
                for _ in 0..50 {
                    let side = if chance.unit() < 0.5 { -1.0 } else { 1.0 };
                    places.push((
                        [chance.between(-70.0, 70.0), side * chance.between(18.0, 60.0), 0.0],
                        chance.unit() < 0.8,
                    ));
                }
            }
            Viewpoint::Roadside => {
                for _ in 0..40 {
                    places.push((
                        [chance.between(-90.0, 160.0), chance.between(34.0, 120.0), 0.0],
                        chance.unit() < 0.6,
                    ));
                }
            }
            Viewpoint::Street => {
                put(chance, 16, [9.5, 10.5], [8.0, 110.0], 1.0);
                put(chance, 30, [15.0, 24.0], [12.0, 200.0], 0.0);
            }
        }
        places.sort_by(|a, b| view.depth(b.0).total_cmp(&view.depth(a.0)));
        for (at, tree) in places {
            if tree {
                self.paint_tree(view, at, chance);
            } else {
                self.paint_building(view, at, chance);
            }
        }
    }

    fn paint_tree(&mut self, view: &View, at: World, chance: &mut Chance) {
        let size = chance.between(1.3, 2.4);
        let green =
            [chance.between(0.12, 0.24), chance.between(0.26, 0.42), chance.between(0.08, 0.18)];
        for blob in 0..7 {
            let angle = chance.between(0.0, std::f64::consts::TAU);
            let (spread, up) =
                (chance.between(0.0, 0.7) * size, size * (1.0 + 0.25 * f64::from(blob)));
            let middle = [at[0] + angle.cos() * spread, at[1] + angle.sin() * spread, up];
            let (Some(pixel), depth) = (view.pixel(middle), view.depth(middle)) else { continue };
            let radius = (view.pixel([middle[0], middle[1], up + size * 0.75]).map_or(0.0, |top| {
                (top[0] - pixel[0]).hypot(top[1] - pixel[1]).max(size * 0.6 / depth)
            }) * self.scale) as f32;
            let shade = self
                .light
                .shade(green.map(|c| c * (0.65 + 0.09 * f64::from(blob))), [0.3, -0.3, 0.9]);
            let path = PathBuilder::from_circle(
                (pixel[0] * self.scale) as f32,
                (pixel[1] * self.scale) as f32,
                radius.max(0.5),
            );
            self.fill(path, color(shade, 1.0));
        }
    }

    fn paint_building(&mut self, view: &View, at: World, chance: &mut Chance) {
        let (length, width, height) =
            (chance.between(6.0, 14.0), chance.between(6.0, 10.0), chance.between(4.0, 11.0));
        let house = OnRoad {
            kind: Kind::Van,
            at: [at[0], at[1]],
            heading: [0.0, 1.0],
            color: [0.0; 3],
            estate: false,
            braking: false,
            parked: true,
        };
        // Plaster, brick and concrete.
        let (bright, warm) = (chance.between(0.42, 0.78), chance.between(0.0, 0.3));
        let wall = [bright, bright * (1.0 - warm * 0.6), bright * (0.96 - warm)];
        let roof = [wall[0] * 0.6, wall[1] * 0.55, wall[2] * 0.55];
        let block = Prism {
            low: 0.0,
            high: height,
            bottom: [-length / 2.0, length / 2.0, width],
            top: [-length / 2.0, length / 2.0, width],
        };
        self.prism(view, &house, &block, [wall, wall, wall, roof]);
        // Rows of windows on the walls that can be seen.
        let lit = self.light.lamps;
        for floor in 0..(height / 3.0) as usize {
            for window in 0..(length / 2.4) as usize {
                let along = -length / 2.0 + 1.0 + 2.4 * window as f64;
                let low = 0.9 + 3.0 * floor as f64;
                for side in [-1.0, 1.0] {
                    let corners = [
                        (along, low),
                        (along + 1.2, low),
                        (along + 1.2, low + 1.3),
                        (along, low + 1.3),
                    ]
                    .map(|(along, up)| house.point(along, side * width / 2.0, up));
                    if view.faces(corners[0], [side, 0.0, 0.0]) {
                        let glow =
                            lit && lattice(window as i64, floor as i64, at[0].to_bits()) < 0.3;
                        let pane = if glow {
                            [0.75, 0.62, 0.35]
                        } else {
                            self.light.shade([0.2, 0.24, 0.3], [side, 0.0, 0.0])
                        };
                        self.polygon(view, &corners, color(pane, 1.0));
                    }
                }
            }
        }
    }
}
