//! `vehicle-count doctor`: what is found on this machine, what is missing, and what to do about it.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::{Result, bail};
use gstvehiclecount::deepstream::doctor::{self, State};
use vehiclecount_core::cuda::{CudaError, DeviceInfo, Driver};
use vehiclecount_core::engine::{self, EngineKind, EngineRequest, ProgressSink};
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::{InputChoice, InputShapes};
use vehiclecount_core::tensorrt::{Flavour, Library, PrecisionTrials, cache};

use crate::engine::BuildProgress;
use crate::preset;

/// Options of `vehicle-count doctor`.
#[derive(clap::Args)]
pub struct Options {
    /// Model: a name, a manifest (.json) or an .onnx file
    #[arg(long, default_value = "")]
    model: String,

    /// Look at DeepStream alone: its libraries, their versions, and batches made by them
    #[arg(long)]
    deepstream: bool,
}

/// What has been found so far.
struct Findings {
    color: bool,
    worst: Vec<&'static str>,
}

impl Findings {
    fn say(&mut self, state: State, what: &'static str, text: &str) {
        let (mark, color) = match state {
            State::Good => ("ok     ", 32),
            State::Note => ("note   ", 33),
            State::Bad => ("MISSING", 31),
        };
        if self.color {
            println!("  \x1b[{color}m{mark}\x1b[0m  {what:<12}  {text}");
        } else {
            println!("  {mark}  {what:<12}  {text}");
        }
        if state == State::Bad && !self.worst.contains(&what) {
            self.worst.push(what);
        }
    }

    fn remedy(&self, text: &str) {
        println!("           {:<12}  -> {text}", "");
    }
}

/// Elements that are needed for something: the elements, what for, and the package that has them.
const NEEDED: [(&[&str], &str, &str, State); 9] = [
    (
        &["videoconvert", "videoscale", "videorate", "decodebin", "compositor", "appsrc"],
        "pictures",
        "gstreamer1.0-plugins-base",
        State::Bad,
    ),
    (
        &[
            "rtspsrc",
            "rtph264depay",
            "rtph265depay",
            "rtpjpegdepay",
            "jpegdec",
            "mp4mux",
            "qtdemux",
        ],
        "RTSP cameras and MP4 files",
        "gstreamer1.0-plugins-good",
        State::Bad,
    ),
    (
        &["videoflip", "deinterlace"],
        "turned and interlaced pictures",
        "gstreamer1.0-plugins-good",
        State::Bad,
    ),
    (
        &["h264parse", "h265parse", "tsdemux"],
        "H.264, H.265, and MPEG-TS as in HLS",
        "gstreamer1.0-plugins-bad",
        State::Bad,
    ),
    (&["avdec_h264"], "decoding H.264 on the processor", "gstreamer1.0-libav", State::Bad),
    (&["avdec_h265"], "decoding H.265 on the processor", "gstreamer1.0-libav", State::Note),
    (&["x264enc"], "recording, and the demo's cameras", "gstreamer1.0-plugins-ugly", State::Note),
    (&["v4l2src"], "webcams", "gstreamer1.0-plugins-good", State::Note),
    (&["autovideosink"], "windows", "gstreamer1.0-plugins-good", State::Note),
];

/// Our own elements.
const OWN: [&str; 5] = [
    "vehiclecounter",
    "vehiclecounternvmm",
    "vehiclecountoverlay",
    "vehiclecountpublish",
    "vehicletestsrc",
];

/// Looks at everything that counting needs, and fails where something is missing without which
/// nothing works.
pub fn run(options: &Options) -> Result<()> {
    let mut findings = Findings { color: std::io::stdout().is_terminal(), worst: Vec::new() };
    if options.deepstream {
        return deepstream(&mut findings);
    }
    machine(&mut findings);
    gstreamer(&mut findings);
    plugin(&mut findings);
    gpu(&mut findings);
    engines(&mut findings, &options.model);
    println!("presets");
    for (preset, chosen) in preset::all()? {
        findings.say(State::Good, preset.name(), &chosen);
    }
    println!();
    if findings.worst.is_empty() {
        println!("Everything that counting needs is there.");
        return Ok(());
    }
    bail!("not everything that counting needs is there: {}", findings.worst.join(", "))
}

/// Looks at what counting inside DeepStream pipelines needs.
fn deepstream(findings: &mut Findings) -> Result<()> {
    println!("DeepStream");
    for finding in doctor::examine() {
        findings.say(finding.state, finding.what, &finding.text);
    }
    println!();
    if findings.worst.is_empty() {
        println!("vehiclecounternvmm can count in this DeepStream.");
        return Ok(());
    }
    bail!("vehiclecounternvmm cannot count in this DeepStream: {}", findings.worst.join(", "))
}

fn machine(findings: &mut Findings) {
    println!("machine");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    findings.say(
        State::Good,
        "processor",
        &format!("{cores} cores for this process, {}", std::env::consts::ARCH),
    );
    #[cfg(target_arch = "x86_64")]
    {
        let features = [
            ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
            ("FMA", std::arch::is_x86_feature_detected!("fma")),
            ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
            ("AVX-512 VNNI", std::arch::is_x86_feature_detected!("avx512vnni")),
            ("AVX-VNNI", std::arch::is_x86_feature_detected!("avxvnni")),
        ];
        let list = |present: bool| {
            let names =
                features.iter().filter(|(_, found)| *found == present).map(|(name, _)| *name);
            names.collect::<Vec<_>>().join(", ")
        };
        let state = if features[0].1 { State::Good } else { State::Note };
        let mut text =
            format!("with {}", if list(true).is_empty() { "none".to_owned() } else { list(true) });
        if !list(false).is_empty() {
            let _ = write!(text, "; without {}", list(false));
        }
        findings.say(state, "instructions", &text);
        if state == State::Note {
            findings.remedy(
                "counting works, several times slower; in a virtual machine, pass the host's processor through",
            );
        }
    }
}

fn gstreamer(findings: &mut Findings) {
    println!("GStreamer");
    let (major, minor, micro, _) = gst::version();
    if (major, minor) >= (1, 20) {
        findings.say(State::Good, "version", &format!("{major}.{minor}.{micro}"));
    } else {
        findings.say(
            State::Bad,
            "version",
            &format!("{major}.{minor}.{micro}, where 1.20 or later is needed"),
        );
        findings.remedy("Debian 12, Ubuntu 22.04 and all later ones have it");
    }
    if (major, minor) < (1, 22) {
        findings.say(
            State::Note,
            "camera clock",
            "from 1.22 on, counts carry the time of the camera's own clock",
        );
    }
    for (elements, purpose, package, severity) in NEEDED {
        let missing: Vec<_> = elements
            .iter()
            .copied()
            .filter(|element| gst::ElementFactory::find(element).is_none())
            .collect();
        if missing.is_empty() {
            findings.say(State::Good, "elements", &format!("{purpose}: {}", elements.join(", ")));
        } else {
            findings.say(severity, "elements", &format!("{purpose}: no {}", missing.join(", ")));
            findings.remedy(&format!("sudo apt-get install {package}"));
        }
    }
}

fn plugin(findings: &mut Findings) {
    println!("plugin");
    // The command has the elements inside: what counts is whether gst-launch-1.0 and other programs
    // find the file.
    let ask = |element: &str| {
        std::process::Command::new("gst-inspect-1.0")
            // Without a version of our own to compare with, it asks for GStreamer's.
            .args(["--exists", "--atleast-version=0.0", element])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
    };
    let mut hidden = Vec::new();
    for element in OWN {
        match ask(element) {
            Ok(status) if status.success() => {}
            Ok(_) => hidden.push(element),
            Err(error) => {
                findings.say(
                    State::Note,
                    "tools",
                    &format!("gst-inspect-1.0 does not start: {error}"),
                );
                findings.remedy("sudo apt-get install gstreamer1.0-tools");
                return;
            }
        }
    }
    if hidden.is_empty() {
        findings.say(State::Good, "elements", &format!("other programs find {}", OWN.join(", ")));
        return;
    }
    findings.say(
        State::Note,
        "elements",
        &format!("other programs, such as gst-launch-1.0, do not find {}", hidden.join(", ")),
    );
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.to_owned()))
        .filter(|folder| folder.join("libgstvehiclecount.so").is_file());
    match beside {
        Some(folder) => findings.remedy(&format!("export GST_PLUGIN_PATH={}", folder.display())),
        None => findings
            .remedy("./run build makes the plugin; export GST_PLUGIN_PATH=FOLDER with its folder"),
    }
    findings
        .remedy("should that not help: rm -r ~/.cache/gstreamer-1.0, where GStreamer remembers what it did not find");
}

/// NVIDIA's side: optional, so nothing of it is missing.
fn gpu(findings: &mut Findings) {
    println!("NVIDIA");
    let look = || -> std::result::Result<(String, Vec<DeviceInfo>), CudaError> {
        let driver = Driver::open()?;
        let all: Result<Vec<_>, _> =
            (0..driver.device_count()?).map(|index| driver.device(index)).collect();
        let all = all?;
        if all.is_empty() { Err(CudaError::NoDevice) } else { Ok((driver.cuda_version(), all)) }
    };
    let devices = match look() {
        Ok((cuda, devices)) => {
            findings.say(State::Good, "driver", &format!("for CUDA {cuda}"));
            devices
        }
        Err(error) => {
            findings.say(State::Note, "driver", &error.to_string());
            Vec::new()
        }
    };
    for gpu in &devices {
        let (major, minor) = gpu.compute_capability;
        let memory = gpu.memory as f64 / f64::from(1 << 30);
        findings.say(
            State::Good,
            "GPU",
            &format!(
                "{}: {}, compute capability {major}.{minor}, {memory:.1} GiB",
                gpu.index, gpu.name
            ),
        );
    }
    for flavour in [Flavour::TensorRt, Flavour::TensorRtRtx] {
        match Library::open_to_build(flavour) {
            Ok(library) => {
                findings.say(
                    State::Good,
                    "library",
                    &format!("{library} in {}", library.path().display()),
                );
                if devices.is_empty() {
                    findings
                        .remedy("without a GPU it builds plans for other machines at most: vehicle-count engine build");
                }
            }
            Err(error) => findings.say(State::Note, "library", &format!("{flavour}: {error}")),
        }
    }
    let built = vehiclecount_core::tensorrt::headers();
    if built.is_empty() {
        findings.say(
            State::Note,
            "built with",
            "no TensorRT headers: no library of TensorRT can be used",
        );
        findings
            .remedy("build again with TENSORRT_INCLUDE_DIR naming the folder that holds NvInfer.h");
    } else {
        findings.say(State::Good, "built with", &format!("the headers of TensorRT {built}"));
    }
    if let Some(folder) = cache::folder().filter(|folder| folder.is_dir()) {
        let plans = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let plans = plans.filter(|entry| entry.path().extension().is_some_and(|end| end == "plan"));
        let (count, bytes) = plans.fold((0, 0), |(count, bytes), entry| {
            (count + 1, bytes + entry.metadata().map_or(0, |metadata| metadata.len()))
        });
        let size = bytes as f64 / 1e6;
        findings.say(
            State::Good,
            "plans",
            &format!("{count} in {}, {size:.0} MB", folder.display()),
        );
        for choice in PrecisionTrials::all(&folder) {
            findings.say(State::Good, "precision", &format!("{}: {choice}", choice.purpose));
        }
    }
}

fn engines(findings: &mut Findings, name: &str) {
    println!("model");
    let model = match Model::open(name, &model::folders()) {
        Ok(model) => Arc::new(model),
        Err(error) => {
            findings.say(State::Bad, "model", &error.to_string());
            findings.remedy("name a folder with models in VEHICLECOUNT_MODELS");
            return;
        }
    };
    let manifest = &model.manifest;
    findings.say(
        State::Good,
        "model",
        &format!(
            "{} {}, {}x{}, {}, in {}",
            manifest.name,
            manifest.version,
            manifest.input.width,
            manifest.input.height,
            manifest.licence,
            model.folder.display()
        ),
    );
    for file in &manifest.files {
        match model.verify(file) {
            Ok(()) => findings.say(
                State::Good,
                "file",
                &format!("{}, {}, its SHA-256 is right", file.file, file.precision),
            ),
            Err(error) => findings.say(State::Bad, "file", &error.to_string()),
        }
    }
    let shapes = model.input_shapes(InputChoice::default());
    println!("engines");
    let mut opened = Vec::new();
    let shown = Arc::new(BuildProgress::default());
    for kind in EngineKind::networks() {
        let watch = ProgressSink::new({
            let shown = shown.clone();
            move |progress| shown.announce(progress)
        });
        // On a GPU, the plan that the counter opens first: where it is built now, the counter finds
        // it.
        let request = EngineRequest {
            input: shapes.as_ref().ok().map(InputShapes::first),
            name: "doctor".to_owned(),
            max_batch: 0,
            watch,
            ..EngineRequest::new(kind, model.clone())
        };
        let result = engine::open(&request);
        shown.clear();
        match result {
            Ok(engine) => {
                let info = engine.engine.info().clone();
                findings.say(
                    State::Good,
                    kind.name(),
                    &format!(
                        "{} on {}, {}, {}, {} lane(s)",
                        info.version,
                        info.device,
                        info.choice.as_ref().unwrap_or(&info.precision),
                        info.input,
                        info.lanes
                    ),
                );
                opened.push(kind);
            }
            Err(error) => findings.say(State::Note, kind.name(), &error.to_string()),
        }
    }
    match opened.first() {
        Some(kind) => findings.say(State::Good, "auto", &format!("takes {kind}")),
        None => {
            findings.say(State::Bad, "auto", "no engine opens");
            findings.remedy("./run runtime installs OpenVINO and ONNX Runtime beside the program");
        }
    }
}
