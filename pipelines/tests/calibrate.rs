//! `vehicle-count calibrate` as a person calls it. The scripted engine counts the red of its input:
//! a vehicle in each cell of 8x8 pixels that is all red.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use image::{Rgb, RgbImage};

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vehicle-count"));
    command.arg("calibrate");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is printed by a call that succeeds.
#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Pictures of 128x128: of number `n`, the upper left quarter has red `20 n`.
fn pictures(folder: &Path, number: u8) {
    red_pictures(folder, number, |x, y| x < 64 && y < 64);
}

fn red_pictures(folder: &Path, number: u8, is_red: impl Fn(u32, u32) -> bool) {
    for index in 1..=number {
        let picture = RgbImage::from_fn(128, 128, |x, y| {
            Rgb([if is_red(x, y) { 20 * index } else { 0 }, 0, index])
        });
        picture.save(folder.join(format!("gate-{index}.png"))).unwrap();
    }
}

/// Calls with `number` pictures, whose true counts are `times` what the engine counts.
fn calibrate(folder: &Path, number: u8, times: f64, further: &[&str]) -> Output {
    let mut command = command();
    command.current_dir(folder).args(["--engine", "scripted", "--input-size", "64x64"]);
    for index in 1..=number {
        command.arg(format!("gate-{index}.png"));
        let counted = 16.0 * 20.0 * f64::from(index) / 255.0;
        command.arg("--count").arg(format!("gate-{index}.png={:.3}", counted * times));
    }
    command.args(further).output().unwrap()
}

const REGIONS: &str = r#"{
  "levels": { "moderate": 3, "dense": 6, "jammed": 12 },
  "cameras": { "south": { "regions": [], "scale-factor": 0.9 } }
}
"#;

#[test]
fn camera_that_is_counted_too_low_gets_a_factor_which_is_written_beside_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 5);
    let file = folder.path().join("regions.json");
    fs::write(&file, REGIONS).unwrap();
    let asked = ["--regions", "regions.json"];
    let told = said(&calibrate(folder.path(), 5, 1.25, &asked));
    for word in ["5 pictures", "set now", "Proposed", "scale-factor 1.25", "--write writes it"] {
        assert!(told.contains(word), "no {word:?} in:\n{told}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), REGIONS, "nothing is written unasked");

    let asked = ["--regions", "regions.json", "--camera", "north gate", "--write"];
    let told = said(&calibrate(folder.path(), 5, 1.25, &asked));
    assert!(told.contains("Written to regions.json"), "{told}");
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(json["cameras"]["north gate"]["scale-factor"], 1.25);
    assert_eq!(json["cameras"]["north gate"]["levels"]["dense"], 6);
    assert_eq!(json["cameras"]["south"]["scale-factor"], 0.9);
    assert_eq!(json["levels"]["moderate"], 3);
    // With that set, nothing is better.
    let told = said(&calibrate(folder.path(), 5, 1.25, &asked));
    assert!(told.contains("Kept as it is"), "{told}");
}

#[test]
fn closer_look_is_proposed_where_it_counts_what_is_there_and_a_file_is_made() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 6);
    // Twice as large, the quarter counts four times as much: in the upper half, enlarged up to
    // twice, and in the whole picture. No factor does that; the upper half is cheaper.
    let told = said(&calibrate(folder.path(), 6, 3.0, &["--regions", "new.json", "--write"]));
    assert!(told.contains("detail \"upper half\" up to 2 times"), "{told}");
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("new.json")).unwrap()).unwrap();
    assert_eq!(json["regions"][0]["detail"], 2.0);
    assert_eq!(json["regions"][0]["name"], "upper half");
}

#[test]
fn strip_of_far_traffic_is_found_where_nobody_has_marked_it() {
    let folder = tempfile::tempdir().unwrap();
    // A quarter of what is said to be there is seen in the whole picture.
    red_pictures(folder.path(), 6, |x, y| (32..64).contains(&x) && (16..48).contains(&y));
    let asked = ["--regions", "new.json", "--write"];
    let told = said(&calibrate(folder.path(), 6, 1.0, &asked));
    for words in [
        "detail \"far traffic\" up to 4 times",
        "far traffic: 0.12 to 0.56 of the width, 0.06 to 0.44 of the height",
    ] {
        assert!(told.contains(words), "no {words:?} in:\n{told}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("new.json")).unwrap()).unwrap();
    let region = &json["regions"][0];
    assert_eq!((&region["name"], &region["detail"]), (&"far traffic".into(), &true.into()));
    assert_eq!(region["polygon"][2], serde_json::json!([0.5625, 0.4375]));
    // It is a region of the camera now, and no other is looked for.
    let told = said(&calibrate(folder.path(), 6, 1.0, &asked));
    assert!(told.contains("Kept as it is") && !told.contains("of the height"), "{told}");
}

#[test]
fn what_cannot_be_calibrated_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 3);
    let at = |name: &str| folder.path().join(name);
    fs::copy(at("gate-1.png"), at("again.png")).unwrap();
    RgbImage::new(64, 64).save(at("small.png")).unwrap();
    fs::write(at("broken.json"), "{").unwrap();
    fs::write(at("text.txt"), "no picture").unwrap();
    let one = ["gate-1.png", "--count", "gate-1.png=3"];
    let two = [&one[..], &["gate-2.png", "--count", "gate-2.png=3"]].concat();
    let three = [&two[..], &["gate-3.png", "--count", "gate-3.png=3"]].concat();
    let with = |base: &[&'static str], more: &[&'static str]| [base, more].concat();
    for (arguments, words) in [
        (two.clone(), ["2 pictures", "at least 3"]),
        (with(&two, &["gate-3.png", "--count", "gate-3.png=0"]), ["2 of 3", "show vehicles"]),
        (with(&three, &["again.png", "--count", "again.png=3"]), ["again.png", "the same picture"]),
        (with(&three, &["small.png", "--count", "small.png=3"]), ["small.png", "64x64"]),
        (with(&two, &["gate-3.png"]), ["gate-3.png", "--count"]),
        (with(&three, &["--count", "gate-9.png=3"]), ["gate-9.png", "gate-1.png"]),
        (with(&three, &["--count", "gate-1.png=4"]), ["gate-1.png", "twice"]),
        (with(&three, &["--count", "gate-1.png"]), ["gate-1.png", "FILE=NUMBER"]),
        (with(&three, &["--count", "gate-1.png=-2"]), ["-2", "FILE=NUMBER"]),
        (with(&three, &["--count", "gate-1.png=nan"]), ["nan", "FILE=NUMBER"]),
        (with(&three, &["none.png"]), ["none.png", "cannot read"]),
        (with(&three, &["."]), ["folder", "pictures in it"]),
        (with(&three, &["text.txt"]), ["text.txt", "--save"]),
        (with(&three, &["text.txt", "--save", "shots"]), ["text.txt", "no picture could be taken"]),
        (with(&three, &["rtsp://me:s3cret@127.0.0.1:9/x"]), ["rtsp://", "--save"]),
        (with(&three, &["--regions", "broken.json"]), ["broken.json", "regions"]),
        (with(&three, &["--regions", "none.json"]), ["none.json", "No such file"]),
        (with(&three, &["--camera", "north"]), ["--regions", "--camera"]),
        (vec!["--data", "."], ["annotations.jsonl", "cannot read"]),
        (vec!["--engine", "scripted"], ["SOURCE", "required"]),
    ] {
        let mut call = command();
        call.current_dir(&folder).args(["--input-size", "64x64"]);
        if !arguments.contains(&"--engine") {
            call.args(["--engine", "scripted"]);
        }
        let output = call.args(&arguments).output().unwrap();
        let complaint = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} succeeds: {}", text(&output.stdout));
        for word in words {
            assert!(
                complaint.contains(word),
                "{arguments:?} says nothing of {word:?}: {complaint}"
            );
        }
        assert!(!complaint.contains("panicked") && !complaint.contains("s3cret"), "{complaint}");
    }
    // Pictures in which nothing is seen.
    let mut blind = command();
    blind.current_dir(&folder).args(["--engine", "scripted", "--input-size", "64x64"]);
    for index in 0..3_u8 {
        let name = format!("dark-{index}.png");
        RgbImage::from_pixel(128, 128, Rgb([0, index, 0])).save(at(&name)).unwrap();
        blind.arg(&name).arg(format!("--count={name}=20"));
    }
    let complaint = text(&blind.output().unwrap().stderr);
    assert!(complaint.contains("0.0 of 60 vehicles"), "{complaint}");
}

#[test]
fn pictures_of_a_clip_are_taken_to_be_counted_and_serve_then() {
    let folder = tempfile::tempdir().unwrap();
    gst::init().unwrap();
    let clip = folder.path().join("road.avi");
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=50 pattern=ball ! video/x-raw,width=128,height=128,framerate=25/1 ! jpegenc ! \
         avimux ! filesink location={}",
        clip.display()
    ))
    .unwrap();
    use gst::prelude::*;
    pipeline.set_state(gst::State::Playing).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let bus = pipeline.bus().unwrap();
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends).unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();

    let mut call = command();
    call.current_dir(&folder).args(["road.avi", "--save", "shots", "--frames", "4"]);
    let told = said(&call.output().unwrap());
    assert!(told.contains("shots/road-4.png") && told.contains("--count"), "{told}");
    let mut call = command();
    call.current_dir(&folder).args(["--engine", "scripted", "--input-size", "64x64"]);
    for index in 1..=4 {
        let name = format!("road-{index}.png");
        let picture = image::open(folder.path().join("shots").join(&name)).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), (128, 128));
        let red: f64 = picture.pixels().map(|pixel| f64::from(pixel.0[0])).sum();
        let counted = red / 255.0 / (128.0 * 128.0) * 64.0;
        call.arg(format!("shots/{name}")).arg(format!("--count={name}={counted:.4}"));
    }
    let told = said(&call.output().unwrap());
    assert!(told.contains("Kept as it is"), "{told}");
}

#[test]
fn real_model_is_calibrated_on_labelled_pictures_of_simulated_traffic() {
    let folder = tempfile::tempdir().unwrap();
    let synth = ["synth", "--images", "5", "--width", "640", "--split", "val", "--out", "data"];
    let mut make = Command::new(env!("CARGO_BIN_EXE_vehicle-count"));
    assert!(make.args(synth).current_dir(&folder).status().unwrap().success());
    // Pictures of one camera.
    let path = folder.path().join("data/annotations.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    let lines = lines.lines().map(|line| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["scene"] = "north".into();
        line.to_string()
    });
    fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../engines/models/mobilenetv3-large.json");
    let mut call = command();
    call.current_dir(&folder).args(["--data", "data", "--scene", "north", "--model", model]);
    let told = said(&call.output().unwrap());
    for word in ["5 pictures", "larger", "whole picture", "upper half", "MAE"] {
        assert!(told.contains(word), "no {word:?} in:\n{told}");
    }
    let mut call = command();
    call.current_dir(&folder).args(["--data", "data", "--scene", "south", "--model", model]);
    let complaint = text(&call.output().unwrap().stderr);
    assert!(complaint.contains("no scene \"south\"; there is north"), "{complaint}");
}
