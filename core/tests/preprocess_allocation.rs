//! The preprocessor allocates nothing per frame.

use vehiclecount_core::frame::{
    ColorMatrix, ColorRange, FrameFormat, FrameView, PixelFormat, Plane,
};
use vehiclecount_core::preprocess::{InputSize, Preprocessor, Resize};

#[test]
fn run_allocates_nothing_from_the_first_frame_on() {
    let input = InputSize { width: 96, height: 64 };
    let mut values = vec![0.0f32; input.values()];
    let mut levels = vec![0u8; input.values()];
    for pixels in PixelFormat::ALL {
        for (width, height) in [(321, 181), (5, 3)] {
            let (matrix, range) = (ColorMatrix::Bt709, ColorRange::Limited);
            let format = FrameFormat { matrix, range, ..FrameFormat::new(pixels, width, height) };
            let data = vec![90; 4 * width * height];
            let planes = [0, 1, 2].map(|_| Plane { data: &data, stride: 4 * width });
            let frame = FrameView::new(format, &planes[..pixels.planes()]).unwrap();
            let mut preprocessor = Preprocessor::new(format, Resize::Letterbox, input);
            let counted = allocation_counter::measure(|| {
                (0..3).for_each(|_| preprocessor.run(&frame, &mut values));
                preprocessor.run(&frame, &mut levels);
            });
            assert_eq!(counted.count_total, 0, "{pixels:?} {width}x{height}");
        }
    }
    // The counter is alive.
    assert!(
        allocation_counter::measure(|| drop(std::hint::black_box(vec![0u8; 9]))).count_total > 0
    );
}
