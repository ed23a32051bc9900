//! From a stream of any kind to raw pictures that stand upright.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;
use parking_lot::Mutex;

use super::decoding::Decoding;

/// Makes an element, or says that it is missing, and in which package it is.
pub fn element(name: &str) -> Result<gst::Element> {
    gst::ElementFactory::make(name).build().map_err(|_| {
        let remedy = match package(name) {
            Some(package) => format!("install the package {package}"),
            None => "`vehicle-count doctor` tells which package has it".to_owned(),
        };
        anyhow!("the GStreamer element {name} is missing; {remedy}")
    })
}

/// The package of Debian and Ubuntu that has an element of those that sources are made of.
fn package(name: &str) -> Option<&'static str> {
    Some(match name {
        "appsrc" | "decodebin" | "videoconvert" => "gstreamer1.0-plugins-base",
        "rtspsrc" | "videoflip" | "v4l2src" => "gstreamer1.0-plugins-good",
        "jpegparse" => "gstreamer1.0-plugins-bad",
        "clocksync" | "filesrc" => "libgstreamer1.0-0",
        _ => return None,
    })
}

/// Puts a decoder into `bin`: whatever GStreamer's installed elements read, video alone. Pictures
/// with an orientation tag are turned upright. Where a stream has no video, `bin` posts an error.
///
/// Gives the decoder, whose sink pad takes the stream, and the pad where raw pictures leave.
///
/// # Errors
/// The element that is missing.
pub fn decoder(bin: &gst::Bin, decoding: Decoding) -> Result<(gst::Element, gst::Pad)> {
    let decoder = element("decodebin")?;
    decoding.watch(&decoder);
    let convert = element("videoconvert")?;
    let upright = element("videoflip")?;
    upright.set_property_from_str("video-direction", "auto");
    bin.add_many([&decoder, &convert, &upright])?;
    convert.link(&upright)?;
    let end = upright.static_pad("src").context("a filter has a source pad")?;

    // Sound and subtitles are neither decoded nor waited for.
    decoder.connect("autoplug-continue", false, |values| {
        let caps = values.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
        let other = caps.is_some_and(|caps| {
            kind(&caps).is_some_and(|kind| ["audio", "text", "subpicture"].contains(&kind))
        });
        Some((!other).to_value())
    });
    let place = convert.static_pad("sink").context("a filter has a sink pad")?.downgrade();
    let taken = place.clone();
    decoder.connect_pad_added(move |_, pad| {
        let Some(place) = place.upgrade().filter(|place| !place.is_linked()) else { return };
        if kind(&caps_of(pad)) == Some("video") {
            // A link that fails leaves the place free, which is told below.
            let _ = pad.link(&place);
        }
    });
    let unknown = Arc::new(Mutex::new(Vec::<gst::Caps>::new()));
    let noted = unknown.clone();
    decoder.connect("unknown-type", false, move |values| {
        let caps = values.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
        noted.lock().extend(caps);
        None
    });
    let owner = bin.downgrade();
    decoder.connect_no_more_pads(move |decoder| {
        let linked = taken.upgrade().is_none_or(|place| place.is_linked());
        let Some(owner) = owner.upgrade().filter(|_| !linked) else { return };
        let decoded: Vec<_> = decoder.src_pads().iter().map(caps_of).collect();
        let unknown = unknown.lock().clone();
        let video = |caps: &&gst::Caps| kind(caps) == Some("video");
        if let Some(caps) = decoded.iter().find(video) {
            gst::element_error!(
                owner,
                gst::StreamError::Format,
                ("videoconvert does not take its pictures, {caps}")
            );
        } else if let Some(caps) = unknown.iter().find(video) {
            gst::element_error!(
                owner,
                gst::StreamError::CodecNotFound,
                ("its video is {}", name(caps))
            );
        } else {
            let others = decoded
                .iter()
                .chain(&unknown)
                .map(|caps| name(caps))
                .collect::<Vec<_>>()
                .join(", ");
            let only = if others.is_empty() { String::new() } else { format!(", only {others}") };
            gst::element_error!(
                owner,
                gst::StreamError::WrongType,
                ("there is no video in it{only}")
            );
        }
    });
    Ok((decoder, end))
}

fn caps_of(pad: &gst::Pad) -> gst::Caps {
    pad.current_caps().unwrap_or_else(|| pad.query_caps(None))
}

/// video/x-raw.
fn name(caps: &gst::CapsRef) -> &str {
    caps.structure(0).map_or("", |caps| caps.name().as_str())
}

/// "video" of video/x-raw.
fn kind(caps: &gst::CapsRef) -> Option<&str> {
    name(caps).split('/').next()
}
