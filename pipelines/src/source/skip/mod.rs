//! Compressed pictures that are not decoded, where fewer are counted than come.
//!
//! Decoding costs more than counting does as soon as a camera is counted once a second and sends 25
//! pictures. Three kinds need not be decoded: pictures that no other refers to; all pictures
//! behind the last one that is counted before the next key picture; and whole groups of pictures
//! in which none is counted. What is left is what the decoder needs for those that are.

mod bitstream;
mod selection;

use std::sync::Arc;

use gst::prelude::*;
use parking_lot::Mutex;

use bitstream::Codec;
pub(super) use selection::JITTER;
use selection::{Picture, Selection};

/// How many pictures are wanted, and who hears of those that are not decoded.
#[derive(Clone)]
pub struct Skip {
    /// Pictures a second that are counted.
    pub rate: f64,
    /// Asked for each picture: whether all are wanted for now.
    pub is_paused: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Called for each picture that came and is not decoded.
    pub skipped: Arc<dyn Fn() + Send + Sync>,
}

impl Skip {
    /// Takes pictures away from the video decoders that `decoder`, an element `decodebin`, makes.
    pub fn watch(self, decoder: &gst::Element) {
        let Some(bin) = decoder.downcast_ref::<gst::Bin>() else { return };
        bin.connect_deep_element_added(move |_, _, element| {
            let class = element.metadata(gst::ELEMENT_METADATA_KLASS).unwrap_or_default();
            let decodes =
                class.contains("Decoder") && (class.contains("Video") || class.contains("Image"));
            if let Some(pad) = element.static_pad("sink").filter(|_| decodes) {
                self.clone().attach(&pad);
            }
        });
    }

    /// Takes pictures away that come to `pad`.
    fn attach(self, pad: &gst::Pad) {
        // Slices that come one by one are not told apart from pictures: all are decoded then.
        let state = Mutex::new((Selection::new(self.rate), Codec::Other, false));
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        pad.add_probe(kinds, move |_, info| {
            let (selection, codec, is_whole) = &mut *state.lock();
            match &info.data {
                Some(gst::PadProbeData::Event(event)) => {
                    match event.view() {
                        gst::EventView::Caps(caps) => {
                            *codec = Codec::of(caps.caps());
                            *is_whole = has_whole_pictures(caps.caps());
                            selection.restart();
                        }
                        gst::EventView::StreamStart(_)
                        | gst::EventView::Segment(_)
                        | gst::EventView::FlushStop(_) => selection.restart(),
                        _ => {}
                    }
                    gst::PadProbeReturn::Ok
                }
                Some(gst::PadProbeData::Buffer(buffer)) => {
                    if !*is_whole
                        || selection.is_wanted(&picture(buffer, *codec), (self.is_paused)())
                    {
                        gst::PadProbeReturn::Ok
                    } else {
                        (self.skipped)();
                        // Not `Drop`, which is for ends of streams, too.
                        gst::PadProbeReturn::Handled
                    }
                }
                _ => gst::PadProbeReturn::Ok,
            }
        });
    }
}

/// Whether each buffer holds a whole picture.
fn has_whole_pictures(caps: &gst::CapsRef) -> bool {
    let alignment = caps.structure(0).and_then(|caps| caps.get::<&str>("alignment").ok());
    alignment.is_none_or(|alignment| ["au", "frame", "tu"].contains(&alignment))
}

/// What is known of a compressed picture.
fn picture(buffer: &gst::BufferRef, codec: Codec) -> Picture {
    let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let is_reference =
        key || buffer.map_readable().map_or(true, |map| codec.is_reference(map.as_slice()));
    Picture {
        time: buffer.pts().map(|time| time.nseconds() as f64 / 1e9),
        key,
        is_reference,
        is_header: buffer.flags().contains(gst::BufferFlags::HEADER),
    }
}
