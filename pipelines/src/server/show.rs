//! What the cameras of the server show.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gst::prelude::*;

use crate::source::file;

/// What a camera of the server shows.
#[derive(Clone, Debug)]
pub enum Show {
    /// `vehicletestsrc` with these properties.
    Simulated(String),
    /// A file, from its beginning for the first of its readers.
    File(PathBuf),
}

/// The name of the element that knows the truth.
pub(super) const CAMERA: &str = "camera";

/// The name of the element where the pictures of a file come in.
const ENTRY: &str = "entry";

impl Show {
    /// The camera's pipeline, as the server takes it. Nothing of it comes from outside.
    pub(super) fn launch(&self, fps: u32) -> String {
        let pictures = match self {
            Self::Simulated(properties) => format!(
                "vehicletestsrc name={CAMERA} is-live=true {properties} \
                 ! video/x-raw,format=I420,width=640,height=360,framerate={fps}/1"
            ),
            // The mosaic takes no interlaced pictures, and H.264 in 4:2:0 no odd sides.
            Self::File(_) => format!(
                "videoconvert name={ENTRY} ! deinterlace fields=top ! videoconvert ! videoscale \
                 ! video/x-raw,format=I420,width=[2,16384,2],height=[2,16384,2] \
                 ! videorate ! video/x-raw,framerate={fps}/1 ! identity sync=true"
            ),
        };
        // One keyframe a second, no frame reordering, 4:2:0.
        format!(
            "( {pictures} ! x264enc tune=zerolatency speed-preset=superfast bitrate=1200 key-int-max={fps} \
             ! video/x-h264,profile=main ! rtph264pay name=pay0 pt=96 config-interval=1 )"
        )
    }

    /// Puts the file, whose name may hold any character, before the rest.
    pub(super) fn begin(&self, bin: &gst::Bin) -> Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        let entry = bin.by_name(ENTRY).context("the pipeline has an entry")?;
        let file = file::source(path, None)?;
        bin.add(&file)?;
        file.link(&entry)?;
        Ok(())
    }
}

/// The simulated cameras, as many as are wanted, each another one.
pub fn simulated(number: usize) -> Vec<Show> {
    const PLACES: [(&str, &str, &str); 8] = [
        ("highway", "day", "1.3"),
        ("junction", "day", "1.2"),
        ("street", "rain", "1.0"),
        ("highway", "night", "1.2"),
        ("roadside", "day", "1.5"),
        ("top-down", "day", "1.2"),
        ("junction", "night", "1.0"),
        ("street", "day", "0.7"),
    ];
    let place = |index: usize| {
        let (viewpoint, weather, traffic) = PLACES[index % PLACES.len()];
        Show::Simulated(format!(
            "viewpoint={viewpoint} weather={weather} traffic={traffic} seed={index}"
        ))
    };
    (0..number).map(place).collect()
}

/// A camera for each of `files`, or `number` simulated ones where no file is named.
pub fn shows(files: &[PathBuf], number: usize) -> Result<Vec<Show>> {
    if files.is_empty() {
        return Ok(simulated(number));
    }
    files.iter().try_for_each(|path| check_input(path))?;
    Ok(files.iter().cloned().map(Show::File).collect())
}

/// What a camera is called: the file's name, or what is simulated.
pub fn name(show: &Show) -> String {
    match show {
        Show::File(path) => {
            path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
        }
        Show::Simulated(properties) => {
            let word = |key: &str| {
                let value = properties
                    .split_whitespace()
                    .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
                value.unwrap_or("?").to_owned()
            };
            format!("{} {}", word("viewpoint"), word("weather"))
        }
    }
}

/// Whether `path` could be a video file at all; what is inside shows when it is opened.
fn check_input(path: &Path) -> Result<()> {
    let size =
        path.metadata().with_context(|| format!("{}: cannot be read", path.display()))?.len();
    anyhow::ensure!(size > 0, "{}: the file is empty", path.display());
    Ok(())
}
