//! What the documents quote is what the program says.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::{env, fs};

/// All sources that speak to people, with the line breaks and escapes inside their texts undone.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests" && name != "target") {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "sh") {
            *text += &fs::read_to_string(&path).unwrap().replace("\\\"", "\"").replace("{{", "{").replace("}}", "}");
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
            assert!(said.contains(part), "nothing says {part:?} any more: docs/troubleshooting.md has it in {line}");
        }
        rows += 1;
    }
    assert!(rows > 25, "the tables were not found: {rows} rows");
}

/// Links between documents lead somewhere.
#[test]
fn links_between_documents_lead_to_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut documents = vec![root.join("README.md"), root.join("ARCHITECTURE.md"), root.join("CONTRIBUTING.md")];
    documents.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for document in documents.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
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
