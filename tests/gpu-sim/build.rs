//! Builds the stand-in driver, with the host builds of the kernels inside. It is opened by its
//! path, never linked.

use std::path::{Path, PathBuf};
use std::{env, process};

fn main() {
    let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let library = folder.join("libcuda.so.1");
    let core = "../../core/src";
    let sources = ["driver.cpp".to_owned(), format!("{core}/density.cu")];
    println!("cargo:rerun-if-changed={core}/preprocess/kernel.cu");
    let compiler = cc::Build::new().cpp(true).warnings(false).cargo_metadata(false).get_compiler();
    let mut command = compiler.to_command();
    // No fused multiply-add: the same bits everywhere.
    command.args([
        "-std=c++17",
        "-O2",
        "-fPIC",
        "-shared",
        "-pthread",
        "-ffp-contract=off",
        "-Wl,-soname,libcuda.so.1",
    ]);
    command.arg("-I").arg(core).arg("-o").arg(&library).args(["-x", "c++"]);
    for source in sources {
        println!("cargo:rerun-if-changed={source}");
        command.arg(source);
    }
    let status = command
        .status()
        .expect("the C++ compiler runs: install g++ (Debian, Ubuntu: build-essential)");
    if !status.success() {
        process::exit(1);
    }
    println!("cargo:rustc-env=VEHICLECOUNT_SIM_LIBRARY={}", library.display());
    gstcuda(&folder.join("libgstcuda-1.0.so.0"));
}

/// Builds the stand-in for libgstcuda, which is opened by its path, too.
fn gstcuda(library: &Path) {
    println!("cargo:rerun-if-changed=gstcuda.c");
    let mut command =
        cc::Build::new().warnings(false).cargo_metadata(false).get_compiler().to_command();
    command.args(["-O2", "-fPIC", "-shared", "-Wl,-soname,libgstcuda-1.0.so.0", "-o"]).arg(library);
    let status = command.args(["gstcuda.c", "-ldl"]).status().expect("the C compiler runs");
    if !status.success() {
        process::exit(1);
    }
    println!("cargo:rustc-env=VEHICLECOUNT_SIM_GSTCUDA={}", library.display());
}
