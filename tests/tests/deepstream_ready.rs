//! What is ready for DeepStream: scripts and configurations, parsed with elements that have the
//! names and properties of DeepStream's and do nothing. They have a process of their own, in which
//! nothing else takes these elements for DeepStream's.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use gst::prelude::*;
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::region::nvdsanalytics::SourcesFile;
use vehiclecount_tests::init;

fn ready(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/deepstream").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn ready_path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/deepstream").join(file)
}

/// DeepStream's elements, made known once.
fn elements() {
    static ELEMENTS: LazyLock<()> = LazyLock::new(|| {
        init();
        vehiclecount_tests::standin::load_elements(Path::new(env!("CARGO_TARGET_TMPDIR")));
    });
    LazyLock::force(&ELEMENTS);
}

/// What a script would have started with gst-launch-1.0, and what it said besides.
fn launched(command: &mut Command) -> (Vec<String>, String) {
    let folder = tempfile::tempdir().unwrap();
    let launch = folder.path().join("gst-launch-1.0");
    std::fs::write(&launch, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    std::fs::set_permissions(&launch, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    command
        .env("PATH", path)
        .env("XDG_CACHE_HOME", folder.path())
        .env("BROKER", "localhost;9092")
        .env_remove("SHOW");
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{command:?}: {said}");
    let mut arguments =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(arguments.remove(0), "-e");
    (arguments, said)
}

/// The element of ours in a pipeline that DeepStream's elements let be parsed: no property is
/// unknown, no link impossible.
fn parsed(arguments: &[String]) -> gst::Element {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let pipeline = gst::parse::launchv(&arguments)
        .unwrap_or_else(|error| panic!("{error}: {}", arguments.join(" ")));
    let pipeline = pipeline.downcast::<gst::Bin>().unwrap();
    let ours = |element: &gst::Element| {
        element.factory().is_some_and(|factory| factory.name() == "vehiclecounternvmm")
    };
    let element = pipeline.iterate_elements().into_iter().flatten().find(ours).unwrap();
    for pad in element.pads() {
        assert!(pad.is_linked(), "{}: {}", pad.name(), arguments.join(" "));
    }
    element
}

#[test]
fn ready_scripts_are_pipelines_of_elements_and_properties_that_exist() {
    elements();
    for (script, source) in [
        ("after-nvinfer.sh", "tensor-meta"),
        ("by-itself.sh", "engine"),
        ("kafka.sh", "tensor-meta"),
        ("cameras-that-come-and-go.sh", "tensor-meta"),
    ] {
        let uris = ["file:///one.mp4", "rtsp://camera-2/"];
        let (arguments, said) = launched(Command::new("bash").arg(ready_path(script)).args(uris));
        assert_eq!(said, "", "{script}");
        let element = parsed(&arguments);
        let chosen = element.property_value("source").serialize().unwrap();
        assert_eq!(chosen, source, "{script}");
        assert!(Path::new(&element.property::<String>("config-file-path")).is_file(), "{script}");
        for uri in uris {
            assert!(
                arguments.iter().any(|argument| argument.contains(uri)),
                "{script}: {arguments:?}"
            );
        }
    }
}

#[test]
fn service_maker_s_pipeline_is_of_elements_and_properties_that_exist() {
    elements();
    let yaml = ready("servicemaker.yaml");
    let (mut nodes, mut of_ours) = (Vec::new(), 0);
    for node in yaml.split("\n  edges:").next().unwrap().split("  - name: ").skip(1) {
        let (name, rest) = node.split_once("\n    type: ").unwrap();
        let (kind, properties) = rest.split_once('\n').unwrap_or((rest, ""));
        let element = gst::ElementFactory::make(kind)
            .build()
            .unwrap_or_else(|_| panic!("{name}: no element {kind}"));
        for line in properties.lines().filter(|line| line.starts_with("      ")) {
            let (property, value) = line.trim().split_once(": ").unwrap();
            let spec = element
                .find_property(property)
                .unwrap_or_else(|| panic!("{kind} has no property {property}"));
            assert!(
                glib::Value::deserialize_with_pspec(value, &spec).is_ok(),
                "{kind}: {property}={value}"
            );
            of_ours += u32::from(kind == "vehiclecounternvmm");
        }
        nodes.push(name);
    }
    assert_eq!(of_ours, 3);
    for edge in yaml.split("\n  edges:\n").nth(1).unwrap().lines() {
        let (from, to) = edge.trim().split_once(": ").unwrap();
        assert!(nodes.contains(&from) && nodes.contains(&to), "{edge}");
    }
}

#[test]
fn configuration_of_deepstream_app_becomes_a_pipeline_with_the_counter_in_it() {
    elements();
    let app = |config: &Path, more: &[&str]| {
        let mut command = Command::new("python3");
        launched(
            command
                .arg(ready_path("deepstream-app.py"))
                .arg(config)
                .args(more)
                .env("PYTHONDONTWRITEBYTECODE", "1"),
        )
    };
    // The ready one: cameras that come and go, our model in nvinfer.
    let (arguments, said) = app(&ready_path("deepstream-app.txt"), &[]);
    assert_eq!(said, "");
    let element = parsed(&arguments);
    assert_eq!(element.property_value("source").serialize().unwrap(), "tensor-meta");
    assert_eq!(element.property_value("osd-mode").serialize().unwrap(), "counts");
    assert!(
        element
            .property::<String>("config-file-path")
            .ends_with("pipelines/deepstream/sources.txt")
    );

    // One that somebody has: a detector, a tracker, nvdsanalytics, a window, a file and Kafka.
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("app.txt");
    std::fs::write(folder.path().join("detector.txt"), "[property]\nnetwork-type=0\n").unwrap();
    std::fs::write(
        &config,
        "[application]\nenable-perf-measurement=1\n\
         [tiled-display]\nenable=1\nrows=1\ncolumns=3\nwidth=1280\nheight=720\n\
         [source0]\nenable=1\ntype=3\nuri=file:///clips/clip_%d.mp4\nnum-sources=2\n\
         [source1]\nenable=1\ntype=4\nuri=rtsp://camera/?a=1\nlatency=200\nrtsp-reconnect-interval-sec=5\nsmart-record=1\n\
         [source2]\nenable=0\ntype=1\n\
         [streammux]\nlive-source=1\nwidth=1920\nheight=1080\nattach-sys-ts-as-ntp=0\n\
         [primary-gie]\nenable=1\nconfig-file=detector.txt\ngie-unique-id=3\n\
         [tracker]\nenable=1\nll-lib-file=tracker.so\n\
         [nvds-analytics]\nenable=1\nconfig-file=analytics.txt\n\
         [vehiclecount]\nsmoothing=2\ninterval=9\n\
         [osd]\nenable=1\ntext-size=15\n\
         [sink0]\nenable=1\ntype=2\nsync=0\n\
         [sink1]\nenable=1\ntype=6\nmsg-conv-config=msgconv.txt\nmsg-conv-payload-type=1\nmsg-conv-msg2p-new-api=1\n\
         msg-broker-proto-lib=/lib/libnvds_kafka_proto.so\nmsg-broker-conn-str=localhost;9092\ntopic=vehicles\n\
         [sink2]\nenable=1\ntype=3\ncodec=1\noutput-file=out.mp4\n\
         [tests]\nfile-loop=1\n",
    )
    .unwrap();
    let (arguments, said) = app(&config, &["interval=4"]);
    assert_eq!(said, "left out: [source1] smart-record\nleft out: [tracker] ll-lib-file\n");
    let element = parsed(&arguments);
    assert_eq!(element.property_value("source").serialize().unwrap(), "engine");
    assert_eq!(
        element.property::<String>("config-file-path"),
        folder.path().join("analytics.txt").to_str().unwrap()
    );
    assert_eq!(
        (element.property::<u32>("interval"), element.property::<f64>("smoothing")),
        (4, 2.0)
    );
    assert_eq!(
        (element.property::<u32>("display-font-size"), element.property::<bool>("message-blob")),
        (15, true)
    );
    let line = arguments.join(" ");
    for part in [
        "nvstreammux name=m width=1920 height=1080 live-source=1 attach-sys-ts=0 batch-size=3 ! nvinfer",
        "nvurisrcbin uri=file:///clips/clip_1.mp4 file-loop=1 ! m.sink_1",
        "nvurisrcbin uri=rtsp://camera/?a=1 latency=200 rtsp-reconnect-interval=5 file-loop=1 ! m.sink_2",
        "nvmsgconv config=",
        "conn-str=localhost;9092 topic=vehicles",
        "nvv4l2h264enc bitrate=2000000 ! h264parse ! qtmux ! filesink location=out.mp4",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }

    // What cannot be is said, with the file.
    std::fs::write(&config, "[source0]\nenable=1\ntype=6\nuri=file:///a.wav\n").unwrap();
    let refused =
        Command::new("python3").arg(ready_path("deepstream-app.py")).arg(&config).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && said.contains("[source0] type=6: cameras are 1 (V4L2)"),
        "{said}"
    );
}

#[test]
fn ready_configurations_fit_the_model_that_ships() {
    let model = Model::open("", &model::folders()).unwrap();
    let manifest = &model.manifest;
    for (file, precision) in
        [("config_infer_vehiclecount.txt", "fp32"), ("config_infer_vehiclecount_int8.txt", "int8")]
    {
        let text = ready(file);
        let get = |key: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            found.unwrap_or_else(|| panic!("{file} has no {key}"))
        };
        assert_eq!(
            get("infer-dims"),
            format!("3;{};{}", manifest.input.height, manifest.input.width)
        );
        assert_eq!(get("output-blob-names"), manifest.output.name);
        assert_eq!(
            (get("network-type"), get("output-tensor-meta"), get("model-color-format")),
            ("100", "1", "0")
        );
        assert_eq!((get("net-scale-factor"), get("disable-output-host-copy")), ("1.0", "0"));
        let onnx = Path::new(get("onnx-file")).file_name().unwrap().to_str().unwrap();
        let listed = manifest.files.iter().find(|listed| listed.file == onnx).unwrap();
        assert_eq!(listed.precision, precision);
    }
    let sources = SourcesFile::parse(&ready("sources.txt"), "sources.txt").unwrap();
    assert_eq!(sources.sources[&0].regions.len(), 2);
    assert_eq!(sources.sources[&1].camera.as_deref(), Some("south"));
    assert!(sources.left_out.is_empty());
}
