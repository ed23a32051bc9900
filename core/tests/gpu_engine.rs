//! Batches on a simulated GPU: staging, one launch for all, graphs, counting there, faults, and
//! nothing left behind.
//!
//! The network is a stand-in too: the density of a cell is the mean of its red samples. So each
//! count is known from the picture.

#![allow(clippy::unwrap_used)]

mod slots;

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use slots::{density, values};
use vehiclecount_core::batch::{BatchSettings, Dispatcher, Outcome};
use vehiclecount_core::cuda::{
    Context, CountOrder, CudaError, DeviceBuffer, Driver, ForeignStream, PictureOrder,
    PinnedBuffer, Stream,
};
use vehiclecount_core::density::{DensityMap, Rect};
use vehiclecount_core::engine::gpu::{GpuEngine, Network};
use vehiclecount_core::engine::{Engine, EngineError, EngineInfo, EngineKind, Output, Slot};
use vehiclecount_core::frame::{FrameFormat, FrameView, PixelFormat, Plane};
use vehiclecount_core::preprocess::{InputSize, Placement, Preprocessor, Resize};
use vehiclecount_core::region::Coverage;
use vehiclecount_gpu_sim::{Figure, Sim, turn};

const INPUT: InputSize = InputSize { width: 64, height: 48 };
const GRID: (usize, usize) = (8, 6);
const BOUND: Duration = Duration::from_secs(20);

/// What is odd about a network.
#[derive(Clone, Copy, Default)]
struct Oddity {
    min_batch: usize,
    /// It waits in `enqueue`, which no recording survives.
    waits: bool,
}

struct Red {
    sim: &'static Sim,
    context: Arc<Context>,
    odd: Oddity,
    batch: (usize, u64, u64),
}

impl Network for Red {
    fn min_batch(&self) -> usize {
        self.odd.min_batch
    }

    fn set_batch(&mut self, batch: usize, input: u64, output: u64) -> Result<(), String> {
        self.batch = (batch, input, output);
        Ok(())
    }

    unsafe fn enqueue(&mut self, stream: *mut c_void) -> Result<(), String> {
        let (batch, input, output) = self.batch;
        let _entered = self.context.enter().map_err(|error| error.to_string())?;
        if self.odd.waits {
            self.sim.synchronize(stream);
        }
        match self.sim.network(stream, input, output, batch, (INPUT.width, INPUT.height), GRID) {
            0 => Ok(()),
            code => Err(format!("code {code}")),
        }
    }
}

fn engine(sim: &'static Sim, max_batch: usize, odd: Oddity) -> Arc<GpuEngine> {
    let context = Driver::open().unwrap().context(0).unwrap();
    let info = EngineInfo {
        kind: EngineKind::TensorRt,
        version: "0".to_owned(),
        device: context.device().name.clone(),
        model: "red".to_owned(),
        precision: "fp32".to_owned(),
        choice: None,
        input: INPUT,
        columns: GRID.0,
        rows: GRID.1,
        lanes: 2,
    };
    let networks = context.clone();
    let networks = Box::new(move || {
        Ok(Box::new(Red { sim, context: networks.clone(), odd, batch: (0, 0, 0) })
            as Box<dyn Network>)
    });
    Arc::new(GpuEngine::new(info, context, max_batch, networks).unwrap())
}

/// A picture in memory: red `red` everywhere in its left half, 0 in the right one, so that its
/// count follows from its size.
#[derive(Clone)]
struct Picture {
    format: FrameFormat,
    data: Vec<u8>,
    stride: usize,
}

impl Picture {
    fn new(width: usize, height: usize, red: u8) -> Self {
        let format = FrameFormat::new(PixelFormat::Rgb, width, height);
        let stride = width * 3 + 5;
        let sample = |at: usize| match (at % stride, at % stride / 3 < width / 2) {
            (x, true) if x.is_multiple_of(3) => red,
            _ => 9,
        };
        Self { format, data: (0..stride * height).map(sample).collect(), stride }
    }

    fn view(&self) -> FrameView<'_> {
        FrameView::new(self.format, &[Plane { data: &self.data, stride: self.stride }]).unwrap()
    }

    fn placement(&self) -> Placement {
        Placement::new(Resize::Letterbox, self.format.width, self.format.height, INPUT)
    }

    /// The map that the network makes of it, by the twin on the processor.
    fn expected(&self) -> Vec<f32> {
        let mut values = vec![0.0; INPUT.values()];
        Preprocessor::new(self.format, Resize::Letterbox, INPUT).run(&self.view(), &mut values);
        expected(&values)
    }
}

fn expected(input: &[f32]) -> Vec<f32> {
    let (across, down) = (INPUT.width / GRID.0, INPUT.height / GRID.1);
    let cell = |index: usize| {
        let (left, top) = (index % GRID.0 * across, index / GRID.0 * down);
        let sum: f32 =
            (top..top + down).flat_map(|y| &input[y * INPUT.width + left..][..across]).sum();
        sum / (across * down) as f32 / 255.0
    };
    (0..GRID.0 * GRID.1).map(cell).collect()
}

fn staged(engine: &GpuEngine, picture: &Picture) -> Slot {
    let mut slot = Slot::best_for(engine);
    slot.input.picture_mut().unwrap().stage(&picture.view(), picture.placement()).unwrap();
    slot
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    let far =
        got.iter().zip(expected).map(|(got, expected)| (got - expected).abs()).fold(0.0, f32::max);
    // A fiftieth of a level: what is expected was made in fixed point.
    assert!(far < 8e-5, "{far} off: {got:?} and {expected:?}");
}

/// Several sizes, as different cameras have them.
fn pictures(count: usize) -> Vec<Picture> {
    (0..count)
        .map(|at| Picture::new(40 + 37 * (at % 5), 30 + 53 * (at % 3), (at * 41 % 256) as u8))
        .collect()
}

#[test]
fn batches_of_every_size_count_as_the_processor_does_and_become_graphs() {
    let device = turn();
    let engine = engine(device.sim, 4, Oddity::default());
    let mut lane = engine.lane().unwrap();
    let pictures = pictures(7);
    let figures = || [Figure::Replays, Figure::Captures].map(|figure| device.sim.figure(figure));
    let before = figures();
    for _ in 0..4 {
        for batch in [1, 2, 4, 3, 7] {
            let mut slots: Vec<Slot> =
                pictures[..batch].iter().map(|picture| staged(&engine, picture)).collect();
            lane.infer(&mut slots).unwrap();
            for (slot, picture) in slots.iter().zip(&pictures) {
                assert_close(density(slot), &picture.expected());
            }
        }
    }
    // 7 goes as 4 and 3, and 3 as 4. Each batch is replayed, the first of a size right after it was
    // recorded.
    let after = figures();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [4 * 6, 3]);
    assert!(lane.device_time().is_some());
}

/// As `vehicle-count eval` gives it its pictures.
#[test]
fn inputs_that_the_processor_has_made_are_counted_too() {
    let device = turn();
    let engine = engine(device.sim, 2, Oddity::default());
    let mut lane = engine.lane().unwrap();
    for picture in pictures(3) {
        let mut slot = Slot::preprocessed_for(&*engine);
        let mut preprocessor = Preprocessor::new(picture.format, Resize::Letterbox, INPUT);
        slot.input.preprocess(&mut preprocessor, &picture.view());
        lane.infer(std::slice::from_mut(&mut slot)).unwrap();
        assert_close(density(&slot), &picture.expected());
    }
}

#[test]
fn picture_on_the_gpu_is_read_where_it_is_and_let_go_after_the_batch() {
    struct Keep(Arc<AtomicUsize>, #[allow(dead_code)] Arc<DeviceBuffer>);
    impl Drop for Keep {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let device = turn();
    let engine = engine(device.sim, 2, Oddity::default());
    let mut lane = engine.lane().unwrap();
    let gone = Arc::new(AtomicUsize::new(0));
    let pictures = pictures(2);
    let mut slots: Vec<Slot> = (0..2).map(|_| Slot::best_for(&*engine)).collect();
    for _ in 0..3 {
        for (slot, picture) in slots.iter_mut().zip(&pictures) {
            let held = slot.input.picture_mut().unwrap();
            let buffer =
                Arc::new(DeviceBuffer::holding(held.context(), &picture.data, "a frame").unwrap());
            let plane = (buffer.address(), picture.stride, buffer.bytes());
            let keep = Box::new(Keep(gone.clone(), buffer));
            // SAFETY: the buffer holds the picture, and `keep` the buffer.
            unsafe { held.lend(picture.format, picture.placement(), &[plane], None, keep) }
                .unwrap();
        }
        let uploaded = device.sim.figure(Figure::UploadedBytes);
        gone.store(0, Ordering::Relaxed);
        lane.infer(&mut slots).unwrap();
        assert_eq!(gone.load(Ordering::Relaxed), 2);
        // The orders alone, two for each picture.
        let orders = 2 * (size_of::<PictureOrder>() + size_of::<CountOrder>());
        assert_eq!(device.sim.figure(Figure::UploadedBytes) - uploaded, orders as i64);
        for (slot, picture) in slots.iter().zip(&pictures) {
            assert_close(density(slot), &picture.expected());
        }
    }
}

#[test]
fn picture_that_is_still_being_written_is_waited_for_on_the_gpu() {
    let device = turn();
    let engine = engine(device.sim, 2, Oddity::default());
    let mut lane = engine.lane().unwrap();
    let mut slots = [Slot::best_for(&*engine), Slot::best_for(&*engine)];
    let context = slots[0].input.picture_mut().unwrap().context().clone();
    let producers = [Stream::new(&context).unwrap(), Stream::new(&context).unwrap()];
    // Plainly, recorded, replayed; producers and slots meet in turn.
    for round in 0..4usize {
        let reds = [40 * round as u8 + 80, 40 * round as u8 + 90];
        let pictures = reds.map(|red| Picture::new(64, 48, red));
        let black = Picture::new(64, 48, 0);
        let mut written = Vec::new();
        for (at, (slot, picture)) in slots.iter_mut().zip(&pictures).enumerate() {
            let producer = &producers[(at + round) % 2];
            let buffer = Arc::new(DeviceBuffer::holding(&context, &black.data, "a frame").unwrap());
            let mut pinned = PinnedBuffer::new(&context, buffer.bytes(), "a frame").unwrap();
            pinned.values_mut::<u8>().copy_from_slice(&picture.data);
            device.sim.hold_stream(producer.handle());
            // SAFETY: so many bytes on both sides, which stay until the end of the round.
            unsafe { producer.upload(buffer.address(), pinned.pointer(), buffer.bytes()).unwrap() };
            let plane = (buffer.address(), picture.stride, buffer.bytes());
            let handle = Some(ForeignStream(producer.handle()));
            let keep = Box::new(buffer.clone());
            let held = slot.input.picture_mut().unwrap();
            // SAFETY: the buffer holds the picture, and `keep` the buffer; the stream lives.
            unsafe { held.lend(picture.format, picture.placement(), &[plane], handle, keep) }
                .unwrap();
            written.push((buffer, pinned));
        }
        std::thread::scope(|scope| {
            let counted = scope.spawn(|| lane.infer(&mut slots));
            // A copy and a mark for each producer; behind its first wait, the lane has work of its
            // own.
            let waits = device.sim.wait_for_waiting(2 * 2 + 2, BOUND);
            producers.iter().for_each(|producer| device.sim.release_stream(producer.handle()));
            counted.join().unwrap().unwrap();
            assert!(waits, "the lane does not wait");
        });
        for (slot, picture) in slots.iter().zip(&pictures) {
            assert_close(density(slot), &picture.expected());
        }
    }
}

#[test]
fn slot_with_a_finished_input_is_taken_too_beside_pictures() {
    let device = turn();
    let engine = engine(device.sim, 2, Oddity::default());
    let mut lane = engine.lane().unwrap();
    let picture = Picture::new(77, 50, 200);
    let mut slots = vec![Slot::new(engine.info()), staged(&engine, &picture)];
    values(&mut slots[0]).iter_mut().enumerate().for_each(|(at, value)| *value = (at % 251) as f32);
    lane.infer(&mut slots).unwrap();
    assert_close(density(&slots[0]), &expected(slots[0].input.values().unwrap()));
    assert_close(density(&slots[1]), &picture.expected());
}

#[test]
fn with_regions_only_counts_come_back() {
    let device = turn();
    let engine = engine(device.sim, 2, Oddity::default());
    let mut lane = engine.lane().unwrap();
    let picture = Picture::new(120, 90, 250);
    let grid = picture.placement().grid(GRID.0, GRID.1);
    let left = Coverage::new(&[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]], &grid);
    let bottom = Coverage::new(&[[0.0, 0.6], [1.0, 0.6], [1.0, 1.0]], &grid);
    let regions = [left, bottom];
    let weights = engine.weights(&regions).unwrap().unwrap();
    let map = DensityMap { grid, cells: picture.expected().into() };
    assert_eq!(grid.rect, Rect::FRAME);
    for _ in 0..3 {
        let mut slots = vec![staged(&engine, &picture), staged(&engine, &picture)];
        slots.iter_mut().for_each(|slot| slot.weights = Some(weights.clone()));
        let downloaded = device.sim.figure(Figure::DownloadedBytes);
        lane.infer(&mut slots).unwrap();
        // Two times 32 sums, and no map.
        assert_eq!(device.sim.figure(Figure::DownloadedBytes) - downloaded, 2 * 32 * 4);
        for slot in &slots {
            let Output::Sums { total, regions: got } = &slot.output else { panic!("a map came") };
            let got = [*total, got[0], got[1]];
            let wanted = [map.count(), regions[0].count(&map), regions[1].count(&map)];
            assert!(
                got.iter().zip(wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-4),
                "{got:?} {wanted:?}"
            );
        }
    }
    // One that wants its map beside one that does not.
    let mut slots = vec![staged(&engine, &picture), staged(&engine, &picture)];
    slots[0].weights = Some(weights);
    lane.infer(&mut slots).unwrap();
    assert!(matches!(&slots[0].output, Output::Sums { regions, .. } if regions.len() == 2));
    assert_close(density(&slots[1]), &picture.expected());
}

#[test]
fn small_batch_is_filled_up_for_a_network_that_takes_none() {
    let device = turn();
    let engine = engine(device.sim, 2, Oddity { min_batch: 3, ..Oddity::default() });
    let mut lane = engine.lane().unwrap();
    let picture = Picture::new(60, 60, 99);
    for _ in 0..3 {
        let mut slots = vec![staged(&engine, &picture)];
        lane.infer(&mut slots).unwrap();
        assert_close(density(&slots[0]), &picture.expected());
    }
}

#[test]
fn places_that_fill_up_a_batch_read_nothing_of_the_frames_that_were_there_before() {
    let device = turn();
    let engine = engine(device.sim, 8, Oddity::default());
    let mut lane = engine.lane().unwrap();
    let picture = Picture::new(60, 60, 200);
    let left = Coverage::new(
        &[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0]],
        &picture.placement().grid(GRID.0, GRID.1),
    );
    for batch in [5, 1, 3, 6, 7] {
        let mut slots: Vec<Slot> = (0..8).map(|_| Slot::best_for(&*engine)).collect();
        for slot in &mut slots {
            let held = slot.input.picture_mut().unwrap();
            let buffer = DeviceBuffer::holding(held.context(), &picture.data, "a frame").unwrap();
            let plane = (buffer.address(), picture.stride, buffer.bytes());
            // SAFETY: the buffer holds the picture, and is kept.
            unsafe {
                held.lend(picture.format, picture.placement(), &[plane], None, Box::new(buffer))
            }
            .unwrap();
            slot.weights = Some(engine.weights(std::slice::from_ref(&left)).unwrap().unwrap());
        }
        lane.infer(&mut slots).unwrap();
        // Frames and weights go; the simulated GPU refuses to read what is freed.
        drop(slots);
        let mut slots: Vec<Slot> = (0..batch).map(|_| staged(&engine, &picture)).collect();
        lane.infer(&mut slots).unwrap();
        for slot in &slots {
            assert_close(density(slot), &picture.expected());
        }
    }
}

#[test]
fn network_has_run_every_batch_size_before_the_first_frame() {
    let device = turn();
    let engine = engine(device.sim, 12, Oddity::default());
    let launches = device.sim.figure(Figure::Launches);
    let _lane = engine.lane().unwrap();
    // 1, 2, 4, 8 and 12: preprocessing and counting of each; the stand-in's network is no launch.
    assert_eq!(device.sim.figure(Figure::Launches) - launches, 2 * 5);
}

#[test]
fn launch_that_fails_before_the_first_frame_is_a_lost_gpu() {
    let device = turn();
    // The network hears of it first where it waits for the preprocessing.
    for odd in [Oddity::default(), Oddity { waits: true, ..Oddity::default() }] {
        for launch in 1..=3 {
            let engine = engine(device.sim, 12, odd);
            device.sim.fail_launch(launch);
            let error = engine.lane().err().unwrap();
            assert!(matches!(&error, EngineError::Gpu { error, .. } if error.is_lost()), "{error}");
            device.sim.lose(0);
        }
    }
}

#[test]
fn network_that_cannot_be_recorded_runs_without_graphs() {
    let device = turn();
    let engine = engine(device.sim, 1, Oddity { waits: true, ..Oddity::default() });
    let mut lane = engine.lane().unwrap();
    let picture = Picture::new(60, 60, 99);
    let replays = device.sim.figure(Figure::Replays);
    for _ in 0..4 {
        let mut slots = vec![staged(&engine, &picture)];
        lane.infer(&mut slots).unwrap();
        assert_close(density(&slots[0]), &picture.expected());
    }
    assert_eq!(device.sim.figure(Figure::Replays), replays);
}

#[test]
fn density_that_is_no_number_fails_its_batch_alone() {
    let device = turn();
    let engine = engine(device.sim, 1, Oddity::default());
    let mut lane = engine.lane().unwrap();
    let mut slots = vec![Slot::new(engine.info())];
    values(&mut slots[0])[5] = f32::NAN;
    let error = lane.infer(&mut slots).unwrap_err();
    assert!(
        matches!(&error, EngineError::Infer { reason, .. } if reason.contains("NaN")),
        "{error}"
    );
    values(&mut slots[0])[5] = 1.0;
    lane.infer(&mut slots).unwrap();
}

#[test]
fn engine_that_finds_no_memory_says_so_at_every_single_allocation() {
    let device = turn();
    let mut opened = 0;
    for nth in 1.. {
        device.sim.fail_allocation(nth);
        let all = device.sim.figure(Figure::AllAllocations);
        let picture = Picture::new(60, 60, 99);
        let result = (|| {
            let engine = engine(device.sim, 2, Oddity::default());
            let mut lane = engine.lane()?;
            let mut slot = Slot::best_for(&*engine);
            let held = slot.input.picture_mut().expect("it takes pictures");
            let staged = held.stage(&picture.view(), picture.placement());
            staged.map_err(|error| EngineError::Gpu { kind: EngineKind::TensorRt, error })?;
            lane.infer(std::slice::from_mut(&mut slot))
        })();
        match result {
            Err(EngineError::Gpu { error: CudaError::OutOfMemory { what, .. }, .. }) => {
                assert!(!what.is_empty())
            }
            Err(error) => panic!("allocation {nth}: {error}"),
            Ok(()) if device.sim.figure(Figure::AllAllocations) - all < nth => break,
            Ok(()) => panic!("allocation {nth} failed and nobody said so"),
        }
        assert_eq!(device.sim.alive(), [], "after allocation {nth}");
        opened = nth;
    }
    // Inputs, maps, sums and orders on both sides, staging on both sides.
    assert_eq!(opened, 11);
}

#[test]
fn frame_without_memory_fails_and_the_next_one_counts() {
    let device = turn();
    let engine = engine(device.sim, 1, Oddity::default());
    let mut lane = engine.lane().unwrap();
    let picture = Picture::new(60, 60, 99);
    let mut slots = vec![staged(&engine, &picture)];
    device.sim.fail_allocation(1);
    let error = lane.infer(&mut slots).unwrap_err();
    assert!(error.to_string().starts_with("engine tensorrt: out of memory for"), "{error}");
    slots[0].input.picture_mut().unwrap().stage(&picture.view(), picture.placement()).unwrap();
    lane.infer(&mut slots).unwrap();
    assert_close(density(&slots[0]), &picture.expected());
}

#[test]
fn lost_gpu_fails_what_it_holds_and_everything_after_it_at_once() {
    let device = turn();
    let engine = engine(device.sim, 2, Oddity::default());
    let mut lane = engine.lane().unwrap();
    let picture = Picture::new(60, 60, 99);
    lane.infer(&mut [staged(&engine, &picture)]).unwrap();
    device.sim.lose(999);
    let error = lane.infer(&mut [Slot::new(engine.info())]).unwrap_err();
    assert!(matches!(&error, EngineError::Gpu { error, .. } if error.is_lost()), "{error}");
    // Also if the driver should answer again: memory and context are not what they were.
    device.sim.lose(0);
    let launches = device.sim.figure(Figure::Launches);
    assert!(
        lane.infer(&mut [Slot::new(engine.info())])
            .unwrap_err()
            .to_string()
            .contains("lost before")
    );
    assert!(engine.lane().unwrap().infer(&mut [Slot::new(engine.info())]).is_err());
    assert_eq!(device.sim.figure(Figure::Launches), launches);
}

/// What NVIDIA documents as leaving the process without the GPU, by hand.
const FATAL: [i64; 19] =
    [4, 46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911, 999];

#[test]
fn every_fatal_result_is_a_lost_gpu_that_is_not_called_again() {
    for code in FATAL {
        let device = turn();
        let engine = engine(device.sim, 1, Oddity::default());
        let mut lane = engine.lane().unwrap();
        lane.infer(&mut [Slot::new(engine.info())]).unwrap();
        device.sim.lose(code);
        let error = lane.infer(&mut [Slot::new(engine.info())]).unwrap_err();
        assert!(
            matches!(&error, EngineError::Gpu { error, .. } if error.is_lost()),
            "{code}: {error}"
        );
        let text = error.to_string();
        assert!(
            text.contains(&code.to_string()) && text.contains("start the process again"),
            "{code}: {text}"
        );
        // The driver has no name for it.
        assert!(code != 226 || text.contains("CUDA_ERROR_CONTAINED"), "{text}");
        device.sim.lose(0);
        let error = lane.infer(&mut [Slot::new(engine.info())]).unwrap_err();
        assert!(error.to_string().contains("lost before"), "{code}: {error}");
    }
}

#[test]
fn every_other_result_fails_its_batch_and_the_next_one_counts() {
    let device = turn();
    let engine = engine(device.sim, 1, Oddity::default());
    let mut lane = engine.lane().unwrap();
    // All numbers that cuda.h may use, those of drivers to come among them.
    for code in (1..1200).filter(|code| !FATAL.contains(code)) {
        device.sim.lose(code);
        let error = lane.infer(&mut [Slot::new(engine.info())]).unwrap_err();
        assert!(
            matches!(&error, EngineError::Gpu { error, .. } if !error.is_lost()),
            "{code}: {error}"
        );
        device.sim.lose(0);
        lane.infer(&mut [Slot::new(engine.info())]).unwrap();
    }
}

#[test]
fn launch_that_fails_in_a_graph_is_a_lost_gpu() {
    let device = turn();
    let engine = engine(device.sim, 1, Oddity::default());
    let mut lane = engine.lane().unwrap();
    let picture = Picture::new(60, 60, 99);
    for _ in 0..3 {
        lane.infer(&mut [staged(&engine, &picture)]).unwrap();
    }
    device.sim.fail_launch(2);
    let error = lane.infer(&mut [staged(&engine, &picture)]).unwrap_err();
    assert!(matches!(&error, EngineError::Gpu { error, .. } if error.is_lost()), "{error}");
}

#[test]
fn cameras_of_different_sizes_share_two_lanes_and_get_their_own_counts() {
    const CAMERAS: usize = 12;
    const FRAMES: u64 = 40;
    let device = turn();
    let engine = engine(device.sim, 4, Oddity::default());
    let settings = BatchSettings { batch_size: 4, timeout: Duration::ZERO };
    let dispatcher = Dispatcher::start(engine, settings).unwrap();
    let cameras: Vec<_> = pictures(CAMERAS)
        .into_iter()
        .enumerate()
        .map(|(number, first)| {
            let (send, receive) = mpsc::sync_channel(1);
            let camera = dispatcher.join(move |ticket, outcome| match outcome {
                Outcome::Counted { output, .. } => {
                    send.send((ticket, output.map().unwrap().to_vec())).unwrap()
                }
                other => panic!("{other:?}"),
            });
            std::thread::spawn(move || {
                for frame in 0..FRAMES {
                    // The size changes in mid-stream too.
                    let red = (frame as usize * 13 + number * 29) % 256;
                    let width = first.format.width + if frame > FRAMES / 2 { 64 } else { 0 };
                    let picture = Picture::new(width, first.format.height, red as u8);
                    let mut slot = camera.slot();
                    slot.input
                        .picture_mut()
                        .unwrap()
                        .stage(&picture.view(), picture.placement())
                        .unwrap();
                    camera.submit(frame, slot, 1);
                    let (ticket, density) = receive.recv_timeout(BOUND).unwrap();
                    assert_eq!(ticket, frame);
                    assert_close(&density, &picture.expected());
                }
            })
        })
        .collect();
    cameras.into_iter().for_each(|camera| camera.join().unwrap());
}

#[test]
fn camera_that_stages_its_next_frame_does_not_disturb_the_one_on_its_way() {
    let device = turn();
    let engine = engine(device.sim, 1, Oddity::default());
    let dispatcher =
        Dispatcher::start(engine, BatchSettings { batch_size: 1, timeout: Duration::ZERO })
            .unwrap();
    let (send, receive) = mpsc::channel();
    let camera = dispatcher.join(move |ticket, outcome| {
        let density = match outcome {
            Outcome::Counted { output, .. } => output.map().unwrap().to_vec(),
            _ => Vec::new(),
        };
        send.send((ticket, density)).unwrap();
    });
    let pictures = [Picture::new(64, 48, 10), Picture::new(64, 48, 240), Picture::new(64, 48, 120)];
    device.sim.hold();
    for (ticket, picture) in pictures.iter().enumerate() {
        let mut slot = camera.slot();
        slot.input.picture_mut().unwrap().stage(&picture.view(), picture.placement()).unwrap();
        camera.submit(ticket as u64, slot, 3);
    }
    // Both lanes have a batch on their streams, which stand still.
    assert!(device.sim.wait_for_waiting(2, BOUND));
    device.sim.release();
    for _ in 0..3 {
        let (ticket, density) = receive.recv_timeout(BOUND).unwrap();
        assert_close(&density, &pictures[ticket as usize].expected());
    }
}
