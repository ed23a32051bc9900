//! The engine `tensorrt` over stand-ins for the driver (tests/gpu-sim) and for TensorRT 10, 11 and RTX (tests/tensorrt-sim): from an ONNX file
//! to counts. Each library in a process of its own.

#![allow(clippy::unwrap_used)]

mod slots;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slots::{density, values};
use vehiclecount_core::engine::{self, EngineError, EngineKind, EngineRequest, Slot, Watch};
use vehiclecount_core::model::Model;
use vehiclecount_core::preprocess::InputSize;
use vehiclecount_core::tensorrt::{Choice, Precision, TensorRtError};
use vehiclecount_gpu_sim::{Figure, install};
use vehiclecount_tensorrt_sim::{self as tensorrt_sim, Family, Fault};

mod child;

fn request(max_batch: usize) -> EngineRequest {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/tiny.json");
    EngineRequest {
        input: Some(InputSize { width: 256, height: 128 }),
        max_batch,
        ..EngineRequest::new(EngineKind::TensorRt, Arc::new(Model::open(&model.display().to_string(), &[]).unwrap()))
    }
}

fn families() -> impl Iterator<Item = (Family, std::path::PathBuf)> {
    let all = [Family::TensorRt10, Family::TensorRt11, Family::TensorRtRtx];
    all.into_iter().filter_map(|family| Some((family, family.runtime()?)))
}

/// Runs `test` in a process that finds the driver and this library.
fn in_a_process(test: &str, runtime: &Path, cache: &Path) {
    in_a_process_with(test, runtime, cache, &[]);
}

fn in_a_process_with(test: &str, runtime: &Path, cache: &Path, settings: &[(&str, &str)]) {
    let driver = Path::new(vehiclecount_gpu_sim::LIBRARY).parent().unwrap();
    let mut command = child::command(test);
    command.env("LD_LIBRARY_PATH", driver).env("VEHICLECOUNT_RUNTIME", runtime).env("VEHICLECOUNT_CACHE", cache);
    child::run(command.envs(settings.iter().copied()));
}

#[test]
fn every_library_counts_on_the_gpu_and_leaves_nothing_behind() {
    if child::is_this() {
        return counts_in_this_process();
    }
    for (family, runtime) in families() {
        let cache = tempfile::tempdir().unwrap();
        in_a_process(child::this_test!(), &runtime, cache.path());
        let kept = || std::fs::read_dir(cache.path().join("engines")).unwrap().count();
        let before = kept();
        assert!(before > 0, "{family:?} keeps its plans");
        // The second time it takes what was kept.
        in_a_process(child::this_test!(), &runtime, cache.path());
        assert_eq!(kept(), before);
    }
}

fn counts_in_this_process() {
    let sim = install();
    {
        let engine = engine::open(&request(4)).unwrap().engine;
        let info = engine.info().clone();
        assert_eq!((info.kind, info.columns, info.rows, info.lanes), (EngineKind::TensorRt, 32, 16, 2));
        assert!(info.device.contains("Simulated GPU 0"), "{info:?}");
        let mut lanes = [engine.lane().unwrap(), engine.lane().unwrap()];
        let replays = sim.figure(Figure::Replays);
        for round in 0..4 {
            for lane in &mut lanes {
                for batch in [1, 4, 3] {
                    let mut slots: Vec<Slot> = (0..batch).map(|_| Slot::new(&info)).collect();
                    for (index, slot) in slots.iter_mut().enumerate() {
                        let red = (20 * index + round) as f32;
                        values(slot)[..256 * 128].fill(red);
                    }
                    lane.infer(&mut slots).unwrap();
                    for (index, slot) in slots.iter().enumerate() {
                        let expected = (20 * index + round) as f32 / 255.0;
                        assert!(density(slot).iter().all(|cell| (cell - expected).abs() < 1e-5), "{:?}", density(slot));
                    }
                }
            }
        }
        // Three batch sizes on two lanes: each runs plainly once, and is replayed from then on.
        assert_eq!(sim.figure(Figure::Replays) - replays, 3 * 2 * 3);
    }
    assert_eq!(sim.alive(), []);
}

#[test]
fn precision_is_taken_as_asked_for_and_the_choice_is_kept() {
    if child::is_this() {
        return takes_precisions_in_this_process();
    }
    for (_, runtime) in families() {
        let cache = tempfile::tempdir().unwrap();
        in_a_process(child::this_test!(), &runtime, cache.path());
    }
}

fn takes_precisions_in_this_process() {
    let sim = install();
    let runtime = std::env::var_os("VEHICLECOUNT_RUNTIME").unwrap();
    let family = families().find(|(_, folder)| folder.as_os_str() == runtime).unwrap().0;
    let tensorrt = tensorrt_sim::install(family).unwrap();
    let builds = || tensorrt.figure(tensorrt_sim::Figure::Builds);
    let opened = |precision| engine::open(&EngineRequest { precision, ..request(2) }).map(|opened| opened.engine);
    for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
        let engine = opened(precision).unwrap();
        assert_eq!((engine.info().precision.as_str(), &engine.info().choice), (precision.name(), &None));
    }
    assert_eq!(builds(), 3);
    // INT8 and FP16 are timed, from the plans that are there.
    let info = opened(Precision::Auto).unwrap().info().clone();
    let why = info.choice.clone().unwrap();
    assert!(why.contains("int8 takes ") && why.contains("fp16 takes "), "{why}");
    assert!(["int8", "fp16"].contains(&info.precision.as_str()), "{info:?}");
    let kept = Choice::all(&vehiclecount_core::tensorrt::cache::folder().unwrap());
    assert_eq!(kept.len(), 1);
    assert!(kept[0].purpose.to_string().starts_with("tiny 256x128, batches of 2, TensorRT"), "{}", kept[0].purpose);
    // The next one takes it as it is: that choice, and those times.
    assert_eq!(opened(Precision::Auto).unwrap().info().choice.as_deref(), Some(why.as_str()));
    assert_eq!(builds(), 3);

    // One that fails is passed over with its reason.
    let watch = EngineRequest { max_batch: 3, ..request(3) };
    tensorrt.fail(Fault::Build, 1);
    let info = engine::open(&watch).unwrap().engine.info().clone();
    assert!(info.precision == "fp16" && info.choice.as_deref().unwrap().contains("int8 is not used: "), "{info:?}");

    // A model without the file, and a plan that is what it is.
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines");
    std::fs::copy(fixtures.join("tiny.onnx"), folder.path().join("tiny.onnx")).unwrap();
    let mut manifest: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixtures.join("tiny.json")).unwrap()).unwrap();
    manifest["files"].as_array_mut().unwrap().truncate(1);
    let path = folder.path().join("tiny.json");
    std::fs::write(&path, manifest.to_string()).unwrap();
    let model = Arc::new(Model::open(path.to_str().unwrap(), &[]).unwrap());
    let refused = |model: &Arc<Model>| {
        let asked = EngineRequest { precision: Precision::Int8, model: model.clone(), ..request(2) };
        engine::open(&asked).err().unwrap().to_string()
    };
    let error = refused(&model);
    assert!(
        error.contains("tiny has no file to build precision=int8 of") && error.contains("tiny.onnx (fp32)"),
        "{error}"
    );
    let plan = Arc::new(Model::open(path.to_str().unwrap(), &[]).unwrap().with_plan("own.plan".into()));
    assert!(refused(&plan).contains("leave precision at auto"), "{}", refused(&plan));
    assert_eq!(sim.alive(), []);
}

#[test]
fn what_builds_measured_and_kernels_that_were_compiled_are_kept_and_refused_when_damaged() {
    if child::is_this() {
        return keeps_in_this_process();
    }
    for (family, runtime) in families() {
        let cache = tempfile::tempdir().unwrap();
        let run = |builds: usize, warm: usize, compiled: usize| {
            let expected = format!("{builds} {warm} {compiled}");
            in_a_process_with(child::this_test!(), &runtime, cache.path(), &[("EXPECTED", &expected)]);
        };
        let folder = cache.path().join("engines");
        let files = |begin: &str, end: &str| {
            let all = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            let fits = |path: &std::path::PathBuf| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.starts_with(begin) && name.ends_with(end)
            };
            all.filter(fits).collect::<Vec<_>>()
        };
        let rtx = family == Family::TensorRtRtx;
        let forget_plans = || files("", ".plan").iter().for_each(|path| std::fs::remove_file(path).unwrap());
        // Batches of 1 and 2, in one precision.
        let kernels = if rtx { 2 } else { 0 };
        run(1, 0, kernels);
        let kept = if rtx { files("kernels-", ".cache") } else { files("timings-", ".cache") };
        assert_eq!((kept.len(), files("", ".part").len()), (1, 0), "{family:?}");
        // Plan, times and kernels are there.
        run(0, 0, 0);
        forget_plans();
        run(1, usize::from(!rtx), 0);
        // Damaged, or of another library.
        let good = std::fs::read(&kept[0]).unwrap();
        for bad in [&good[..good.len() - 1], b"", b"no digest", &[b"0".repeat(64), b"\nsimulated".to_vec()].concat()] {
            std::fs::write(&kept[0], bad).unwrap();
            forget_plans();
            run(1, 0, kernels);
            assert_eq!(std::fs::read(&kept[0]).unwrap(), good, "{family:?}");
        }
    }
}

fn keeps_in_this_process() {
    let sim = install();
    let runtime = std::env::var_os("VEHICLECOUNT_RUNTIME").unwrap();
    let family = families().find(|(_, folder)| folder.as_os_str() == runtime).unwrap().0;
    let tensorrt = tensorrt_sim::install(family).unwrap();
    {
        let engine = engine::open(&EngineRequest { precision: Precision::Fp16, ..request(2) }).unwrap().engine;
        let mut lane = engine.lane().unwrap();
        for batch in [1, 2, 1, 2] {
            let mut slots: Vec<Slot> = (0..batch).map(|_| Slot::new(engine.info())).collect();
            lane.infer(&mut slots).unwrap();
        }
    }
    use tensorrt_sim::Figure::{Builds, Compiled, WarmBuilds};
    let figures = [Builds, WarmBuilds, Compiled].map(|figure| tensorrt.figure(figure).to_string());
    assert_eq!(figures.join(" "), std::env::var("EXPECTED").unwrap(), "builds, of them warm, kernels compiled");
    assert_eq!(sim.alive(), []);
}

#[test]
fn opening_that_is_ended_builds_no_further_and_leaves_nothing_behind() {
    if child::is_this() {
        return ends_in_this_process();
    }
    for (_, runtime) in families() {
        let cache = tempfile::tempdir().unwrap();
        in_a_process(child::this_test!(), &runtime, cache.path());
    }
}

fn ends_in_this_process() {
    let sim = install();
    let runtime = std::env::var_os("VEHICLECOUNT_RUNTIME").unwrap();
    let family = families().find(|(_, folder)| folder.as_os_str() == runtime).unwrap().0;
    let tensorrt = tensorrt_sim::install(family).unwrap();
    // It is ended at each single thing that it tells, until it gets through.
    for limit in 0.. {
        let told = Arc::new(AtomicUsize::new(0));
        let watch = Watch::new({
            let told = told.clone();
            move |_| told.fetch_add(1, Ordering::Relaxed) < limit
        });
        let folder = vehiclecount_core::tensorrt::cache::folder().unwrap();
        let _ = std::fs::remove_dir_all(&folder);
        match engine::open(&EngineRequest { watch, ..request(2) }) {
            Ok(opened) => {
                assert!(told.load(Ordering::Relaxed) <= limit && limit > 8, "{limit}");
                drop(opened);
                break;
            }
            Err(EngineError::TensorRt(TensorRtError::Ended)) => {}
            // TensorRT has no way to say so between its last step and its plan.
            Err(error) => panic!("{limit}: {error}"),
        }
        assert_eq!((sim.alive(), tensorrt.figure(tensorrt_sim::Figure::Builders)), (vec![], 0), "{limit}");
    }
    assert_eq!(sim.alive(), []);
}

#[test]
fn faults_of_tensorrt_are_errors_and_leave_nothing_behind() {
    if child::is_this() {
        return survives_faults_in_this_process();
    }
    for (_, runtime) in families() {
        let cache = tempfile::tempdir().unwrap();
        in_a_process(child::this_test!(), &runtime, cache.path());
    }
}

fn survives_faults_in_this_process() {
    let sim = install();
    let runtime = std::env::var_os("VEHICLECOUNT_RUNTIME").unwrap();
    let family = families().find(|(_, folder)| folder.as_os_str() == runtime).unwrap().0;
    let tensorrt = tensorrt_sim::install(family).unwrap();
    for fault in [Fault::Parse, Fault::Build, Fault::Load, Fault::Context] {
        // Every precision fails: first one, then the other.
        tensorrt.fail(fault, 1);
        match engine::open(&request(2)) {
            Ok(opened) => drop(opened),
            Err(error) => assert!(matches!(error, EngineError::TensorRt(_)), "{fault:?}: {error}"),
        }
        tensorrt.fail(fault, 0);
        assert_eq!(sim.alive(), [], "{fault:?}");
    }
    let engine = engine::open(&request(2)).unwrap().engine;
    let mut lane = engine.lane().unwrap();
    let mut infer = || lane.infer(&mut [Slot::new(engine.info())]);
    infer().unwrap();
    tensorrt.fail(Fault::Enqueue, 1);
    // A run that is refused while it is recorded is run plainly instead, so the next one that fails is one that counts.
    let _ = infer();
    tensorrt.fail(Fault::Enqueue, 0);
    infer().unwrap();
    sim.fail_allocation(1);
    let error = engine.lane().err().unwrap();
    assert!(matches!(error, EngineError::TensorRt(_) | EngineError::Gpu { .. }), "{error}");
    sim.fail_allocation(0);
    sim.lose(719);
    let error = infer().unwrap_err();
    assert!(matches!(&error, EngineError::Gpu { error, .. } if error.is_lost()), "{error}");
    assert!(infer().is_err());
    sim.lose(0);
    drop(lane);
    drop(engine);
    assert_eq!(sim.alive(), []);
}
