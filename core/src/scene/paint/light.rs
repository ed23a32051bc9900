//! How weather and sun change colours.

use tiny_skia::Color;

use super::Rgb;
use crate::scene::Weather;
use crate::scene::view::World;

/// Where the sun stands: towards it, of length 1.
pub(super) const SUN: World = [0.45, -0.35, 0.82];

/// How the weather changes colours.
#[derive(Clone, Copy)]
pub(super) struct Light {
    /// Of what is lit by the sky.
    pub sky: f64,
    /// Of what is lit by the sun besides.
    pub sun: f64,
    /// Everything goes this far towards `haze`.
    pub dull: f64,
    pub haze: Rgb,
    /// Vehicles have their lamps on.
    pub lamps: bool,
    /// Amplitude of the sensor's noise, levels.
    pub noise: f64,
}

impl Light {
    pub fn of(weather: Weather) -> Self {
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
    pub fn shade(&self, color: Rgb, normal: World) -> Rgb {
        let facing = (normal[0] * SUN[0] + normal[1] * SUN[1] + normal[2] * SUN[2]).max(0.0);
        let light = self.sky * (0.75 + 0.25 * normal[2]) + self.sun * facing;
        [0, 1, 2].map(|channel| {
            (color[channel] * light) * (1.0 - self.dull) + self.haze[channel] * self.dull
        })
    }
}

pub(super) fn color([red, green, blue]: Rgb, alpha: f64) -> Color {
    let clamp = |value: f64| value.clamp(0.0, 1.0) as f32;
    Color::from_rgba(clamp(red), clamp(green), clamp(blue), clamp(alpha))
        .expect("all parts lie in 0..1")
}

pub(super) fn sky(light: &Light, down: f64) -> Rgb {
    let zenith = if light.sky < 0.3 {
        [0.02, 0.02, 0.05]
    } else if light.sun > 0.1 {
        [0.42, 0.6, 0.86]
    } else {
        [0.5, 0.53, 0.57]
    };
    [0, 1, 2].map(|c| zenith[c] + (light.haze[c] - zenith[c]) * (down * 2.2).min(1.0))
}
