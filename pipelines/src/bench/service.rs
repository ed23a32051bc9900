//! The service on RTSP cameras, as a process of its own: what of its time a camera takes.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use vehiclecount_core::preset::Preset;

use super::cameras::Cameras;
use super::clips::{Codec, FPS};
use super::figure::{Figure, Section, Subject};
use super::rate::processor_time_of;
use super::turns::{self, Contender, Sample, Turns};
use super::{Bench, program};

/// How long the service may take to count on all cameras before something is broken.
const BOUND: Duration = Duration::from_secs(90);

/// The service at work. It is killed when this is dropped.
struct Service {
    process: Child,
    host: String,
    /// Its configuration is there.
    _folder: tempfile::TempDir,
    /// What it says last, for when it fails.
    said: Receiver<String>,
}

impl Service {
    fn start(bench: &Bench<'_>, cameras: &Cameras, rate: f64) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut text = format!(
            "[http]\nlisten = \"127.0.0.1:0\"\n[history]\nfile = \"\"\n[counter]\nmodel = {:?}\n\
             engine = {:?}\npreset = {:?}\ninput-size = \"{}\"\n[defaults]\nrate = {rate:?}\n",
            bench.options.model,
            bench.engine.info().kind.name(),
            bench.options.preset.map_or("none", Preset::name),
            bench.first
        );
        for (index, address) in cameras.addresses().iter().enumerate() {
            let _ = writeln!(text, "[cameras.camera-{index}]\nurl = {address:?}");
        }
        let file = folder.path().join("counter.toml");
        fs::write(&file, text)?;
        let mut process = Command::new(program()?)
            .arg("run")
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("the service does not start")?;
        let (send, said) = mpsc::channel();
        let (output, error) = (process.stdout.take(), process.stderr.take());
        let output = output.map(|output| Box::new(output) as Box<dyn std::io::Read + Send>);
        let error = error.map(|error| Box::new(error) as Box<dyn std::io::Read + Send>);
        for stream in [output, error].into_iter().flatten() {
            let send = send.clone();
            // Ends with the process.
            thread::spawn(move || {
                BufReader::new(stream)
                    .lines()
                    .map_while(Result::ok)
                    .try_for_each(|line| send.send(line))
            });
        }
        let mut service = Self { process, host: String::new(), _folder: folder, said };
        let begin = Instant::now();
        let mut last = String::new();
        while service.host.is_empty() {
            let left = BOUND.saturating_sub(begin.elapsed());
            match service.said.recv_timeout(left) {
                Ok(line) => {
                    if let Some(host) = line.strip_prefix("http://") {
                        service.host = host.trim_end_matches('/').to_owned();
                    }
                    last = line;
                }
                Err(RecvTimeoutError::Timeout) => bail!("the service gives no address: {last}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the service has ended: {last}"),
            }
        }
        Ok(service)
    }

    /// How many frames each camera has counted.
    fn counted(&self) -> Result<Vec<f64>> {
        let body = ureq::get(format!("http://{}/metrics", self.host))
            .call()
            .context("the service does not answer")?
            .body_mut()
            .read_to_string()?;
        let values = body
            .lines()
            .filter(|line| line.starts_with("vehiclecount_frames_counted_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok());
        Ok(values.collect())
    }

    /// Waits until each of `number` cameras has counted at least one frame.
    fn wait(&self, number: usize) -> Result<()> {
        let begin = Instant::now();
        loop {
            let counted = self.counted()?;
            if counted.iter().filter(|count| **count > 0.0).count() >= number {
                return Ok(());
            }
            let said = self.said.try_iter().last().unwrap_or_default();
            anyhow::ensure!(
                begin.elapsed() < BOUND,
                "{counted:?} frames of {number} cameras are counted after {} s; the service says \
                 last: {said}",
                BOUND.as_secs()
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Frames counted in `window`, all cameras together, and processor time, both a second.
    fn measure(&self, window: Duration) -> Result<(f64, f64)> {
        let id = self.process.id();
        let (begin, busy) = (Instant::now(), processor_time_of(id));
        let before: f64 = self.counted()?.iter().sum();
        thread::sleep(window);
        let counted = self.counted()?.iter().sum::<f64>() - before;
        // In a short window a process may have taken less than what the system tells apart.
        anyhow::ensure!(busy > 0.0, "the system does not say how busy a process is");
        let (busy, seconds) = (processor_time_of(id) - busy, begin.elapsed().as_secs_f64());
        Ok((counted / seconds, busy / seconds))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The service for a while at `rate`, on cameras of that codec and size; frames counted and
/// processor time, both a second.
fn at_rate(bench: &Bench<'_>, codec: Codec, size: (u32, u32), rate: f64) -> Result<(f64, f64)> {
    let number = bench.streams();
    let cameras = Cameras::start(codec, &bench.clips(codec, size)?, number)?;
    let service = Service::start(bench, &cameras, rate)?;
    service.wait(number)?;
    // The distance of key pictures is learnt from the first few of them.
    thread::sleep(if bench.options.quick { Duration::ZERO } else { Duration::from_secs(5) });
    let window = bench.window.max(Duration::from_secs(if bench.options.quick { 1 } else { 8 }));
    service.measure(window)
}

/// Cameras all of whose pictures are counted.
pub(super) fn rtsp(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    let (codec, size) = (Codec::H264, bench.camera);
    let (width, height) = size;
    let fps = f64::from(FPS);
    let cameras = bench.streams() as u32;
    let mut contenders = [Contender {
        name: format!("service, {cameras} cameras of {width}x{height}, {FPS} frames/s"),
        subject: Subject {
            cameras: Some(cameras),
            codec: Some(codec.name().to_owned()),
            size: Some(size),
            input: Some(bench.engine.info().input.to_string()),
            rate: Some(fps),
            fps: Some(fps),
            ..Default::default()
        },
        unit: "frames/s",
        measure: Box::new(move || {
            let (frames, busy) = at_rate(bench, codec, size, fps)?;
            Ok(Sample { value: frames, processor: Some(busy / frames.max(1e-9)) })
        }),
    }];
    turns::take(Section::Rtsp, rounds(bench), Turns::Alike, &mut contenders)
}

/// Cores that a camera takes which is counted less often than it sends pictures. At the lowest rate
/// hardly anything but receiving is left.
pub(super) fn rate(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    let size = if bench.options.quick { bench.camera } else { (1920, 1080) };
    let rates: &[f64] = if bench.options.quick { &[1.0] } else { &[1.0, 0.05] };
    let mut contenders = Vec::new();
    for &codec in &bench.codecs {
        for &rate in rates {
            contenders.push(Contender {
                name: format!(
                    "{} {}x{}, {FPS} frames/s, {rate} counts/s",
                    codec.title(),
                    size.0,
                    size.1
                ),
                subject: Subject {
                    cameras: Some(bench.streams() as u32),
                    codec: Some(codec.name().to_owned()),
                    size: Some(size),
                    input: Some(bench.engine.info().input.to_string()),
                    rate: Some(rate),
                    fps: Some(f64::from(FPS)),
                    ..Default::default()
                },
                unit: "cores",
                measure: Box::new(move || {
                    let (_, busy) = at_rate(bench, codec, size, rate)?;
                    Ok(Sample { value: busy / bench.streams() as f64, processor: None })
                }),
            });
        }
    }
    let mut figures = turns::take(Section::Rate, rounds(bench), Turns::Alike, &mut contenders)?;
    figures.iter_mut().for_each(|figure| figure.ratio = None);
    // The same for people.
    let more: Vec<Figure> = figures
        .iter()
        .filter(|figure| figure.subject.rate == Some(1.0))
        .map(|figure| {
            let mut figure = figure.clone();
            figure.name.push_str(", a core");
            figure.unit = "cameras".to_owned();
            let of = |cores: f64| 1.0 / cores.max(1e-9);
            let spread = figure.spread;
            figure.spread.median = of(spread.median);
            figure.spread.lowest = of(spread.highest);
            figure.spread.highest = of(spread.lowest);
            figure
        })
        .collect();
    figures.extend(more);
    Ok(figures)
}

/// A start of the service takes longer than a window: fewer rounds.
fn rounds(bench: &Bench<'_>) -> u32 {
    bench.options.rounds.min(3)
}
