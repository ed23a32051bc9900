//! The CUDA layer and its kernels on a simulated GPU: see tests/gpu-sim.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use vehiclecount_core::cuda::{
    Context, CountOrder, CudaError, DeviceBuffer, Driver, Event, Kernels, PictureOrder,
    PinnedBuffer, Stream,
};
use vehiclecount_core::density::{DensityMap, Grid, Rect};
use vehiclecount_core::frame::{
    ColorMatrix, ColorRange, FrameFormat, FrameView, PixelFormat, Plane,
};
use vehiclecount_core::preprocess::{InputSize, Placement, Preprocessor, Resize};
use vehiclecount_core::region::Coverage;
use vehiclecount_gpu_sim::{Figure, Turn, turn};

/// Two simulated GPUs, for this test alone.
fn device() -> Turn {
    let turn = turn();
    turn.sim.configure(2, 12040, 0);
    turn
}

fn context() -> Arc<Context> {
    Driver::open().unwrap().context(0).unwrap()
}

#[test]
fn gpu_says_its_name_and_that_it_is_simulated() {
    let _device = device();
    let context = context();
    assert!(context.device().name.starts_with("Simulated GPU 0"), "{:?}", context.device());
    assert_eq!((context.device().compute_capability, context.device().memory), ((8, 9), 2 << 30));
    assert_eq!(Driver::open().unwrap().cuda_version(), "12.4");
    assert_eq!(Driver::open().unwrap().device(1).unwrap().index, 1);
}

#[test]
fn gpu_that_is_not_there_is_told_with_those_that_are() {
    let device = device();
    let driver = Driver::open().unwrap();
    assert_eq!(driver.context(2).err().unwrap(), CudaError::NoSuchDevice { index: 2, count: 2 });
    assert_eq!(
        driver.context(2).err().unwrap().to_string(),
        "there is no GPU 2: gpu-id goes from 0 to 1 here"
    );
    device.sim.configure(0, 12040, 0);
    assert_eq!(driver.context(0).err().unwrap(), CudaError::NoDevice);
}

#[test]
fn copy_from_pinned_memory_happens_when_its_turn_comes() {
    let device = device();
    let context = context();
    let stream = Stream::new(&context).unwrap();
    let buffer = DeviceBuffer::new(&context, 8, "numbers").unwrap();
    let mut pinned = PinnedBuffer::new(&context, 8, "numbers").unwrap();
    pinned.values_mut::<f32>().copy_from_slice(&[1.0, 2.0]);
    device.sim.hold();
    // SAFETY: eight bytes on both sides; the stream is waited for below.
    unsafe { stream.upload(buffer.address(), pinned.pointer(), 8).unwrap() };
    // What is written before the stream gets there arrives: the copy is really asynchronous.
    pinned.values_mut::<f32>()[1] = 3.0;
    device.sim.release();
    stream.synchronize().unwrap();
    assert_eq!(buffer.read::<f32>().unwrap(), [1.0, 3.0]);
}

#[test]
fn event_makes_one_stream_wait_for_another_and_has_a_time() {
    let _device = device();
    let context = context();
    let (first, second) = (Stream::new(&context).unwrap(), Stream::new(&context).unwrap());
    let (begin, end) = (Event::new(&context).unwrap(), Event::new(&context).unwrap());
    let buffer = DeviceBuffer::new(&context, 4, "a number").unwrap();
    let mut pinned = PinnedBuffer::new(&context, 8, "numbers").unwrap();
    pinned.values_mut::<f32>()[0] = 7.0;
    begin.record(&first).unwrap();
    // SAFETY: four bytes on both sides of each copy; both streams are waited for below.
    unsafe { first.upload(buffer.address(), pinned.pointer(), 4).unwrap() };
    end.record(&first).unwrap();
    second.wait_for(&end).unwrap();
    // SAFETY: as above.
    unsafe { second.download(pinned.pointer().add(4), buffer.address(), 4).unwrap() };
    second.synchronize().unwrap();
    end.synchronize().unwrap();
    assert_eq!(pinned.values::<f32>()[1], 7.0);
    end.since(&begin).unwrap();
}

#[test]
fn graph_repeats_its_work_with_what_lies_at_its_addresses_by_then() {
    let device = device();
    let context = context();
    let stream = Stream::new(&context).unwrap();
    let buffer = DeviceBuffer::new(&context, 4, "a number").unwrap();
    let mut pinned = PinnedBuffer::new(&context, 8, "numbers").unwrap();
    let replays = device.sim.figure(Figure::Replays);
    // SAFETY: what is recorded outlives the graph.
    let graph = unsafe {
        let record = |stream: &Stream| {
            stream.upload(buffer.address(), pinned.pointer(), 4)?;
            stream.download(pinned.pointer().add(4), buffer.address(), 4)
        };
        stream.capture(record, |error| error)
    }
    .unwrap();
    for value in [5.0, 6.0] {
        pinned.values_mut::<f32>()[0] = value;
        // SAFETY: the buffers are not used elsewhere before the wait.
        unsafe { stream.replay(&graph).unwrap() };
        stream.synchronize().unwrap();
        assert_eq!(pinned.values::<f32>(), [value, value]);
    }
    assert_eq!(device.sim.figure(Figure::Replays) - replays, 2);
}

#[test]
fn wait_inside_a_recording_spoils_it_and_the_stream_goes_on() {
    let _device = device();
    let context = context();
    let stream = Stream::new(&context).unwrap();
    // SAFETY: nothing is recorded.
    let spoilt = unsafe {
        let record = |stream: &Stream| {
            let _ = stream.synchronize();
            Ok(())
        };
        stream.capture(record, |error: CudaError| error)
    };
    assert!(matches!(spoilt, Err(CudaError::Call { call: "cuStreamEndCapture", .. })));
    stream.synchronize().unwrap();
}

#[test]
fn allocation_that_fails_says_for_what_and_how_much() {
    let device = device();
    let context = context();
    device.sim.fail_allocation(1);
    let error = DeviceBuffer::new(&context, 4096, "model inputs").err().unwrap();
    assert_eq!(error, CudaError::OutOfMemory { what: "model inputs", bytes: 4096 });
    assert!(!error.is_lost());
    let error = DeviceBuffer::new(&context, 3 << 30, "model inputs").err().unwrap();
    assert!(error.to_string().starts_with("out of memory for 3221225472 bytes of model inputs"));
    // The next one that fits is served.
    DeviceBuffer::new(&context, 4096, "model inputs").unwrap();
}

#[test]
fn failed_launch_shows_at_the_next_wait_and_the_context_is_lost() {
    let device = device();
    let kernels = Kernels::load(&context()).unwrap();
    device.sim.fail_launch(1);
    let error = kernels.count_now(&[CountOrder::new(0, 0)], &[1.0; 4], 4).unwrap_err();
    assert!(error.is_lost() && error.to_string().contains("CUDA_ERROR_LAUNCH_FAILED"), "{error}");
    assert!(kernels.count_now(&[CountOrder::new(0, 0)], &[1.0; 4], 4).unwrap_err().is_lost());
}

/// Some bytes for every picture, noisy enough that a wrong tap shows.
fn bytes(seed: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| ((at + seed) as u32).wrapping_mul(0x9E37_79B1).rotate_left(11) as u8)
        .collect()
}

#[test]
fn one_launch_serves_pictures_of_all_formats_and_sizes() {
    let device = device();
    let kernels = Kernels::load(&context()).unwrap();
    let input = InputSize { width: 160, height: 96 };
    let sizes = [(1, 1), (7, 5), (320, 180), (97, 301), (160, 96), (2000, 3), (641, 361)];
    let mut held = Vec::new();
    let (mut orders, mut expected) = (Vec::new(), Vec::new());
    for (index, pixels) in PixelFormat::ALL.into_iter().enumerate() {
        for (width, height) in sizes {
            let matrix = if index % 2 == 0 { ColorMatrix::Bt709 } else { ColorMatrix::Bt601 };
            let range = if width % 2 == 0 { ColorRange::Full } else { ColorRange::Limited };
            let format = FrameFormat { matrix, range, ..FrameFormat::new(pixels, width, height) };
            let planes: Vec<(Vec<u8>, usize)> = (0..pixels.planes())
                .map(|plane| {
                    let (samples, rows, size) = format.plane_size(plane);
                    let stride = samples * size + index % 5 * 3;
                    (bytes(index + 31 * plane + width, stride * rows), stride)
                })
                .collect();
            let views: Vec<Plane<'_>> =
                planes.iter().map(|(data, stride)| Plane { data, stride: *stride }).collect();
            let resize = if index % 3 == 0 { Resize::Stretch } else { Resize::Letterbox };
            let mut preprocessor = Preprocessor::new(format, resize, input);
            let mut values = vec![0.0; input.values()];
            preprocessor.run(&FrameView::new(format, &views).unwrap(), &mut values);
            expected.extend(values);
            let on_gpu: Vec<_> = planes
                .iter()
                .map(|(data, stride)| {
                    let buffer = DeviceBuffer::holding(kernels.context(), data, "a plane").unwrap();
                    let plane = (buffer.address(), *stride, data.len());
                    held.push(buffer);
                    plane
                })
                .collect();
            let placement = preprocessor.placement();
            orders.push(PictureOrder::new(format, placement, &on_gpu, orders.len()).unwrap());
        }
    }
    let launches = device.sim.figure(Figure::Launches);
    let got = kernels.preprocess_now(&orders, input).unwrap();
    assert_eq!(device.sim.figure(Figure::Launches) - launches, 1);
    let far =
        got.iter().zip(&expected).map(|(got, expected)| (got - expected).abs()).fold(0.0, f32::max);
    assert!(far <= 0.05, "{far} levels from the twin, which works in fixed point");
}

#[test]
fn input_that_is_there_already_is_left_alone() {
    let _device = device();
    let kernels = Kernels::load(&context()).unwrap();
    let input = InputSize { width: 8, height: 8 };
    let values = kernels.preprocess_now(&[PictureOrder::nothing(0)], input).unwrap();
    // Untouched memory of the simulated device is NaN.
    assert!(values.iter().all(|value| value.is_nan()));
}

#[test]
fn picture_that_cannot_be_is_refused_with_figures() {
    let format = |width, height| FrameFormat::new(PixelFormat::Nv12, width, height);
    let input = InputSize { width: 8, height: 8 };
    let placement = Placement::new(Resize::Letterbox, 16, 16, input);
    let order = |format, planes: &[(u64, usize, usize)]| {
        PictureOrder::new(format, placement, planes, 0).unwrap_err().to_string()
    };
    assert!(order(format(16, 16), &[(4096, 16, 256)]).contains("1 planes: it needs 2"));
    assert!(
        order(format(16, 16), &[(4096, 15, 256), (8192, 16, 128)])
            .contains("shorter than a row of 16")
    );
    assert!(
        order(format(16, 16), &[(4096, 16, 256), (8192, 16, 127)])
            .contains("127 bytes of memory where 128")
    );
    assert!(order(format(40_000, 16), &[]).contains("40000x16: sides go from 1 to 32768"));
}

#[test]
fn counts_on_the_gpu_are_those_of_the_density_map_and_its_regions() {
    let _device = device();
    let kernels = Kernels::load(&context()).unwrap();
    let grid =
        Grid { columns: 48, rows: 27, rect: Rect { x: 0.0, y: -0.2, width: 1.0, height: 1.4 } };
    let polygons = [
        vec![[0.1, 0.1], [0.9, 0.2], [0.5, 0.95]],
        vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]],
        vec![[0.3, 0.3], [0.35, 0.3], [0.35, 0.36]],
    ];
    let coverage = polygons.map(|polygon| Coverage::new(&polygon, &grid));
    let mut weights = vec![0.0f32; coverage.len() * grid.len()];
    for (coverage, weights) in coverage.iter().zip(weights.chunks_exact_mut(grid.len())) {
        coverage.cells().iter().for_each(|&(cell, share)| weights[cell as usize] = share);
    }
    let buffer = DeviceBuffer::holding(kernels.context(), &weights, "region weights").unwrap();
    let maps: Vec<Vec<f32>> = (0..3)
        .map(|frame| {
            bytes(frame, grid.len()).into_iter().map(|byte| f32::from(byte) / 2550.0).collect()
        })
        .collect();
    let orders = [
        CountOrder::new(buffer.address(), 3),
        CountOrder::new(0, 0),
        CountOrder::new(buffer.address(), 2),
    ];
    let counts = kernels.count_now(&orders, &maps.concat(), grid.len()).unwrap();
    assert_eq!(counts.iter().map(Vec::len).collect::<Vec<_>>(), [4, 1, 3]);
    for (counts, cells) in counts.iter().zip(&maps) {
        let map = DensityMap { grid, cells: cells.as_slice().into() };
        // Stated in density.cu: 4e-6 of the sum of all magnitudes.
        let bound = 4e-6 * map.count();
        assert!(
            (f64::from(counts[0]) - map.count()).abs() <= bound,
            "{} and {}",
            counts[0],
            map.count()
        );
        for (count, coverage) in counts[1..].iter().zip(&coverage) {
            assert!((f64::from(*count) - coverage.count(&map)).abs() <= bound);
        }
    }
}

#[test]
fn cell_that_is_no_number_shows_in_the_whole() {
    let _device = device();
    let kernels = Kernels::load(&context()).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 129, 299] {
            let mut cells = vec![0.25; 300];
            cells[at] = bad;
            let counts = kernels.count_now(&[CountOrder::new(0, 0)], &cells, 300).unwrap();
            assert!(!counts[0][0].is_finite());
        }
    }
}
