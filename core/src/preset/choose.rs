//! The rule.

use std::time::Duration;

use super::{Candidate, Choice, Installed, Measured, Preset, Settled, Surroundings};
use crate::engine::{Device, EngineKind};
use crate::machine::Machine;
use crate::preprocess::InputChoice;
use crate::tensorrt::Precision;

/// How much slower INT8 is, beside FP32, on a processor without instructions for it than on one
/// with them: 1.4 to 1.6 times as fast as FP32 instead of 1.9 to 2.3 times (docs/presets.md).
const WITHOUT_INT8: f64 = 0.7;

/// Errors that differ by less, as a share of the least, are alike.
const ALIKE: f64 = 1.02;

const GIB: u64 = 1 << 30;

/// Chooses for `preset` on the machine `on` among `installed`, so that it suits what is `settled`.
/// There is always a choice; where nothing is installed or measured, the default model stays, and
/// the reasons say so.
pub fn choose(
    preset: Preset,
    on: &Surroundings,
    installed: &Installed,
    settled: &Settled,
) -> Choice {
    let mut reasons = Vec::new();
    let engine = engine(on, installed, settled, &mut reasons);
    let device = engine.and_then(EngineKind::device).unwrap_or(Device::Cpu);
    let usable = usable(installed, engine, device, settled);
    let candidate = candidate(preset, on, installed, &usable, &mut reasons).cloned();
    let precision = candidate
        .as_ref()
        .filter(|_| settled.precision.is_none())
        .map(|chosen| precision(chosen, engine, device, installed, &mut reasons));
    let input = settled.input.or(candidate.as_ref().map(|chosen| chosen.input));
    let batch_size = batch_size(preset, on, device, &mut reasons);
    let batch_timeout = batch_timeout(preset, device, &mut reasons);
    let milliseconds = candidate.as_ref().and_then(|chosen| chosen.milliseconds);
    let max_latency = max_latency(preset, &on.machine, device, milliseconds, &mut reasons);
    Choice {
        preset,
        model: candidate.as_ref().map(|chosen| chosen.model.clone()),
        input,
        precision,
        batch_size,
        batch_timeout,
        max_latency,
        engine,
        candidate,
        reasons,
    }
}

/// The engine that is expected to open: the one that was asked for, or the first that is there and
/// takes a file that is there.
fn engine(
    on: &Surroundings,
    installed: &Installed,
    settled: &Settled,
    reasons: &mut Vec<String>,
) -> Option<EngineKind> {
    if settled.engine != EngineKind::Auto {
        reasons.push(format!("engine {}: it was asked for", settled.engine));
        return Some(settled.engine);
    }
    let has_file = |kind: EngineKind| {
        let mut all = installed.candidates.iter();
        all.any(|each| each.size.is_some() && runs_on(each, Some(kind)))
    };
    let found = on.engines.iter().copied().find(|&kind| has_file(kind));
    let gpu = match &on.gpu {
        Some(gpu) => format!("the GPU is {}", gpu.name),
        None => "there is no NVIDIA GPU".to_owned(),
    };
    reasons.push(match found {
        Some(kind) => format!(
            "engine {kind}: the first of auto's that is installed; {gpu}; processors for this process: {} \
             ({})",
            on.machine.processors, on.machine.arch
        ),
        None => format!("no engine that takes an installed model was found; {gpu}"),
    });
    found
}

/// Whether `engine` takes the file. TensorRT makes plans of every file.
fn runs_on(candidate: &Candidate, engine: Option<EngineKind>) -> bool {
    match engine {
        Some(kind) if kind.device() == Some(Device::Gpu) => true,
        Some(kind) => candidate.engines.contains(&kind),
        None => true,
    }
}

/// The candidates that are there, that `engine` takes, and that suit what is settled. Where the
/// input size that is settled was not measured, those at their models' own sizes.
fn usable<'a>(
    installed: &'a Installed,
    engine: Option<EngineKind>,
    device: Device,
    settled: &Settled,
) -> Vec<&'a Candidate> {
    let mut usable: Vec<_> = installed
        .candidates
        .iter()
        .filter(|candidate| candidate.size.is_some() && runs_on(candidate, engine))
        .filter(|candidate| has_precision(candidate, device, settled.precision))
        .collect();
    let Some(input) = settled.input else {
        usable.retain(|candidate| !candidate.only_settled);
        return usable;
    };
    let is_measured = |candidate: &Candidate| match input {
        InputChoice::Fixed(size) => candidate.measured == size,
        auto => candidate.input == auto,
    };
    match usable.iter().any(|candidate| is_measured(candidate)) {
        true => usable.retain(|candidate| is_measured(candidate)),
        false => usable.retain(|candidate| candidate.input == InputChoice::default()),
    }
    usable
}

/// Whether the candidate runs in the precision that is settled.
fn has_precision(candidate: &Candidate, device: Device, settled: Option<Precision>) -> bool {
    match (settled, device) {
        (None | Some(Precision::Auto), _) => true,
        // A GPU's plan in FP16 is made of the FP32 file.
        (Some(asked), Device::Gpu) => {
            (asked == Precision::Int8) == (candidate.precision == Precision::Int8.name())
        }
        (Some(asked), Device::Cpu) => candidate.precision == asked.name(),
    }
}

/// The candidate that serves `preset` best.
fn candidate<'a>(
    preset: Preset,
    on: &Surroundings,
    installed: &'a Installed,
    usable: &[&'a Candidate],
    reasons: &mut Vec<String>,
) -> Option<&'a Candidate> {
    let measured: Vec<(&Candidate, f64)> =
        usable.iter().filter_map(|candidate| Some((*candidate, candidate.error?))).collect();
    let Some(&(best, least)) = measured.iter().min_by(|a, b| a.1.total_cmp(&b.1)) else {
        // The default model comes first; of its files the one that auto takes.
        let own = usable.iter().filter(|candidate| candidate.input == InputChoice::default());
        let first = own.clone().next()?;
        let mut of_model = own.filter(|candidate| candidate.model == first.model);
        let int8 = of_model.find(|candidate| candidate.precision == Precision::Int8.name());
        reasons.push(format!("model {}: no installed model has a measured error", first.model));
        return int8.or(Some(first)).copied();
    };
    let lacks_int8 = !on.machine.abilities.int8
        && installed.measured.as_ref().is_some_and(|measured| measured.int8 && !measured.is_here);
    let pace = |candidate: &Candidate| {
        let slower = candidate.precision == Precision::Int8.name() && lacks_int8;
        if slower { WITHOUT_INT8 } else { 1.0 }
    };
    let rate = |each: &Candidate| each.images_per_second.unwrap_or(0.0) * pace(each);
    let time = |each: &Candidate| each.milliseconds.unwrap_or(f64::MAX) / pace(each);
    let bound = preset.allowed().map_or(least * ALIKE, |times| least * times);
    let allowed = measured.iter().filter(|(_, error)| *error <= bound);
    let faster = |a: &Candidate, b: &Candidate| rate(b).total_cmp(&rate(a));
    let number = allowed.clone().count();
    let chosen = allowed.copied().min_by(|(a, x), (b, y)| {
        let order = match preset {
            Preset::LowestLatency => time(a).total_cmp(&time(b)),
            Preset::Edge => a.size.cmp(&b.size),
            Preset::HighestFps | Preset::Server | Preset::Accuracy => faster(a, b),
        };
        order.then_with(|| faster(a, b)).then_with(|| x.total_cmp(y))
    });
    let (chosen, error) = chosen.unwrap_or((best, least));
    reasons.push(reason(preset, chosen, error, (best, least), number));
    speeds(on, installed, &measured, lacks_int8, reasons);
    Some(chosen)
}

/// Why `chosen` is the one.
fn reason(
    preset: Preset,
    chosen: &Candidate,
    error: f64,
    (best, least): (&Candidate, f64),
    number: usize,
) -> String {
    let mut figures = vec![format!("error {:.1} % at {}", error * 100.0, chosen.measured)];
    if let Some(rate) = chosen.images_per_second {
        figures.push(format!("{rate:.0} images/s"));
    }
    if let Some(milliseconds) = chosen.milliseconds {
        figures.push(format!("{milliseconds:.1} ms for one picture"));
    }
    if let Some(size) = chosen.size {
        figures.push(format!("{:.1} MB", size as f64 / 1e6));
    }
    let why = match preset {
        Preset::HighestFps | Preset::Server => "the most images a second",
        Preset::LowestLatency => "the shortest time for one picture",
        Preset::Edge => "the smallest file, and of that the fastest input",
        Preset::Accuracy => "the fastest",
    };
    let among = match preset.allowed() {
        Some(times) => format!("that err at most {times} times as much as the best"),
        None => "that err as little as the best, within 2 %".to_owned(),
    };
    format!(
        "model {} {} at input-size={} ({}): {why} of {number} {among} ({} {} at {}, {:.1} %)",
        chosen.model,
        chosen.precision,
        chosen.input,
        figures.join(", "),
        best.model,
        best.precision,
        best.measured,
        least * 100.0
    )
}

/// Where the speeds come from, and what they leave out.
fn speeds(
    on: &Surroundings,
    installed: &Installed,
    measured: &[(&Candidate, f64)],
    lacks_int8: bool,
    reasons: &mut Vec<String>,
) {
    const REMEDY: &str = "`vehicle-count models --time` measures them here";
    reasons.push(match &installed.measured {
        Some(Measured { told, is_here: true, .. }) => {
            format!("speeds: measured on this machine ({told})")
        }
        Some(Measured { told, .. }) if on.gpu.is_some() => {
            format!("speeds: measured on {told}; on a GPU only their order is used")
        }
        Some(Measured { told, .. }) => format!("speeds: measured on {told}; {REMEDY}"),
        None => format!("speeds: none were measured; {REMEDY}"),
    });
    if lacks_int8 && on.gpu.is_none() {
        reasons.push(format!(
            "INT8: this processor has no instructions for it, so its speeds count as {WITHOUT_INT8} of \
             what was measured"
        ));
    }
    let mut unknown: Vec<&str> = measured
        .iter()
        .filter(|(candidate, _)| candidate.images_per_second.is_none())
        .map(|(candidate, _)| candidate.model.as_str())
        .collect();
    unknown.dedup();
    if !unknown.is_empty() && installed.measured.is_some() {
        reasons.push(format!("speed unknown of {}: taken for the slowest", unknown.join(", ")));
    }
}

/// The precision to ask for, so that the chosen file runs.
fn precision(
    chosen: &Candidate,
    engine: Option<EngineKind>,
    device: Device,
    installed: &Installed,
    reasons: &mut Vec<String>,
) -> Precision {
    let of_model = |candidate: &&Candidate| candidate.model == chosen.model;
    let int8 = Precision::Int8.name();
    if device == Device::Gpu {
        // A plan in FP16 is made of the FP32 file.
        let has_int8 = installed
            .candidates
            .iter()
            .filter(of_model)
            .any(|candidate| candidate.precision == int8 && candidate.size.is_some());
        if chosen.precision != int8 && has_int8 {
            reasons.push("precision fp16: INT8 of this model errs more than is allowed".to_owned());
            return Precision::Fp16;
        }
        reasons
            .push("precision auto: what there is, INT8 and FP16, is timed on this GPU".to_owned());
        return Precision::Auto;
    }
    // What auto takes: INT8 where the manifest lists it for the engine.
    let listed = |candidate: &&Candidate| runs_on(candidate, engine);
    let all = installed.candidates.iter().filter(of_model).filter(listed);
    let by_itself = all.clone().find(|each| each.precision == int8).or_else(|| all.clone().next());
    if by_itself.is_some_and(|each| each.precision == chosen.precision) {
        reasons.push(format!(
            "precision auto: that is {} here, and leaves other engines their own",
            chosen.precision
        ));
        return Precision::Auto;
    }
    reasons.push(format!("precision {}: auto would take another file", chosen.precision));
    chosen.precision.parse().unwrap_or_default()
}

fn batch_size(
    preset: Preset,
    on: &Surroundings,
    device: Device,
    reasons: &mut Vec<String>,
) -> usize {
    if device == Device::Cpu {
        reasons.push("batch-size 1: on a processor a larger batch gains nothing".to_owned());
        return 1;
    }
    let memory = on.gpu.as_ref().map_or(0, |gpu| gpu.memory);
    let (size, why) = match preset {
        Preset::LowestLatency => (1, "a lone frame has the shortest way"),
        Preset::Edge => (4, "little memory"),
        Preset::Accuracy => (Device::Gpu.batch_size(), "what suits a GPU"),
        Preset::HighestFps | Preset::Server if memory < 8 * GIB => {
            (Device::Gpu.batch_size(), "the GPU has less than 8 GiB")
        }
        Preset::HighestFps | Preset::Server => (32, "a GPU counts more frames a second so"),
    };
    reasons.push(format!("batch-size {size}: {why}"));
    size
}

fn batch_timeout(preset: Preset, device: Device, reasons: &mut Vec<String>) -> Duration {
    let fills = matches!(preset, Preset::HighestFps | Preset::Server) && device == Device::Gpu;
    let (timeout, why) = match fills {
        true => (Duration::from_millis(5), "batches may fill"),
        false => (Duration::ZERO, "a frame goes as soon as the engine is free"),
    };
    reasons.push(format!("batched-push-timeout {} us: {why}", timeout.as_micros()));
    timeout
}

/// Milliseconds in the reasons are those of one picture on the machine that was measured.
fn max_latency(
    preset: Preset,
    machine: &Machine,
    device: Device,
    milliseconds: Option<f64>,
    reasons: &mut Vec<String>,
) -> Duration {
    // Frames of each camera are held meanwhile.
    let is_small = machine.memory.is_some_and(|bytes| bytes < 8 * GIB);
    let (limit, why) = match preset {
        Preset::LowestLatency => (100, "a frame leaves soon, counted or not"),
        Preset::HighestFps | Preset::Edge => (200, "as without a preset"),
        Preset::Server | Preset::Accuracy if is_small => {
            (200, "frames that wait need memory, and there are less than 8 GiB")
        }
        Preset::Server => (500, "a frame outlasts a rush of other cameras"),
        Preset::Accuracy => (1000, "nearly every frame leaves with a count of its own"),
    };
    // A frame that leaves before one picture can be counted is never counted.
    let least = match (device, milliseconds) {
        (Device::Cpu, Some(milliseconds)) => (milliseconds * 4.0 / 50.0).ceil() as u64 * 50,
        _ => 0,
    };
    let (limit, why) = match least > limit {
        true => (least, "four times what one picture takes"),
        false => (limit, why),
    };
    reasons.push(format!("max-latency {limit} ms: {why}"));
    Duration::from_millis(limit)
}
