//! `VehicleTruthMeta`: what a simulated camera knows of its own frame.

use std::sync::LazyLock;

use vehiclecount_core::scene::Vehicle;

/// Name of the metadata, and of the structure inside.
pub const NAME: &str = "VehicleTruthMeta";

// No tags, as for the counts: boxes are given in 0..1 of the frame.
static REGISTERED: LazyLock<()> = LazyLock::new(|| gst::meta::CustomMeta::register(NAME, &[]));

/// The truth of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// Number of the frame, from 0 at the stream's time 0.
    pub sequence: u64,
    /// Vehicles in the frame.
    pub count: u32,
    /// Their boxes as x, y, width, height in 0..1 of the frame.
    pub boxes: Vec<[f64; 4]>,
    /// What they are: car, van, truck or bus.
    pub kinds: Vec<String>,
}

impl Truth {
    /// The truth of frame `sequence` that shows `vehicles`.
    pub fn new(sequence: u64, vehicles: &[Vehicle]) -> Self {
        Self {
            sequence,
            count: vehicles.len() as u32,
            boxes: vehicles.iter().map(|v| [v.x, v.y, v.width, v.height]).collect(),
            kinds: vehicles.iter().map(|v| v.kind.name().to_owned()).collect(),
        }
    }
}

/// Makes the metadata known to GStreamer; needed before the first call of anything else here.
pub fn register() {
    LazyLock::force(&REGISTERED);
}

/// Puts `truth` on `buffer`.
pub fn attach(buffer: &mut gst::BufferRef, truth: &Truth) {
    register();
    let mut meta = gst::meta::CustomMeta::add(buffer, NAME).expect("the metadata is registered");
    let structure = meta.mut_structure();
    structure.set("sequence", truth.sequence);
    structure.set("count", truth.count);
    structure.set("boxes", gst::Array::new(truth.boxes.iter().flatten()));
    structure.set("kinds", gst::Array::new(&truth.kinds));
}

/// The truth on `buffer`, if it comes from a simulated camera.
pub fn read(buffer: &gst::BufferRef) -> Option<Truth> {
    register();
    let meta = gst::meta::CustomMeta::from_buffer(buffer, NAME).ok()?;
    let structure = meta.structure();
    let boxes = structure.get::<gst::ArrayRef>("boxes").ok()?;
    let sides: Vec<f64> =
        boxes.as_slice().iter().map(|side| side.get().ok()).collect::<Option<_>>()?;
    let kinds = structure.get::<gst::ArrayRef>("kinds").ok()?;
    Some(Truth {
        sequence: structure.get("sequence").ok()?,
        count: structure.get("count").ok()?,
        boxes: sides.as_chunks::<4>().0.to_vec(),
        kinds: kinds.as_slice().iter().map(|kind| kind.get().ok()).collect::<Option<_>>()?,
    })
}
