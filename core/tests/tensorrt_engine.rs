//! The engine `tensorrt` over stand-ins for the driver (tests/gpu-sim) and for TensorRT 10, 11 and
//! RTX (tests/tensorrt-sim): from an ONNX file to counts. Each library in a process of its own.

#![allow(clippy::unwrap_used)]

mod slots;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slots::{density, values};
use vehiclecount_core::engine::{self, EngineError, EngineKind, EngineRequest, ProgressSink, Slot};
use vehiclecount_core::model::Model;
use vehiclecount_core::preprocess::{InputChoice, InputSize};
use vehiclecount_core::tensorrt::{Precision, PrecisionTrials};
use vehiclecount_gpu_sim::{Figure, install};
use vehiclecount_tensorrt_sim::{self as tensorrt_sim, Family, Fault};

mod child;

fn request(max_batch: usize) -> EngineRequest {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/tiny.json");
    EngineRequest {
        input: Some(InputSize { width: 256, height: 128 }),
        max_batch,
        ..EngineRequest::new(
            EngineKind::TensorRt,
            Arc::new(Model::open(&model.display().to_string(), &[]).unwrap()),
        )
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
    command
        .env("LD_LIBRARY_PATH", driver)
        .env("VEHICLECOUNT_RUNTIME", runtime)
        .env("VEHICLECOUNT_CACHE", cache);
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
        assert_eq!(
            (info.kind, info.columns, info.rows, info.lanes),
            (EngineKind::TensorRt, 32, 16, 2)
        );
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
                        assert!(
                            density(slot).iter().all(|cell| (cell - expected).abs() < 1e-5),
                            "{:?}",
                            density(slot)
                        );
                    }
                }
            }
        }
        // Batches of 3 run as 4. What a new lane runs plainly is no frame: all of them are
        // replayed.
        assert_eq!(sim.figure(Figure::Replays) - replays, 4 * 2 * 3);
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
    let opened = |precision| {
        engine::open(&EngineRequest { precision, ..request(2) }).map(|opened| opened.engine)
    };
    for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
        let engine = opened(precision).unwrap();
        assert_eq!(
            (engine.info().precision.as_str(), &engine.info().choice),
            (precision.name(), &None)
        );
    }
    assert_eq!(builds(), 3);
    // INT8 and FP16 are timed, from the plans that are there.
    let info = opened(Precision::Auto).unwrap().info().clone();
    let why = info.choice.clone().unwrap();
    assert!(why.contains("int8 takes ") && why.contains("fp16 takes "), "{why}");
    assert!(["int8", "fp16"].contains(&info.precision.as_str()), "{info:?}");
    let kept = PrecisionTrials::all(&vehiclecount_core::tensorrt::cache::folder().unwrap());
    assert_eq!(kept.len(), 1);
    assert!(
        kept[0].purpose.to_string().starts_with("tiny 256x128, batches of 2, TensorRT"),
        "{}",
        kept[0].purpose
    );
    // The next one takes it as it is: that choice, and those times.
    assert_eq!(opened(Precision::Auto).unwrap().info().choice.as_deref(), Some(why.as_str()));
    assert_eq!(builds(), 3);

    // One that fails is passed over with its reason.
    let watch = EngineRequest { max_batch: 3, ..request(3) };
    tensorrt.fail(Fault::Build, 1);
    let info = engine::open(&watch).unwrap().engine.info().clone();
    assert!(
        info.precision == "fp16" && info.choice.as_deref().unwrap().contains("int8 is not used: "),
        "{info:?}"
    );

    // A model without the file, and a plan that is what it is.
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines");
    std::fs::copy(fixtures.join("tiny.onnx"), folder.path().join("tiny.onnx")).unwrap();
    let mut manifest: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixtures.join("tiny.json")).unwrap())
            .unwrap();
    manifest["files"].as_array_mut().unwrap().truncate(1);
    let path = folder.path().join("tiny.json");
    std::fs::write(&path, manifest.to_string()).unwrap();
    let model = Arc::new(Model::open(path.to_str().unwrap(), &[]).unwrap());
    let refused = |model: &Arc<Model>| {
        let asked =
            EngineRequest { precision: Precision::Int8, model: model.clone(), ..request(2) };
        engine::open(&asked).err().unwrap().to_string()
    };
    let error = refused(&model);
    assert!(
        error.contains("tiny has no file to build precision=int8 of")
            && error.contains("tiny.onnx (fp32)"),
        "{error}"
    );
    let plan =
        Arc::new(Model::open(path.to_str().unwrap(), &[]).unwrap().with_plan("own.plan".into()));
    assert!(refused(&plan).contains("leave precision at auto"), "{}", refused(&plan));
    // It says its own input size, unless another one is asked for.
    let kept = vehiclecount_core::tensorrt::cache::folder().unwrap();
    let mut kept = std::fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.find(|path| path.extension().is_some_and(|ending| ending == "plan")).unwrap();
    let own = Arc::new(Model::open(path.to_str().unwrap(), &[]).unwrap().with_plan(kept));
    let open = |input| engine::open(&EngineRequest { model: own.clone(), input, ..request(2) });
    assert_eq!(open(None).unwrap().engine.info().input, InputSize { width: 256, height: 128 });
    let error = open(Some(InputSize { width: 384, height: 384 })).err().unwrap().to_string();
    assert!(error.contains("384"), "{error}");
    assert_eq!(own.input_shapes(InputChoice::default()).unwrap().sizes().len(), 1);
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
            in_a_process_with(
                child::this_test!(),
                &runtime,
                cache.path(),
                &[("EXPECTED", &expected)],
            );
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
        let forget_plans =
            || files("", ".plan").iter().for_each(|path| std::fs::remove_file(path).unwrap());
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
        for bad in [
            &good[..good.len() - 1],
            b"",
            b"no digest",
            &[b"0".repeat(64), b"\nsimulated".to_vec()].concat(),
        ] {
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
        let engine = engine::open(&EngineRequest { precision: Precision::Fp16, ..request(2) })
            .unwrap()
            .engine;
        let mut lane = engine.lane().unwrap();
        for batch in [1, 2, 1, 2] {
            let mut slots: Vec<Slot> = (0..batch).map(|_| Slot::new(engine.info())).collect();
            lane.infer(&mut slots).unwrap();
        }
    }
    use tensorrt_sim::Figure::{Builds, Compiled, WarmBuilds};
    let figures = [Builds, WarmBuilds, Compiled].map(|figure| tensorrt.figure(figure).to_string());
    assert_eq!(
        figures.join(" "),
        std::env::var("EXPECTED").unwrap(),
        "builds, of them warm, kernels compiled"
    );
    assert_eq!(sim.alive(), []);
}

#[test]
fn kernels_of_the_only_batch_size_are_kept_while_the_engine_runs() {
    if child::is_this() {
        return keeps_one_size_in_this_process();
    }
    for (_, runtime) in families().filter(|(family, _)| *family == Family::TensorRtRtx) {
        let cache = tempfile::tempdir().unwrap();
        in_a_process(child::this_test!(), &runtime, cache.path());
    }
}

fn keeps_one_size_in_this_process() {
    let sim = install();
    let tensorrt = tensorrt_sim::install(Family::TensorRtRtx).unwrap();
    {
        let asked = EngineRequest { precision: Precision::Fp16, ..request(1) };
        let engine = engine::open(&asked).unwrap().engine;
        let _lane = engine.lane().unwrap();
        let folder = vehiclecount_core::tensorrt::cache::folder().unwrap();
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let kept = files.filter(|name| name.to_str().unwrap().starts_with("kernels-"));
        assert_eq!((kept.count(), tensorrt.figure(tensorrt_sim::Figure::Compiled)), (1, 1));
    }
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
        let watch = ProgressSink::new({
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
            Err(EngineError::Ended) => {}
            // TensorRT has no way to say so between its last step and its plan.
            Err(error) => panic!("{limit}: {error}"),
        }
        assert_eq!(
            (sim.alive(), tensorrt.figure(tensorrt_sim::Figure::Builders)),
            (vec![], 0),
            "{limit}"
        );
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
    // A run that is refused while it is recorded is run plainly instead, so the next one that fails
    // is one that counts.
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

#[test]
fn plans_are_for_one_model_of_gpu_and_those_of_tensorrt_rtx_for_one_compute_capability() {
    if child::is_this() {
        return is_for_this_gpu_in_this_process();
    }
    let test = child::this_test!();
    for (family, runtime) in families() {
        let cache = tempfile::tempdir().unwrap();
        let run = |name: &str, multiprocessors: &str, memory: &str, builds: usize| {
            let settings = [
                ("VEHICLECOUNT_SIM_NAME", name),
                ("VEHICLECOUNT_SIM_MULTIPROCESSORS", multiprocessors),
                ("VEHICLECOUNT_SIM_MEMORY", memory),
                ("EXPECTED", &builds.to_string()),
            ];
            in_a_process_with(test, &runtime, cache.path(), &settings);
        };
        let (small, large) = ("2147483648", "4294967296");
        // INT8 and FP16, which are timed.
        run("NVIDIA L4", "58", small, 2);
        run("NVIDIA L4", "58", small, 0);
        let anew = if family == Family::TensorRtRtx { 0 } else { 2 };
        run("NVIDIA L40S", "142", small, anew);
        // One name, and fewer multiprocessors or more memory.
        run("NVIDIA L4", "29", small, anew);
        run("NVIDIA L4", "58", large, anew);
        run("NVIDIA L4", "58", small, 0);
        // The choice is timed on each.
        let folder = cache.path().join("engines");
        let mut gpus: Vec<_> =
            PrecisionTrials::all(&folder).into_iter().map(|choice| choice.purpose.gpu).collect();
        gpus.sort();
        let (l4, l40s) = ("NVIDIA L4, 58 SMs, 2 GiB", "NVIDIA L40S, 142 SMs, 2 GiB");
        assert_eq!(
            gpus,
            ["NVIDIA L4, 29 SMs, 2 GiB", l4, "NVIDIA L4, 58 SMs, 4 GiB", l40s],
            "{family:?}"
        );
        let names = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let timings = names.filter(|name| name.starts_with("timings-")).count();
        assert_eq!(timings, if family == Family::TensorRtRtx { 0 } else { 4 }, "{family:?}");
    }
}

fn is_for_this_gpu_in_this_process() {
    let sim = install();
    let runtime = std::env::var_os("VEHICLECOUNT_RUNTIME").unwrap();
    let family = families().find(|(_, folder)| folder.as_os_str() == runtime).unwrap().0;
    let tensorrt = tensorrt_sim::install(family).unwrap();
    let engine = engine::open(&request(2)).unwrap().engine;
    assert_eq!(engine.info().device, std::env::var("VEHICLECOUNT_SIM_NAME").unwrap());
    let builds = tensorrt.figure(tensorrt_sim::Figure::Builds).to_string();
    assert_eq!(builds, std::env::var("EXPECTED").unwrap());
    drop(engine);
    assert_eq!(sim.alive(), []);
}

/// The small model with a grey golden picture at the size of [`request`], on which it is said to
/// count `count`.
fn golden_request(folder: &Path, files: &[&str], count: f64) -> EngineRequest {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines");
    for name in ["tiny.onnx", "tiny-int8.onnx"] {
        std::fs::copy(fixtures.join(name), folder.join(name)).unwrap();
    }
    let text = std::fs::read_to_string(fixtures.join("tiny.json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    manifest["files"]
        .as_array_mut()
        .unwrap()
        .retain(|file| files.contains(&file["file"].as_str().unwrap()));
    let expected: serde_json::Map<_, _> = files
        .iter()
        .map(|file| (file.to_string(), serde_json::json!({ "count": count, "tolerance": 0.5 })))
        .collect();
    manifest["golden"] = serde_json::json!({
        "picture": "golden.png", "width": 256, "height": 128, "files": expected,
    });
    let path = folder.join("tiny.json");
    std::fs::write(&path, manifest.to_string()).unwrap();
    let picture = std::fs::File::create(folder.join("golden.png")).unwrap();
    let mut encoder = png::Encoder::new(picture, 256, 128);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[51; 256 * 128]).unwrap();
    writer.finish().unwrap();
    EngineRequest {
        model: Arc::new(Model::open(path.to_str().unwrap(), &[]).unwrap()),
        ..request(1)
    }
}

#[test]
fn kept_plan_that_fails_its_golden_picture_is_built_anew_once() {
    if child::is_this() {
        return builds_anew_in_this_process();
    }
    for (_, runtime) in families() {
        let cache = tempfile::tempdir().unwrap();
        in_a_process(child::this_test!(), &runtime, cache.path());
    }
}

fn builds_anew_in_this_process() {
    let sim = install();
    let runtime = std::env::var_os("VEHICLECOUNT_RUNTIME").unwrap();
    let family = families().find(|(_, folder)| folder.as_os_str() == runtime).unwrap().0;
    let tensorrt = tensorrt_sim::install(family).unwrap();
    let builds = || tensorrt.figure(tensorrt_sim::Figure::Builds);
    let state = vehiclecount_core::tensorrt::cache::folder()
        .unwrap()
        .parent()
        .unwrap()
        .join("golden.jsonl");
    let forget = || std::fs::remove_file(&state).unwrap();
    let instead = Arc::new(std::sync::Mutex::new(Vec::new()));
    let watch = ProgressSink::new({
        let instead = instead.clone();
        move |progress| {
            if let vehiclecount_core::tensorrt::Progress::Building {
                instead: Some(reason), ..
            } = progress
            {
                instead.lock().unwrap().push(reason.to_owned());
            }
            true
        }
    });
    let folder = tempfile::tempdir().unwrap();
    // 32 x 16 cells of 51/255.
    let right = 32.0 * 16.0 * 0.2;
    let request = EngineRequest {
        precision: Precision::Fp16,
        watch,
        ..golden_request(folder.path(), &["tiny.onnx"], right)
    };
    let opened = |request: &EngineRequest| {
        engine::open(request).map(|opened| opened.engine.info().precision.clone())
    };
    opened(&request).unwrap();
    opened(&request).unwrap();
    assert_eq!(builds(), 1);
    // What is kept was seen to count right: it is not looked at again. Where that is not known, it
    // is. The first run is the new lane's own.
    tensorrt.fail(Fault::Nan, 2);
    opened(&request).unwrap();
    assert_eq!(builds(), 1);
    forget();
    tensorrt.fail(Fault::Nan, 2);
    opened(&request).unwrap();
    assert_eq!(builds(), 2);
    let told = std::mem::take(&mut *instead.lock().unwrap());
    assert!(told.len() == 1 && told[0].contains("it fails its golden picture: "), "{told:?}");
    // Other calls of TensorRT that fail at it are a failure of the plan too.
    forget();
    tensorrt.fail(Fault::Enqueue, 1);
    opened(&request).unwrap();
    assert_eq!(builds(), 3);

    // One that never counts right is built once more and no oftener, at each start.
    let wrong = tempfile::tempdir().unwrap();
    let wrong = EngineRequest {
        precision: Precision::Fp32,
        ..golden_request(wrong.path(), &["tiny.onnx"], 3.0)
    };
    for expected in [4, 5, 6] {
        let error = opened(&wrong).unwrap_err();
        assert!(matches!(error, EngineError::Golden { .. }), "{error}");
        assert_eq!(builds(), expected);
    }

    // A choice that was kept, and whose plan has become wrong for good: the other precision is
    // taken.
    let both = tempfile::tempdir().unwrap();
    let files = ["tiny.onnx", "tiny-int8.onnx"];
    let both = |int8: f64| {
        let asked = golden_request(both.path(), &files, right);
        let path = both.path().join("tiny.json");
        let mut manifest: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        manifest["golden"]["files"]["tiny-int8.onnx"]["count"] = int8.into();
        std::fs::write(&path, manifest.to_string()).unwrap();
        EngineRequest {
            model: Arc::new(Model::open(path.to_str().unwrap(), &[]).unwrap()),
            ..asked
        }
    };
    let chosen = opened(&both(right)).unwrap();
    let kept = PrecisionTrials::all(&vehiclecount_core::tensorrt::cache::folder().unwrap());
    assert_eq!(
        kept.iter().filter(|choice| choice.precision.name() == chosen).count(),
        1,
        "{kept:?}"
    );
    // As if INT8 had been the faster one.
    let folder = vehiclecount_core::tensorrt::cache::folder().unwrap();
    let path = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let path = path.into_iter().find(|path| PrecisionTrials::read(path).is_some()).unwrap();
    let mut choice = PrecisionTrials::read(&path).unwrap();
    choice.precision = Precision::Int8;
    choice.write(&path).unwrap();
    assert_eq!(opened(&both(right)).unwrap(), "int8");
    assert_eq!(opened(&both(3.0)).unwrap(), "fp16");
    assert_eq!(PrecisionTrials::read(&path).unwrap().precision, Precision::Fp16);
    assert_eq!(sim.alive(), []);
}
