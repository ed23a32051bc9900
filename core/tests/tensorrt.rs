//! TensorRT through the shim, with stand-ins for the libraries (tests/tensorrt-sim): what its
//! absence is called, each kind apart, and building.
//!
//! A process opens a library once: each test is a process of its own, this program again.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Mutex;

use vehiclecount_core::cuda::{DeviceBuffer, Driver, Stream};
use vehiclecount_core::preprocess::InputSize;
use vehiclecount_core::tensorrt::cache::{self, Origin, PlanRequest};
use vehiclecount_core::tensorrt::{Build, Flavour, Library, Precision, Progress, TensorRtError};
use vehiclecount_tensorrt_sim::{Family, Fault, Figure};

mod child;

/// What a process of the test `name` prints after "SAID " where it finds the stand-in of `family`.
fn said(name: &str, family: Option<Family>, settings: &[(&str, &str)]) -> Option<Vec<String>> {
    let empty = std::env::temp_dir();
    let runtime = match family.map(Family::runtime) {
        Some(None) => {
            eprintln!("skipped: built without the headers of {family:?}");
            return None;
        }
        Some(Some(folder)) => folder,
        None => empty.clone(),
    };
    let mut command = child::command(name);
    command
        .env("VEHICLECOUNT_RUNTIME", runtime)
        .env("LD_LIBRARY_PATH", empty)
        .envs(settings.iter().copied());
    let text = child::run(&mut command);
    Some(text.lines().filter_map(|line| Some(line.split_once("SAID ")?.1.to_owned())).collect())
}

fn onnx() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/tiny.onnx")).unwrap()
}

fn ask<'a>(onnx: &'a [u8], capabilities: &'a [u32]) -> Build<'a> {
    let input = InputSize { width: 96, height: 64 };
    Build {
        onnx,
        input,
        max_batch: 4,
        half: false,
        calibration: None,
        capabilities,
        detailed: false,
        timings: &[],
    }
}

fn opens() {
    let flavour = std::env::var("FLAVOUR").unwrap().parse().unwrap();
    match Library::open_to_build(flavour) {
        Ok(library) => println!("SAID {library}"),
        Err(error) => println!("SAID {error}"),
    }
}

#[test]
fn libraries_of_other_families_are_refused_by_name() {
    if child::is_this() {
        return opens();
    }
    let refused = |family, flavour, number: &str, words: &[&str]| {
        let settings = [("FLAVOUR", flavour), ("VEHICLECOUNT_SIM_TENSORRT_VERSION", number)];
        let Some(said) = said(child::this_test!(), Some(family), &settings) else { return };
        for word in words {
            assert!(said[0].contains(word), "{word} in {said:?}");
        }
    };
    refused(
        Family::TensorRtRtx,
        "tensorrt-rtx",
        "10400",
        &["is TensorRT-RTX 1.4.0, where TensorRT-RTX 1.5 or a later 1.x"],
    );
    refused(
        Family::TensorRt11,
        "tensorrt",
        "120000",
        &["libnvinfer.so.11 is TensorRT 12.0.0, where TensorRT 11 is needed"],
    );
    refused(
        Family::TensorRt10,
        "tensorrt",
        "8601",
        &["is TensorRT 8.6.1, where TensorRT 10 is needed"],
    );
    // Older and newer ones of the family are taken.
    refused(Family::TensorRt10, "tensorrt", "100001", &["TensorRT 10.0.1"]);
    refused(Family::TensorRt11, "auto", "119900", &["TensorRT 11.99.0"]);
}

#[test]
fn absent_libraries_are_named_with_places_and_remedy() {
    if child::is_this() {
        return opens();
    }
    let said = said(child::this_test!(), None, &[("FLAVOUR", "tensorrt")]).unwrap();
    if vehiclecount_core::tensorrt::headers().is_empty() {
        assert!(said[0].contains("built without the headers of TensorRT"), "{said:?}");
        return;
    }
    for word in [
        "libnvinfer.so.11 or libnvinfer.so.10 was not found",
        "the system's libraries",
        "VEHICLECOUNT_RUNTIME",
    ] {
        assert!(said[0].contains(word), "{word} in {said:?}");
    }
}

fn builds() {
    let library = Library::open_to_build(Flavour::TensorRtRtx).unwrap();
    let told = Mutex::new(Vec::new());
    let watch = |progress: Progress<'_>| {
        told.lock().unwrap().push(format!("{progress:?}"));
        true
    };
    let onnx = onnx();
    let plan = library.build(&ask(&onnx, &[86, 120]), &watch).unwrap().plan;
    println!("SAID {}", String::from_utf8_lossy(&plan).replace('\n', " "));
    println!("SAID {}", told.lock().unwrap().first().unwrap());
    let failed = |build: &Build<'_>, goes_on: bool| {
        let error: TensorRtError = library.build(build, &|_| goes_on).unwrap_err();
        println!("SAID {error}");
    };
    failed(&ask(&onnx, &[86]), false);
    failed(&ask(&onnx, &[90]), true);
    failed(&ask(b"no network", &[86]), true);
    failed(&ask(&onnx[..onnx.len() / 2], &[86]), true);
    failed(&Build { half: true, ..ask(&onnx, &[86]) }, true);
    // Nothing to build for: neither a GPU nor a capability.
    failed(&ask(&onnx, &[]), true);
}

#[test]
fn plans_are_built_watched_and_refused_with_reasons() {
    if child::is_this() {
        return builds();
    }
    let Some(said) = said(child::this_test!(), Some(Family::TensorRtRtx), &[]) else { return };
    let expected = [
        "simulated plan",
        "Begin { phase: \"Building engine\", parent: None, steps: 3 }",
        "the build was ended",
        "builds nothing for compute capability 9.0",
        "not an ONNX file",
        "simulated:",
        "only TensorRT 10 takes a calibration table",
        "no current CUDA context to build for",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (line, word) in said.iter().zip(expected) {
        assert!(line.contains(word), "{word} in {line}");
    }
    assert!(said[0].contains("86,120 images density 3 64 96 8 12 1 4"), "{said:?}");
}

fn runs() {
    let gpu = vehiclecount_gpu_sim::install();
    let family = match std::env::var("FAMILY").unwrap().as_str() {
        "10" => Family::TensorRt10,
        "11" => Family::TensorRt11,
        _ => Family::TensorRtRtx,
    };
    let sim = vehiclecount_tensorrt_sim::install(family).unwrap();
    let context = Driver::open().unwrap().context(0).unwrap();
    let entered = context.enter().unwrap();
    let library = Library::open(Flavour::Auto).unwrap();
    let onnx = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/tiny.onnx");
    let input = InputSize { width: 64, height: 32 };
    let request = PlanRequest {
        library: &library,
        onnx: &onnx,
        sha256: "of tiny.onnx",
        precision: Precision::Fp16,
        input,
        max_batch: 4,
        capability: 89,
        gpu: "",
        refused: None,
        calibration: None,
        detailed: true,
    };
    let load = |request: &PlanRequest<'_>| cache::load(request, &|_| true);
    let found = load(&request).unwrap();
    assert_eq!(found.origin, Origin::Built { instead: None, unkept: None });
    drop(found);
    // The one that was kept does not load: it is explained and built anew.
    sim.fail(Fault::Load, 1);
    let Origin::Built { instead: Some(reason), .. } = load(&request).unwrap().origin else {
        panic!("it was not built")
    };
    assert!(reason.contains("does not load (simulated: the plan does not load)"), "{reason}");
    // Values in another order would be read wrongly, without any error.
    sim.fail(Fault::Format, 2);
    let error = load(&request).unwrap_err().to_string();
    assert!(error.contains("an output \"density\" of f32 that is not linear in memory"), "{error}");
    let found = load(&request).unwrap();
    assert_eq!((found.origin, sim.figure(Figure::Builds)), (Origin::Kept, 2));
    let plan = found.plan;
    assert_eq!((plan.input_shape(), plan.output_shape()), ([3, 32, 64], [1, 4, 8]));
    assert_eq!((plan.min_batch(), plan.max_batch(), plan.profiles(), plan.layers()), (1, 4, 1, 1));
    assert!(plan.inspect().unwrap().contains("mean of red"));

    let batch = 3;
    let pictures: Vec<f32> =
        (0..batch * input.values()).map(|index| (index * 37 % 256) as f32).collect();
    let inputs = DeviceBuffer::holding(&context, &pictures, "model inputs").unwrap();
    let outputs = DeviceBuffer::new(&context, 4 * batch * 32, "density maps").unwrap();
    let stream = Stream::new(&context).unwrap();
    let mut lane = plan.context(0).unwrap();
    assert!(plan.context(1).is_err());
    // Before it is told where its pictures are.
    // SAFETY: the run is refused.
    assert!(unsafe { lane.enqueue(stream.handle()) }.is_err());
    assert!(
        lane.set_batch(5, inputs.address(), outputs.address())
            .unwrap_err()
            .to_string()
            .contains("a batch of 5, where the plan was built for 1 to 4")
    );
    lane.set_batch(batch, inputs.address(), outputs.address()).unwrap();
    // SAFETY: the buffers hold the batch, and stay until the stream has been waited for.
    unsafe { lane.enqueue(stream.handle()) }.unwrap();
    stream.synchronize().unwrap();
    for (map, picture) in
        outputs.read::<f32>().unwrap().chunks_exact(32).zip(pictures.chunks_exact(input.values()))
    {
        for (cell, density) in map.iter().enumerate() {
            let (left, top) = (cell % 8 * 8, cell / 8 * 8);
            let red: f32 = (top..top + 8).flat_map(|y| &picture[y * 64 + left..][..8]).sum();
            assert!((density - red / 64.0 / 255.0).abs() < 1e-6, "cell {cell}");
        }
    }
    for (fault, words) in [
        (Fault::Enqueue, "the run was refused: simulated: the run fails"),
        (Fault::Shape, "a batch of 2 is refused"),
    ] {
        sim.fail(fault, 1);
        // SAFETY: as above.
        let run = lane
            .set_batch(2, inputs.address(), outputs.address())
            .and_then(|()| unsafe { lane.enqueue(stream.handle()) });
        let error = run.unwrap_err().to_string();
        assert!(error.contains(words), "{words} in {error}");
        lane.set_batch(1, inputs.address(), outputs.address()).unwrap();
    }
    // Contexts of several batch sizes in the same memory, as recorded graphs need them.
    let scratch =
        DeviceBuffer::new(&context, plan.context_memory() as usize, "scratch memory").unwrap();
    assert!(
        plan.context_sharing(0, scratch.address(), scratch.bytes() - 1)
            .unwrap_err()
            .to_string()
            .contains("are needed")
    );
    let mut shared: Vec<_> = (1..=3)
        .map(|_| plan.context_sharing(0, scratch.address(), scratch.bytes()).unwrap())
        .collect();
    for (index, lane) in shared.iter_mut().enumerate() {
        let set = |lane: &mut vehiclecount_core::tensorrt::Context, batch| {
            lane.set_batch(batch, inputs.address(), outputs.address())
        };
        set(lane, index + 1).unwrap();
        // SAFETY: as above, and the graph is replayed while all of that lives.
        unsafe {
            let graph = stream
                .capture(|stream| lane.enqueue(stream.handle()), TensorRtError::from)
                .unwrap();
            let runs = sim.figure(Figure::Runs);
            stream.replay(&graph).unwrap();
            stream.synchronize().unwrap();
            assert_eq!(sim.figure(Figure::Runs), runs + 1);
        }
        // The same batch again changes nothing; another one would spoil the graph.
        set(lane, index + 1).unwrap();
        assert!(set(lane, 4).unwrap_err().to_string().contains("from which a graph was recorded"));
    }
    drop((shared, scratch));

    // No memory for another context: an error with the library's own reason, and nothing is lost.
    gpu.fail_allocation(1);
    let error = plan.context(0).unwrap_err().to_string();
    assert!(error.contains("Requested amount of GPU memory"), "{error}");
    gpu.fail_allocation(1);
    let error = load(&request).unwrap_err().to_string();
    assert!(error.contains("does not load the plan") && error.contains("GPU memory"), "{error}");

    // A table is for TensorRT 10 alone.
    let table = std::env::temp_dir().join(format!("vehiclecount-table-{}", std::process::id()));
    std::fs::write(&table, "TRT-101600-EntropyCalibration2\nimages: 3c010a14\n").unwrap();
    let calibrated = load(&PlanRequest {
        precision: Precision::Int8,
        calibration: Some(&table),
        ..request.clone()
    });
    std::fs::remove_file(&table).unwrap();
    match (family, calibrated) {
        (Family::TensorRt10, calibrated) => assert!(calibrated.is_ok(), "{calibrated:?}"),
        (_, calibrated) => {
            assert!(
                calibrated
                    .unwrap_err()
                    .to_string()
                    .contains("only TensorRT 10 takes a calibration table")
            )
        }
    }
    // The lane keeps its plan.
    drop(plan);
    assert_eq!((sim.figure(Figure::Engines), sim.figure(Figure::Contexts)), (1, 1));
    drop((lane, inputs, outputs, stream));
    drop(entered);
    drop(context);
    for figure in [Figure::Engines, Figure::Contexts, Figure::Runtimes, Figure::Builders] {
        assert_eq!(sim.figure(figure), 0, "{figure:?}");
    }
    assert_eq!(gpu.alive(), []);
    println!("SAID {library}");
}

#[test]
fn plans_run_on_a_simulated_gpu_with_each_family() {
    if child::is_this() {
        return runs();
    }
    for (family, number, name) in [
        (Family::TensorRt10, "10", "TensorRT 10."),
        (Family::TensorRt11, "11", "TensorRT 11."),
        (Family::TensorRtRtx, "rtx", "TensorRT-RTX 1."),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let settings = [("FAMILY", number), ("VEHICLECOUNT_CACHE", cache.path().to_str().unwrap())];
        let Some(said) = said(child::this_test!(), Some(family), &settings) else { continue };
        assert!(said[0].starts_with(name), "{said:?}");
    }
}
