//! The command as a person calls it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The manifest of the model that ships.
const MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../engines/models/mobilenetv3-large.json");

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_vehicle-count"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn wrong_calls_name_what_is_wrong() {
    for (arguments, word) in [
        (&["demo", "--input", "no-such-clip.mp4"][..], "no-such-clip.mp4"),
        (&["demo", "--rtsp", "http://camera"], "rtsp://"),
        (&["serve", "--address", "everywhere"], "address"),
        (&["demo", "--engine", "abacus"], "openvino"),
        (
            &["demo", "--engine", "openvino", "--model", "no-such-model", "--duration", "1"],
            "no-such-model",
        ),
        (&["bench", "--engine", "scripted"], "scripted"),
        (&["bench", "--cameras", "0"], "0"),
        (&["doctor", "--model", "no-such-model"], "model"),
        (&["engine", "verify", "no-such-model"], "no-such-model"),
        (&["eval", "--data", "no-such-folder"], "no-such-folder/annotations.jsonl"),
        (&["eval", "--data", ".", "--input-size", "big"], "384x384"),
        (&["engine", "verify", "--engine", "abacus"], "abacus"),
        (&["engine", "verify", "--engine", "scripted", MODEL], "runs no network"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = command().args(arguments).current_dir(&folder).output().unwrap();
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} succeeds");
        assert!(said.contains(word), "{arguments:?} says: {said}");
        assert!(!said.contains("panicked"), "{arguments:?} says: {said}");
    }
}

/// The manual page as a golden file: every subcommand, option, default and value. A change shows up
/// in review.
#[test]
fn manual_page_is_the_one_that_was_reviewed() {
    let page = manual("man").replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/vehicle-count.1");
    if std::env::var_os("VEHICLECOUNT_BLESS").is_some() {
        fs::write(&golden, &page).unwrap();
    }
    let reviewed = fs::read_to_string(&golden).unwrap_or_default();
    for (number, (new, old)) in page.lines().zip(reviewed.lines()).enumerate() {
        assert_eq!(
            new,
            old,
            "line {} of {}: VEHICLECOUNT_BLESS=1 writes the file anew",
            number + 1,
            golden.display()
        );
    }
    assert_eq!(page, reviewed, "VEHICLECOUNT_BLESS=1 writes {} anew", golden.display());
}

/// What `vehicle-count manual` writes.
fn manual(what: &str) -> String {
    let output = command().args(["manual", what]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The words of the call's help that begin as `of` tells: subcommands, or long options.
fn help(call: &[&str], of: fn(&str) -> Option<&str>) -> Vec<String> {
    let output = command().args(call).arg("--help").env("COLUMNS", "100").output().unwrap();
    text(&output.stdout).lines().filter_map(of).map(str::to_owned).collect()
}

/// Two blanks, a word, two blanks: the help's line of a subcommand.
fn subcommand(line: &str) -> Option<&str> {
    let (word, _) = line.strip_prefix("  ")?.split_once("  ")?;
    (!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase())).then_some(word)
}

/// The name in the help's line of a long option: "  -o, --out <OUT>" or "      --cameras
/// <CAMERAS>".
fn option(line: &str) -> Option<&str> {
    let (short, name) = line.split_once("--")?;
    let end = name
        .find(|letter: char| !letter.is_ascii_lowercase() && letter != '-')
        .unwrap_or(name.len());
    let own = short.trim_start().is_empty() || short.trim_start().starts_with('-');
    (own && !["help", "version"].contains(&&name[..end])).then_some(&name[..end])
}

/// Walks the command line as a person does, by `--help`, and looks each word up in the manual page
/// and in the completions.
#[test]
fn manual_page_and_completions_know_every_subcommand_and_option() {
    let [page, bash, zsh, fish] = ["man", "bash", "zsh", "fish"].map(manual);
    let mut waiting = vec![Vec::<String>::new()];
    let (mut subcommands, mut options) = (0, 0);
    while let Some(call) = waiting.pop() {
        let words: Vec<&str> = call.iter().map(String::as_str).collect();
        let title = format!("vehicle-count {}", words.join(" "))
            .trim_end()
            .to_uppercase()
            .replace('-', r"\-");
        let section = page.split(&format!(".SH \"{title}\"\n")).nth(1);
        let section = section.map(|rest| rest.split("\n.SH ").next().unwrap());
        assert!(call.is_empty() || section.is_some(), "the manual page has no section {title}");
        for found in help(&words, subcommand) {
            if found == "help" {
                continue;
            }
            for (shell, text) in [("bash", &bash), ("zsh", &zsh), ("fish", &fish)] {
                assert!(text.contains(&found), "{shell} does not complete {words:?} {found}");
            }
            subcommands += 1;
            waiting.push([&call[..], &[found]].concat());
        }
        for name in help(&words, option) {
            let section = section.unwrap_or(&page);
            assert!(
                section.contains(&name.replace('-', r"\-")),
                "{title} in the manual page lacks --{name}"
            );
            assert!(
                bash.contains(&format!("--{name}")),
                "bash does not complete {words:?} --{name}"
            );
            assert!(
                zsh.contains(&format!("--{name}=")) || zsh.contains(&format!("--{name}[")),
                "zsh lacks --{name}"
            );
            assert!(
                fish.contains(&format!("-l {name} ")),
                "fish does not complete {words:?} --{name}"
            );
            options += 1;
        }
    }
    assert!(
        subcommands >= 10 && options >= 40,
        "{subcommands} subcommands and {options} options were found"
    );
}

/// The variables that the sources read are explained, and no others.
#[test]
fn manual_page_explains_every_variable_of_ours() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut read = BTreeSet::new();
    for folder in ["core/src", "gst-plugin/src", "pipelines/src"] {
        variables(&root.join(folder), &mut read);
    }
    let mut explained = BTreeSet::new();
    words(manual("man").split(".SH ENVIRONMENT").nth(1).unwrap(), &mut explained);
    assert_eq!(read, explained);
}

/// The variables named in the sources below a folder.
fn variables(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.path() {
            path if path.is_dir() => variables(&path, found),
            path if path.extension().is_some_and(|extension| extension == "rs") => {
                // Not those of tests at the end of a file, or of the build.
                let source = fs::read_to_string(&path).unwrap();
                words(
                    &source
                        .split("#[cfg(test)]")
                        .next()
                        .unwrap()
                        .replace("env!(\"VEHICLECOUNT_", ""),
                    found,
                );
            }
            _ => {}
        }
    }
}

/// Adds the words of the text that begin as our variables do.
fn words(text: &str, found: &mut BTreeSet<String>) {
    let word = |rest: &str| {
        rest.chars()
            .take_while(|letter| letter.is_ascii_uppercase() || *letter == '_')
            .collect::<String>()
    };
    found.extend(
        text.split("VEHICLECOUNT_").skip(1).map(|rest| format!("VEHICLECOUNT_{}", word(rest))),
    );
}

#[test]
fn doctor_lists_what_it_looked_at_with_remedies() {
    let output = command().arg("doctor").output().unwrap();
    let said = text(&output.stdout);
    for word in [
        "machine",
        "GStreamer",
        "plugin",
        "model",
        "engines",
        "openvino",
        "onnxruntime",
        "tensorrt",
    ] {
        assert!(said.contains(word) || !output.status.success(), "nothing about {word}:\n{said}");
    }
    // What is missing has its remedy.
    if said.contains("MISSING") {
        assert!(said.contains("->"), "{said}");
    }
}

#[test]
fn verify_compares_every_engine_that_opens_and_fails_on_a_wrong_count() {
    let output = command().args(["engine", "verify", MODEL]).output().unwrap();
    let (said, complaint) = (text(&output.stdout), text(&output.stderr));
    if complaint.contains("no engine opens") {
        return eprintln!("skipped: {complaint}");
    }
    assert!(output.status.success(), "{said}{complaint}");
    assert!(said.contains("agrees") && !said.contains("FAILS"), "{said}");

    // The same files, of which more vehicles are expected.
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(Path::new(MODEL).parent().unwrap()).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|extension| extension != "pt") {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    let mut wrong: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(MODEL).unwrap()).unwrap();
    for file in wrong["golden"]["files"].as_object_mut().unwrap().values_mut() {
        file["count"] = 20.into();
    }
    let path = folder.path().join("mobilenetv3-large.json");
    fs::write(&path, wrong.to_string()).unwrap();
    let output = command().args(["engine", "verify"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("FAILS") && text(&output.stdout).contains("20.000"));
    assert!(
        text(&output.stderr).contains("do not count what mobilenetv3-large must"),
        "{}",
        text(&output.stderr)
    );
}

/// Without VNNI, sums of two products are held in 16 bits.
#[cfg(target_arch = "x86_64")]
#[test]
fn int8_counts_alike_on_processors_with_and_without_instructions_for_it() {
    // `None` where OpenVINO is not installed.
    let count = |model: &Path, instructions: Option<&str>| {
        let mut command = command();
        command.args(["engine", "verify", "--engine", "openvino"]).arg(model);
        command.envs(instructions.map(|instructions| ("ONEDNN_MAX_CPU_ISA", instructions)));
        let output = command.output().unwrap();
        let (said, complaint) = (text(&output.stdout), text(&output.stderr));
        let required = std::env::var("VEHICLECOUNT_REQUIRE_ENGINES").unwrap_or_default();
        if said.contains("libopenvino_c.so was not found") && !required.contains("openvino") {
            eprintln!("skipped: {said}");
            return None;
        }
        assert!(output.status.success(), "{said}{complaint}");
        let line = said.lines().find(|line| line.contains("-int8.onnx")).unwrap();
        Some(line.split_whitespace().nth(3).unwrap().parse::<f64>().unwrap())
    };
    for entry in fs::read_dir(Path::new(MODEL).parent().unwrap()).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if !path.with_extension("onnx").exists() || path.extension().unwrap() != "json" {
            continue;
        }
        let (Some(all), Some(few)) = (count(&path, None), count(&path, Some("AVX2"))) else {
            return;
        };
        assert!((few - all).abs() < 0.03 * all, "{path:?}: {few} and {all}");
    }
}

#[test]
fn eval_writes_lines_and_pictures_and_the_same_table_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let synth = ["synth", "--images", "9", "--width", "160", "--split", "test", "--out"];
    assert!(command().args(synth).arg(&data).status().unwrap().success());
    let eval = |lines: &str| {
        let mut command = command();
        command.args([
            "eval",
            "--engine",
            "scripted",
            "--split",
            "test",
            "--per-scene",
            "--worst",
            "5",
            "--data",
        ]);
        command
            .arg(&data)
            .arg("--json")
            .arg(folder.path().join(lines))
            .arg("--plot")
            .arg(folder.path().join("plots"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let said = eval("a.jsonl");
    assert_eq!(said.replace("a.jsonl", "b.jsonl"), eval("b.jsonl"));
    for word in
        ["highway", "  synth_", "all", "MAE", "of truth", "counted", "GAME 3", "95 % intervals"]
    {
        assert!(said.contains(word), "no {word:?} in:\n{said}");
    }
    let lines = fs::read_to_string(folder.path().join("a.jsonl")).unwrap();
    assert_eq!(lines, fs::read_to_string(folder.path().join("b.jsonl")).unwrap());
    assert_eq!(lines.lines().count(), 9);
    for line in lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        let [count, truth, game] =
            ["count", "truth", "game0"].map(|key| line[key].as_f64().unwrap());
        // Equal but for the last digit of a number that was read from text.
        assert!((game - (count - truth).abs()).abs() < 1e-9, "{line}");
        assert!(line["game3"].as_f64().unwrap() >= game - 1e-9, "{line}");
    }
    for name in ["scatter.png", "errors.png", "worst.png"] {
        let picture = image::open(folder.path().join("plots").join(name)).unwrap().into_rgb8();
        let colors: std::collections::BTreeSet<_> = picture.pixels().map(|pixel| pixel.0).collect();
        assert!(picture.width() > 600 && colors.len() > 50, "{name}: {} colours", colors.len());
    }
}
