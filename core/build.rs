//! Compiles the shim over TensorRT (shim/) once for each ABI family whose headers are at hand. No
//! library is linked, and without any headers the crate builds all the same: then `engine=tensorrt`
//! says what is missing.

use std::env;
use std::path::Path;

use headers::{FAMILIES, Family, OVERRIDE, headers};

#[path = "shim/headers.rs"]
mod headers;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rerun-if-env-changed={OVERRIDE}");
    for family in &FAMILIES {
        println!("cargo:rustc-check-cfg=cfg({})", family.name);
    }
    let mut built = Vec::new();
    let mut missing = String::from("the shim is for Linux");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        let at_hand = headers(Path::new(""), &mut missing);
        for family in &FAMILIES {
            let Some((folder, [major, minor, patch])) =
                at_hand.iter().find(|(folder, version)| family.has(folder, *version))
            else {
                continue;
            };
            compile(family, folder);
            println!("cargo:rustc-cfg={}", family.name);
            let rtx = if family.rtx { "RTX " } else { "" };
            built.push(format!("{rtx}{major}.{minor}.{patch}"));
        }
    }
    if built.is_empty() {
        println!(
            "cargo:warning=built without TensorRT: {missing}; name a folder with NvInfer.h in {OVERRIDE}"
        );
    }
    println!("cargo:rustc-env=VEHICLECOUNT_TENSORRT_HEADERS={}", built.join(", "));
}

fn compile(family: &Family, headers: &Path) {
    let kind = if family.rtx { 1 } else { family.major };
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .file("shim/shim.cpp")
        .include("shim")
        // Before a real CUDA's: the shim needs no more, and is the same everywhere.
        .include("shim/stub")
        .flag("-isystem")
        .flag(headers)
        .define("VC_FAMILY", kind.to_string().as_str())
        .define("VC_TABLE", format!("vehiclecount_shim_{}", family.name).as_str())
        .define("nvinfer1", format!("nvinfer1_{}", family.name).as_str())
        .define("nvonnxparser", format!("nvonnxparser_{}", family.name).as_str())
        .flag("-fvisibility=hidden")
        .flag("-fno-exceptions")
        .flag("-fno-rtti")
        .flag("-Wno-deprecated-declarations")
        .warnings_into_errors(false)
        .cargo_metadata(true);
    build.compile(&format!("vehiclecount_{}", family.name));
}
