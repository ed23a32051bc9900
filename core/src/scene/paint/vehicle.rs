//! Vehicles: body, windows, wheels and shadow.

use tiny_skia::Color;

use super::Painter;
use super::light::{SUN, color};
use super::shape::Prism;
use crate::scene::traffic::{Kind, OnRoad};
use crate::scene::view::{View, World};

impl Painter {
    pub(super) fn shadow(&mut self, view: &View, vehicle: &OnRoad) {
        let [length, width, height] = vehicle.kind.size();
        let strength = if self.light.sun > 0.1 { 0.42 } else { 0.3 };
        // Where the sun's rays through the roof's edge meet the ground.
        let reach = if self.light.sun > 0.1 { height * 0.5 } else { 0.15 };
        let cast = [-SUN[0] * reach / SUN[2], -SUN[1] * reach / SUN[2]];
        let under = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)].map(|(along, beside)| {
            vehicle.point(along * (length + 0.2), beside * (width + 0.25), 0.02)
        });
        let shifted = under.map(|[x, y, z]| [x + cast[0], y + cast[1], z]);
        self.polygon(view, &shifted, color([0.02, 0.02, 0.03], strength * 0.8));
        self.polygon(view, &under, color([0.01, 0.01, 0.02], 0.6));
    }

    pub(super) fn body(&mut self, view: &View, vehicle: &OnRoad) {
        let [length, width, height] = vehicle.kind.size();
        let half = length / 2.0;
        let paint = vehicle.color;
        let (glass, tyre) = ([0.09, 0.11, 0.14], [0.05, 0.05, 0.05]);
        let block =
            |low: f64, high: f64, bottom: [f64; 3], top: [f64; 3]| Prism { low, high, bottom, top };
        let under = block(
            0.08,
            0.35,
            [-half * 0.92, half * 0.92, width * 0.96],
            [-half * 0.95, half * 0.95, width * 0.97],
        );
        self.prism(view, vehicle, &under, [tyre; 4]);
        match vehicle.kind {
            Kind::Car => {
                let hull = block(
                    0.32,
                    0.88,
                    [-half, half, width],
                    [-half * 0.97, half * 0.92, width * 0.96],
                );
                self.prism(view, vehicle, &hull, [paint; 4]);
                let cabin = block(
                    0.88,
                    height,
                    [
                        if vehicle.estate { -half * 0.95 } else { -half * 0.78 },
                        half * 0.38,
                        width * 0.92,
                    ],
                    [
                        if vehicle.estate { -half * 0.82 } else { -half * 0.55 },
                        half * 0.08,
                        width * 0.78,
                    ],
                );
                self.prism(view, vehicle, &cabin, [glass, glass, glass, paint]);
            }
            Kind::Van => {
                let hull = block(0.35, 1.2, [-half, half, width], [-half, half * 0.9, width]);
                self.prism(view, vehicle, &hull, [paint; 4]);
                let top = block(
                    1.2,
                    height,
                    [-half, half * 0.9, width],
                    [-half * 0.98, half * 0.55, width * 0.92],
                );
                self.prism(view, vehicle, &top, [glass, paint, paint, paint]);
            }
            Kind::Bus => {
                let hull = block(0.35, 1.35, [-half, half, width], [-half, half, width]);
                self.prism(view, vehicle, &hull, [paint; 4]);
                let windows = block(1.35, 2.5, [-half, half, width], [-half, half, width * 0.99]);
                self.prism(view, vehicle, &windows, [glass, paint, glass, paint]);
                let roof = block(
                    2.5,
                    height,
                    [-half, half, width * 0.99],
                    [-half * 0.98, half * 0.98, width * 0.9],
                );
                self.prism(view, vehicle, &roof, [paint, paint, paint, paint.map(|c| c * 0.9)]);
            }
            Kind::Truck => {
                let cab = block(0.4, 1.6, [half - 2.3, half, width], [half - 2.3, half, width]);
                let windscreen = block(
                    1.6,
                    2.8,
                    [half - 2.3, half, width],
                    [half - 2.2, half - 0.35, width * 0.94],
                );
                let load =
                    block(0.9, height, [-half, half - 2.5, width], [-half, half - 2.5, width]);
                let cargo = if vehicle.estate {
                    paint
                } else {
                    [0.78, 0.78, 0.76].map(|c: f64| c * (0.75 + 0.25 * paint[0]))
                };
                // The nearer part hides the other.
                let front_first = view.depth(vehicle.point(half, 0.0, 1.0))
                    > view.depth(vehicle.point(-half, 0.0, 1.0));
                for part in if front_first { [true, false] } else { [false, true] } {
                    if part {
                        self.prism(view, vehicle, &cab, [paint; 4]);
                        self.prism(view, vehicle, &windscreen, [glass, paint, paint, paint]);
                    } else {
                        self.prism(view, vehicle, &load, [cargo; 4]);
                    }
                }
            }
            Kind::Motorcycle => {
                let machine = block(0.35, 0.8, [-half, half, 0.3], [-half * 0.7, half * 0.7, 0.35]);
                self.prism(view, vehicle, &machine, [paint; 4]);
                let rider = block(0.8, height, [-0.35, 0.3, 0.55], [-0.15, 0.2, 0.4]);
                self.prism(view, vehicle, &rider, [[0.15, 0.15, 0.18]; 4]);
            }
        }
    }

    /// What only near vehicles show: wheels, pillars between the windows, the glass of the lamps.
    pub(super) fn details(&mut self, view: &View, vehicle: &OnRoad) {
        let [length, width, height] = vehicle.kind.size();
        let zoom = view.zoom(vehicle.point(0.0, 0.0, 0.0)) * self.scale;
        if zoom < 7.0 {
            return;
        }
        let [hx, hy] = vehicle.heading;
        let half = length / 2.0;
        let (radius, axles) = match vehicle.kind {
            Kind::Car => (0.34, [0.31, -0.3]),
            Kind::Van => (0.36, [0.33, -0.31]),
            Kind::Truck => (0.5, [0.36, -0.33]),
            Kind::Bus => (0.5, [0.27, -0.24]),
            Kind::Motorcycle => (0.32, [0.36, -0.36]),
        };
        for side in [-1.0, 1.0] {
            let beside = side * if vehicle.kind == Kind::Motorcycle { 0.1 } else { width * 0.503 };
            let normal = [hy * side, -hx * side, 0.0];
            if !view.faces(vehicle.point(0.0, beside, radius), normal) {
                continue;
            }
            let tyre = color(self.light.shade([0.05, 0.05, 0.055], normal), 1.0);
            let rim = color(self.light.shade([0.42, 0.42, 0.44], normal), 1.0);
            for axle in axles {
                self.wheel(view, vehicle, [axle * length, beside, radius], radius, tyre);
                if zoom > 14.0 {
                    self.wheel(view, vehicle, [axle * length, beside, radius], radius * 0.5, rim);
                }
            }
            if vehicle.kind == Kind::Car && zoom > 10.0 {
                let pillar = color(self.light.shade(vehicle.color, normal), 1.0);
                let (low, high) = (side * width * 0.461, side * width * 0.391);
                let corners = [
                    (-0.03, low, 0.88),
                    (0.03, low, 0.88),
                    (0.03, high, height),
                    (-0.03, high, height),
                ]
                .map(|(along, beside, up)| vehicle.point(along * length - 0.3, beside, up));
                self.polygon(view, &corners, pillar);
            }
        }
        if vehicle.kind == Kind::Motorcycle {
            return;
        }
        for (end, glass) in [(1.0, [0.85, 0.86, 0.88]), (-1.0, [0.5, 0.05, 0.04])] {
            let normal = [hx * end, hy * end, 0.0];
            if !view.faces(vehicle.point(end * half, 0.0, 0.7), normal) {
                continue;
            }
            let glass = color(self.light.shade(glass, normal), 1.0);
            for side in [-0.38, 0.38] {
                let corners =
                    [(-0.1, 0.62), (0.1, 0.62), (0.1, 0.8), (-0.1, 0.8)].map(|(beside, up)| {
                        vehicle.point(end * half * 1.003, (side + beside) * width, up)
                    });
                self.polygon(view, &corners, glass);
            }
        }
    }

    /// A disc on a vehicle's side, around (along, beside, up).
    fn wheel(
        &mut self,
        view: &View,
        vehicle: &OnRoad,
        [along, beside, up]: World,
        radius: f64,
        tint: Color,
    ) {
        let corners: [World; 10] = std::array::from_fn(|corner| {
            let (sin, cos) = (corner as f64 * std::f64::consts::TAU / 10.0).sin_cos();
            vehicle.point(along + cos * radius, beside, up + sin * radius)
        });
        self.polygon(view, &corners, tint);
    }
}
