//! Other programs that do the same: the scripts of bench/peers in the source tree.

use std::path::{Path, PathBuf};
use std::process::Command;

use vehiclecount_core::engine::EngineKind;
use vehiclecount_core::preprocess::Placement;

use super::Bench;
use super::figure::Subject;
use super::files::output;
use super::goals::{SQUARE, WIDE, onnxruntime_loop, openvino_loop};
use super::turns::{Contender, Sample};

/// Where the peers are.
#[derive(Clone, Debug)]
pub struct Peers {
    /// A Python that has the packages of their requirements.
    pub python: PathBuf,
    /// The folder of the scripts.
    pub scripts: PathBuf,
    /// Whether the scripts have a Debian 13 with GStreamer's own inference element.
    pub has_onnxinference: bool,
}

/// A peer that counts clips.
pub(super) struct Peer {
    pub name: String,
    pub command: Command,
    pub subject: Subject,
}

impl Peers {
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.scripts.join(script));
        command
    }
}

/// The peers that count `clips`; none where they are not asked for.
pub(super) fn files(bench: &Bench<'_>, clips: &[PathBuf]) -> Vec<Peer> {
    let Some(peers) = &bench.extras.peers else { return Vec::new() };
    let file =
        |kind, precision| bench.model.file_in(kind, precision).map(|file| bench.model.path(file));
    let counts = |mut command: Command, model: &Path, input: &str, name: String| {
        command.args(["--input", input, "--model"]).arg(model).args(clips);
        let subject = Subject {
            cameras: Some(clips.len() as u32),
            codec: Some("h264".to_owned()),
            input: Some(input.to_owned()),
            ..Default::default()
        };
        Peer { name, command, subject }
    };
    let looped = |engine: &str, model: &Path, input: &str, name: String| {
        let mut command = peers.command("loop.py");
        command.args(["--engine", engine]);
        counts(command, model, input, name)
    };
    let mut found = Vec::new();
    if let Some(model) = file(EngineKind::OpenVino, "int8") {
        for input in [WIDE, SQUARE] {
            found.push(looped("openvino", &model, input, openvino_loop(input)));
            let mut command = peers.command("ceiling.py");
            command.args(["--input", input]).arg(&model);
            let name = format!("OpenVINO's benchmark_app INT8, {input}, engine alone");
            let subject = Subject { input: Some(input.to_owned()), ..Default::default() };
            found.push(Peer { name, command, subject });
        }
    }
    if let Some(model) = file(EngineKind::OnnxRuntime, "fp32") {
        for input in [WIDE, SQUARE] {
            found.push(looped("onnxruntime", &model, input, onnxruntime_loop(input)));
        }
        if peers.has_onnxinference {
            let command = Command::new(peers.scripts.join("onnxinference.sh"));
            let name = format!("GStreamer's onnxinference FP32, {WIDE}");
            found.push(counts(command, &model, WIDE, name));
        }
    }
    found
}

/// OpenCV's way from a picture in `pixels`, I420 or NV12, to the network's input.
pub(super) fn opencv<'a>(
    bench: &Bench<'_>,
    what: &str,
    (width, height): (usize, usize),
    pixels: &str,
    placement: Placement,
) -> Option<Contender<'a>> {
    let peers = bench.extras.peers.as_ref()?;
    let mut command = peers.command("preprocess.py");
    command
        .args(["--picture", &format!("{width}x{height}"), "--format", pixels])
        .args(["--input", &format!("{}x{}", placement.width, placement.height)]);
    Some(Contender {
        name: format!("OpenCV, colours and resize, {what}"),
        subject: Subject::default(),
        unit: "ms",
        measure: Box::new(move || {
            let text = output(&mut command)?;
            Ok(Sample { value: text.trim().parse()?, processor: None })
        }),
    })
}
