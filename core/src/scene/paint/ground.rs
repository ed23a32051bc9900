//! The ground: road, markings, kerbs, grass, and the light of street lamps.

use super::light::{color, sky};
use super::{Painter, Rgb};
use crate::scene::traffic::Road;
use crate::scene::view::View;
use crate::scene::{Chance, SceneSettings, Viewpoint, Weather};

/// Noise in 0..1 at a place of a lattice.
pub(super) fn lattice(x: i64, y: i64, salt: u64) -> f64 {
    Chance::new(
        (x as u64).wrapping_mul(0x9e37_79b9) ^ (y as u64).wrapping_mul(0x85eb_ca6b_0000_0001),
        salt,
    )
    .unit()
}

/// Value noise: the lattice's, blended between its points.
fn texture(x: f64, y: f64, salt: u64) -> f64 {
    let (left, top) = (x.floor(), y.floor());
    let (fx, fy) = (x - left, y - top);
    let (left, top) = (left as i64, top as i64);
    let row = |y: i64| lattice(left, y, salt) * (1.0 - fx) + lattice(left + 1, y, salt) * fx;
    row(top) * (1.0 - fy) + row(top + 1) * fy
}

impl Painter {
    /// Every pixel asks what lies on the ground where its ray meets it.
    pub(super) fn paint_ground(
        &mut self,
        settings: &SceneSettings,
        view: &View,
        roads: &[Road],
        salt: u64,
    ) {
        let city = matches!(settings.viewpoint, Viewpoint::Street | Viewpoint::Junction);
        let (width, height) = (self.canvas.width() as usize, self.canvas.height() as usize);
        let light = self.light;
        for (index, pixel) in self.canvas.pixels_mut().iter_mut().enumerate() {
            let mut sum = [0.0; 3];
            // Four rays a pixel, so that lines are smooth.
            for (dx, dy) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
                let x = ((index % width) as f64 + dx) / width as f64;
                let y = ((index / width) as f64 + dy) / width as f64;
                let seen = match view.ground([x, y]) {
                    Some([gx, gy]) if gy.hypot(gx) < 3000.0 => {
                        let far = (gx.hypot(gy) / 900.0).min(0.8);
                        let ground = light.shade(
                            ground(gx, gy, roads, city, settings.weather, salt),
                            [0.0, 0.0, 1.0],
                        );
                        let lamps = if settings.weather == Weather::Night {
                            lamp_light(gx, gy)
                        } else {
                            0.0
                        };
                        [0, 1, 2].map(|c| {
                            (ground[c] + lamps * [0.2, 0.17, 0.11][c]) * (1.0 - far)
                                + light.haze[c] * if light.lamps { 1.0 } else { 0.95 } * far
                        })
                    }
                    _ => sky(&light, y * width as f64 / height as f64),
                };
                (0..3).for_each(|channel| sum[channel] += seen[channel] / 4.0);
            }
            *pixel = color(sum, 1.0).premultiply().to_color_u8();
        }
    }
}

/// Street lamps every 28 metres on both sides, 0..1.
fn lamp_light(x: f64, y: f64) -> f64 {
    let along = (y / 28.0 - (y / 28.0).round()) * 28.0;
    let lamp = |side: f64| 1.0 / (1.0 + ((x - side).powi(2) + along * along) / 40.0);
    (lamp(9.0) + lamp(-9.0)).min(1.0)
}

/// The colour of the ground by daylight.
fn ground(x: f64, y: f64, roads: &[Road], city: bool, weather: Weather, salt: u64) -> Rgb {
    let wet = if weather == Weather::Rain { 0.72 } else { 1.0 };
    let mut beside = f64::INFINITY;
    let mut surface: Option<Rgb> = None;
    for road in roads {
        let (dx, dy) = (road.to[0] - road.from[0], road.to[1] - road.from[1]);
        let length = dx.hypot(dy);
        let (ux, uy) = (dx / length, dy / length);
        let along = (x - road.from[0]) * ux + (y - road.from[1]) * uy;
        let across = (x - road.from[0]) * uy - (y - road.from[1]) * ux;
        let edge = across.abs() - road.width / 2.0;
        if edge > 0.0 {
            beside = beside.min(edge);
            continue;
        }
        let grain = 0.29
            + 0.05 * texture(x * 6.0, y * 6.0, salt)
            + 0.05 * texture(x * 0.35, y * 0.35, salt ^ 5);
        let mut asphalt = [grain, grain, grain * 1.03].map(|c| c * wet);
        // Inside a crossroads there are no lines.
        let crossing = surface.is_some() || roads.iter().any(|other| crosses(other, road, x, y));
        if !crossing {
            let lane = road.width / road.lanes as f64;
            let position = (across + road.width / 2.0) / lane;
            let line = (position - position.round()).abs() * lane;
            let boundary = position.round() as usize;
            let outer = boundary == 0 || boundary == road.lanes;
            let middle = road.lanes.is_multiple_of(2) && boundary == road.lanes / 2;
            let outer_line = (across.abs() - (road.width / 2.0 - 0.35)).abs() < 0.09;
            let dash = along.rem_euclid(9.0) < 3.2 || (middle && road.lanes >= 2);
            if outer_line || (!outer && line < 0.08 && dash) {
                let worn = 0.72 + 0.12 * texture(x * 3.0, y * 3.0, salt ^ 9);
                asphalt = [worn, worn, worn * 0.97];
            }
        }
        surface = Some(asphalt);
    }
    if let Some(surface) = surface {
        return surface;
    }
    let patch =
        texture(x * 0.12, y * 0.12, salt ^ 1) * 0.6 + texture(x * 1.7, y * 1.7, salt ^ 2) * 0.4;
    if city {
        if beside < 0.25 {
            return [0.62, 0.62, 0.6].map(|c| c * wet);
        }
        if beside < 3.2 {
            let slab = if (x.rem_euclid(1.0) < 0.05) || (y.rem_euclid(1.0) < 0.05) {
                0.4
            } else {
                0.5 + 0.05 * patch
            };
            return [slab, slab * 0.98, slab * 0.95].map(|c| c * wet);
        }
    } else if beside < 1.2 {
        let gravel = 0.42 + 0.12 * patch;
        return [gravel, gravel * 0.96, gravel * 0.86].map(|c| c * wet);
    }
    [0.24 + 0.14 * patch, 0.34 + 0.14 * patch, 0.14 + 0.08 * patch].map(|c| c * wet)
}

/// Whether (x, y) lies on `other`, a road that crosses `road`.
fn crosses(other: &Road, road: &Road, x: f64, y: f64) -> bool {
    let direction = |road: &Road| {
        let (dx, dy) = (road.to[0] - road.from[0], road.to[1] - road.from[1]);
        let length = dx.hypot(dy);
        [dx / length, dy / length]
    };
    let (a, b) = (direction(other), direction(road));
    let parallel = (a[0] * b[1] - a[1] * b[0]).abs() < 0.1;
    let across = (x - other.from[0]) * a[1] - (y - other.from[1]) * a[0];
    !parallel && across.abs() < other.width / 2.0 + 0.5
}
