//! What the driver's absence is called, each kind of it apart. In processes of their own: a driver
//! is opened once.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use vehiclecount_core::cuda::Driver;

mod child;

/// What [`asks_for_a_gpu`] prints in a process of the test `name` with such a driver.
fn said_by(name: &str, with_driver: bool, settings: &[(&str, &str)]) -> String {
    let folder = if with_driver {
        Path::new(vehiclecount_gpu_sim::LIBRARY).parent().unwrap().to_owned()
    } else {
        std::env::temp_dir()
    };
    let text = child::run(
        child::command(name).env("LD_LIBRARY_PATH", folder).envs(settings.iter().copied()),
    );
    let line = text.lines().find_map(|line| line.split_once("SAID ")).expect("it says something");
    line.1.to_owned()
}

fn asks_for_a_gpu() {
    let said = match Driver::open().and_then(|driver| driver.context(1)) {
        Ok(context) => format!("found {}", context.device().name),
        Err(error) => error.to_string(),
    };
    println!("SAID {said}");
}

#[test]
fn each_kind_of_absence_has_its_own_words_and_remedy() {
    if child::is_this() {
        return asks_for_a_gpu();
    }
    let said = |with_driver, settings: &[_]| said_by(child::this_test!(), with_driver, settings);
    let two = ("VEHICLECOUNT_SIM_DEVICES", "2");
    assert!(said(true, &[two]).starts_with("found Simulated GPU 1"));
    // On a machine with a real driver there is nothing to say here.
    if !Path::new("/dev/nvidiactl").exists() {
        assert!(said(false, &[]).starts_with("no NVIDIA driver: libcuda.so.1"));
    }
    assert!(
        said(true, &[("VEHICLECOUNT_SIM_DEVICES", "0")])
            .starts_with("the NVIDIA driver finds no GPU; see what")
    );
    assert!(said(true, &[]).starts_with("there is no GPU 1: gpu-id goes from 0 to 0 here"));
    let old = said(true, &[two, ("VEHICLECOUNT_SIM_VERSION", "11080")]);
    assert!(
        old.starts_with(
            "the NVIDIA driver is too old: it offers CUDA 11.8, and CUDA 12.0 is needed"
        ),
        "{old}"
    );
    let broken = said(true, &[two, ("VEHICLECOUNT_SIM_INIT", "803")]);
    assert!(
        broken.starts_with("the NVIDIA driver does not start: ") && broken.contains("803"),
        "{broken}"
    );
    assert!(said(true, &[two, ("VEHICLECOUNT_SIM_INIT", "34")]).contains("stub for linking"));
}
