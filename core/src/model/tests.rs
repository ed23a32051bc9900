//! Tests of how a model is found.

use super::*;

#[test]
fn plan_finds_the_manifest_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = include_str!("../../tests/engines/tiny.json");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("it is written")
    };
    let open =
        |name: &str| Model::open(folder.path().join(name).to_str().expect("a plain path"), &[]);
    write("trtexec.engine", "");
    assert!(matches!(open("trtexec.engine"), Err(ModelError::NoManifest { .. })));
    write("a.json", manifest);
    let model = open("trtexec.engine").expect("the only one");
    assert_eq!(model.plan(), Some(folder.path().join("trtexec.engine").as_path()));
    // Among several, the name decides.
    write("b.json", &manifest.replace("\"tiny\"", "\"tiny-large\""));
    write("tiny-large-fp16.plan", "");
    assert_eq!(open("tiny-large-fp16.plan").expect("that one").manifest.name, "tiny-large");
    assert!(open("trtexec.engine").is_err() && open("absent.plan").is_err());
}

#[test]
fn model_that_is_nowhere_tells_where_it_was_looked_for() {
    let said = |folders: &[PathBuf]| Model::open("absent", folders).unwrap_err().to_string();
    let here = std::env::temp_dir();
    let none: Vec<_> = (0..9).map(|number| here.join(format!("no such folder {number}"))).collect();
    let told = said(&[&none[..], std::slice::from_ref(&here)].concat());
    assert!(
        told.contains(&here.join("absent.json").display().to_string()) && !told.contains("no such"),
        "{told}"
    );
    let told = said(&none);
    for word in ["no such folder 0", "no such folder 8", "3 more", "VEHICLECOUNT_MODELS"] {
        assert!(told.contains(word), "{told}");
    }
    assert!(said(&[]).contains("VEHICLECOUNT_MODELS"));
}
