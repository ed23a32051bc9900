//! Memory does not grow with starts: an engine that is opened, used and closed leaves nothing, nor
//! does one that does not open.
//!
//! What `malloc` has handed out is counted for the whole process, so that libraries' own memory
//! shows. One test after the other: hence the lock.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vehiclecount_core::batch::{BatchSettings, Dispatcher};
use vehiclecount_core::engine::{self, Device, EngineError, EngineKind, EngineRequest, Slot};
use vehiclecount_core::golden::{self, Reference};
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::InputSize;

/// Starts before memory is looked at: libraries keep what they need once.
const WARM_UP: usize = 4;

/// Starts over which memory must not grow.
const STARTS: usize = 6;

/// Bytes by which it may grow in a start. The graph of the default model alone takes 8,000,000.
const ALLOWED: isize = 50_000;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that `malloc` has handed out and not got back.
fn in_use() -> isize {
    // SAFETY: it takes nothing and returns numbers.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd).cast_signed()
}

/// Runs `start` again and again, and fails where memory grows with it.
#[track_caller]
fn assert_does_not_grow(what: &str, mut start: impl FnMut()) {
    (0..WARM_UP).for_each(|_| start());
    let before = in_use();
    (0..STARTS).for_each(|_| start());
    let grown = (in_use() - before) / STARTS.cast_signed();
    eprintln!("{what}: {grown} bytes a start");
    assert!(grown < ALLOWED, "{what}: memory grows by {grown} bytes with each start");
}

/// Engines that run on the processor and are installed.
fn kinds(model: &Arc<Model>) -> Vec<EngineKind> {
    let on_processor = EngineKind::networks().filter(|kind| kind.device() == Some(Device::Cpu));
    let required = std::env::var("VEHICLECOUNT_REQUIRE_ENGINES").unwrap_or_default();
    let opens = |kind: &EngineKind| match engine::open_unchecked(
        &EngineRequest::new(*kind, model.clone()),
        *kind,
    ) {
        Ok(_) => true,
        Err(error @ EngineError::Library { .. }) => {
            assert!(!required.split(',').any(|name| name == kind.name()), "{error}");
            eprintln!("skipped: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    };
    on_processor.into_iter().filter(opens).collect()
}

/// The model that ships, or the small one where none is installed.
fn shipped() -> Arc<Model> {
    let model =
        Model::open("", &model::folders()).or_else(|_| Model::open(&fixture("tiny.onnx"), &[]));
    Arc::new(model.expect("a model"))
}

fn fixture(name: &str) -> String {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines");
    folder.join(name).display().to_string()
}

#[test]
fn engine_that_counted_leaves_nothing() {
    let _alone = alone();
    let model = shipped();
    for kind in kinds(&model) {
        assert_does_not_grow(kind.name(), || {
            let engine =
                engine::open(&EngineRequest::new(kind, model.clone())).expect("it opens").engine;
            let mut slot = Slot::new(engine.info());
            slot.input.values_mut().expect("made for values").fill(114.0);
            engine.lane().expect("a lane").infer(&mut [slot]).expect("an inference");
        });
    }
}

#[test]
fn dispatcher_that_counted_leaves_nothing() {
    let _alone = alone();
    let model = shipped();
    for kind in kinds(&model) {
        assert_does_not_grow(&format!("{kind} with a dispatcher"), || {
            let engine =
                engine::open(&EngineRequest::new(kind, model.clone())).expect("it opens").engine;
            let settings = BatchSettings { batch_size: 2, timeout: Duration::ZERO };
            let dispatcher = Dispatcher::start(engine, settings).expect("it starts");
            let (send, receive) = channel();
            let seat =
                dispatcher.join(move |ticket, _| send.send(ticket).expect("the test listens"));
            (0..4).for_each(|ticket| seat.submit(ticket, seat.slot(), 8));
            (0..4).for_each(|_| {
                receive.recv_timeout(Duration::from_secs(20)).expect("a report");
            });
        });
    }
}

#[test]
fn golden_picture_leaves_nothing() {
    let _alone = alone();
    let model = shipped();
    for kind in kinds(&model) {
        let Some(file) = model.file_for(kind) else { continue };
        let Some(reference) =
            Reference::read(&model, file).expect("a golden picture that can be read")
        else {
            continue;
        };
        let request = EngineRequest {
            input: Some(reference.size()),
            ..EngineRequest::new(kind, model.clone())
        };
        assert_does_not_grow(&format!("{kind} with the golden picture"), || {
            let engine = engine::open_unchecked(&request, kind).expect("it opens");
            let reference = Reference::read(&model, file)
                .expect("it was read before")
                .expect("it was there before");
            golden::verify(&model, file, &reference, &*engine).expect("an inference");
        });
    }
}

#[test]
fn engine_of_another_input_size_leaves_nothing() {
    let _alone = alone();
    let model = shipped();
    for kind in kinds(&model) {
        let mut widths = [256, 320].into_iter().cycle();
        assert_does_not_grow(&format!("{kind} in two sizes"), || {
            let input = widths.next().map(|width| InputSize { width, height: 192 });
            engine::open(&EngineRequest { input, ..EngineRequest::new(kind, model.clone()) })
                .expect("it opens");
        });
    }
}

#[test]
fn engine_that_does_not_open_leaves_nothing() {
    let _alone = alone();
    let mut refused = Model::open(&fixture("tiny.onnx"), &[]).expect("the fixture is a model");
    let kinds = kinds(&Arc::new(refused.clone()));
    refused.manifest.output.name = "another".to_owned();
    let other_output = Arc::new(refused.clone());
    refused.manifest.input.name = "another".to_owned();
    let other_input = Arc::new(refused);
    for kind in kinds {
        for (what, model) in [("input", &other_input), ("output", &other_output)] {
            assert_does_not_grow(&format!("{kind} with another {what}"), || {
                let error =
                    engine::open_unchecked(&EngineRequest::new(kind, model.clone()), kind).err();
                assert!(matches!(error, Some(EngineError::Shape { .. })), "{error:?}");
            });
        }
    }
}
