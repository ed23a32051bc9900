//! Building plans: an ONNX network, made into one that runs on a kind of GPU.

use std::ffi::{CStr, c_char, c_void};
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::plan::append;
use super::{Flavour, Library, Precision, TensorRtError, ffi, log};
use crate::preprocess::InputSize;

/// What is built.
#[derive(Clone, Debug)]
pub struct Build<'a> {
    /// The network, as ONNX.
    pub onnx: &'a [u8],
    /// Size of its input.
    pub input: InputSize,
    /// Batches from 1 to this.
    pub max_batch: usize,
    /// TensorRT 10 alone: it may choose FP16 for any layer of a graph that says FP32.
    pub half: bool,
    /// TensorRT 10 alone: an existing calibration table, by which it may choose INT8 for any layer.
    pub calibration: Option<&'a [u8]>,
    /// TensorRT-RTX alone: compute capabilities times ten, such as 89; empty for the GPU at hand.
    pub capabilities: &'a [u32],
    /// Keeps names and precisions of layers in the plan.
    pub detailed: bool,
    /// What earlier builds on this GPU measured ([`BuildOutput::timings`]); nothing for none. What
    /// does not fit is left out. Not for TensorRT-RTX, which measures nothing.
    pub timings: &'a [u8],
}

/// What a build makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildOutput {
    /// The plan.
    pub plan: Vec<u8>,
    /// How long each way took to do what a layer does, measured now and before: the longest part of
    /// a build, of which the next one of the same layers is spared. Empty with TensorRT-RTX.
    pub timings: Vec<u8>,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Another process, or another element of this one, builds the same. Told again and again.
    Waiting,
    /// A build begins.
    Building {
        /// What is built, in words.
        what: &'a str,
        /// Why a plan that is there cannot be used.
        instead: Option<&'a str>,
    },
    /// The plan is built.
    Built {
        /// Why it is not kept for the next start.
        unkept: Option<&'a str>,
    },
    /// A precision is timed.
    Timing {
        /// Which one.
        precision: Precision,
    },
    /// TensorRT-RTX compiles a plan's kernels for the GPU at hand, when its first lane is made: it
    /// takes seconds.
    Compiling,
    /// A phase of a build begins, perhaps inside another one.
    Begin {
        /// Its name, TensorRT's own.
        phase: &'a str,
        /// The phase that it belongs to.
        parent: Option<&'a str>,
        /// Number of steps.
        steps: u32,
    },
    /// A step is done.
    Step {
        /// The phase.
        phase: &'a str,
        /// Which step, from 0 on.
        step: u32,
    },
    /// A phase is done.
    End {
        /// The phase.
        phase: &'a str,
    },
}

pub(super) type OnProgress<'a> = &'a (dyn Fn(Progress<'_>) -> bool + Sync);

struct Watcher<'a> {
    watch: OnProgress<'a>,
    ended: AtomicBool,
}

impl Library {
    /// Builds a plan: seconds with TensorRT-RTX, minutes with TensorRT. `watch` is told of the
    /// progress, by any thread, and ends the build by returning false.
    pub fn build(
        &self,
        build: &Build<'_>,
        watch: OnProgress<'_>,
    ) -> Result<BuildOutput, TensorRtError> {
        let refused = |reason| TensorRtError::Build { library: self.to_string(), reason };
        if build.max_batch == 0 {
            return Err(refused("a batch of 0 was asked for".to_owned()));
        }
        if (build.half || build.calibration.is_some())
            && (self.flavour(), self.version().major) != (Flavour::TensorRt, 10)
        {
            return Err(refused(
                "only TensorRT 10 takes a calibration table, or chooses FP16 by itself: later ones do what the graph says".to_owned(),
            ));
        }
        let (create_parser, parser_version) = self.parser()?;
        let capabilities: Vec<i32> =
            build.capabilities.iter().map(|capability| capability.cast_signed()).collect();
        let watcher = Watcher { watch, ended: AtomicBool::new(false) };
        let (table, table_size) =
            build.calibration.map_or((ptr::null(), 0), |table| (table.as_ptr(), table.len()));
        let size = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let ask = ffi::Build {
            create_builder: self.create_builder,
            create_parser,
            version: self.number,
            parser_version,
            onnx: build.onnx.as_ptr().cast(),
            onnx_size: build.onnx.len(),
            channels: 3,
            height: size(build.input.height),
            width: size(build.input.width),
            min_batch: 1,
            // The largest is what a busy counter runs.
            opt_batch: size(build.max_batch),
            max_batch: size(build.max_batch),
            half: build.half.into(),
            calibration: table.cast(),
            calibration_size: table_size,
            capabilities: capabilities.as_ptr(),
            capability_count: i32::try_from(capabilities.len()).unwrap_or(i32::MAX),
            detailed: build.detailed.into(),
            timings: if build.timings.is_empty() {
                ptr::null()
            } else {
                build.timings.as_ptr().cast()
            },
            timings_size: build.timings.len(),
            progress: Some(progress),
            progress_user: ptr::from_ref(&watcher).cast_mut().cast(),
        };
        // One place for all texts: the shim hands `user` to each function.
        let mut texts = Texts::default();
        log::forget();
        // SAFETY: entry points and shim are of one family, as was checked when the library opened;
        // all that `ask` points to lives through the call, and TensorRT keeps nothing of it; the
        // three functions get the texts that they are made for.
        let done = unsafe {
            (self.shim.build)(
                &ask,
                self.logger,
                ptr::from_mut(&mut texts).cast(),
                append_plan,
                append_timings,
                append_reason,
            )
        };
        let Texts { plan, timings, reason } = texts;
        if done != 0 {
            return Ok(BuildOutput { plan, timings });
        }
        if watcher.ended.load(Ordering::Relaxed) {
            return Err(TensorRtError::Ended);
        }
        let reason = String::from_utf8_lossy(&reason);
        // The parser's error says all; others have their cause in the log.
        let parser = reason.starts_with("the ONNX parser refuses node");
        Err(refused(if parser { reason.into_owned() } else { log::with_reason(&reason) }))
    }
}

#[derive(Default)]
struct Texts {
    plan: Vec<u8>,
    timings: Vec<u8>,
    reason: Vec<u8>,
}

unsafe extern "C" fn append_plan(user: *mut c_void, text: *const c_char, length: usize) {
    // SAFETY: `build` hands over its texts and does not use them meanwhile.
    unsafe { append((&raw mut (*user.cast::<Texts>()).plan).cast(), text, length) }
}

unsafe extern "C" fn append_timings(user: *mut c_void, text: *const c_char, length: usize) {
    // SAFETY: as above.
    unsafe { append((&raw mut (*user.cast::<Texts>()).timings).cast(), text, length) }
}

unsafe extern "C" fn append_reason(user: *mut c_void, text: *const c_char, length: usize) {
    // SAFETY: as above.
    unsafe { append((&raw mut (*user.cast::<Texts>()).reason).cast(), text, length) }
}

unsafe extern "C" fn progress(
    user: *mut c_void,
    phase: *const c_char,
    parent: *const c_char,
    steps: i32,
    step: i32,
) -> i32 {
    // SAFETY: `build` hands over its watcher, which outlives the build and is only read; the texts
    // live until this returns.
    let (watcher, phase, parent) = unsafe {
        let parent = (!parent.is_null()).then(|| CStr::from_ptr(parent).to_string_lossy());
        (&*user.cast::<Watcher<'_>>(), CStr::from_ptr(phase).to_string_lossy(), parent)
    };
    let progress = match (u32::try_from(steps), u32::try_from(step)) {
        (Ok(steps), _) => Progress::Begin { phase: &phase, parent: parent.as_deref(), steps },
        (_, Ok(step)) => Progress::Step { phase: &phase, step },
        _ => Progress::End { phase: &phase },
    };
    // A panic must not travel through TensorRT.
    let goes_on =
        panic::catch_unwind(AssertUnwindSafe(|| (watcher.watch)(progress))).unwrap_or(false);
    if !goes_on {
        watcher.ended.store(true, Ordering::Relaxed);
    }
    goes_on.into()
}
