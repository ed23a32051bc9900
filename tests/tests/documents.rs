//! What the documents quote is what the program says.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::{env, fs};

/// All sources that speak to people, with the line breaks and escapes inside their texts undone.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests" && name != "target")
        {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "sh") {
            *text += &fs::read_to_string(&path)
                .unwrap()
                .replace("\\\"", "\"")
                .replace("{{", "{")
                .replace("}}", "}");
        }
    }
}

#[test]
fn every_error_in_the_troubleshooting_is_one_that_is_said() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut said = String::new();
    for folder in ["core/src", "gst-plugin/src", "pipelines/src", "docker"] {
        sources(&root.join(folder), &mut said);
    }
    let text = fs::read_to_string(root.join("docs/troubleshooting.md")).unwrap();
    let own = text.split("## What GStreamer").next().unwrap();
    let mut rows = 0;
    for line in own.lines().filter(|line| line.starts_with("| `")) {
        let phrase = line.split('`').nth(1).unwrap();
        for part in phrase.split("...").map(str::trim).filter(|part| part.len() > 3) {
            assert!(
                said.contains(part),
                "nothing says {part:?} any more: docs/troubleshooting.md has it in {line}"
            );
        }
        rows += 1;
    }
    assert!(rows > 25, "the tables were not found: {rows} rows");
}

/// Links between documents lead somewhere.
#[test]
fn links_between_documents_lead_to_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut documents =
        vec![root.join("README.md"), root.join("ARCHITECTURE.md"), root.join("CONTRIBUTING.md")];
    documents.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for document in
        documents.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"))
    {
        let text = fs::read_to_string(document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let target = document.parent().unwrap().join(path);
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
        }
    }
}

/// The golden manual page's section of a subcommand, such as "ENGINE BUILD".
fn section<'a>(manual: &'a str, words: &[&str]) -> Option<&'a str> {
    let title = format!(".SH \"VEHICLE\\-COUNT {}\"\n", words.join(" ").to_uppercase());
    manual.split(&title).nth(1).map(|rest| rest.split("\n.SH ").next().unwrap())
}

/// Whatever the documents call, as `vehicle-count ...` or in an image, can be called so.
#[test]
fn documents_call_only_subcommands_and_options_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let manual = fs::read_to_string(root.join("tests/golden/vehicle-count.1")).unwrap();
    let mut documents: Vec<_> =
        ["README.md", "CONTRIBUTING.md", "compose.yml"].map(|name| root.join(name)).into();
    for folder in ["docs", "engines", "pipelines", "pipelines/deepstream", "docs/decisions"] {
        documents
            .extend(fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    let read = ["md", "yml", "sh"].map(Some);
    let mut calls = 0;
    for document in documents
        .iter()
        .filter(|path| read.contains(&path.extension().and_then(|name| name.to_str())))
    {
        // Lines that go on in the next one are one.
        let text = fs::read_to_string(document).unwrap().replace("\\\n", " ");
        let images =
            ["cpu", "gpu", "rtx", "deepstream"].map(|target| format!("vehiclecount:{target} "));
        for start in images.iter().map(String::as_str).chain(["vehicle-count "]) {
            for rest in text.split(start).skip(1) {
                let call = rest.split(['`', '\n', '|', ';', '#', ')']).next().unwrap();
                let words: Vec<_> = call.split_whitespace().collect();
                let named = words
                    .iter()
                    .take(2)
                    .copied()
                    .take_while(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()));
                let named: Vec<_> = named.collect();
                let found =
                    (1..=named.len()).rev().find_map(|length| section(&manual, &named[..length]));
                // An image's name before its build context, or the command in the middle of a
                // sentence.
                let Some(found) = found else {
                    assert!(
                        named.is_empty() || !call.contains("--"),
                        "{}: there is no vehicle-count {call}",
                        document.display()
                    );
                    continue;
                };
                calls += 1;
                for word in words.iter().filter_map(|word| word.strip_prefix("--")) {
                    let option = word.split(['=', ',', '.', '"', ']']).next().unwrap();
                    assert!(
                        found.contains(&format!("\\-\\-{}\\fR", option.replace('-', "\\-"))),
                        "{}: vehicle-count {} has no --{option}",
                        document.display(),
                        named.join(" ")
                    );
                }
            }
        }
    }
    assert!(calls > 20, "the calls were not found: {calls}");
    // A service's words stand in a list.
    let compose = fs::read_to_string(root.join("compose.yml")).unwrap();
    for option in compose.lines().filter_map(|line| line.trim().strip_prefix("- --")) {
        let option = option.split('=').next().unwrap();
        let known = [["demo"], ["serve"]].iter().filter_map(|words| section(&manual, words));
        assert!(
            known.into_iter().any(|section| section.contains(&format!("\\-\\-{option}\\fR"))),
            "compose.yml: neither demo nor serve has --{option}"
        );
    }
}

/// Build arguments, with their defaults.
#[test]
fn installation_names_every_base_of_the_images() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let guide = fs::read_to_string(root.join("docs/install.md")).unwrap();
    let dockerfile = fs::read_to_string(root.join("docker/Dockerfile")).unwrap();
    let bases: Vec<_> =
        dockerfile.lines().filter_map(|line| line.strip_prefix("ARG ")?.split_once('=')).collect();
    assert_eq!(bases.len(), 5);
    for (name, default) in bases {
        for word in [name, default] {
            assert!(
                guide.contains(&format!("`{word}`")),
                "docs/install.md says nothing of {word}, a base in docker/Dockerfile"
            );
        }
    }
}
