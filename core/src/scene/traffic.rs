//! Lanes and the vehicles on them.

use super::{Chance, Viewpoint};

/// What a vehicle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Car,
    Van,
    Truck,
    Bus,
    /// Painted, not counted.
    Motorcycle,
}

impl Kind {
    /// Its name in metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Car => "car",
            Self::Van => "van",
            Self::Truck => "truck",
            Self::Bus => "bus",
            Self::Motorcycle => "motorcycle",
        }
    }

    /// Length, width and height in metres.
    pub(super) fn size(self) -> [f64; 3] {
        match self {
            Self::Car => [4.4, 1.8, 1.5],
            Self::Van => [5.4, 2.0, 2.2],
            Self::Truck => [9.5, 2.5, 3.4],
            Self::Bus => [12.0, 2.55, 3.1],
            Self::Motorcycle => [2.1, 0.8, 1.5],
        }
    }
}

/// A point on the ground in metres: x to the right of the camera, y away from it.
pub(super) type Ground = [f64; 2];

/// A straight lane with what goes on it.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub from: Ground,
    pub to: Ground,
    /// Metres per second on a free road.
    speed: f64,
    /// Where it stops at a red light, metres from its beginning; and which phase lets it go.
    light: Option<(f64, usize)>,
    /// Cars stand here and never move.
    parked: bool,
    /// In the order in which they entered.
    queue: Vec<Driver>,
    /// When the next one comes.
    arrival: f64,
}

impl Lane {
    fn length(&self) -> f64 {
        (self.to[0] - self.from[0]).hypot(self.to[1] - self.from[1])
    }

    fn direction(&self) -> [f64; 2] {
        let length = self.length();
        [(self.to[0] - self.from[0]) / length, (self.to[1] - self.from[1]) / length]
    }
}

/// A road's surface: a strip between two ground points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Road {
    pub from: Ground,
    pub to: Ground,
    /// Metres.
    pub width: f64,
    /// Lanes side by side.
    pub lanes: usize,
}

#[derive(Clone, Debug)]
struct Driver {
    kind: Kind,
    /// Metres from the lane's beginning to the vehicle's front.
    front: f64,
    speed: f64,
    /// Free-road speed relative to the lane's.
    temper: f64,
    /// Metres beside the lane's middle.
    offset: f64,
    color: [f64; 3],
    /// A car with a tailgate instead of a boot.
    estate: bool,
}

/// A vehicle on the ground.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnRoad {
    pub kind: Kind,
    /// Middle of the vehicle.
    pub at: Ground,
    /// Unit vector.
    pub heading: [f64; 2],
    pub color: [f64; 3],
    /// A car with a tailgate instead of a boot.
    pub estate: bool,
    /// Braking or standing.
    pub braking: bool,
    /// It is empty, so its lamps are off.
    pub parked: bool,
}

/// All lanes of a scene.
pub(super) struct Traffic {
    lanes: Vec<Lane>,
    roads: Vec<Road>,
    chance: Chance,
    level: f64,
    swing: f64,
    steps: u64,
}

/// Length of a simulation step in seconds.
const STEP: f64 = 0.04;

/// Seconds of traffic before the scene's time 0, so that roads have filled.
const WARM_UP: f64 = 60.0;

/// Seconds from one rush to the next.
const TIDE: f64 = 95.0;

/// From this level on something beyond the picture stops the traffic now and then, and jams run
/// back through it.
const JAMMED: f64 = 1.5;

/// Seconds of a traffic light's phase, and of the pause in which all wait.
const PHASE: (f64, f64) = (14.0, 3.0);

/// The Intelligent Driver Model's acceleration (Treiber, Hennecke and Helbing 2000): maximum
/// acceleration 1.6, comfortable deceleration 2.2 m/s2, time headway 1.3 s, standstill gap 2 m,
/// exponent 4.
fn intelligent_driver(speed: f64, free: f64, gap: f64, approach: f64) -> f64 {
    let wanted = 2.0 + (speed * 1.3 + speed * approach / (2.0 * (1.6f64 * 2.2).sqrt())).max(0.0);
    1.6 * (1.0 - (speed / free).powi(4) - (wanted / gap.max(0.1)).powi(2))
}

impl Traffic {
    pub fn new(viewpoint: Viewpoint, level: f64, seed: u64) -> Self {
        let mut chance = Chance::new(seed, 1000 + viewpoint as u64);
        let mut lanes = Vec::new();
        let mut roads = Vec::new();
        let jam = |at: f64, phase: usize| (level >= JAMMED).then_some((at, phase));
        let mut lane = |from: Ground,
                        to: Ground,
                        speed: f64,
                        light: Option<(f64, usize)>,
                        parked: bool| {
            lanes.push(Lane { from, to, speed, light, parked, queue: Vec::new(), arrival: 0.0 });
        };
        match viewpoint {
            Viewpoint::Highway => {
                for index in 0..3 {
                    let x = 2.9 + 3.6 * index as f64;
                    lane([x, -10.0], [x, 150.0], 27.0 - 2.0 * index as f64, jam(156.0, 0), false);
                    lane([-x, 150.0], [-x, -10.0], 27.0 - 2.0 * index as f64, jam(158.0, 1), false);
                }
                roads.push(Road { from: [6.5, -10.0], to: [6.5, 420.0], width: 11.6, lanes: 3 });
                roads.push(Road { from: [-6.5, -10.0], to: [-6.5, 420.0], width: 11.6, lanes: 3 });
            }
            Viewpoint::Junction => {
                for index in 0..2 {
                    let side = 1.8 + 3.5 * index as f64;
                    lane([side, -5.0], [side, 85.0], 12.0, Some((29.0, 0)), false);
                    lane([-side, 85.0], [-side, -5.0], 12.0, Some((38.0, 0)), false);
                    lane([-70.0, 40.0 - side], [70.0, 40.0 - side], 12.0, Some((58.5, 1)), false);
                    lane([70.0, 40.0 + side], [-70.0, 40.0 + side], 12.0, Some((58.5, 1)), false);
                }
                roads.push(Road { from: [0.0, -10.0], to: [0.0, 260.0], width: 14.6, lanes: 4 });
                roads.push(Road { from: [-170.0, 40.0], to: [170.0, 40.0], width: 14.6, lanes: 4 });
            }
            Viewpoint::TopDown => {
                for index in 0..3 {
                    let y = 3.4 + 3.6 * index as f64;
                    lane([-75.0, -y], [75.0, -y], 20.0, jam(147.0, 0), false);
                    lane([75.0, y], [-75.0, y], 20.0, jam(147.0, 1), false);
                }
                roads.push(Road { from: [-170.0, -7.0], to: [170.0, -7.0], width: 11.6, lanes: 3 });
                roads.push(Road { from: [-170.0, 7.0], to: [170.0, 7.0], width: 11.6, lanes: 3 });
            }
            Viewpoint::Roadside => {
                for index in 0..2 {
                    let y = 14.0 + 3.6 * index as f64;
                    lane([-45.0, y], [75.0, y], 16.0, jam(117.0, 0), false);
                    lane([75.0, y + 7.4], [-45.0, y + 7.4], 16.0, jam(117.0, 1), false);
                }
                roads.push(Road { from: [-190.0, 19.5], to: [260.0, 19.5], width: 15.0, lanes: 4 });
            }
            Viewpoint::Street => {
                lane([1.9, -5.0], [1.9, 90.0], 9.0, Some((70.0, 0)), false);
                lane([-1.9, 90.0], [-1.9, -5.0], 9.0, None, false);
                lane([5.2, 0.0], [5.2, 75.0], 1.0, None, true);
                lane([-5.2, 75.0], [-5.2, 0.0], 1.0, None, true);
                roads.push(Road { from: [0.0, -10.0], to: [0.0, 260.0], width: 13.2, lanes: 2 });
            }
        }
        let swing = chance.between(0.0, 100.0);
        let mut traffic = Self { lanes, roads, chance, level, swing, steps: 0 };
        traffic.park();
        for lane in 0..traffic.lanes.len() {
            traffic.lanes[lane].arrival = traffic.chance.between(0.0, 6.0);
        }
        while traffic.steps < (WARM_UP / STEP) as u64 {
            traffic.step();
        }
        traffic
    }

    pub fn roads(&self) -> &[Road] {
        &self.roads
    }

    /// The scene's time in seconds.
    pub fn time(&self) -> f64 {
        self.steps as f64 * STEP - WARM_UP
    }

    /// Goes on to the last step that is not after `time`.
    pub fn advance(&mut self, time: f64) {
        while (self.steps + 1) as f64 * STEP - WARM_UP <= time {
            self.step();
        }
    }

    fn park(&mut self) {
        for index in 0..self.lanes.len() {
            if !self.lanes[index].parked {
                continue;
            }
            let mut front = 5.0;
            while front < self.lanes[index].length() {
                if self.chance.unit() < 0.35 + 0.3 * self.level.min(1.5) && self.level > 0.0 {
                    let driver = self.driver(&[(Kind::Car, 8.0), (Kind::Van, 2.0)], front, 0.0);
                    self.lanes[index].queue.push(driver);
                }
                front += self.chance.between(6.2, 8.0);
            }
            self.lanes[index].queue.reverse();
        }
    }

    fn driver(&mut self, kinds: &[(Kind, f64)], front: f64, speed: f64) -> Driver {
        let kind = self.chance.weighted(kinds);
        // Most cars are white, black, grey or silver.
        let color = match kind {
            Kind::Bus => self.chance.weighted(&[
                ([0.75, 0.15, 0.12], 2.0),
                ([0.85, 0.75, 0.2], 1.0),
                ([0.85, 0.86, 0.88], 2.0),
            ]),
            _ => self.chance.weighted(&[
                ([0.88, 0.88, 0.87], 26.0),
                ([0.08, 0.08, 0.09], 20.0),
                ([0.35, 0.36, 0.38], 17.0),
                ([0.62, 0.63, 0.65], 13.0),
                ([0.12, 0.2, 0.42], 9.0),
                ([0.55, 0.09, 0.1], 8.0),
                ([0.35, 0.25, 0.18], 3.0),
                ([0.13, 0.3, 0.2], 2.0),
                ([0.75, 0.62, 0.12], 2.0),
            ]),
        };
        let shade = self.chance.between(0.9, 1.1);
        Driver {
            kind,
            front,
            speed,
            temper: self.chance.between(0.85, 1.12),
            offset: self.chance.between(-0.3, 0.3),
            color: color.map(|channel: f64| (channel * shade).min(1.0)),
            estate: self.chance.unit() < 0.5,
        }
    }

    fn step(&mut self) {
        let now = self.steps as f64 * STEP;
        let (green, pause) = PHASE;
        let cycle = now % (2.0 * (green + pause));
        let going = [cycle < green, (green + pause..2.0 * green + pause).contains(&cycle)];
        for index in 0..self.lanes.len() {
            if self.lanes[index].parked {
                continue;
            }
            self.enter(index, now);
            let lane = &mut self.lanes[index];
            let (length, free) = (lane.length(), lane.speed);
            let red = lane.light.and_then(|(at, phase)| (!going[phase]).then_some(at));
            let mut ahead: Option<(f64, f64)> = None;
            for driver in &mut lane.queue {
                let mut gap = ahead.map_or(f64::INFINITY, |(rear, _)| rear - driver.front);
                let mut approach = ahead.map_or(0.0, |(_, speed)| driver.speed - speed);
                // Who can no longer stop in comfort drives on.
                let stopping = driver.speed * driver.speed / (2.0 * 3.0);
                if let Some(at) =
                    red.filter(|at| *at > driver.front && at - driver.front > stopping * 0.8)
                    && at - driver.front < gap
                {
                    (gap, approach) = (at - driver.front, driver.speed);
                }
                let acceleration =
                    intelligent_driver(driver.speed, free * driver.temper, gap, approach).max(-8.0);
                driver.speed = (driver.speed + acceleration * STEP).max(0.0);
                driver.front += driver.speed * STEP;
                ahead = Some((driver.front - driver.kind.size()[0], driver.speed));
            }
            lane.queue.retain(|driver| driver.front - driver.kind.size()[0] < length);
        }
        self.steps += 1;
    }

    /// A vehicle comes when its time is there and the lane has room.
    fn enter(&mut self, index: usize, now: f64) {
        if now < self.lanes[index].arrival || self.level <= 0.0 {
            return;
        }
        let room = self.lanes[index]
            .queue
            .last()
            .is_none_or(|last| last.front - last.kind.size()[0] > 6.0);
        // From nearly nothing to thick, in some minutes; longer at both ends than in between.
        let swing = 0.5 + 0.5 * ((now + self.swing) * std::f64::consts::TAU / TIDE).sin();
        let tide = (swing * swing * (3.0 - 2.0 * swing)).max(0.02);
        // A Poisson process by thinning (Lewis and Shedler 1979): drawn at the highest rate, kept
        // in proportion.
        self.lanes[index].arrival = now - (1.0 - self.chance.unit()).ln() / (0.36 * self.level);
        if self.chance.unit() > tide {
            return;
        }
        if !room {
            self.lanes[index].arrival = now + 0.5;
            return;
        }
        let speed =
            self.lanes[index].queue.last().map_or(self.lanes[index].speed * 0.8, |last| last.speed);
        let kinds = [
            (Kind::Car, 74.0),
            (Kind::Van, 11.0),
            (Kind::Truck, 8.0),
            (Kind::Bus, 3.0),
            (Kind::Motorcycle, 4.0),
        ];
        let driver = self.driver(&kinds, 0.0, speed);
        self.lanes[index].queue.push(driver);
    }

    /// Where every vehicle is at `time`, less than a step after the last one.
    pub fn vehicles(&self, time: f64) -> impl Iterator<Item = OnRoad> + '_ {
        let since = (time - self.time()).clamp(0.0, STEP);
        self.lanes.iter().flat_map(move |lane| {
            let heading = lane.direction();
            lane.queue.iter().map(move |driver| {
                let [length, width, _] = driver.kind.size();
                let middle = driver.front + driver.speed * since - length / 2.0;
                let beside = driver.offset * (3.4 - width).max(0.2) / 1.6;
                OnRoad {
                    kind: driver.kind,
                    at: [
                        lane.from[0] + heading[0] * middle + heading[1] * beside,
                        lane.from[1] + heading[1] * middle - heading[0] * beside,
                    ],
                    heading,
                    color: driver.color,
                    estate: driver.estate,
                    braking: !lane.parked && driver.speed < 2.0,
                    parked: lane.parked,
                }
            })
        })
    }
}
