//! Tests of formats, views and parts of pictures.

use super::*;

fn format(pixels: PixelFormat, width: usize, height: usize) -> FrameFormat {
    let (matrix, range) = (ColorMatrix::Bt601, ColorRange::Limited);
    FrameFormat { pixels, width, height, matrix, range, phase: (0, 0) }
}

#[test]
fn odd_picture_keeps_its_last_chroma_column_and_row() {
    let (luma, chroma) = ([1u8; 5 * 3], [2u8; 6 * 2]);
    let planes = [Plane { data: &luma, stride: 5 }, Plane { data: &chroma, stride: 6 }];
    let view = FrameView::new(format(PixelFormat::Nv12, 5, 3), &planes).unwrap();
    assert_eq!(view.row(0, 2).len(), 5);
    assert_eq!(view.row(1, 1).len(), 6);
}

#[test]
fn last_row_may_lack_its_padding_but_not_a_sample() {
    let data = [0u8; 8 * 2 + 6];
    let rgb = format(PixelFormat::Rgb, 2, 3);
    assert!(FrameView::new(rgb, &[Plane { data: &data, stride: 8 }]).is_ok());
    let short = FrameView::new(rgb, &[Plane { data: &data[..21], stride: 8 }]);
    assert_eq!(short.unwrap_err(), FrameError::Short { plane: 0, need: 22, got: 21 });
}

#[test]
fn impossible_pictures_are_refused_with_figures() {
    let data = [0u8; 16];
    let plane = Plane { data: &data, stride: 4 };
    assert_eq!(
        FrameView::new(format(PixelFormat::Gray8, 0, 4), &[plane]).unwrap_err(),
        FrameError::Empty { width: 0, height: 4 }
    );
    assert_eq!(
        FrameView::new(format(PixelFormat::Gray8, 5, 1), &[plane]).unwrap_err(),
        FrameError::Stride { plane: 0, stride: 4, row: 5 }
    );
    assert_eq!(
        FrameView::new(format(PixelFormat::I420, 4, 4), &[plane]).unwrap_err(),
        FrameError::Planes { format: PixelFormat::I420, need: 3, got: 1 }
    );
}

/// Each byte says where it is: its plane and row, or its column.
fn numbered(format: FrameFormat, by_row: bool) -> Vec<(Vec<u8>, usize)> {
    let plane = |plane| {
        let (groups, rows, bytes) = format.plane_size(plane);
        let stride = groups * bytes + 3;
        let byte = |at: usize| if by_row { plane * 100 + at / stride } else { at % stride } as u8;
        ((0..stride * rows).map(byte).collect(), stride)
    };
    (0..format.pixels.planes()).map(plane).collect()
}

fn view(format: FrameFormat, held: &[(Vec<u8>, usize)]) -> FrameView<'_> {
    let planes: Vec<_> =
        held.iter().map(|(data, stride)| Plane { data, stride: *stride }).collect();
    FrameView::new(format, &planes).unwrap()
}

#[test]
fn part_has_the_samples_that_cover_it_and_knows_what_reaches_past_it() {
    for pixels in PixelFormat::ALL {
        let whole = format(pixels, 21, 15);
        let (rows, columns) = (numbered(whole, true), numbered(whole, false));
        for (x, y, width, height) in [
            (0, 0, 21, 15),
            (1, 1, 1, 1),
            (4, 2, 7, 5),
            (5, 3, 16, 12),
            (7, 0, 2, 1),
            (20, 14, 1, 1),
        ] {
            let parts =
                [&rows, &columns].map(|held| view(whole, held).crop(x, y, width, height).unwrap());
            let part = parts[0].format();
            assert_eq!((part.width, part.height, part.pixels), (width, height, pixels));
            for index in 0..pixels.layout().components.len() {
                let Samples { plane, offset, step, columns, rows, covers, phase } =
                    part.samples(index);
                // The first sample covers the first pixel, the last one the last.
                let before = whole.samples(index);
                assert_eq!(phase, (x % covers.0, y % covers.1), "{pixels:?}");
                assert_eq!((x + width - 1) / covers.0, x / covers.0 + columns - 1, "{pixels:?}");
                assert_eq!((y + height - 1) / covers.1, y / covers.1 + rows - 1, "{pixels:?}");
                for row in 0..rows {
                    assert_eq!(
                        parts[0].row(plane, row)[0] as usize,
                        plane * 100 + y / covers.1 + row
                    );
                }
                let column = before.offset + (x / covers.0) * before.step;
                let (row, bytes) = (parts[1].row(plane, 0), pixels.layout().depth.bytes);
                assert_eq!(row[offset * bytes] as usize, column * bytes, "{pixels:?} at {x}");
                assert!(row.len() >= (offset + (columns - 1) * step + 1) * bytes);
            }
        }
    }
}

#[test]
fn part_of_a_part_is_the_part_of_the_whole() {
    for pixels in PixelFormat::ALL {
        let whole = format(pixels, 33, 27);
        let (first, begins) = whole.crop(3, 5, 25, 20).unwrap();
        let (second, further) = first.crop(2, 1, 9, 8).unwrap();
        let (once, at_once) = whole.crop(5, 6, 9, 8).unwrap();
        assert_eq!(second, once, "{pixels:?}");
        let twice = std::array::from_fn(|plane| {
            (begins[plane].0 + further[plane].0, begins[plane].1 + further[plane].1)
        });
        assert_eq!(at_once, twice, "{pixels:?}");
    }
}

#[test]
fn part_outside_the_picture_is_refused_with_figures() {
    let whole = format(PixelFormat::I420, 20, 10);
    for (x, y, width, height) in [
        (0, 0, 21, 1),
        (20, 0, 1, 1),
        (0, 9, 1, 2),
        (3, 3, 0, 1),
        (3, 3, 1, 0),
        (usize::MAX, 0, 2, 1),
    ] {
        let refused = FrameError::Crop { x, y, width, height, of: (20, 10) };
        assert_eq!(whole.crop(x, y, width, height), Err(refused));
    }
    let error = whole.crop(10, 0, 11, 10).unwrap_err().to_string();
    assert!(error.starts_with("part of 11x10 at 10, 0 of a picture of 20x10"), "{error}");
}
