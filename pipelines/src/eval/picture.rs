//! Pictures from files.

use std::any::Any;
use std::fs;
use std::io::{self, Cursor};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
use mozjpeg::{Decompress, Marker};

use super::annotations::Sample;

/// What a JPEG's segment of EXIF begins with.
const EXIF: &[u8] = b"Exif\0\0";

/// Reads a JPEG, PNG or whatever else the crate `image` was built for, as RGB, upright by its EXIF
/// orientation. `size` is what its labels are for, width and height: some tools label the pixels as
/// they are stored, and then it is left as it is. So does the training chain.
///
/// JPEG goes through libjpeg's own code, as in Pillow and OpenCV: other decoders round the chroma
/// differently, by a level here and there, and that alone moved the counts of single pictures by
/// one percent.
pub fn read(path: &Path, size: (usize, usize)) -> Result<RgbImage> {
    let (stored, orientation) = decode(path)?;
    let (width, height) = (stored.width() as usize, stored.height() as usize);
    let upright = if exchanges_sides(orientation) { (height, width) } else { (width, height) };
    if upright != size {
        return Ok(stored);
    }
    let mut picture = DynamicImage::from(stored);
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

/// As [`read`], always upright.
pub fn read_upright(path: &Path) -> Result<RgbImage> {
    let (stored, orientation) = decode(path)?;
    let mut picture = DynamicImage::from(stored);
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

/// The picture of `sample`.
pub fn of(sample: &Sample) -> Result<RgbImage> {
    let size = (sample.width, sample.height);
    let picture = read(&sample.path, size).with_context(|| sample.place.clone())?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    ensure!(
        (width, height) == size,
        "{}: {} is {width}x{height}, the line says {}x{}",
        sample.place,
        sample.path.display(),
        sample.width,
        sample.height
    );
    Ok(picture)
}

fn decode(path: &Path) -> Result<(RgbImage, Orientation)> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let decoded = if bytes.starts_with(&[0xff, 0xd8]) { jpeg(&bytes) } else { other(&bytes) };
    decoded.with_context(|| format!("cannot decode {}", path.display()))
}

fn exchanges_sides(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH)
}

/// The picture as it is stored, and how it is to be turned.
fn other(bytes: &[u8]) -> Result<(RgbImage, Orientation)> {
    let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?.into_decoder()?;
    let orientation = decoder.orientation()?;
    Ok((DynamicImage::from_decoder(decoder)?.into_rgb8(), orientation))
}

/// As `other`.
fn jpeg(bytes: &[u8]) -> Result<(RgbImage, Orientation)> {
    // libjpeg fills up with grey what is missing. After the last start of a scan, the end of the
    // picture must come.
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    ensure!(last(0xda) < last(0xd9), "the file ends in the middle of the picture");
    // The library unwinds where libjpeg would leave by longjmp. It does so without the panic hook:
    // nothing is printed.
    let decode = || -> io::Result<(usize, usize, Vec<u8>, Orientation)> {
        let picture = Decompress::with_markers(&[Marker::APP(1)]).from_mem(bytes)?;
        let exif = picture
            .markers()
            .find_map(|marker| Orientation::from_exif_chunk(marker.data.strip_prefix(EXIF)?));
        let mut picture = picture.rgb()?;
        let (width, height) = (picture.width(), picture.height());
        let pixels = picture.read_scanlines()?;
        picture.finish()?;
        Ok((width, height, pixels, exif.unwrap_or(Orientation::NoTransforms)))
    };
    let decoded = panic::catch_unwind(AssertUnwindSafe(decode))
        .map_err(|panic| anyhow!("{}", words(&*panic)))?;
    let (width, height, pixels, orientation) = decoded?;
    let picture = RgbImage::from_raw(width as u32, height as u32, pixels);
    Ok((picture.context("the picture is shorter than it says")?, orientation))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("not a JPEG that libjpeg reads")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_pictures_are_named_and_nothing_panics() {
        let folder = tempfile::tempdir().unwrap();
        let sound =
            RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8 * 3, y as u8 * 5, (x * y) as u8]));
        for name in ["a.jpg", "a.png"] {
            let path = folder.path().join(name);
            sound.save(&path).unwrap();
            assert_eq!(read(&path, (64, 48)).unwrap().dimensions(), (64, 48));
            let bytes = fs::read(&path).unwrap();
            for bytes in [&bytes[..20], &b"\xff\xd8 no jpeg"[..], b""] {
                fs::write(&path, bytes).unwrap();
                let said = format!("{:#}", read(&path, (64, 48)).unwrap_err());
                assert!(said.contains("cannot decode") && said.contains(name), "{said}");
            }
        }
        let said = format!("{:#}", read(&folder.path().join("none.jpg"), (1, 1)).unwrap_err());
        assert!(said.contains("cannot read") && said.contains("none.jpg"), "{said}");
    }

    #[test]
    fn half_a_jpeg_is_no_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("half.jpg");
        RgbImage::from_fn(256, 256, |x, y| image::Rgb([(x * y) as u8, (x ^ y) as u8, y as u8]))
            .save(&path)
            .unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let said = format!("{:#}", read(&path, (64, 48)).unwrap_err());
        assert!(said.contains("half.jpg") && said.contains("middle"), "{said}");
    }

    /// EXIF that says nothing but an orientation, in either order of bytes.
    fn exif(orientation: u16, big: bool) -> Vec<u8> {
        let short = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let long = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut bytes = if big { b"MM".to_vec() } else { b"II".to_vec() };
        bytes.extend(short(42));
        bytes.extend(long(8));
        // One entry: the tag, a short, one of them, its value.
        for value in [1, 0x0112, 3] {
            bytes.extend(short(value));
        }
        bytes.extend(long(1));
        bytes.extend(short(orientation));
        bytes.extend([0; 6]);
        bytes
    }

    /// A JPEG or PNG with this EXIF.
    fn tagged(name: &str, picture: &RgbImage, exif: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        if name.ends_with(".png") {
            let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
            image::ImageEncoder::set_exif_metadata(&mut encoder, exif.to_vec()).unwrap();
            picture.write_with_encoder(encoder).unwrap();
            return bytes;
        }
        picture.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Jpeg).unwrap();
        let segment = [EXIF, exif].concat();
        let length = (segment.len() as u16 + 2).to_be_bytes();
        bytes.splice(2..2, [&[0xff, 0xe1][..], &length, &segment].concat());
        bytes
    }

    #[test]
    fn pictures_are_upright_by_their_exif_where_their_labels_are() {
        let folder = tempfile::tempdir().unwrap();
        // Where the upper left corner of the upright picture is in the stored one: right, bottom.
        let corners = [
            (1, false, false),
            (2, true, false),
            (3, true, true),
            (4, false, true),
            (5, false, false),
            (6, false, true),
            (7, true, true),
            (8, true, false),
        ];
        let dark = |picture: &RgbImage, x: u32, y: u32| picture.get_pixel(x, y).0[0] < 128;
        for ((orientation, right, bottom), name) in
            corners.into_iter().zip(["a.jpg", "b.png"].into_iter().cycle())
        {
            for (name, big) in [(name, false), ("c.jpg", true), ("d.png", true)] {
                let stored = RgbImage::from_fn(64, 32, |x, y| {
                    image::Rgb([if (x >= 32, y >= 16) == (right, bottom) { 0 } else { 255 }; 3])
                });
                let path = folder.path().join(name);
                fs::write(&path, tagged(name, &stored, &exif(orientation, big))).unwrap();
                let size = if orientation >= 5 { (32, 64) } else { (64, 32) };
                let upright = read(&path, size).unwrap();
                assert_eq!(
                    upright.dimensions(),
                    (size.0 as u32, size.1 as u32),
                    "{name}, {orientation}"
                );
                assert!(
                    dark(&upright, 4, 4),
                    "{name}: orientation {orientation} does not stand upright"
                );
                assert!(
                    !dark(&upright, size.0 as u32 - 5, size.1 as u32 - 5),
                    "{name}, {orientation}"
                );
                if orientation >= 5 {
                    // Labels of the stored pixels, and labels of another picture.
                    for size in [(64, 32), (48, 48)] {
                        let left = read(&path, size).unwrap();
                        let place = |far: bool, side: u32| if far { side - 5 } else { 4 };
                        assert_eq!(left.dimensions(), (64, 32), "{name}, {orientation}");
                        assert!(
                            dark(&left, place(right, 64), place(bottom, 32)),
                            "{name}, {orientation}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn exif_that_says_nothing_of_use_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let picture = RgbImage::from_pixel(16, 8, image::Rgb([9; 3]));
        for name in ["a.jpg", "a.png"] {
            for exif in [
                exif(0, false),
                exif(9, true),
                exif(6, false)[..12].to_vec(),
                b"MM nothing".to_vec(),
                vec![],
            ] {
                let path = folder.path().join(name);
                fs::write(&path, tagged(name, &picture, &exif)).unwrap();
                assert_eq!(read(&path, (16, 8)).unwrap().dimensions(), (16, 8), "{exif:?}");
            }
        }
    }
}
