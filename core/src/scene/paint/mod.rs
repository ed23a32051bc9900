//! Paints the road once and the vehicles for each picture.

mod ground;
mod lamps;
mod light;
mod sensor;
mod shape;
mod surroundings;
mod vehicle;

use light::Light;
use sensor::{GRAIN, Lens};
use tiny_skia::Pixmap;

use super::traffic::Road;
use super::view::{Body, View};
use super::{Chance, SceneSettings, Weather};

/// Red, green and blue in 0..1.
type Rgb = [f64; 3];

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
}
