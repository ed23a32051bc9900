//! An application in Rust that uses cudarc, beside an engine: contexts and streams go from one to
//! the other, on the simulated GPU. cudarc has bindings of its own, so that it is a second witness
//! of what the simulated driver does.

#![allow(clippy::unwrap_used)]

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::{CudaContext, CudaStream, DevicePtr};
use vehiclecount_core::cuda::{Context, CudaError, DeviceBuffer, Driver, ForeignStream, Stream};
use vehiclecount_core::engine::gpu::{GpuEngine, Network};
use vehiclecount_core::engine::{Engine, EngineInfo, EngineKind, Slot};
use vehiclecount_core::frame::{FrameFormat, PixelFormat};
use vehiclecount_core::preprocess::{InputSize, Placement, Resize};
use vehiclecount_gpu_sim::{Figure, Sim, turn};

const INPUT: InputSize = InputSize { width: 64, height: 48 };
const GRID: (usize, usize) = (8, 6);
const BOUND: Duration = Duration::from_secs(20);

/// A network that counts the red of a picture.
struct Red {
    sim: &'static Sim,
    context: Arc<Context>,
    batch: (usize, u64, u64),
}

impl Network for Red {
    fn min_batch(&self) -> usize {
        1
    }

    fn set_batch(&mut self, batch: usize, input: u64, output: u64) -> Result<(), String> {
        self.batch = (batch, input, output);
        Ok(())
    }

    unsafe fn enqueue(&mut self, stream: *mut c_void) -> Result<(), String> {
        let (batch, input, output) = self.batch;
        let _entered = self.context.enter().map_err(|error| error.to_string())?;
        match self.sim.network(stream, input, output, batch, (INPUT.width, INPUT.height), GRID) {
            0 => Ok(()),
            code => Err(format!("code {code}")),
        }
    }
}

/// An engine that works in `context`.
fn engine(sim: &'static Sim, context: &Arc<Context>) -> GpuEngine {
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
        lanes: 1,
    };
    let own = context.clone();
    let networks = Box::new(move || {
        Ok(Box::new(Red { sim, context: own.clone(), batch: (0, 0, 0) }) as Box<dyn Network>)
    });
    GpuEngine::new(info, context.clone(), 1, networks).unwrap()
}

/// The contexts that an application can have: its own, and the GPU's primary one.
fn contexts() -> [Arc<CudaContext>; 2] {
    [CudaContext::new_non_primary(0, 0).unwrap(), CudaContext::new(0).unwrap()]
}

/// A grey frame of [`INPUT`]'s size in red, green and blue, in cudarc's memory, written on
/// `stream`; the count of its map.
fn count_a_frame(sim: &'static Sim, engine: &GpuEngine, stream: &Arc<CudaStream>, grey: u8) -> f64 {
    let format = FrameFormat::new(PixelFormat::Rgb, INPUT.width, INPUT.height);
    let stride = INPUT.width * 3;
    let placement = Placement::new(Resize::Letterbox, INPUT.width, INPUT.height, INPUT);
    let pixels = vec![grey; stride * INPUT.height];
    let mut slot = Slot::best_for(engine);
    let mut lane = engine.lane().unwrap();
    let handle = ForeignStream::from(&**stream);
    sim.hold_stream(handle.0);
    // The memory's content is what it was before until the stream goes on.
    let frame = stream.clone_htod(&pixels).unwrap();
    let (address, _guard) = frame.device_ptr(stream);
    let plane = (address, stride, pixels.len());
    let picture = slot.input.picture_mut().unwrap();
    // SAFETY: the frame is kept until the batch is done, in the engine's context; so is the stream.
    unsafe { picture.lend(format, placement, &[plane], Some(handle), Box::new(())) }.unwrap();
    let producers =
        (0..).take_while(|&count| sim.wait_for_waiting(count + 1, Duration::ZERO)).count() as i64;
    std::thread::scope(|scope| {
        let counted = scope.spawn(|| lane.infer(std::slice::from_mut(&mut slot)));
        // Behind its wait, the lane has work of its own.
        let waits = sim.wait_for_waiting(producers + 2, BOUND);
        sim.release_stream(handle.0);
        counted.join().unwrap().unwrap();
        assert!(waits, "the lane does not wait");
    });
    slot.output.total()
}

#[test]
fn engine_works_in_the_context_of_cudarc_and_waits_for_its_stream() {
    let device = turn();
    for application in contexts() {
        let context = Context::from_cudarc(&application).unwrap();
        assert_eq!(context.handle(), application.cu_ctx().cast());
        let engine = engine(device.sim, &context);
        let stream = application.new_stream().unwrap();
        for grey in [51, 204] {
            let count = count_a_frame(device.sim, &engine, &stream, grey);
            let expected = (GRID.0 * GRID.1) as f64 * f64::from(grey) / 255.0;
            assert!((count - expected).abs() < 1e-3, "{count}, not {expected}");
        }
    }
}

#[test]
fn context_of_cudarc_comes_back_as_it_was_and_lives_as_long_as_it_is_used() {
    let _device = turn();
    for application in contexts() {
        let handle = application.cu_ctx();
        let context = Context::from_cudarc(&application).unwrap();
        let back = context.to_cudarc().unwrap();
        assert!(Arc::ptr_eq(&back, &application));
        // The application lets go first: the engine's memory is still good.
        drop((application, back));
        let buffer = DeviceBuffer::holding(&context, &[7u8; 64], "a test").unwrap();
        assert_eq!(buffer.read::<u8>().unwrap(), [7; 64]);
        assert_eq!(context.to_cudarc().unwrap().cu_ctx(), handle);
    }
}

#[test]
fn engines_own_context_goes_to_cudarc_and_the_other_way_round() {
    let device = turn();
    let context = Driver::open().unwrap().context(0).unwrap();
    let application = context.to_cudarc().unwrap();
    assert_eq!((application.cu_ctx().cast(), application.is_primary()), (context.handle(), true));
    // What cudarc writes, this program reads, and the reverse.
    let stream = application.new_stream().unwrap();
    let values = stream.clone_htod(&[1.5f32, -2.0, 1e9]).unwrap();
    let mut read = [0.0f32; 3];
    let own = Stream::from_cudarc(&stream).unwrap();
    {
        let (address, _guard) = values.device_ptr(&stream);
        // SAFETY: three numbers on both sides, which stay until the stream has been waited for.
        unsafe { own.download(read.as_mut_ptr().cast(), address, size_of_val(&read)).unwrap() };
        own.synchronize().unwrap();
    }
    assert_eq!(read, [1.5, -2.0, 1e9]);
    // SAFETY: what is returned is the very stream of cudarc.
    assert!(Arc::ptr_eq(&unsafe { own.to_cudarc() }.unwrap(), &stream));
    let ours = Stream::new(&context).unwrap();
    {
        // SAFETY: `ours` lives longer.
        let theirs = unsafe { ours.to_cudarc() }.unwrap();
        assert_eq!(theirs.cu_stream().cast(), ours.handle());
        let doubled = theirs.clone_htod(&[4u8, 5]).unwrap();
        assert_eq!(theirs.clone_dtoh(&doubled).unwrap(), [4, 5]);
    }
    // cudarc did not destroy what it had borrowed.
    ours.synchronize().unwrap();
    drop((values, stream, own, ours));
    assert_eq!(device.sim.figure(Figure::Streams), 0);
}

#[test]
fn threads_current_context_stays_as_it_is() {
    let _device = turn();
    let [own, primary] = contexts();
    own.bind_to_thread().unwrap();
    let current = || cudarc::driver::result::ctx::get_current().unwrap().unwrap();
    let before = current();
    let context = Context::from_cudarc(&primary).unwrap();
    let buffer = DeviceBuffer::holding(&context, &[1u8; 8], "a test").unwrap();
    drop(buffer);
    // cudarc itself makes a context current when it lets go of it: not before the end.
    let theirs = Driver::open().unwrap().context(0).unwrap().to_cudarc().unwrap();
    assert_eq!(current(), before);
    assert_ne!(current(), primary.cu_ctx());
    drop(theirs);
}

#[test]
fn context_of_a_third_library_is_not_given_to_cudarc_which_would_destroy_it() {
    let device = turn();
    let third = CudaContext::new_non_primary(0, 0).unwrap();
    // SAFETY: the context lives longer than what is lent of it.
    let lent = unsafe {
        Context::lent(Driver::open().unwrap(), third.cu_ctx().cast(), Box::new("GStreamer"))
    };
    let error = lent.unwrap().to_cudarc().unwrap_err();
    assert!(
        matches!(&error, CudaError::Interop(what) if what.contains("make the context with cudarc")),
        "{error}"
    );
    assert_eq!(device.sim.figure(Figure::Contexts), 1);
    drop(third);
}
