//! A file as a source.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use gst::prelude::*;

use super::decode::{decoder, element};
use super::decoding::Decoding;

/// A bin that reads the video of the file at `path`, with one source pad `src` of raw upright
/// pictures, as fast as they are taken. The name may hold any character.
///
/// # Errors
/// The element that is missing. What is wrong with the file itself, it says when it starts.
pub fn source(path: &Path, decoding: impl Into<Decoding>) -> Result<gst::Bin> {
    let bin = gst::Bin::new();
    let file = element("filesrc")?;
    file.set_property("location", path);
    bin.add(&file)?;
    let (decoder, end) = decoder(&bin, decoding.into())?;
    // Decoders of JPEG do not tell the orientation that EXIF has, and decodebin takes no parser.
    let parser = if is_jpeg(path) { element("jpegparse").ok() } else { None };
    bin.add_many(&parser)?;
    gst::Element::link_many([Some(&file), parser.as_ref(), Some(&decoder)].into_iter().flatten())
        .context("a file is linked to its decoder")?;
    let src = gst::GhostPad::builder_with_target(&end)?.name("src").build();
    bin.add_pad(&src)?;
    Ok(bin)
}

/// Whether the file begins as a JPEG does. What cannot be read, its element says.
fn is_jpeg(path: &Path) -> bool {
    let mut begin = [0; 2];
    File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok()
        && begin == [0xff, 0xd8]
}
