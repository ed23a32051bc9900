//! Builds the stand-in for each family of TensorRT whose headers are at hand, laid out as in a
//! run-time folder.
//!
//! TensorRT's classes have hundreds of methods, of which a few are called. For the others this
//! writes methods that end the process and say their name, from the very headers: so the tables of
//! virtual functions are the real ones.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use headers::{FAMILIES, headers};

#[path = "../../core/shim/headers.rs"]
mod headers;

/// Classes whose other methods are written, and their header.
const CLASSES: [(&str, &[&str]); 2] = [
    (
        "NvInferImpl.h",
        &[
            "VRuntime",
            "VCudaEngine",
            "VExecutionContext",
            "VRuntimeConfig",
            "VRuntimeCache",
            "VTimingCache",
            "VEngineInspector",
            "VBuilder",
            "VBuilderConfig",
            "VNetworkDefinition",
            "VOptimizationProfile",
            "VHostMemory",
            "VTensor",
        ],
    ),
    ("NvOnnxParser.h", &["IParser", "IParserError"]),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=tensorrt.cpp");
    println!("cargo:rerun-if-changed=../../core/shim");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut missing = String::new();
    let at_hand = headers(Path::new("../../core"), &mut missing);
    let mut built = Vec::new();
    for family in &FAMILIES {
        let found = at_hand.iter().find(|(folder, version)| family.has(folder, *version));
        let Some((folder, _)) = found else { continue };
        let (place, library, parser) = if family.rtx {
            (
                "tensorrt-rtx",
                "libtensorrt_rtx.so.1".to_owned(),
                "libtensorrt_onnxparser_rtx.so.1".to_owned(),
            )
        } else {
            let major = family.major;
            ("tensorrt", format!("libnvinfer.so.{major}"), format!("libnvonnxparser.so.{major}"))
        };
        // A run-time folder for each family: in one of ours, TensorRT 11 hides 10.
        let runtime = out.join(family.name);
        let place = runtime.join(place);
        fs::create_dir_all(&place).expect("the build folder can be written");
        let written = runtime.join("missing.h");
        fs::write(&written, missing_methods(folder)).expect("the build folder can be written");
        compile(folder, &runtime, &place.join(&library), &library, family.rtx);
        // The parser's entry points are in the same library: its own is empty, and needs that one.
        let _ = fs::remove_file(place.join(&parser));
        let mut empty =
            cc::Build::new().cargo_metadata(false).warnings(false).get_compiler().to_command();
        empty.args([
            "-shared",
            "-x",
            "c",
            "/dev/null",
            "-x",
            "none",
            "-Wl,--no-as-needed,-rpath,$ORIGIN",
        ]);
        empty
            .arg(format!("-Wl,-soname,{parser}"))
            .arg(place.join(&library))
            .arg("-o")
            .arg(place.join(parser));
        assert!(
            empty.status().is_ok_and(|status| status.success()),
            "the stand-in's parser does not link"
        );
        built.push(format!("{}={}", family.name, place.join(library).display()));
    }
    println!("cargo:rustc-env=VEHICLECOUNT_SIM_TENSORRT={}", built.join(";"));
}

fn compile(headers: &Path, generated: &Path, to: &Path, name: &str, rtx: bool) {
    let compiler = cc::Build::new().cpp(true).warnings(false).cargo_metadata(false).get_compiler();
    let mut command = compiler.to_command();
    command.args([
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-shared",
        "-pthread",
        "-w",
        "-fvisibility=hidden",
    ]);
    command.arg(format!("-Wl,-soname,{name}")).arg(format!("-DVC_RTX={}", i32::from(rtx)));
    command
        .arg("-I")
        .arg("../../core/shim/stub")
        .arg("-I")
        .arg(generated)
        .arg("-isystem")
        .arg(headers);
    command.args(["tensorrt.cpp", "-ldl", "-o"]).arg(to);
    let status = command
        .status()
        .expect("the C++ compiler runs: install g++ (Debian, Ubuntu: build-essential)");
    assert!(status.success(), "the stand-in does not compile");
}

/// For each class a heir, `Missing` and its name, whose methods end the process.
fn missing_methods(headers: &Path) -> String {
    let mut text = String::from("// Written by build.rs.\n");
    for (header, classes) in CLASSES {
        let source = fs::read_to_string(headers.join(header)).expect("the header is there");
        let source: String = source
            .lines()
            .map(|line| line.split("//").next().unwrap_or("").to_owned() + "\n")
            .collect();
        let space = if header == "NvInferImpl.h" {
            "nvinfer1 { namespace apiv"
        } else {
            "nvonnxparser { inline namespace sim"
        };
        let _ = writeln!(text, "namespace {space} {{");
        for class in classes {
            let begin = source
                .match_indices(&format!("class {class}"))
                .find(|(at, found)| {
                    !source[at + found.len()..].trim_start().starts_with(';')
                        && !source[at + found.len()..].starts_with(char::is_alphanumeric)
                })
                .map(|(at, _)| at);
            // TensorRT-RTX has more of them.
            let Some(begin) = begin else {
                assert_eq!(class, &"VRuntimeCache", "the header has the class");
                continue;
            };
            let body = &source[begin..];
            let body = &body[body.find('{').expect("a class has a body") + 1
                ..body.find("\n};").expect("a class ends")];
            let _ = writeln!(text, "class Missing{class} : public {class} {{\npublic:");
            for statement in body.split(';') {
                // Conditions of the preprocessor stand between declarations, and stay there.
                let (conditions, words): (Vec<&str>, Vec<&str>) =
                    statement.lines().partition(|line| line.trim_start().starts_with('#'));
                for condition in conditions {
                    let _ = writeln!(text, "{condition}");
                }
                let words = words.join(" ");
                let Some(declaration) =
                    words.split("virtual").nth(1).and_then(|rest| rest.split("= 0").next())
                else {
                    continue;
                };
                if declaration.contains('~') || !words.contains("= 0") {
                    continue;
                }
                let name = declaration
                    .split('(')
                    .next()
                    .and_then(|before| before.split_whitespace().last())
                    .unwrap_or("");
                let _ = writeln!(
                    text,
                    "{} override {{ VC_MISSING(\"{class}::{name}\"); }}",
                    declaration.trim()
                );
            }
            text.push_str("};\n");
        }
        text.push_str("} }\n");
    }
    text
}
