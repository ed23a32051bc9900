//! Video files from end to end: each contender is a process of its own.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gstvehiclecount::meta;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::clips::{Codec, run_to_end};
use super::element::{counter, reached};
use super::figure::{Figure, Section, Subject};
use super::goals::{WIDE, ours_at};
use super::rate::processor_time;
use super::turns::{self, Contender, Sample, Turns};
use super::{Bench, Options, peers, program};

/// How long a process may take before something is broken.
const BOUND: Duration = Duration::from_secs(300);

/// What a process that counts clips prints as its last line.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Frames that were counted.
    pub frames: u64,
    /// Seconds, without what it takes to load the network.
    pub seconds: f64,
    /// Seconds of processor time meanwhile, where known.
    #[serde(default)]
    pub processor: Option<f64>,
    /// Mean count of the frames, where there is one.
    #[serde(default)]
    pub count: Option<f64>,
}

/// Counts all frames of `clips`, each a camera, once, and prints the [`Outcome`].
pub(super) fn once(options: &Options, clips: &[PathBuf]) -> Result<()> {
    let pipeline = gst::Pipeline::new();
    let input = options.input_size.first().copied().unwrap_or_default();
    let counter = counter(options, &options.engine, &input.to_string())?;
    pipeline.add(&counter)?;
    let counts: Arc<Mutex<(u64, f64)>> = Arc::default();
    for (index, clip) in clips.iter().enumerate() {
        let source = crate::source::file::source(clip, None)?;
        let sink = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
        pipeline.add_many([source.upcast_ref::<gst::Element>(), &sink])?;
        source.link_pads(Some("src"), &counter, Some(&format!("sink_{index}")))?;
        counter.link_pads(Some(&format!("src_{index}")), &sink, Some("sink"))?;
        let noted = counts.clone();
        let pad = sink.static_pad("sink").context("a sink has a pad")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let report = info.buffer().and_then(|buffer| meta::count::read(buffer));
            if let Some(count) = report.filter(|report| !report.stale).and_then(|r| r.count) {
                let mut counts = noted.lock();
                *counts = (counts.0 + 1, counts.1 + count.raw);
            }
            gst::PadProbeReturn::Ok
        });
    }
    // The engine opens meanwhile.
    let _ = pipeline.set_state(gst::State::Paused);
    reached(&pipeline)?;
    let early = *counts.lock();
    let (begin, busy) = (Instant::now(), processor_time());
    run_to_end(&pipeline)?;
    let (seconds, processor) = (begin.elapsed().as_secs_f64(), processor_time() - busy);
    let (frames, sum) = *counts.lock();
    anyhow::ensure!(frames > early.0, "no frame of the clips is counted");
    let outcome = Outcome {
        frames: frames - early.0,
        seconds,
        processor: Some(processor),
        count: Some(sum / frames as f64),
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// Runs `command` to its end; its last line as [`Outcome`].
pub(super) fn outcome(command: &mut Command) -> Result<Outcome> {
    let text = output(command)?;
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("{command:?} prints no outcome: {last}"))
}

/// Runs `command` to its end; what it prints.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?} does not start"))?;
    let read = |stream: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let said = read(process.stdout.take().map(|out| Box::new(out) as _));
    let complained = read(process.stderr.take().map(|out| Box::new(out) as _));
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait()? {
            break status;
        }
        if begin.elapsed() > BOUND {
            let _ = process.kill();
            let _ = process.wait();
            bail!("{command:?} has not ended after {} s", BOUND.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    };
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    let (said, complained) = (text(said), text(complained));
    anyhow::ensure!(status.success(), "{command:?} fails: {}", complained.trim());
    Ok(said)
}

/// Counts the clips at each input size, and lets peers do the same.
pub(super) fn measure(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    let (clips, size): (Vec<PathBuf>, _) = match bench.options.input.is_empty() {
        true => {
            let clips = bench.clips(Codec::H264, bench.camera)?.into_iter();
            (clips.map(|clip| clip.file).collect(), Some(bench.camera))
        }
        false => (bench.options.input.clone(), None),
    };
    let clips = &clips;
    let mut inputs: Vec<String> =
        bench.all_engines().map(|(_, engine)| engine.info().input.to_string()).collect();
    // The peers are compared with this one.
    if let Some(at) = inputs.iter().position(|input| input == WIDE) {
        inputs.swap(0, at);
    }
    let counts = &Mutex::new(BTreeMap::new());
    let program = &program()?;
    let mut contenders = Vec::new();
    for input in inputs {
        let name = ours_at(&input);
        let key = name.clone();
        contenders.push(Contender {
            name,
            subject: Subject {
                cameras: Some(clips.len() as u32),
                codec: Some("h264".to_owned()),
                size,
                input: Some(input.clone()),
                ..Default::default()
            },
            unit: "frames/s",
            measure: Box::new(move || {
                let mut command = Command::new(program);
                command
                    .args(["bench", "--input-size", &input])
                    .args(["--engine", bench.engine.info().kind.name()])
                    .args(["--model", &bench.options.model])
                    .args(["--batch-size", &bench.options.batch_size.to_string()])
                    .args(bench.options.preset.map(|preset| format!("--preset={preset}")))
                    .arg("--once")
                    .args(clips);
                let outcome = outcome(&mut command)?;
                counts.lock().insert(key.clone(), outcome.count);
                Ok(outcome.into())
            }),
        });
    }
    for peer in peers::files(bench, clips) {
        let (name, mut command, subject) = (peer.name, peer.command, peer.subject);
        let key = name.clone();
        contenders.push(Contender {
            name,
            subject: Subject { size, ..subject },
            unit: "frames/s",
            measure: Box::new(move || {
                let outcome = outcome(&mut command)?;
                counts.lock().insert(key.clone(), outcome.count);
                Ok(outcome.into())
            }),
        });
    }
    let mut figures =
        turns::take(Section::Files, bench.options.rounds, Turns::Alike, &mut contenders)?;
    drop(contenders);
    for figure in &mut figures {
        figure.subject.count = counts.lock().get(&figure.name).copied().flatten();
    }
    Ok(figures)
}

impl From<Outcome> for Sample {
    fn from(outcome: Outcome) -> Self {
        let frames = outcome.frames as f64;
        Self {
            value: frames / outcome.seconds.max(1e-9),
            processor: outcome.processor.map(|busy| busy / frames.max(1.0)),
        }
    }
}
