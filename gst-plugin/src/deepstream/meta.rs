//! The count on a frame, as DeepStream carries it: `NvDsUserMeta` of a type that we register.
//!
//! One piece of memory holds everything, so that a copy is one copy: the structure, the regions,
//! strings, corners and cells. The structure is C, and public: `vehiclecount/vehiclecount-nvds.h`.

use std::ffi::{CStr, c_char, c_void};
use std::mem::{align_of, offset_of, size_of};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vehiclecount_core::density::{DensityMap, Grid, Rect};
use vehiclecount_core::region::Level;
use vehiclecount_core::report::{FrameCount, FrameReport, RegionReport};

use super::abi::{CustomMessage, UserMeta};

/// Under this name the type is registered (`nvds_get_user_meta_type`).
pub const TYPE_NAME: &CStr = c"VEHICLECOUNT.COUNTER.FRAME_COUNT";

/// First field of every [`Count`].
pub const MAGIC: u32 = u32::from_le_bytes(*b"VCNT");

/// Version of [`Count`]; fields are only ever added at the end of a later one. 2 added
/// `received_time`.
pub const VERSION: u32 = 2;

/// `count`, `smoothed` and `level` are there.
const COUNTED: u32 = 1;
/// The count should have been this frame's own and is not.
const STALE: u32 = 2;
/// There is a time stamp.
const PTS: u32 = 4;
/// The time of the picture is known.
const CAPTURE_TIME: u32 = 8;

/// `VehicleCountNvds`.
#[repr(C)]
pub struct Count {
    magic: u32,
    version: u32,
    /// Bytes of the whole piece, this structure with all that its pointers lead to.
    size: u64,
    unique_id: u32,
    source_id: u32,
    flags: u32,
    level: i32,
    sequence: u64,
    pts: u64,
    capture_time: u64,
    age: u64,
    inference_time: u64,
    count: f64,
    smoothed: f64,
    camera: *const c_char,
    model: *const c_char,
    engine: *const c_char,
    regions: *const RegionCount,
    n_regions: u32,
    columns: u32,
    rows: u32,
    reserved: u32,
    cells: *const f32,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    received_time: u64,
}

/// `VehicleCountNvdsRegion`.
#[repr(C)]
struct RegionCount {
    name: *const c_char,
    corners: *const f64,
    n_corners: u32,
    flags: u32,
    level: i32,
    reserved: u32,
    count: f64,
    smoothed: f64,
}

// As the C header says.
const _: () = {
    assert!(
        size_of::<Count>() == 184
            && offset_of!(Count, received_time) == 176
            && size_of::<RegionCount>() == 48
    );
    assert!(
        offset_of!(Count, size) == 8
            && offset_of!(Count, unique_id) == 16
            && offset_of!(Count, sequence) == 32
    );
    assert!(
        offset_of!(Count, count) == 72
            && offset_of!(Count, camera) == 88
            && offset_of!(Count, regions) == 112
    );
    assert!(
        offset_of!(Count, n_regions) == 120
            && offset_of!(Count, cells) == 136
            && offset_of!(Count, x) == 144
    );
    assert!(offset_of!(RegionCount, n_corners) == 16 && offset_of!(RegionCount, count) == 32);
};

/// Pieces that live, over the whole process: tests see that none is lost.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Pieces of user metadata of ours that live now.
pub fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Memory of `size` zeros from GLib, whose allocator C code shares.
fn allocate(size: usize) -> *mut u8 {
    LIVE.fetch_add(1, Ordering::Relaxed);
    // SAFETY: GLib ends the program where memory is out; it never returns null for a size above
    // zero.
    unsafe { glib::ffi::g_malloc0(size.max(1)).cast() }
}

/// Frees what [`allocate`] gave.
///
/// # Safety
/// `memory` comes from [`allocate`] and is not used any more.
unsafe fn free(memory: *mut c_void) {
    LIVE.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: as the caller says.
    unsafe { glib::ffi::g_free(memory) };
}

/// Lays out values one after the other. The first round, without memory, only measures.
struct Writer {
    memory: *mut u8,
    used: usize,
}

impl Writer {
    fn put<T: Copy>(&mut self, values: &[T]) -> *const T {
        let at = self.used.next_multiple_of(align_of::<T>());
        self.used = at + size_of_val(values);
        if self.memory.is_null() || values.is_empty() {
            return ptr::null();
        }
        // SAFETY: the round that measured put the same values, so the memory reaches this far;
        // GLib's memory is aligned for any type, and `at` keeps the alignment.
        unsafe {
            let place = self.memory.add(at).cast::<T>();
            ptr::copy_nonoverlapping(values.as_ptr(), place, values.len());
            place
        }
    }

    /// Ended by a zero; a zero inside ends it too.
    fn text(&mut self, text: &str) -> *const c_char {
        let text = text.split('\0').next().unwrap_or_default();
        let begin = self.put(text.as_bytes());
        let end = self.put(&[0u8]);
        if text.is_empty() { end.cast() } else { begin.cast() }
    }
}

/// A piece of user metadata that is not attached yet.
pub struct Piece(NonNull<c_void>);

impl Piece {
    /// What is said of a frame of `source_id`.
    pub fn count(report: &FrameReport, source_id: u32) -> Self {
        let mut measure = Writer { memory: ptr::null_mut(), used: size_of::<Count>() };
        lay_out(&mut measure, report, source_id);
        let memory = allocate(measure.used);
        let mut writer = Writer { memory, used: size_of::<Count>() };
        let mut count = lay_out(&mut writer, report, source_id);
        count.size = measure.used as u64;
        // SAFETY: the memory is as large as was measured, from `Count` on, and aligned.
        unsafe { memory.cast::<Count>().write(count) };
        Self(NonNull::new(memory.cast()).expect("GLib never returns null"))
    }

    /// An `NvDsCustomMsgInfo` with `text`.
    pub fn message(text: &str) -> Self {
        let memory = allocate(size_of::<CustomMessage>() + text.len() + 1);
        let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
        // SAFETY: the memory holds the structure, the text and a zero after it, and is aligned.
        unsafe {
            let message = memory.add(size_of::<CustomMessage>());
            ptr::copy_nonoverlapping(text.as_ptr(), message, text.len());
            memory.cast::<CustomMessage>().write(CustomMessage { message: message.cast(), size });
        }
        Self(NonNull::new(memory.cast()).expect("GLib never returns null"))
    }

    /// Gives it away.
    pub fn into_raw(self) -> *mut c_void {
        let memory = self.0.as_ptr();
        std::mem::forget(self);
        memory
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: it is not attached.
        unsafe { free(self.0.as_ptr()) };
    }
}

fn lay_out(writer: &mut Writer, report: &FrameReport, source_id: u32) -> Count {
    let regions: Vec<_> = report
        .regions
        .iter()
        .map(|region| {
            let (flags, count, smoothed, level) = numbers(region.count);
            RegionCount {
                name: writer.text(&region.name),
                corners: writer.put(region.polygon.as_flattened()),
                n_corners: region.polygon.len() as u32,
                flags,
                level,
                reserved: 0,
                count,
                smoothed,
            }
        })
        .collect();
    let (flags, count, smoothed, level) = numbers(report.count);
    let flags = flags
        | if report.stale { STALE } else { 0 }
        | report.pts.map_or(0, |_| PTS)
        | report.capture_time.map_or(0, |_| CAPTURE_TIME);
    let map = report.density.as_ref();
    let grid = map.map_or(
        Grid { columns: 0, rows: 0, rect: Rect { x: 0.0, y: 0.0, width: 0.0, height: 0.0 } },
        |m| m.grid,
    );
    Count {
        magic: MAGIC,
        version: VERSION,
        size: 0,
        unique_id: report.unique_id,
        source_id,
        flags,
        level,
        sequence: report.sequence,
        pts: report.pts.unwrap_or(0),
        capture_time: report.capture_time.unwrap_or(0),
        age: report.age,
        inference_time: report.inference_time,
        count,
        smoothed,
        camera: writer.text(&report.camera),
        model: writer.text(&report.model),
        engine: writer.text(&report.engine),
        regions: writer.put(&regions),
        n_regions: regions.len() as u32,
        columns: grid.columns as u32,
        rows: grid.rows as u32,
        reserved: 0,
        cells: map.map_or(ptr::null(), |map| writer.put(&map.cells)),
        x: grid.rect.x,
        y: grid.rect.y,
        width: grid.rect.width,
        height: grid.rect.height,
        received_time: report.received_time,
    }
}

impl Clone for RegionCount {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for RegionCount {}

fn numbers(count: Option<FrameCount>) -> (u32, f64, f64, i32) {
    match count {
        Some(FrameCount { raw, smoothed, level }) => (COUNTED, raw, smoothed, level as i32),
        None => (0, 0.0, 0.0, 0),
    }
}

/// `NvDsMetaCopyFunc` of a count.
///
/// # Safety
/// DeepStream calls it with an `NvDsUserMeta` whose data is a [`Count`] of ours, or null.
pub unsafe extern "C" fn copy_count(data: *mut c_void, _user_data: *mut c_void) -> *mut c_void {
    // SAFETY: as said above; the piece is `size` bytes, and every pointer in it leads into it.
    unsafe {
        let Some(source) = data_of(data).cast::<Count>().as_ref() else { return ptr::null_mut() };
        let size = source.size as usize;
        let memory = allocate(size);
        let old = ptr::from_ref(source).cast::<u8>();
        ptr::copy_nonoverlapping(old, memory, size);
        let copy = &mut *memory.cast::<Count>();
        move_pointer(&mut copy.camera, old, memory);
        move_pointer(&mut copy.model, old, memory);
        move_pointer(&mut copy.engine, old, memory);
        move_pointer(&mut copy.cells, old, memory);
        move_pointer(&mut copy.regions, old, memory);
        for index in 0..copy.n_regions as usize {
            let region = &mut *copy.regions.cast_mut().add(index);
            move_pointer(&mut region.name, old, memory);
            move_pointer(&mut region.corners, old, memory);
        }
        memory.cast()
    }
}

/// `NvDsMetaCopyFunc` of a message.
///
/// # Safety
/// DeepStream calls it with an `NvDsUserMeta` whose data is a [`Piece::message`], or null.
pub unsafe extern "C" fn copy_message(data: *mut c_void, _user_data: *mut c_void) -> *mut c_void {
    // SAFETY: as said above; the text is ours, thus UTF-8.
    unsafe {
        let Some(source) = data_of(data).cast::<CustomMessage>().as_ref() else {
            return ptr::null_mut();
        };
        let text = std::slice::from_raw_parts(source.message.cast::<u8>(), source.size as usize);
        Piece::message(std::str::from_utf8_unchecked(text)).into_raw()
    }
}

/// `NvDsMetaReleaseFunc` of both.
///
/// # Safety
/// DeepStream calls it with an `NvDsUserMeta` whose data is a [`Piece`] that was given away, or
/// null.
pub unsafe extern "C" fn release(data: *mut c_void, _user_data: *mut c_void) {
    // SAFETY: as said above; the data is set to null, so that a second call does nothing.
    unsafe {
        if let Some(meta) = data.cast::<UserMeta>().as_mut()
            && !meta.data.is_null()
        {
            free(std::mem::replace(&mut meta.data, ptr::null_mut()));
        }
    }
}

/// The data of a user meta, null where there is no meta.
///
/// # Safety
/// `data` is null or an `NvDsUserMeta`.
unsafe fn data_of(data: *mut c_void) -> *const c_void {
    // SAFETY: as the caller says.
    unsafe { data.cast::<UserMeta>().as_ref() }.map_or(ptr::null(), |meta| meta.data.cast_const())
}

/// A pointer into the piece at `old` becomes one into its copy at `new`.
fn move_pointer<T>(pointer: &mut *const T, old: *const u8, new: *mut u8) {
    if !pointer.is_null() {
        let offset = pointer.addr() - old.addr();
        *pointer = new.cast_const().wrapping_add(offset).cast();
    }
}

/// What a count says, for applications in Rust and for tests. `None` where the piece is not one of
/// ours.
///
/// # Safety
/// `data` is the data of a user meta of our registered type, and lives.
pub unsafe fn read(data: *const c_void) -> Option<(u32, FrameReport)> {
    // SAFETY: as the caller says; magic and version tell the structure, and its pointers lead into
    // the piece.
    unsafe {
        let count = data.cast::<Count>().as_ref()?;
        if count.magic != MAGIC || count.version < VERSION {
            return None;
        }
        let text = |text: *const c_char| CStr::from_ptr(text).to_string_lossy().into_owned();
        let counted = |flags: u32, raw, smoothed, level: i32| {
            let level = Level::ALL.get(level as usize).copied().unwrap_or_default();
            (flags & COUNTED != 0).then_some(FrameCount { raw, smoothed, level })
        };
        let regions = (0..count.n_regions as usize).map(|index| {
            let region = &*count.regions.add(index);
            let corners = std::slice::from_raw_parts(
                region.corners.cast::<[f64; 2]>(),
                region.n_corners as usize,
            );
            RegionReport {
                name: text(region.name),
                polygon: corners.to_vec(),
                count: counted(region.flags, region.count, region.smoothed, region.level),
            }
        });
        let density = (!count.cells.is_null()).then(|| {
            let (columns, rows) = (count.columns as usize, count.rows as usize);
            let rect = Rect { x: count.x, y: count.y, width: count.width, height: count.height };
            let cells = std::slice::from_raw_parts(count.cells, columns * rows);
            DensityMap { grid: Grid { columns, rows, rect }, cells: Arc::from(cells) }
        });
        let report = FrameReport {
            camera: text(count.camera).into(),
            sequence: count.sequence,
            unique_id: count.unique_id,
            pts: (count.flags & PTS != 0).then_some(count.pts),
            capture_time: (count.flags & CAPTURE_TIME != 0).then_some(count.capture_time),
            received_time: count.received_time,
            count: counted(count.flags, count.count, count.smoothed, count.level),
            stale: count.flags & STALE != 0,
            // Frames in GPU memory are not compared.
            confirmed: false,
            age: count.age,
            regions: regions.collect(),
            density,
            model: text(count.model).into(),
            engine: text(count.engine).into(),
            inference_time: count.inference_time,
        };
        Some((count.source_id, report))
    }
}
