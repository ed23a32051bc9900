//! The command `vehicle-count demo`: what it counts on, what it records, what it says.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use gst::prelude::*;
use vehiclecount_core::report::JsonReport;
use vehiclecount_tests::camera::{Access, Cameras, H264, MJPEG, has_h265, pictures};
use vehiclecount_tests::system::{assert_calm, command};
use vehiclecount_tests::{BOUND, assert_no_leak, init, write_clip};

/// What the first simulated camera is called.
const CAMERA: &str = "highway day";

/// The demo for some seconds, its files in `out`.
fn demo(out: &Path, seconds: u32, arguments: &[&str]) -> Command {
    let mut demo = command();
    demo.args(["demo", "--engine", "scripted", "--duration", &seconds.to_string(), "--out"])
        .arg(out)
        .args(arguments);
    demo
}

/// Runs `test` on all cases at once, which wait more than they compute.
fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || test(case));
        }
    });
}

/// Runs it to its end; [`said()`] finds what libraries warn of, which does not end it.
fn run(demo: &mut Command) -> Output {
    demo.env_remove("G_DEBUG").output().unwrap()
}

fn said(output: &Output) -> String {
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_calm(&said);
    said
}

/// Lines with a count of their own in `out`, of the camera of this name.
fn counts(out: &Path, camera: &str) -> usize {
    let text = fs::read_to_string(out.join("demo.jsonl")).unwrap_or_default();
    // The last line may be half written.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<JsonReport>(line).ok());
    lines.filter(|line| line.camera == camera && line.count.is_some() && !line.stale).count()
}

#[test]
fn cameras_of_any_codec_are_counted_and_recorded_under_their_names() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let camera = |end: &str| format!("{} ! {end}", pictures("format=I420,width=160,height=120"));
    let interlaced =
        camera(H264).replace("x264enc", "interlace field-pattern=1:1 ! x264enc interlaced=true");
    let (h264, mjpeg) = (camera(H264), camera(MJPEG));
    let mut cameras = vec![("h264", h264.as_str()), ("mjpeg", &mjpeg), ("interlaced", &interlaced)];
    let h265 = camera(vehiclecount_tests::camera::H265);
    if has_h265() {
        cameras.push(("h265", &h265));
    }
    let server = Cameras::start(&cameras, Access::default());
    let mut addresses: Vec<_> = cameras
        .iter()
        .map(|(path, _)| format!("the {path} one={}", server.url("", path)))
        .collect();
    // The first camera once more, without a name.
    addresses.push(server.url("", "h264"));
    let mut demo = demo(folder.path(), 8, &["--rtsp"]);
    let output = run(demo.args(&addresses));
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    for (path, _) in &cameras {
        assert!(counts(folder.path(), &format!("the {path} one")) >= 10, "{path}: {said}");
    }
    let unnamed = format!("camera-{}", cameras.len());
    assert!(counts(folder.path(), &unnamed) >= 10, "{said}");
    let video = folder.path().join("demo.mp4");
    assert!(video.metadata().unwrap().len() > 1000, "{said}");
    // Three places in a row. Once all cameras are seen, none turns black, which is 16.
    let (width, pictures) = brightness(&video, 3, 2);
    assert_eq!(width, 3 * 640);
    let lit = |places: &[f64]| places[..addresses.len()].iter().all(|&light| light > 30.0);
    let first = pictures.iter().position(|places| lit(places)).expect("all cameras are seen");
    for (number, places) in pictures.iter().enumerate().skip(first) {
        assert!(lit(places), "picture {number} of {}: {places:?}", pictures.len());
    }
}

/// Of each picture of the video, the mean brightness of each place of a mosaic; and its width.
fn brightness(video: &Path, columns: usize, rows: usize) -> (u32, Vec<Vec<f64>>) {
    let line = "filesrc name=file ! qtdemux ! h264parse ! avdec_h264 ! videoconvert \
                ! video/x-raw,format=GRAY8 ! appsink name=out sync=false max-buffers=2";
    let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.by_name("file").unwrap().set_property("location", video);
    let out = pipeline.by_name("out").and_downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let (mut sides, mut pictures) = (0, Vec::new());
    while let Some(sample) = out.try_pull_sample(gst::ClockTime::try_from(BOUND).unwrap()) {
        let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        let frame =
            gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer().unwrap(), &info)
                .unwrap();
        let (width, height) = (info.width() as usize / columns, info.height() as usize / rows);
        let (pixels, stride) = (frame.plane_data(0).unwrap(), info.stride()[0] as usize);
        let mean = |place: usize| {
            let (left, top) = (place % columns * width, place / columns * height);
            let lines = (top..top + height).map(|line| &pixels[line * stride + left..][..width]);
            lines.flatten().map(|&pixel| f64::from(pixel)).sum::<f64>() / (width * height) as f64
        };
        pictures.push((0..columns * rows).map(mean).collect());
        sides = info.width();
    }
    assert!(out.is_eos(), "{} is not whole", video.display());
    drop(out);
    assert_no_leak(pipeline);
    (sides, pictures)
}

#[test]
fn recorder_that_fails_stops_the_video_and_not_the_counting() {
    init();
    type Break = fn(&Path);
    let cases: [(&str, Break, &[&str], &str); 4] = [
        (
            "a full disk",
            |out| symlink("/dev/full", out.join("demo.mp4")).unwrap(),
            &[],
            "No space left",
        ),
        (
            "a folder in the file's place",
            |out| fs::create_dir(out.join("demo.mp4")).unwrap(),
            &[],
            "demo.mp4",
        ),
        (
            "a full disk for one of several files",
            |out| symlink("/dev/full", out.join("demo-00001.mp4")).unwrap(),
            &["--segment", "2"],
            "No space left",
        ),
        (
            "a folder in the place of one of several files",
            |out| fs::create_dir(out.join("demo-00001.mp4")).unwrap(),
            &["--segment", "2"],
            "demo-00001.mp4",
        ),
    ];
    let fails = |(case, broken, arguments, reason): (&str, Break, &[&str], &str)| {
        let folder = tempfile::tempdir().unwrap();
        broken(folder.path());
        let mut demo = demo(folder.path(), 60, &["--cameras", "1", "--fps", "10"]);
        demo.env("LANGUAGE", "en").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut demo = demo.spawn().unwrap();
        let mut notes = BufReader::new(demo.stderr.take().unwrap()).lines().map(Result::unwrap);
        let note =
            notes.find(|note| note.contains("counting goes on")).expect("the recorder fails");
        assert!(note.contains(reason), "{case}: {note}");
        // The table is drawn every five seconds, which paces the looks at the file.
        let counted = counts(folder.path(), CAMERA);
        let mut table = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
        let goes_on = table.any(|_| counts(folder.path(), CAMERA) >= counted + 20);
        assert!(goes_on, "{case}: counting has stopped");
        let interrupted =
            Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
        assert!(interrupted.success());
        let end = table.last();
        assert!(demo.wait().unwrap().success(), "{case}");
        assert!(
            end.unwrap().contains("demo.jsonl"),
            "{case}: its last words are where the counts are"
        );
    };
    at_once(cases, fails);
}

#[test]
fn reader_that_leaves_does_not_stop_the_demo() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path(), 6, &["--no-video", "--cameras", "1"]);
    let mut demo = demo.stdout(Stdio::piped()).spawn().unwrap();
    drop(demo.stdout.take());
    assert!(demo.wait().unwrap().success());
    assert!(counts(folder.path(), CAMERA) >= 5);
}

#[test]
fn no_video_is_recorded_where_none_is_wanted() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let output = run(&mut demo(folder.path(), 6, &["--no-video", "--cameras", "1"]));
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(counts(folder.path(), CAMERA) >= 5, "{said}");
    let files: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["demo.jsonl"]);
}

#[test]
fn nothing_counted_at_all_is_a_failure_that_says_why() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.mp4");
    fs::write(&text, "a line of text, and another one\n".repeat(50)).unwrap();
    let sound = Cameras::start(
        &[("sound", "audiotestsrc is-live=true ! mulawenc ! rtppcmupay name=pay0")],
        Access::default(),
    );
    let (audio, gone) = (sound.url("", "sound"), sound.url("", "gone"));
    let cases = [
        (["--rtsp", "rtsp://127.0.0.1:1/stream"], "refuses the connection"),
        (["--rtsp", &audio], "only audio PCMU"),
        (["--rtsp", &gone], "(404)"),
        (["--input", text.to_str().unwrap()], "text file"),
    ];
    let fails = |(arguments, reason): ([&str; 2], &str)| {
        let out = tempfile::tempdir().unwrap();
        let output = run(&mut demo(out.path(), 4, &arguments));
        let said = said(&output);
        assert!(!output.status.success(), "{arguments:?}: {said}");
        assert!(
            said.contains(reason) && said.contains("nothing was counted"),
            "{arguments:?}: {said}"
        );
        assert!(
            !said.contains("Internal data stream error") && !said.contains("Unhandled"),
            "{arguments:?}: {said}"
        );
    };
    at_once(cases, fails);
    // One camera that is counted is enough.
    let clip = folder.path().join("clip.mp4");
    write_clip(&clip, 5, 1);
    let arguments = ["--input", text.to_str().unwrap()];
    let output = run(demo(&folder.path().join("out"), 8, &arguments).arg(&clip));
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("text was never counted"), "{said}");
}

#[test]
fn passwords_are_printed_nowhere() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let h264 = format!("{} ! {H264}", pictures("format=I420,width=160,height=120"));
    let login = Some(("me", "s3cretpw"));
    let locked = Cameras::start(&[("video", &h264)], Access { login, ..Access::default() });
    let counted = locked.url("me:s3cretpw@", "video");
    for addresses in [
        vec![counted.as_str()],
        vec![&locked.url("me:s3cretpw-wrong@", "video")],
        vec![&locked.url("me:s3cretpw@", "nothing-there?password=s3cretpw")],
        vec!["rtsp://me:s3cretpw@127.0.0.1:1/stream"],
        vec!["rtsp://me:s3cretpw@no-such-host.invalid/stream?token=s3cretpw"],
        // Calls that are wrong.
        vec!["rtsp://me:s3cretpw@host:port/"],
        vec!["rtsp://me:s3cretpw/@host/"],
        vec!["rtsp://me:s3cretpw with blanks@host/"],
        vec!["http://me:s3cretpw@host/"],
        vec!["gate=rtsp://me:s3cretpw@host/", "gate=rtsp://me:s3cretpw@host/"],
        vec!["rtsp://me:s3cretpw@host/", "--unknown=rtsp://me:s3cretpw@host/"],
    ] {
        let out = folder.path().join("out");
        let mut demo = demo(&out, 5, &["--no-video", "--rtsp"]);
        let output = run(demo.args(&addresses));
        let mut text = said(&output);
        text += &fs::read_to_string(out.join("demo.jsonl")).unwrap_or_default();
        assert!(!text.contains("s3cret"), "{addresses:?}: {text}");
        assert_eq!(
            output.status.success(),
            addresses == [counted.as_str()],
            "{addresses:?}: {text}"
        );
    }
}

/// Frames that were not decoded, and all that came, by the summary's last word on them.
fn not_decoded(output: &Output) -> Option<(u32, u32)> {
    let text = said(output);
    let line = text.lines().find(|line| line.ends_with("frames were not decoded"))?.to_owned();
    let mut numbers = line.split(' ').filter_map(|word| word.parse().ok());
    numbers.next().zip(numbers.next())
}

#[test]
fn pictures_that_no_count_needs_are_not_decoded_and_not_lost() {
    init();
    let folder = tempfile::tempdir().unwrap();
    // To two of three pictures no other refers, which holds at any load.
    let camera = format!("{} ! {H264}", pictures("format=I420,width=160,height=120"));
    let camera =
        camera.replace("tune=zerolatency", "threads=1 bframes=2 b-adapt=false rc-lookahead=0");
    let server = Cameras::start(&[("gate", &camera)], Access::default());
    let clip = folder.path().join("clip.mp4");
    write_clip(&clip, 250, 1);
    // At the same time: a camera, and a file that the demo serves itself.
    let once_a_second = ["--no-video", "--rate", "1"];
    let (rtsp, file) = (folder.path().join("rtsp"), folder.path().join("file"));
    let of_file = demo(&file, 14, &once_a_second)
        .arg("--input")
        .arg(&clip)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let address = format!("gate={}", server.url("", "gate"));
    let of_rtsp = run(demo(&rtsp, 14, &once_a_second).args(["--rtsp", &address]));
    let of_file = of_file.wait_with_output().unwrap();
    for (output, out, name) in [(&of_rtsp, rtsp, "gate"), (&of_file, file, "clip")] {
        let said = said(output);
        assert!(output.status.success(), "{said}");
        // Once a second, and what is not counted is no line without a count.
        let counted = counts(&out, name);
        assert!((2..=16).contains(&counted), "{name}: {counted}: {said}");
        let text = fs::read_to_string(out.join("demo.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<JsonReport>(line).unwrap());
        let numbers: Vec<_> = lines.map(|line| line.sequence).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "{name}");
    }
    let said = said(&of_rtsp);
    let (skipped, came) = not_decoded(&of_rtsp).expect(&said);
    assert!(3 * skipped >= came && skipped < came, "{said}");
}

#[test]
fn rate_without_a_meaning_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, reason) in [
        (&["--rate", "1"][..], "--no-video"),
        (&["--no-video", "--rate", "0"], "0.01 to 60"),
        (&["--no-video", "--rate", "often"], "0.01 to 60"),
    ] {
        let output = demo(folder.path(), 1, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains(reason), "{arguments:?}: {}", said(&output));
    }
}
