//! A file as a source.

use std::path::Path;

use anyhow::{Context, Result};
use gst::prelude::*;

use super::decode::{decoder, element};

/// A bin that reads the video of the file at `path`, with one source pad `src` of raw upright
/// pictures, as fast as they are taken. The name may hold any character.
///
/// # Errors
/// The element that is missing. What is wrong with the file itself, it says when it starts.
pub fn source(path: &Path) -> Result<gst::Bin> {
    let bin = gst::Bin::new();
    let file = element("filesrc")?;
    file.set_property("location", path);
    bin.add(&file)?;
    let (decoder, end) = decoder(&bin)?;
    file.link(&decoder).context("a file is linked to its decoder")?;
    let src = gst::GhostPad::builder_with_target(&end)?.name("src").build();
    bin.add_pad(&src)?;
    Ok(bin)
}
