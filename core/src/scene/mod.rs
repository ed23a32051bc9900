//! A simulated camera: procedural traffic whose every vehicle is known.
//!
//! The same seed, viewpoint and weather give the same pictures. Vehicles follow lanes by the
//! Intelligent Driver Model ([`traffic`]), are projected by a pinhole camera ([`view`]) and painted
//! far to near ([`paint`]).
//!
//! **Truth.** A vehicle counts when the centre of its box lies in the frame and at least
//! [`VISIBLE`] of its outline can be seen, the rest being hidden by nearer vehicles or cut off by
//! the frame. Motorcycles are painted and not counted: the real data does not count them either.

mod paint;
mod traffic;
mod view;

use std::str::FromStr;

pub use traffic::Kind;
use traffic::Traffic;
use view::View;

/// Share of a vehicle's outline that must be seen for it to count.
pub const VISIBLE: f64 = 0.4;

/// From where the camera looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Viewpoint {
    /// A motorway from a bridge: three lanes away, three towards the camera.
    #[default]
    Highway,
    /// A crossroads with traffic lights, from a mast.
    Junction,
    /// Straight down from a drone: small vehicles.
    TopDown,
    /// Across a road from its side.
    Roadside,
    /// A city street with parked cars and trees.
    Street,
}

impl Viewpoint {
    /// All viewpoints.
    pub const ALL: [Self; 5] =
        [Self::Highway, Self::Junction, Self::TopDown, Self::Roadside, Self::Street];

    /// Its name in properties and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Highway => "highway",
            Self::Junction => "junction",
            Self::TopDown => "top-down",
            Self::Roadside => "roadside",
            Self::Street => "street",
        }
    }
}

/// Light and weather.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Weather {
    /// A clear day.
    #[default]
    Day,
    /// Night: headlights, dark bodies, street lamps.
    Night,
    /// Rain: streaks, a wet road, little contrast.
    Rain,
}

impl Weather {
    /// All weathers.
    pub const ALL: [Self; 3] = [Self::Day, Self::Night, Self::Rain];

    /// Its name in properties and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Night => "night",
            Self::Rain => "rain",
        }
    }
}

macro_rules! from_name {
    ($type:ty) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                let names: Vec<_> = Self::ALL.iter().map(|one| one.name()).collect();
                let found = Self::ALL.into_iter().find(|one| one.name() == name);
                found.ok_or_else(|| format!("{name:?} is none of {}", names.join(", ")))
            }
        }
    };
}
from_name!(Viewpoint);
from_name!(Weather);

/// What a scene is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SceneSettings {
    /// From where the camera looks.
    pub viewpoint: Viewpoint,
    /// Light and weather.
    pub weather: Weather,
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// Width of the picture in pixels, at least 16.
    pub width: usize,
    /// Height of the picture in pixels, at least 16.
    pub height: usize,
    /// How busy the road is: 0 is empty, 1 usual, 2 jammed. It swings around this over time.
    pub traffic: f64,
}

/// A vehicle in the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vehicle {
    /// What it is.
    pub kind: Kind,
    /// Left edge of its box, in 0..1 of the frame; the box may reach beyond it.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// A simulated camera.
pub struct Scene {
    settings: SceneSettings,
    view: View,
    traffic: Traffic,
    painter: paint::Painter,
    vehicles: Vec<Vehicle>,
}

impl Scene {
    /// Builds the scene at its time 0; roads have filled by then.
    pub fn new(settings: SceneSettings) -> Self {
        let mut chance = Chance::new(settings.seed, settings.viewpoint as u64);
        let view = View::new(
            settings.viewpoint,
            settings.width as f64 / settings.height as f64,
            &mut chance,
        );
        let traffic = Traffic::new(settings.viewpoint, settings.traffic, settings.seed);
        let painter = paint::Painter::new(&settings, &view, traffic.roads(), &mut chance);
        Self { settings, view, traffic, painter, vehicles: Vec::new() }
    }

    /// What it was made of.
    pub fn settings(&self) -> &SceneSettings {
        &self.settings
    }

    /// Paints the picture at `time` seconds as RGB, rows without padding, and notes the truth.
    /// Going back in time builds the traffic anew.
    ///
    /// # Panics
    /// When `rgb` is not `width * height * 3` long.
    pub fn render(&mut self, time: f64, rgb: &mut [u8]) {
        assert_eq!(
            rgb.len(),
            self.settings.width * self.settings.height * 3,
            "an RGB picture of the scene's size"
        );
        if time < self.traffic.time() {
            self.traffic =
                Traffic::new(self.settings.viewpoint, self.settings.traffic, self.settings.seed);
        }
        self.traffic.advance(time);
        let bodies = view::project(&self.view, self.traffic.vehicles(time));
        self.vehicles =
            view::visible(&bodies, self.settings.width as f64 / self.settings.height as f64);
        self.painter.paint(&self.settings, &self.view, &bodies, time, rgb);
    }

    /// The vehicles that count in the picture that was rendered last.
    pub fn truth(&self) -> &[Vehicle] {
        &self.vehicles
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers on every machine and in every version.
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    fn new(seed: u64, salt: u64) -> Self {
        let mut chance = Self(seed ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93));
        chance.next();
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `low..high`.
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// One of `choices`, each as likely as its weight.
    fn weighted<T: Copy>(&mut self, choices: &[(T, f64)]) -> T {
        let total: f64 = choices.iter().map(|(_, weight)| weight).sum();
        let mut left = self.unit() * total;
        for &(choice, weight) in choices {
            left -= weight;
            if left <= 0.0 {
                return choice;
            }
        }
        choices[choices.len() - 1].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(viewpoint: Viewpoint, weather: Weather, seed: u64) -> SceneSettings {
        SceneSettings { viewpoint, weather, seed, width: 160, height: 90, traffic: 1.0 }
    }

    fn picture(scene: &mut Scene, time: f64) -> Vec<u8> {
        let mut rgb = vec![0; 160 * 90 * 3];
        scene.render(time, &mut rgb);
        rgb
    }

    #[test]
    fn same_seed_gives_the_same_pictures_and_truth_also_after_going_back() {
        for viewpoint in Viewpoint::ALL {
            let (mut a, mut b) = (
                Scene::new(settings(viewpoint, Weather::Rain, 7)),
                Scene::new(settings(viewpoint, Weather::Rain, 7)),
            );
            let early = picture(&mut a, 1.0);
            let late = picture(&mut a, 6.0);
            assert_ne!(early, late, "{viewpoint:?} moves");
            assert!(picture(&mut b, 6.0) == late, "{viewpoint:?}");
            assert_eq!(a.truth(), b.truth());
            assert!(picture(&mut b, 1.0) == early, "{viewpoint:?} back in time");
        }
    }

    #[test]
    fn other_seed_gives_another_road() {
        let pictures = [1, 2].map(|seed| {
            picture(&mut Scene::new(settings(Viewpoint::Highway, Weather::Day, seed)), 3.0)
        });
        assert_ne!(pictures[0], pictures[1]);
    }

    #[test]
    fn every_viewpoint_shows_vehicles_whose_boxes_lie_in_the_frame() {
        for viewpoint in Viewpoint::ALL {
            let mut scene = Scene::new(settings(viewpoint, Weather::Day, 3));
            let mut counts = Vec::new();
            for second in 0..60 {
                picture(&mut scene, f64::from(second));
                counts.push(scene.truth().len());
                for Vehicle { x, y, width, height, kind } in scene.truth() {
                    assert!(
                        (0.0..=1.0).contains(&(x + width / 2.0))
                            && (0.0..=1.0).contains(&(y + height / 2.0))
                    );
                    assert!(*kind != Kind::Motorcycle && *width > 0.0 && *height > 0.0);
                }
            }
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(*most.unwrap() >= 3, "{viewpoint:?}: {counts:?}");
            assert!(least < most, "{viewpoint:?}: {counts:?}");
        }
    }

    #[test]
    fn no_traffic_is_an_empty_road_and_much_traffic_a_full_one() {
        for viewpoint in
            [Viewpoint::Highway, Viewpoint::Junction, Viewpoint::TopDown, Viewpoint::Roadside]
        {
            let mean = |traffic: f64| {
                let mut scene =
                    Scene::new(SceneSettings { traffic, ..settings(viewpoint, Weather::Day, 5) });
                let counts = (0..20).map(|step| {
                    picture(&mut scene, f64::from(step) * 3.0);
                    scene.truth().len()
                });
                counts.sum::<usize>() as f64 / 20.0
            };
            let (none, some, much) = (mean(0.0), mean(0.5), mean(2.0));
            assert_eq!(none, 0.0, "{viewpoint:?}");
            assert!(some < much && much > 2.0, "{viewpoint:?}: {some} {much}");
        }
    }

    #[test]
    fn the_road_is_nearly_empty_at_times_and_busy_at_others() {
        // Junctions have queues and streets parked cars at any time.
        for (viewpoint, few, many) in [
            (Viewpoint::Highway, 2, 10),
            (Viewpoint::Junction, 4, 12),
            (Viewpoint::TopDown, 1, 8),
            (Viewpoint::Roadside, 0, 3),
        ] {
            let mut scene = Scene::new(settings(viewpoint, Weather::Day, 5));
            let counts: Vec<_> = (0..100)
                .map(|step| {
                    picture(&mut scene, f64::from(step) * 2.0);
                    scene.truth().len()
                })
                .collect();
            assert!(counts.iter().any(|count| *count <= few), "{viewpoint:?}: {counts:?}");
            assert!(counts.iter().any(|count| *count >= many), "{viewpoint:?}: {counts:?}");
        }
    }

    #[test]
    fn jammed_motorway_stands_still_at_times() {
        let slowest = |traffic: f64| {
            let mut scene = Scene::new(SceneSettings {
                traffic,
                ..settings(Viewpoint::Highway, Weather::Day, 5)
            });
            let standing = (0..60).map(|step| {
                scene.traffic.advance(f64::from(step) * 2.0);
                let time = scene.traffic.time();
                scene.traffic.vehicles(time).filter(|vehicle| vehicle.braking).count()
            });
            standing.max().unwrap()
        };
        assert_eq!(slowest(1.0), 0);
        assert!(slowest(2.0) >= 6, "{}", slowest(2.0));
    }

    #[test]
    fn who_hides_behind_a_lorry_does_not_count() {
        // The camera looks down the road: the lorry hides the car just ahead of it, and nothing
        // hides the van that is nearer.
        let chance = &mut Chance::new(1, 1);
        let view = View::new(Viewpoint::Highway, 16.0 / 9.0, chance);
        let vehicle = |kind, away| traffic::OnRoad {
            kind,
            at: [0.0, away],
            heading: [0.0, 1.0],
            color: [0.5; 3],
            estate: false,
            braking: false,
            parked: false,
        };
        let count = |vehicles: &[traffic::OnRoad]| {
            let bodies = view::project(&view, vehicles.iter().copied());
            view::visible(&bodies, 16.0 / 9.0)
                .iter()
                .map(|vehicle| vehicle.kind)
                .collect::<Vec<_>>()
        };
        let (far, lorry, near) =
            (vehicle(Kind::Car, 75.0), vehicle(Kind::Truck, 67.0), vehicle(Kind::Van, 40.0));
        assert_eq!(count(&[near, lorry, far]), [Kind::Truck, Kind::Van]);
        assert_eq!(count(&[near, far]), [Kind::Car, Kind::Van]);
        assert_eq!(count(&[vehicle(Kind::Motorcycle, 40.0)]), []);
    }

    #[test]
    fn vehicle_changes_the_picture_inside_its_box_and_nowhere_else() {
        // The same road with and without its traffic, in weather without noise of its own but the
        // sensor's, which is the same.
        let mut full = Scene::new(settings(Viewpoint::Highway, Weather::Day, 11));
        let mut empty = Scene::new(SceneSettings {
            traffic: 0.0,
            ..settings(Viewpoint::Highway, Weather::Day, 11)
        });
        let (with, without) = (picture(&mut full, 10.0), picture(&mut empty, 10.0));
        let all = view::project(&full.view, full.traffic.vehicles(10.0));
        let near = |x: f64, y: f64| {
            // A shadow falls beside its vehicle.
            all.iter().any(|body| {
                let (w, h) = (body.bounds.width, body.bounds.height);
                let aspect = 160.0 / 90.0;
                (body.bounds.x - w * 0.6 - 0.02..body.bounds.x + w * 1.6 + 0.02).contains(&x)
                    && (body.bounds.y * aspect - h * aspect * 0.4 - 0.02
                        ..(body.bounds.y + h * 1.4) * aspect + 0.02)
                        .contains(&y)
            })
        };
        let changed = |x: usize, y: usize| {
            let at = (y * 160 + x) * 3;
            with[at..at + 3].iter().zip(&without[at..at + 3]).any(|(a, b)| a.abs_diff(*b) > 12)
        };
        for y in 0..90 {
            for x in 0..160 {
                if changed(x, y) {
                    assert!(
                        near((x as f64 + 0.5) / 160.0, (y as f64 + 0.5) / 90.0),
                        "changed at {x}, {y}, far from any vehicle"
                    );
                }
            }
        }
        for Vehicle { x, y, width, height, .. } in full.truth() {
            let (x, y) =
                (((x + width / 2.0) * 160.0) as usize, ((y + height / 2.0) * 90.0) as usize);
            assert!(changed(x.min(159), y.min(89)), "a vehicle at {x}, {y} that nobody sees");
        }
    }
}
