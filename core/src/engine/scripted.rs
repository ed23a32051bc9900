//! The engine for tests: no network, and a gate that holds, releases and fails its work.
//!
//! The density of a cell is the mean of its red samples, 255 being one vehicle. So a test knows
//! every count, and sees where in the frame it came from.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use std::{env, fs, thread};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::error::EngineError;
use super::info::EngineInfo;
use super::interface::{Engine, EngineRequest, Lane};
use super::kind::EngineKind;
use super::slot::Slot;
use crate::model::ModelError;
use crate::tensorrt::{Precision, Progress};

#[derive(Default)]
struct Script {
    /// Lanes of engines that open from now on, where it is not one.
    lanes: Option<usize>,
    holding: bool,
    /// Batches that may pass although the gate is closed.
    passes: usize,
    waiting: usize,
    failures: VecDeque<String>,
    broken: Option<String>,
    panics: VecDeque<String>,
    /// Lanes made so far.
    made: u64,
    /// Lanes up to this one fail, for that reason.
    broken_lanes: Option<(u64, String)>,
    calls: Vec<usize>,
    /// Openings wait.
    holding_openings: bool,
    /// Openings that have begun.
    openings: usize,
    /// Why an engine that opens from now on does not open.
    refusal: Option<String>,
}

#[derive(Default)]
struct Gate {
    script: Mutex<Script>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock()
    }

    fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Variable with the path of a file that steers the scripted engines of a process: while it says
/// `fail REASON`, batches fail; while it says `hang`, they wait.
pub const SCRIPT: &str = "VEHICLECOUNT_SCRIPT";

static GATES: LazyLock<Mutex<HashMap<String, Arc<Gate>>>> = LazyLock::new(Mutex::default);

/// Steers the scripted engines of one name (`engine-id`), those that are open and those that will
/// be.
#[derive(Clone)]
pub struct Control(Arc<Gate>);

impl Control {
    /// The control of the scripted engines called `name`.
    pub fn of(name: &str) -> Self {
        let mut gates = GATES.lock();
        Self(gates.entry(name.to_owned()).or_default().clone())
    }

    /// Engines that open from now on have so many lanes; without this, one.
    pub fn set_lanes(&self, lanes: usize) {
        self.0.change(|script| script.lanes = Some(lanes.max(1)));
    }

    /// Closes the gate: batches wait inside the engine.
    pub fn hold(&self) {
        self.0.change(|script| {
            script.holding = true;
            script.passes = 0;
        });
    }

    /// Lets `batches` pass, waiting ones or such that come.
    pub fn release(&self, batches: usize) {
        self.0.change(|script| script.passes += batches);
    }

    /// Opens the gate for good, for openings too.
    pub fn open_gate(&self) {
        self.0.change(|script| (script.holding, script.holding_openings) = (false, false));
    }

    /// Engines of this name that open from now on wait, until [`open_gate`](Self::open_gate).
    pub fn hold_openings(&self) {
        self.0.change(|script| script.holding_openings = true);
    }

    /// Engines of this name that open from now on do not open, for that reason.
    pub fn refuse_openings(&self, reason: &str) {
        self.0.change(|script| script.refusal = Some(reason.to_owned()));
    }

    /// Openings that have begun so far.
    pub fn openings(&self) -> usize {
        self.0.lock().openings
    }

    /// The next batch fails.
    pub fn fail_next(&self, reason: &str) {
        self.0.change(|script| script.failures.push_back(reason.to_owned()));
    }

    /// The next batch makes its lane panic.
    pub fn panic_next(&self, reason: &str) {
        self.0.change(|script| script.panics.push_back(reason.to_owned()));
    }

    /// Every batch fails, until [`recover`](Self::recover).
    pub fn fail_all(&self, reason: &str) {
        self.0.change(|script| script.broken = Some(reason.to_owned()));
    }

    /// Every batch fails on the lanes that are there now, and on none that is made later.
    pub fn break_lanes(&self, reason: &str) {
        self.0.change(|script| script.broken_lanes = Some((script.made, reason.to_owned())));
    }

    /// Lanes that were made so far.
    pub fn lanes_made(&self) -> u64 {
        self.0.lock().made
    }

    /// Batches no longer fail.
    pub fn recover(&self) {
        self.0.change(|script| script.broken = None);
    }

    /// Sizes of the batches that have come, in order.
    pub fn calls(&self) -> Vec<usize> {
        self.0.lock().calls.clone()
    }

    /// Waits until `lanes` lanes are held at the gate. `false` when that did not happen within
    /// `bound`.
    #[must_use]
    pub fn wait_for_waiting(&self, lanes: usize, bound: Duration) -> bool {
        let mut script = self.0.lock();
        self.0.changed.wait_while_for(&mut script, |script| script.waiting < lanes, bound);
        script.waiting >= lanes
    }
}

struct ScriptedEngine {
    info: EngineInfo,
    gate: Arc<Gate>,
}

/// Opens the scripted engine called `request.name`.
pub(super) fn open(request: &EngineRequest) -> Result<Arc<dyn Engine>, EngineError> {
    let manifest = &request.model.manifest;
    if request.precision != Precision::Auto {
        return Err(EngineError::Precision {
            kind: EngineKind::Scripted,
            model: manifest.name.clone(),
            precision: request.precision,
            remedy: "it runs no network: leave precision at auto".to_owned(),
        });
    }
    let refused = |error: ModelError| EngineError::Model {
        kind: EngineKind::Scripted,
        reason: error.to_string(),
    };
    let input = request.model.input_size(request.input).map_err(refused)?;
    let gate = Control::of(&request.name).0;
    let lanes = {
        let mut script = gate.lock();
        script.openings += 1;
        while script.holding_openings {
            gate.changed.wait_for(&mut script, Duration::from_millis(20));
            if !request.watch.tell(Progress::Step { phase: "gate", step: 0 }) {
                return Err(EngineError::Ended);
            }
        }
        if let Some(reason) = script.refusal.clone() {
            return Err(EngineError::Model { kind: EngineKind::Scripted, reason });
        }
        script.lanes.unwrap_or(1)
    };
    let info = EngineInfo {
        kind: EngineKind::Scripted,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        device: "script".to_owned(),
        model: manifest.name.clone(),
        precision: "fp32".to_owned(),
        choice: None,
        input,
        columns: input.width / manifest.output.stride,
        rows: input.height / manifest.output.stride,
        lanes,
    };
    Ok(Arc::new(ScriptedEngine { info, gate }))
}

impl Engine for ScriptedEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn lane(&self) -> Result<Box<dyn Lane>, EngineError> {
        let mut script = self.gate.lock();
        script.made += 1;
        let number = script.made;
        drop(script);
        Ok(Box::new(ScriptedLane { info: self.info.clone(), gate: self.gate.clone(), number }))
    }
}

struct ScriptedLane {
    info: EngineInfo,
    gate: Arc<Gate>,
    /// Which one of its name it is, from 1.
    number: u64,
}

impl ScriptedLane {
    /// Passes the gate, or waits before it.
    fn pass(&self, batch: usize) -> Result<(), EngineError> {
        let mut script = self.gate.lock();
        script.calls.push(batch);
        script.waiting += 1;
        self.gate.changed.notify_all();
        while script.holding && script.passes == 0 {
            self.gate.changed.wait(&mut script);
        }
        script.waiting -= 1;
        script.passes = script.passes.saturating_sub(1);
        if let Some(reason) = script.panics.pop_front() {
            drop(script);
            panic!("{reason}");
        }
        let broken = script.broken_lanes.as_ref().filter(|(last, _)| self.number <= *last);
        let broken = broken.map(|(_, reason)| reason).or(script.broken.as_ref()).cloned();
        let failure = script.failures.pop_front().or(broken);
        drop(script);
        match failure.or_else(ordered) {
            Some(reason) => Err(EngineError::Infer { kind: EngineKind::Scripted, reason }),
            None => Ok(()),
        }
    }
}

/// What the file named by the variable [`SCRIPT`] orders, for engines in a process of their own:
/// why the batch fails. Waits while the file says `hang`.
fn ordered() -> Option<String> {
    static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| env::var_os(SCRIPT).map(Into::into));
    loop {
        let order = fs::read_to_string(FILE.as_ref()?).unwrap_or_default();
        match order.trim() {
            "hang" => thread::sleep(Duration::from_millis(20)),
            order => return order.strip_prefix("fail ").map(str::to_owned),
        }
    }
}

impl Lane for ScriptedLane {
    fn infer(&mut self, slots: &mut [Slot]) -> Result<(), EngineError> {
        self.pass(slots.len())?;
        let EngineInfo { input, columns, rows, .. } = self.info;
        let (width, height) = (input.width / columns, input.height / rows);
        for slot in slots {
            let values = slot.values(&self.info)?;
            let cells: Vec<f32> = (0..columns * rows)
                .map(|index| {
                    let (left, top) = (index % columns * width, index / columns * height);
                    let red = |row: usize| &values[row * input.width + left..][..width];
                    let sum: f32 = (top..top + height).flat_map(red).sum();
                    sum / (width * height) as f32 / 255.0
                })
                .collect();
            slot.fill(&cells, &self.info)?;
        }
        Ok(())
    }
}
