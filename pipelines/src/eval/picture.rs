//! Pictures from files.

use std::any::Any;
use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use image::RgbImage;
use mozjpeg::Decompress;

/// Reads a JPEG, PNG or whatever else the crate `image` was built for, as RGB.
///
/// JPEG goes through libjpeg's own code, as in Pillow and OpenCV: other decoders round the chroma differently, by a level here and there,
/// and that alone moved the counts of single pictures by one percent.
pub fn read(path: &Path) -> Result<RgbImage> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let cannot = || format!("cannot decode {}", path.display());
    if bytes.starts_with(&[0xff, 0xd8]) {
        return jpeg(&bytes).with_context(cannot);
    }
    Ok(image::load_from_memory(&bytes).with_context(cannot)?.into_rgb8())
}

fn jpeg(bytes: &[u8]) -> Result<RgbImage> {
    // libjpeg fills up with grey what is missing. After the last start of a scan, the end of the picture must come.
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    ensure!(last(0xda) < last(0xd9), "the file ends in the middle of the picture");
    // The library unwinds where libjpeg would leave by longjmp. It does so without the panic hook: nothing is printed.
    let decode = || -> io::Result<(usize, usize, Vec<u8>)> {
        let mut picture = Decompress::new_mem(bytes)?.rgb()?;
        let (width, height) = (picture.width(), picture.height());
        let pixels = picture.read_scanlines()?;
        picture.finish()?;
        Ok((width, height, pixels))
    };
    let decoded = panic::catch_unwind(AssertUnwindSafe(decode)).map_err(|panic| anyhow!("{}", words(&*panic)))?;
    let (width, height, pixels) = decoded?;
    RgbImage::from_raw(width as u32, height as u32, pixels).context("the picture is shorter than it says")
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("not a JPEG that libjpeg reads")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_pictures_are_named_and_nothing_panics() {
        let folder = tempfile::tempdir().unwrap();
        let sound = RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8 * 3, y as u8 * 5, (x * y) as u8]));
        for name in ["a.jpg", "a.png"] {
            let path = folder.path().join(name);
            sound.save(&path).unwrap();
            assert_eq!(read(&path).unwrap().dimensions(), (64, 48));
            let bytes = fs::read(&path).unwrap();
            for bytes in [&bytes[..20], &b"\xff\xd8 no jpeg"[..], b""] {
                fs::write(&path, bytes).unwrap();
                let said = format!("{:#}", read(&path).unwrap_err());
                assert!(said.contains("cannot decode") && said.contains(name), "{said}");
            }
        }
        let said = format!("{:#}", read(&folder.path().join("none.jpg")).unwrap_err());
        assert!(said.contains("cannot read") && said.contains("none.jpg"), "{said}");
    }

    #[test]
    fn half_a_jpeg_is_no_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("half.jpg");
        RgbImage::from_fn(256, 256, |x, y| image::Rgb([(x * y) as u8, (x ^ y) as u8, y as u8])).save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let said = format!("{:#}", read(&path).unwrap_err());
        assert!(said.contains("half.jpg") && said.contains("middle"), "{said}");
    }
}
