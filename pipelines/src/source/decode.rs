//! From a stream of any kind to raw pictures that stand upright.

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;

/// Makes an element, or says that it is missing.
pub fn element(name: &str) -> Result<gst::Element> {
    let missing = "is missing; `vehicle-count doctor` tells which package has it";
    gst::ElementFactory::make(name).build().map_err(|_| anyhow!("the GStreamer element {name} {missing}"))
}

/// Puts a decoder into `bin`: whatever GStreamer's installed elements read, video alone. Pictures
/// with an orientation tag are turned upright. Where a stream has no video, `bin` posts an error.
///
/// Gives the decoder, whose sink pad takes the stream, and the pad where raw pictures leave.
///
/// # Errors
/// The element that is missing.
pub fn decoder(bin: &gst::Bin) -> Result<(gst::Element, gst::Pad)> {
    let decoder = element("decodebin")?;
    let convert = element("videoconvert")?;
    let upright = element("videoflip")?;
    upright.set_property_from_str("video-direction", "auto");
    bin.add_many([&decoder, &convert, &upright])?;
    convert.link(&upright)?;
    let end = upright.static_pad("src").context("a filter has a source pad")?;

    // Sound and subtitles are neither decoded nor waited for.
    decoder.connect("autoplug-continue", false, |values| {
        let caps = values.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
        let other =
            caps.is_some_and(|caps| kind(&caps).is_some_and(|kind| ["audio", "text", "subpicture"].contains(&kind)));
        Some((!other).to_value())
    });
    let place = convert.static_pad("sink").context("a filter has a sink pad")?.downgrade();
    decoder.connect_pad_added(move |_, pad| {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let Some(place) = place.upgrade().filter(|place| !place.is_linked()) else { return };
        if kind(&caps) == Some("video") {
            // A link that fails ends the stream, whose element says so.
            let _ = pad.link(&place);
        }
    });
    let (place, owner) = (convert.static_pad("sink").map(|pad| pad.downgrade()), bin.downgrade());
    decoder.connect_no_more_pads(move |decoder| {
        let linked = place.as_ref().and_then(|place| place.upgrade()).is_none_or(|place| place.is_linked());
        let Some(owner) = owner.upgrade().filter(|_| !linked) else { return };
        let mut kinds: Vec<String> = Vec::new();
        for pad in decoder.src_pads() {
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            kinds.extend(caps.structure(0).map(|caps| caps.name().to_string()));
        }
        let only = if kinds.is_empty() { String::new() } else { format!(", only {}", kinds.join(", ")) };
        gst::element_error!(owner, gst::StreamError::WrongType, ("there is no video in it{only}"));
    });
    Ok((decoder, end))
}

/// "video" of video/x-raw.
fn kind(caps: &gst::CapsRef) -> Option<&str> {
    caps.structure(0)?.name().as_str().split('/').next()
}
