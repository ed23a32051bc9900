//! The pinhole camera: where a vehicle lies in the picture, and what of it can be seen.

use super::traffic::{Kind, OnRoad};
use super::{Chance, VISIBLE, Vehicle, Viewpoint};

/// A point in the world in metres: right, away, up.
pub(super) type World = [f64; 3];

/// A point in the picture: x in 0..1 of the width, y in widths too, so that both have the same
/// unit.
pub(super) type Pixel = [f64; 2];

/// Where the camera stands and looks.
#[derive(Clone, Debug)]
pub(super) struct View {
    position: World,
    right: World,
    up: World,
    forward: World,
    /// Focal length in picture widths.
    focal: f64,
    /// Height of the picture in widths.
    pub height: f64,
}

/// Nothing nearer than this is painted, metres.
const NEAR: f64 = 1.5;

impl View {
    pub fn new(viewpoint: Viewpoint, aspect: f64, chance: &mut Chance) -> Self {
        let mut vary = |middle: f64, spread: f64| middle + chance.between(-spread, spread);
        // Position, turn to the left in degrees, look down in degrees, focal length.
        let (position, yaw, pitch, focal) = match viewpoint {
            Viewpoint::Highway => (
                [vary(0.0, 5.0), -4.0, vary(9.5, 1.5)],
                vary(0.0, 5.0),
                vary(17.0, 3.0),
                vary(1.0, 0.15),
            ),
            Viewpoint::Junction => (
                [vary(9.0, 5.0), -6.0, vary(16.0, 3.0)],
                vary(8.0, 6.0),
                vary(24.0, 2.0),
                vary(0.85, 0.08),
            ),
            Viewpoint::TopDown => (
                [vary(0.0, 8.0), vary(-4.0, 4.0), vary(75.0, 15.0)],
                vary(0.0, 12.0),
                88.0,
                vary(0.95, 0.1),
            ),
            Viewpoint::Roadside => (
                [vary(4.0, 4.0), 0.0, vary(6.0, 1.2)],
                vary(-32.0, 7.0),
                vary(13.0, 2.0),
                vary(0.85, 0.1),
            ),
            Viewpoint::Street => (
                [vary(4.5, 2.0), -6.0, vary(7.5, 1.5)],
                vary(5.0, 4.0),
                vary(17.0, 2.5),
                vary(0.9, 0.1),
            ),
        };
        let (yaw, pitch): (f64, f64) = (yaw.to_radians(), pitch.to_radians());
        let forward = [-yaw.sin() * pitch.cos(), yaw.cos() * pitch.cos(), -pitch.sin()];
        let right = [yaw.cos(), yaw.sin(), 0.0];
        let up = [
            right[1] * forward[2] - right[2] * forward[1],
            right[2] * forward[0] - right[0] * forward[2],
            right[0] * forward[1] - right[1] * forward[0],
        ];
        Self { position, right, up, forward, focal, height: 1.0 / aspect }
    }

    /// Metres in front of the camera.
    pub fn depth(&self, point: World) -> f64 {
        dot(minus(point, self.position), self.forward)
    }

    /// Where `point` lies in the picture; `None` behind the camera or too near.
    pub fn pixel(&self, point: World) -> Option<Pixel> {
        let ray = minus(point, self.position);
        let depth = dot(ray, self.forward);
        (depth > NEAR).then(|| {
            let scale = self.focal / depth;
            [0.5 + scale * dot(ray, self.right), self.height / 2.0 - scale * dot(ray, self.up)]
        })
    }

    /// Picture widths that a metre across the line of sight takes at `point`.
    pub fn zoom(&self, point: World) -> f64 {
        self.focal / self.depth(point).max(NEAR)
    }

    /// How round a circle on the ground at `point` looks: 1 from straight above, 0 from the ground.
    pub fn roundness(&self, point: World) -> f64 {
        let ray = minus(point, self.position);
        (ray[2].abs() / dot(ray, ray).sqrt().max(1e-9)).min(1.0)
    }

    /// Whether the surface with the outward `normal` at `point` can be seen.
    pub fn faces(&self, point: World, normal: World) -> bool {
        dot(minus(point, self.position), normal) < 0.0
    }

    /// Where the ray through a pixel meets the ground; `None` above the horizon.
    pub fn ground(&self, [x, y]: Pixel) -> Option<[f64; 2]> {
        let (across, upward) = ((x - 0.5) / self.focal, (self.height / 2.0 - y) / self.focal);
        let ray = [0, 1, 2]
            .map(|axis| self.forward[axis] + across * self.right[axis] + upward * self.up[axis]);
        (ray[2] < -1e-4).then(|| {
            let far = -self.position[2] / ray[2];
            [self.position[0] + far * ray[0], self.position[1] + far * ray[1]]
        })
    }
}

fn minus(a: World, b: World) -> World {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn dot(a: World, b: World) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// A vehicle in front of the camera.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub vehicle: OnRoad,
    pub depth: f64,
    /// Its outline: the convex hull of its box's corners.
    pub outline: Vec<Pixel>,
    /// The box around the outline; y and height in picture widths.
    pub bounds: Vehicle,
}

impl OnRoad {
    /// The point `along` metres ahead of its middle, `beside` to its right, `up` above the road.
    pub fn point(&self, along: f64, beside: f64, up: f64) -> World {
        let [hx, hy] = self.heading;
        [self.at[0] + hx * along + hy * beside, self.at[1] + hy * along - hx * beside, up]
    }
}

/// All vehicles that lie at least partly in the picture, the farthest first.
pub(super) fn project(view: &View, vehicles: impl Iterator<Item = OnRoad>) -> Vec<Body> {
    let mut bodies: Vec<Body> = vehicles.filter_map(|vehicle| body(view, vehicle)).collect();
    bodies.sort_by(|a, b| b.depth.total_cmp(&a.depth));
    bodies
}

fn body(view: &View, vehicle: OnRoad) -> Option<Body> {
    let [length, width, height] = vehicle.kind.size();
    let mut corners = Vec::with_capacity(8);
    for along in [-length / 2.0, length / 2.0] {
        for beside in [-width / 2.0, width / 2.0] {
            for up in [0.1, height] {
                corners.push(view.pixel(vehicle.point(along, beside, up))?);
            }
        }
    }
    let extent = |axis: usize| {
        let side = corners.iter().map(|corner| corner[axis]);
        (side.clone().fold(f64::INFINITY, f64::min), side.fold(f64::NEG_INFINITY, f64::max))
    };
    let ((left, right), (top, bottom)) = (extent(0), extent(1));
    if right < 0.0 || left > 1.0 || bottom < 0.0 || top > view.height {
        return None;
    }
    let bounds =
        Vehicle { kind: vehicle.kind, x: left, y: top, width: right - left, height: bottom - top };
    let depth = view.depth(vehicle.point(0.0, 0.0, 0.0));
    Some(Body { vehicle, depth, outline: hull(corners), bounds })
}

/// Convex hull by Andrew's monotone chain (1979).
fn hull(mut points: Vec<Pixel>) -> Vec<Pixel> {
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    let turn = |o: Pixel, a: Pixel, b: Pixel| {
        (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0])
    };
    let half = |points: &mut dyn Iterator<Item = Pixel>| {
        let mut chain: Vec<Pixel> = Vec::new();
        for point in points {
            while chain.len() >= 2
                && turn(chain[chain.len() - 2], chain[chain.len() - 1], point) <= 0.0
            {
                chain.pop();
            }
            chain.push(point);
        }
        chain.pop();
        chain
    };
    let mut outline = half(&mut points.iter().copied());
    outline.extend(half(&mut points.iter().rev().copied()));
    outline
}

fn area(outline: &[Pixel]) -> f64 {
    let next = outline.iter().cycle().skip(1);
    (outline.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<f64>() / 2.0).abs()
}

/// Columns of the grid on which it is found out who hides whom.
const COLUMNS: usize = 480;

/// The vehicles that count, by the rule in the module above: boxes in 0..1 of the frame.
pub(super) fn visible(bodies: &[Body], aspect: f64) -> Vec<Vehicle> {
    let rows = ((COLUMNS as f64 / aspect).ceil() as usize).max(1);
    let cell = 1.0 / COLUMNS as f64;
    let mut owner = vec![u32::MAX; COLUMNS * rows];
    // Far to near: who comes later hides who came before.
    for (index, body) in bodies.iter().enumerate() {
        fill(&body.outline, cell, rows, |at| owner[at] = index as u32);
    }
    let mut seen = vec![0usize; bodies.len()];
    for &index in owner.iter().filter(|index| **index != u32::MAX) {
        seen[index as usize] += 1;
    }
    let counts = |(body, seen): (&Body, usize)| {
        let Vehicle { kind, x, y, width, height } = body.bounds;
        let (cx, cy) = (x + width / 2.0, (y + height / 2.0) * aspect);
        let whole = (area(&body.outline) / (cell * cell)).max(1.0);
        let inside = (0.0..1.0).contains(&cx) && (0.0..1.0).contains(&cy);
        // What is smaller than a few cells of the grid and in the frame at all is seen.
        let enough = seen as f64 / whole >= VISIBLE || (whole < 6.0 && seen > 0);
        (inside && enough && kind != Kind::Motorcycle).then_some(Vehicle {
            kind,
            x,
            y: y * aspect,
            width,
            height: height * aspect,
        })
    };
    bodies.iter().zip(seen).filter_map(counts).collect()
}

/// Calls `mark` with each cell whose middle lies inside the convex `outline`.
fn fill(outline: &[Pixel], cell: f64, rows: usize, mut mark: impl FnMut(usize)) {
    let (top, bottom) = outline
        .iter()
        .fold((f64::INFINITY, 0.0f64), |(top, bottom), p| (top.min(p[1]), bottom.max(p[1])));
    let first = ((top / cell - 0.5).ceil().max(0.0)) as usize;
    let last = ((bottom / cell).ceil().max(0.0) as usize).min(rows);
    for row in first..last {
        let y = (row as f64 + 0.5) * cell;
        let (mut left, mut right) = (f64::INFINITY, f64::NEG_INFINITY);
        for (index, a) in outline.iter().enumerate() {
            let b = outline[(index + 1) % outline.len()];
            if (a[1] <= y) != (b[1] <= y) {
                let x = a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]);
                (left, right) = (left.min(x), right.max(x));
            }
        }
        if left < right {
            let from = ((left / cell - 0.5).ceil().max(0.0)) as usize;
            let to = ((right / cell - 0.5).ceil().max(0.0) as usize).min(COLUMNS);
            (from..to).for_each(|column| mark(row * COLUMNS + column));
        }
    }
}
