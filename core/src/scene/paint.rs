//! Paints the road once and the vehicles for each picture.

use tiny_skia::{Color, FillRule, Paint, Path, PathBuilder, Pixmap, Stroke, Transform};

use super::traffic::{Kind, OnRoad, Road};
use super::view::{Body, Pixel, View, World};
use super::{Chance, SceneSettings, Viewpoint, Weather};

/// Red, green and blue in 0..1.
type Rgb = [f64; 3];

/// Where the sun stands: towards it, of length 1.
const SUN: World = [0.45, -0.35, 0.82];

/// The road without vehicles, and the means to put them on it.
pub(super) struct Painter {
    background: Pixmap,
    canvas: Pixmap,
    /// Pixels in a picture width.
    scale: f64,
    light: Light,
    noise: u64,
    lens: Lens,
    /// A row after the lens.
    soft: Vec<u8>,
    /// The sensor's noise for at least [`GRAIN`] pixels and a row, the same for the four bytes of a
    /// pixel.
    grain: Vec<i8>,
}

/// What lens and sensor do to every picture of a camera.
#[derive(Clone, Copy)]
struct Lens {
    /// Share of each of the four neighbours in a pixel, of 256.
    blur: u16,
    /// Exposure: a factor, and its slow swing's share and phase.
    gain: f64,
    swing: f64,
}

/// Pixels of noise to choose a row's from.
const GRAIN: u64 = 16384;

/// How the weather changes colours.
#[derive(Clone, Copy)]
struct Light {
    /// Of what is lit by the sky.
    sky: f64,
    /// Of what is lit by the sun besides.
    sun: f64,
    /// Everything goes this far towards `haze`.
    dull: f64,
    haze: Rgb,
    /// Vehicles have their lamps on.
    lamps: bool,
    /// Amplitude of the sensor's noise, levels.
    noise: f64,
}

impl Light {
    fn of(weather: Weather) -> Self {
        match weather {
            Weather::Day => Self {
                sky: 0.62,
                sun: 0.45,
                dull: 0.03,
                haze: [0.8, 0.84, 0.9],
                lamps: false,
                noise: 3.0,
            },
            Weather::Night => Self {
                sky: 0.19,
                sun: 0.03,
                dull: 0.0,
                haze: [0.03, 0.03, 0.05],
                lamps: true,
                noise: 7.0,
            },
            Weather::Rain => Self {
                sky: 0.6,
                sun: 0.03,
                dull: 0.24,
                haze: [0.55, 0.58, 0.62],
                lamps: true,
                noise: 4.0,
            },
        }
    }

    /// `color` of a surface whose normal is `normal`.
    fn shade(&self, color: Rgb, normal: World) -> Rgb {
        let facing = (normal[0] * SUN[0] + normal[1] * SUN[1] + normal[2] * SUN[2]).max(0.0);
        let light = self.sky * (0.75 + 0.25 * normal[2]) + self.sun * facing;
        [0, 1, 2].map(|channel| {
            (color[channel] * light) * (1.0 - self.dull) + self.haze[channel] * self.dull
        })
    }
}

fn color([red, green, blue]: Rgb, alpha: f64) -> Color {
    let clamp = |value: f64| value.clamp(0.0, 1.0) as f32;
    Color::from_rgba(clamp(red), clamp(green), clamp(blue), clamp(alpha))
        .expect("all parts lie in 0..1")
}

/// Noise in 0..1 at a place of a lattice.
fn lattice(x: i64, y: i64, salt: u64) -> f64 {
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
    pub fn new(settings: &SceneSettings, view: &View, roads: &[Road], chance: &mut Chance) -> Self {
        let (width, height) = (settings.width.max(16) as u32, settings.height.max(16) as u32);
        let canvas = Pixmap::new(width, height)
            .expect("sides of at least 16 pixels, and pictures fit memory");
        let mut painter = Self {
            background: canvas.clone(),
            canvas,
            scale: f64::from(width),
            light: Light::of(settings.weather),
            noise: chance.next(),
            soft: Vec::new(),
            grain: Vec::new(),
            lens: Lens {
                blur: chance.between(6.0, 34.0) as u16,
                gain: chance.between(0.86, 1.14),
                swing: chance.unit(),
            },
        };
        // The sum of two uniform numbers: triangular, near enough to a sensor's.
        let noise = painter.light.noise;
        painter.grain = (0..GRAIN + u64::from(width))
            .flat_map(|_| [((chance.unit() + chance.unit() - 1.0) * noise).round() as i8; 4])
            .collect();
        painter.paint_ground(settings, view, roads, chance.next());
        painter.paint_surroundings(settings.viewpoint, view, chance);
        std::mem::swap(&mut painter.background, &mut painter.canvas);
        painter
    }

    /// Every pixel asks what lies on the ground where its ray meets it.
    fn paint_ground(&mut self, settings: &SceneSettings, view: &View, roads: &[Road], salt: u64) {
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

    /// Buildings and trees, where they hide no road.
    fn paint_surroundings(&mut self, viewpoint: Viewpoint, view: &View, chance: &mut Chance) {
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

    /// Paints the picture: the road, then each vehicle, far to near, then what the weather and the
    /// sensor do.
    pub fn paint(
        &mut self,
        settings: &SceneSettings,
        view: &View,
        bodies: &[Body],
        time: f64,
        rgb: &mut [u8],
    ) {
        self.canvas.data_mut().copy_from_slice(self.background.data());
        for body in bodies {
            self.shadow(view, &body.vehicle);
        }
        for body in bodies {
            self.body(view, &body.vehicle);
            self.details(view, &body.vehicle);
            if self.light.lamps && !body.vehicle.parked {
                self.lamps(view, body, settings.weather);
            }
        }
        let tick = (time * 1000.0).round() as u64;
        if settings.weather == Weather::Rain {
            self.rain(tick);
        }
        self.develop(time, tick, rgb);
    }

    fn shadow(&mut self, view: &View, vehicle: &OnRoad) {
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

    fn body(&mut self, view: &View, vehicle: &OnRoad) {
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
    fn details(&mut self, view: &View, vehicle: &OnRoad) {
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

    /// Lamps at both ends, and the light that they throw on the road.
    fn lamps(&mut self, view: &View, body: &Body, weather: Weather) {
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

    fn rain(&mut self, tick: u64) {
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
    fn develop(&mut self, time: f64, tick: u64, rgb: &mut [u8]) {
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

    // ---- shapes ----

    /// The faces that can be seen, sides before the top. Colours: front, back, sides, top.
    fn prism(
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

    fn polygon(&mut self, view: &View, corners: &[World], color: Color) {
        let mut path = PathBuilder::new();
        for (index, corner) in corners.iter().enumerate() {
            let Some([x, y]): Option<Pixel> = view.pixel(*corner) else { return };
            let (x, y) = ((x * self.scale) as f32, (y * self.scale) as f32);
            if index == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
        }
        path.close();
        self.fill(path.finish(), color);
    }

    fn fill(&mut self, path: Option<Path>, color: Color) {
        let Some(path) = path else { return };
        let mut paint = Paint { anti_alias: true, ..Paint::default() };
        paint.set_color(color);
        self.canvas.fill_path(&path, &paint, FillRule::Winding, Transform::identity(), None);
    }
}

/// A block with a rectangle below and one above: from, to along the vehicle, and width, in metres.
struct Prism {
    low: f64,
    high: f64,
    bottom: [f64; 3],
    top: [f64; 3],
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

fn sky(light: &Light, down: f64) -> Rgb {
    let zenith = if light.sky < 0.3 {
        [0.02, 0.02, 0.05]
    } else if light.sun > 0.1 {
        [0.42, 0.6, 0.86]
    } else {
        [0.5, 0.53, 0.57]
    };
    [0, 1, 2].map(|c| zenith[c] + (light.haze[c] - zenith[c]) * (down * 2.2).min(1.0))
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
