//! Cameras of this machine, by Video4Linux.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use gst::prelude::*;

use super::decode::{decoder, element};
use super::decoding::Decoding;
use super::reason::Reason;

/// The device that `url` means: `v4l2:/dev/video0`, or `/dev/video0` alone. None where it means
/// something else.
pub fn device_at(url: &str) -> Option<Result<PathBuf, String>> {
    let path = match url.strip_prefix("v4l2:") {
        // As GStreamer's own URL has it.
        Some(path) => path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path),
        None => url.starts_with("/dev/").then_some(url)?,
    };
    let mut parts = Path::new(path).components();
    let is_device = parts.next() == Some(Component::RootDir)
        && parts.next() == Some(Component::Normal("dev".as_ref()))
        && parts.clone().next().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)));
    Some(match is_device {
        true => Ok(PathBuf::from(path)),
        false => Err("a device of Video4Linux is v4l2:/dev/video0".to_owned()),
    })
}

/// A bin that reads the device at `path`, and its end, where raw upright pictures leave.
///
/// # Errors
/// The element that is missing.
pub fn source(path: &Path, decoding: Decoding) -> Result<(gst::Bin, gst::Pad)> {
    let bin = gst::Bin::new();
    let device = element("v4l2src")?;
    let name = path.to_str().context("the name of the device is not UTF-8")?;
    device.set_property("device", name);
    bin.add(&device)?;
    let (decoder, end) = decoder(&bin, decoding)?;
    device.link(&decoder)?;
    Ok((bin, end))
}

/// Whether the device can be opened at all: its element does not tell what is wrong.
///
/// # Errors
/// What is wrong.
pub fn check(path: &Path) -> Result<(), Reason> {
    let shown = path.display();
    let open = || {
        if !path.metadata()?.file_type().is_char_device() {
            return Ok(false);
        }
        let mut options = OpenOptions::new();
        // Devices of other kinds may wait for something.
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)?;
        Ok(true)
    };
    match open() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Reason::Content(format!("{shown} is no device"))),
        Err(error) => Err(words(path, &error)),
    }
}

/// Why the device cannot be opened.
fn words(path: &Path, error: &io::Error) -> Reason {
    let shown = path.display();
    match (error.kind(), error.raw_os_error()) {
        (ErrorKind::NotFound, _) => Reason::Other(format!("there is no device {shown}")),
        (_, Some(libc::ENXIO | libc::ENODEV)) => {
            Reason::Other(format!("{shown} leads to no device that is there"))
        }
        (ErrorKind::PermissionDenied, _) => Reason::Content(format!(
            "{shown} may not be opened; the service's user is to be in the group video, and a \
             container needs --device {shown}"
        )),
        (_, Some(libc::EBUSY)) => Reason::Other(in_use(path)),
        _ => Reason::Other(format!("{shown}: {error}")),
    }
}

fn in_use(path: &Path) -> String {
    format!("{} is in use by another program", path.display())
}

/// What the element says, in words.
pub fn reason(path: &Path, error: &gst::message::Error) -> Reason {
    let said = error.error();
    if said.matches(gst::ResourceError::Busy) {
        return Reason::Other(in_use(path));
    }
    let is_element = error.src().is_some_and(|source| {
        source
            .downcast_ref::<gst::Element>()
            .and_then(|element| element.factory())
            .is_some_and(|factory| factory.name() == "v4l2src")
    });
    // A device that knows none of Video4Linux's requests.
    let unknown = io::Error::from_raw_os_error(libc::ENOTTY).to_string();
    let unknown = unknown.split(" (os error").next().unwrap_or_default();
    let debug = error.debug().unwrap_or_default();
    let is_other = said.matches(gst::ResourceError::NotFound) || debug.contains(unknown);
    if is_element && is_other {
        return Reason::Content(format!("{} is no camera of Video4Linux", path.display()));
    }
    if is_element && said.matches(gst::ResourceError::OpenReadWrite) {
        return check(path).err().unwrap_or_else(|| Reason::of(error));
    }
    Reason::of(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_lie_under_dev() {
        let device = |url: &str| device_at(url).and_then(Result::ok);
        for url in ["v4l2:/dev/video0", "/dev/video0", "v4l2:///dev/video0"] {
            assert_eq!(device(url).as_deref(), Some(Path::new("/dev/video0")), "{url}");
        }
        let by_id = "v4l2:/dev/v4l/by-id/usb-Camera 1";
        assert_eq!(device(by_id).as_deref(), Some(Path::new("/dev/v4l/by-id/usb-Camera 1")));
        for url in ["v4l2:", "v4l2:video0", "v4l2:/etc/passwd", "/dev/../etc/passwd", "/dev/"] {
            assert!(device_at(url).is_some_and(|device| device.is_err()), "{url}");
        }
        assert!(device_at("file:/dev/video0").is_none() && device_at("/video0").is_none());
    }

    #[test]
    fn what_is_wrong_with_a_device_is_told() {
        let path = Path::new("/dev/video7");
        for (code, said, is_lasting) in [
            (libc::ENOENT, "there is no device /dev/video7", false),
            (libc::EACCES, "group video", true),
            (libc::EPERM, "group video", true),
            (libc::EBUSY, "in use by another program", false),
            (libc::ENODEV, "no device that is there", false),
            (libc::ENXIO, "no device that is there", false),
            (libc::EIO, "/dev/video7: ", false),
        ] {
            let reason = words(path, &io::Error::from_raw_os_error(code));
            assert!(reason.to_string().contains(said), "{reason}");
            assert_eq!(reason.is_lasting(), is_lasting, "{reason}");
        }
        let missing = check(Path::new("/dev/vehiclecount-none")).unwrap_err();
        assert!(missing.to_string().contains("there is no device"), "{missing}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let file = check(file.path()).unwrap_err();
        assert!(file.to_string().contains("is no device"), "{file}");
        assert_eq!(check(Path::new("/dev/null")), Ok(()));
    }
}
