//! Frames in GPU memory, and contexts that are shared.

use super::*;

/// Says that a test is skipped, unless VEHICLECOUNT_REQUIRE_GSTCUDA asks for it.
fn skip_without_libgstcuda() {
    assert!(
        std::env::var_os("VEHICLECOUNT_REQUIRE_GSTCUDA").is_none(),
        "there is no libgstcuda-1.0"
    );
    eprintln!("skipped: no libgstcuda");
}

/// A function of libgstcuda; `None` where that is not there.
fn libgstcuda<T: Copy>(name: &str) -> Option<T> {
    // SAFETY: GStreamer's library, which stays; the caller knows the function's type.
    unsafe {
        let library = libloading::Library::new("libgstcuda-1.0.so.0").ok()?;
        let function = *library.get::<T>(name.as_bytes()).unwrap();
        std::mem::forget(library);
        Some(function)
    }
}

/// A CUDA context that an application makes by itself on GPU `index`, and that context as GStreamer
/// passes it on.
fn application_context(index: u32) -> Option<(glib::Object, gst::Context)> {
    use glib::translate::{FromGlibPtrFull, ToGlibPtr};
    type New = unsafe extern "C" fn(u32) -> *mut glib::gobject_ffi::GObject;
    type Wrap = unsafe extern "C" fn(*mut glib::gobject_ffi::GObject) -> *mut gst::ffi::GstContext;
    let load: unsafe extern "C" fn() -> i32 = libgstcuda("gst_cuda_load_library")?;
    let (new, wrap) = (
        libgstcuda::<New>("gst_cuda_context_new")?,
        libgstcuda::<Wrap>("gst_context_new_cuda_context")?,
    );
    // SAFETY: the functions have these types; each returns something that is ours.
    unsafe {
        assert_ne!(load(), 0);
        let object = glib::Object::from_glib_full(new(index));
        let context = gst::Context::from_glib_full(wrap(object.to_glib_none().0));
        Some((object, context))
    }
}

/// The CUDA context that the counter hands out; `None` where there is no libgstcuda.
fn counters_context() -> Option<glib::Object> {
    let counter = counter("tensorrt");
    let pad = counter.request_pad_simple("sink_0").unwrap();
    counter.set_state(gst::State::Paused).unwrap();
    let mut query = gst::query::Context::new("gst.cuda.context");
    let object = pad.query(&mut query).then(|| {
        query.context().unwrap().structure().get::<glib::Object>("gst.cuda.context").unwrap()
    });
    counter.set_state(gst::State::Null).unwrap();
    object
}

/// When the application sets its context.
#[derive(Clone, Copy, PartialEq)]
enum Set {
    Never,
    Before,
    WhenAsked,
    Late,
}

/// Eight frames that libgstcuda makes on the GPU, in the context `object`, through a counter: what
/// it warned of, and how many bytes went to the host. Each is counted right.
fn through_the_counter(
    device: &Turn,
    object: &glib::Object,
    context: Option<&gst::Context>,
    set: Set,
) -> (Vec<String>, i64) {
    let counter = counter("tensorrt");
    let text = "video/x-raw(memory:CUDAMemory),format=NV12,width=320,height=180,framerate=25/1,colorimetry=bt709";
    let caps: gst::Caps = text.parse().unwrap();
    let pipeline = gst::Pipeline::new();
    let source = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).build();
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).build().unwrap();
    pipeline.add_many([source.upcast_ref::<gst::Element>(), &counter, &sink]).unwrap();
    source.link_pads(Some("src"), &counter, Some("sink_0")).unwrap();
    counter.link_pads(Some("src_0"), &sink, Some("sink")).unwrap();
    let reports = Reports::default();
    reports.collect(&counter.static_pad("src_0").unwrap());
    match (set, context) {
        (Set::Before, Some(context)) => pipeline.set_context(context),
        (Set::WhenAsked, Some(context)) => {
            let context = context.clone();
            pipeline.bus().unwrap().set_sync_handler(move |_, message| {
                if let gst::MessageView::NeedContext(need) = message.view() {
                    assert_eq!(need.context_type(), "gst.cuda.context");
                    let element = message.src().unwrap().downcast_ref::<gst::Element>().unwrap();
                    element.set_context(&context);
                }
                gst::BusSyncReply::Pass
            });
        }
        _ => {}
    }
    let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
    let pool = cuda_pool(object, &caps, &info);
    pool.set_active(true).unwrap();
    for frame in 0..8u64 {
        let mut buffer = pool.acquire_buffer(None).unwrap();
        {
            let buffer = buffer.get_mut().unwrap();
            buffer.set_pts(frame * gst::ClockTime::from_mseconds(40));
            let mut picture =
                gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, &info).unwrap();
            picture.plane_data_mut(0).unwrap().fill(60 + 10 * frame as u8);
            picture.plane_data_mut(1).unwrap().fill(128);
        }
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let downloaded = device.sim.figure(Figure::DownloadedBytes);
    if let (Set::Late, Some(context)) = (set, context) {
        pipeline.set_state(gst::State::Paused).unwrap();
        counter.set_context(context);
    }
    let _ = pipeline.set_state(gst::State::Playing);
    let warnings = warnings_to_end(&pipeline);
    pipeline.bus().unwrap().unset_sync_handler();
    pipeline.set_state(gst::State::Null).unwrap();
    let downloaded = device.sim.figure(Figure::DownloadedBytes) - downloaded;
    let reports = reports.all().remove("camera-0").unwrap();
    assert_eq!(reports.len(), 8);
    for (frame, report) in reports.iter().enumerate() {
        // 320x180 fills 72 of 96 rows; the border of 114 the rest. Grey of limited range.
        let grey = (60.0 + 10.0 * frame as f64 - 16.0) * 255.0 / 219.0;
        let expected = (16.0 * 9.0 * grey + 16.0 * 3.0 * 114.0) / 255.0;
        let got = report.count.unwrap().raw;
        assert!(
            !report.stale && (got - expected).abs() < 1e-2,
            "frame {frame}: {got}, not {expected}"
        );
    }
    pool.set_active(false).unwrap();
    drop((pool, source, sink, counter));
    assert_no_leak(pipeline);
    (warnings, downloaded)
}

/// Bytes of four frames: with less, no frame went to the host, but maps and counts.
const FEW: i64 = 4 * 320 * 180 * 3 / 2;

/// A camera in GPU memory: GStreamer's own libgstcuda makes the frames, in the context that the
/// counter hands out.
#[test]
fn frames_in_gpu_memory_are_read_where_they_lie() {
    let Some(device) = device() else { return };
    // The plan is there, so that building makes no traffic.
    count("tensorrt", 1, true);
    let Some(object) = counters_context() else {
        skip_without_libgstcuda();
        return;
    };
    let (warnings, downloaded) = through_the_counter(&device, &object, None, Set::Never);
    assert!(warnings.is_empty() && downloaded < FEW, "{warnings:?}, {downloaded} bytes");
    drop(object);
}

#[test]
fn context_of_the_application_is_the_engines_too() {
    let Some(device) = device() else { return };
    count("tensorrt", 1, true);
    let Some((object, context)) = application_context(0) else {
        skip_without_libgstcuda();
        return;
    };
    for set in [Set::Before, Set::WhenAsked, Set::Before] {
        let (warnings, downloaded) = through_the_counter(&device, &object, Some(&context), set);
        assert!(warnings.is_empty() && downloaded < FEW, "{warnings:?}, {downloaded} bytes");
    }
    drop((context, object));
    // With the last one who holds it, the context goes.
    assert_eq!(device.sim.alive(), []);
}

/// From GStreamer 1.24 on, a decoder pushes a frame that its GPU is still writing.
#[test]
fn frame_that_the_gpu_still_writes_is_counted_as_it_is_when_it_is_written() {
    let Some(device) = device() else { return };
    count("tensorrt", 1, true);
    let (Some(gstcuda), Some(object)) = (GstCuda::install(), counters_context()) else {
        skip_without_libgstcuda();
        return;
    };
    let context = Driver::open().unwrap().context(0).unwrap();
    let producer = Stream::new(&context).unwrap();
    let counter = counter("tensorrt");
    let text = "video/x-raw(memory:CUDAMemory),format=NV12,width=320,height=180,framerate=25/1,colorimetry=bt709";
    let caps: gst::Caps = text.parse().unwrap();
    let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
    let pipeline = gst::Pipeline::new();
    let source = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).build();
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).build().unwrap();
    pipeline.add_many([source.upcast_ref::<gst::Element>(), &counter, &sink]).unwrap();
    source.link_pads(Some("src"), &counter, Some("sink_0")).unwrap();
    counter.link_pads(Some("src_0"), &sink, Some("sink")).unwrap();
    let reports = Reports::default();
    reports.collect(&counter.static_pad("src_0").unwrap());
    let pool = cuda_pool(&object, &caps, &info);
    pool.set_active(true).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bound = std::time::Duration::from_secs(20);
    for frame in 0..4u64 {
        let mut buffer = pool.acquire_buffer(None).unwrap();
        let (address, bytes) = {
            let buffer = buffer.get_mut().unwrap();
            buffer.set_pts(frame * gst::ClockTime::from_mseconds(40));
            let mut picture =
                gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, &info).unwrap();
            // Black, until the GPU has written it.
            picture.plane_data_mut(0).unwrap().fill(16);
            picture.plane_data_mut(1).unwrap().fill(128);
            let bytes = picture.plane_stride()[0] as usize * 180;
            drop(picture);
            (gpu_address(buffer), bytes)
        };
        let mut luma = PinnedBuffer::new(&context, bytes, "a frame").unwrap();
        luma.values_mut::<u8>().fill(60 + 40 * frame as u8);
        device.sim.hold_stream(producer.handle());
        // SAFETY: the plane has so many bytes; buffer and memory stay until the stream has been
        // waited for.
        unsafe { producer.upload(address, luma.pointer(), bytes).unwrap() };
        gstcuda.write_on(producer.handle());
        source.push_buffer(buffer.clone()).unwrap();
        // The copy, the mark behind it, and behind its wait the lane's own work.
        let waits = device.sim.wait_for_waiting(2 + 2, bound);
        device.sim.release_stream(producer.handle());
        producer.synchronize().unwrap();
        assert!(waits, "nothing waits for frame {frame}");
    }
    source.end_of_stream().unwrap();
    let warnings = warnings_to_end(&pipeline);
    pipeline.set_state(gst::State::Null).unwrap();
    gstcuda.write_on(std::ptr::null_mut());
    assert!(warnings.is_empty(), "{warnings:?}");
    for (frame, report) in reports.all().remove("camera-0").unwrap().iter().enumerate() {
        let grey = (60.0 + 40.0 * frame as f64 - 16.0) * 255.0 / 219.0;
        let expected = (16.0 * 9.0 * grey + 16.0 * 3.0 * 114.0) / 255.0;
        let got = report.count.unwrap().raw;
        assert!((got - expected).abs() < 1e-2, "frame {frame}: {got}, not {expected}");
    }
    pool.set_active(false).unwrap();
    drop((pool, source, sink, counter, producer, context, object));
    assert_no_leak(pipeline);
}

/// Where the frame in `buffer`, a GstCudaMemory, lies on the GPU; what the host has written goes
/// there first.
fn gpu_address(buffer: &gst::BufferRef) -> u64 {
    let memory = buffer.peek_memory(0).as_mut_ptr();
    let mut map = std::mem::MaybeUninit::<gst::ffi::GstMapInfo>::uninit();
    let flags = gst::ffi::GST_MAP_READ | gst::ffi::GST_MAP_FLAG_LAST << 1;
    // SAFETY: the buffer's memory, mapped on the GPU and unmapped once; the address stays as long
    // as the memory.
    unsafe {
        assert_ne!(gst::ffi::gst_memory_map(memory, map.as_mut_ptr(), flags), 0);
        let mut map = map.assume_init();
        let address = map.data as u64;
        gst::ffi::gst_memory_unmap(memory, &mut map);
        address
    }
}

/// An application in Rust makes its context with cudarc.
#[cfg(feature = "cudarc")]
#[test]
fn context_of_cudarc_is_the_engines_too_and_comes_back() {
    use std::sync::Arc;

    use cudarc::driver::CudaContext;
    use gstvehiclecount::interop::{context_from_cudarc, context_to_cudarc};
    let Some(device) = device() else { return };
    count("tensorrt", 1, true);
    let Some(counters) = counters_context() else {
        skip_without_libgstcuda();
        return;
    };
    let mut held = gst::Context::new("gst.cuda.context", true);
    for application in [CudaContext::new_non_primary(0, 0).unwrap(), CudaContext::new(0).unwrap()] {
        let context = context_from_cudarc(&application).unwrap();
        assert!(Arc::ptr_eq(&context_to_cudarc(&context).unwrap(), &application));
        let object = context.structure().get::<glib::Object>("gst.cuda.context").unwrap();
        let (warnings, downloaded) =
            through_the_counter(&device, &object, Some(&context), Set::Before);
        assert!(warnings.is_empty() && downloaded < FEW, "{warnings:?}, {downloaded} bytes");
    }
    // The counter's own context, for cudarc.
    // SAFETY: a GstCudaContext may be used in any thread.
    let value = unsafe {
        use glib::translate::{FromGlibPtrNone, ToGlibPtr};
        glib::SendValue::from_glib_none(counters.to_value().to_glib_none().0)
    };
    held.get_mut().unwrap().structure_mut().set_value("gst.cuda.context", value);
    let primary = CudaContext::new(0).unwrap();
    assert_eq!(context_to_cudarc(&held).unwrap().cu_ctx(), primary.cu_ctx());
    // One of a third library.
    let (object, context) = application_context(0).unwrap();
    let error = context_to_cudarc(&context).unwrap_err().to_string();
    assert!(error.contains("make the context with cudarc"), "{error}");
    drop((object, context, primary, counters, held));
    assert_eq!(device.sim.alive(), []);
}

#[test]
fn context_that_cannot_be_the_engines_is_told_and_its_frames_go_through_the_host() {
    let Some(device) = device() else { return };
    count("tensorrt", 1, true);
    device.sim.configure(2, 12040, 0);
    let Some((object, context)) = application_context(0) else {
        skip_without_libgstcuda();
        return;
    };
    let (mut warnings, _) = through_the_counter(&device, &object, Some(&context), Set::Late);
    // Frames come while it is set, or after.
    warnings.sort();
    assert!(warnings.len() == 2 && warnings[1].contains("comes too late"), "{warnings:?}");
    assert!(
        warnings[0].contains("Camera camera-0: its frames are copied through host memory"),
        "{warnings:?}"
    );
    let (other, elsewhere) = application_context(1).unwrap();
    let (warnings, _) = through_the_counter(&device, &other, Some(&elsewhere), Set::Before);
    assert!(warnings[0].contains("it is on GPU 1, and gpu-id is 0"), "{warnings:?}");
    drop((context, object, elsewhere, other));
    device.sim.configure(1, 12040, 0);
}

/// A pool of frames on the GPU, of libgstcuda's own.
fn cuda_pool(
    context: &glib::Object,
    caps: &gst::Caps,
    info: &gst_video::VideoInfo,
) -> gst::BufferPool {
    use glib::translate::{FromGlibPtrFull, ToGlibPtr};
    type New =
        unsafe extern "C" fn(*mut glib::gobject_ffi::GObject) -> *mut gst::ffi::GstBufferPool;
    let new: New = libgstcuda("gst_cuda_buffer_pool_new").unwrap();
    // SAFETY: the function has this type, takes the context of that library, and returns a pool
    // that is ours.
    let pool: gst::BufferPool =
        unsafe { gst::BufferPool::from_glib_full(new(context.to_glib_none().0)) };
    let mut config = pool.config();
    config.set_params(Some(caps), info.size() as u32, 0, 0);
    pool.set_config(config).unwrap();
    pool
}
