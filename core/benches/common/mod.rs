//! What the benchmarks share.

use vehiclecount_core::frame::{FrameFormat, FrameView, Plane};

/// A picture that owns its planes, which are without padding. All of one format are equal.
#[derive(Clone)]
pub struct Picture {
    format: FrameFormat,
    pub planes: Vec<(Vec<u8>, usize)>,
}

impl Picture {
    pub fn new(format: FrameFormat) -> Self {
        let planes = (0..format.pixels.planes()).map(|plane| {
            let (samples, rows, size) = format.plane_size(plane);
            let byte = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
            ((0..samples * size * rows).map(byte).collect(), samples * size)
        });
        Self { format, planes: planes.collect() }
    }

    pub fn view<T>(&self, with: impl FnOnce(&FrameView<'_>) -> T) -> T {
        let planes: Vec<Plane<'_>> =
            self.planes.iter().map(|(data, stride)| Plane { data, stride: *stride }).collect();
        with(&FrameView::new(self.format, &planes).expect("planes of the format"))
    }
}
