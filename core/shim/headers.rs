//! Where TensorRT's headers are: for core/build.rs, and for that of the stand-in library in
//! tests/tensorrt-sim.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names folders of headers, before all others, divided as in PATH.
pub const OVERRIDE: &str = "TENSORRT_INCLUDE_DIR";

/// A family of TensorRT versions whose classes have the same tables of virtual functions, newer
/// ones only longer.
pub struct Family {
    /// The `cfg` that says that it was built.
    pub name: &'static str,
    /// Major version, as the headers have it.
    pub major: u32,
    /// First minor version of the family.
    pub minor: u32,
    /// Whether it is TensorRT-RTX.
    pub rtx: bool,
}

pub const FAMILIES: [Family; 3] = [
    Family { name: "tensorrt_10", major: 10, minor: 0, rtx: false },
    Family { name: "tensorrt_11", major: 11, minor: 0, rtx: false },
    // The tables of 1.5 are not those of 1.4.
    Family { name: "tensorrt_rtx_1", major: 1, minor: 5, rtx: true },
];

impl Family {
    /// Whether `folder` has headers of this family.
    pub fn has(&self, folder: &Path, [major, minor, _]: [u32; 3]) -> bool {
        major == self.major && minor >= self.minor && is_rtx(folder) == self.rtx
    }
}

fn is_rtx(folder: &Path) -> bool {
    fs::read_to_string(folder.join("NvInferVersion.h"))
        .is_ok_and(|text| text.contains("TRT_MAJOR_RTX"))
}

/// Folders with TensorRT's headers and their versions, those to prefer first. `core` is the folder
/// of the crate.
pub fn headers(core: &Path, missing: &mut String) -> Vec<(PathBuf, [u32; 3])> {
    let named = env::var_os(OVERRIDE)
        .map(|list| env::split_paths(&list).collect::<Vec<_>>())
        .unwrap_or_default();
    let triple =
        format!("/usr/include/{}-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default());
    let system = [
        &triple,
        "/usr/include",
        "/usr/local/include",
        "/usr/local/tensorrt/include",
        "/opt/tensorrt/include",
    ];
    let mut folders: Vec<PathBuf> = named.into_iter().chain(system.map(PathBuf::from)).collect();
    // A file that is not there would have cargo build this anew every time.
    let watched =
        folders.iter().map(|folder| folder.join("NvInferVersion.h")).filter(|path| path.is_file());
    watched.for_each(|path| println!("cargo:rerun-if-changed={}", path.display()));
    for package in ["tensorrt-11", "tensorrt-10"] {
        match fetched(core, package) {
            Ok(more) => folders.extend(more),
            Err(error) => *missing = error,
        }
    }
    folders.into_iter().filter_map(|folder| Some((folder.clone(), version(&folder)?))).collect()
}

/// Version of the headers in `folder`, if it has all that are needed.
fn version(folder: &Path) -> Option<[u32; 3]> {
    if !["NvInfer.h", "NvOnnxParser.h"].iter().all(|header| folder.join(header).is_file()) {
        return None;
    }
    let text = fs::read_to_string(folder.join("NvInferVersion.h")).ok()?;
    // A number, or a name of one: `#define NV_TENSORRT_MAJOR TRT_MAJOR_RTX`.
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("#define") && words.next() == Some(name))
                .then(|| words.next())
                .flatten()
        })
    };
    let number = |name: &str| {
        let direct = value(name)?;
        direct.parse().ok().or_else(|| value(direct)?.parse().ok())
    };
    Some([number("NV_TENSORRT_MAJOR")?, number("NV_TENSORRT_MINOR")?, number("NV_TENSORRT_PATCH")?])
}

/// Folders of headers inside the registry's package that shim/headers/`package` locks, the newest
/// first. Asks the network only where cargo does not have it yet.
fn fetched(core: &Path, package: &str) -> Result<Vec<PathBuf>, String> {
    let manifest = core.join("shim/headers").join(package).join("Cargo.toml");
    let ask = |network: &[&str]| {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["metadata", "--format-version=1", "--locked", "--manifest-path"])
            .arg(&manifest)
            .args(network);
        let target = env::var("TARGET").unwrap_or_default();
        cargo.args(["--filter-platform", &target]).env_remove("CARGO_TARGET_DIR");
        cargo.output().map_err(|error| format!("cargo metadata does not start: {error}"))
    };
    let mut output = ask(&["--offline"])?;
    if !output.status.success() {
        output = ask(&[])?;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // Of all the JSON, one path is wanted.
    let paths =
        text.split("\"manifest_path\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let root = paths.map(Path::new).filter_map(Path::parent).find(|folder| {
        folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("trtx-sys-"))
    });
    let Some(root) = root else {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("it names no folder")
            .trim();
        return Err(format!(
            "cargo does not fetch the package trtx-sys, which has the headers: {last}"
        ));
    };
    let folder = root.join("TensorRT-Headers");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut inner: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    inner.sort_by_key(|path| std::cmp::Reverse(version(path)));
    Ok(inner)
}
