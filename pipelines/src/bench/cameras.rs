//! RTSP cameras that send clips as they are, again and again: they take hardly any processor time
//! from what is measured.

use std::path::PathBuf;

use anyhow::{Context, Result};
use gst::prelude::*;
use gst_rtsp_server::prelude::*;

use super::clips::{Clip, Codec, FPS};
use crate::server::{LOOPBACK, Listener};

/// Cameras on loopback. They end when this is dropped.
pub(super) struct Cameras {
    listener: Listener,
    number: usize,
}

impl Cameras {
    /// `number` cameras, which send `clips` in turn.
    pub fn start(codec: Codec, clips: &[Clip], number: usize) -> Result<Self> {
        let server = gst_rtsp_server::RTSPServer::new();
        let mounts = server.mount_points().context("the RTSP server has no mount points")?;
        for (index, clip) in (0..number).zip(clips.iter().cycle()) {
            mounts.add_factory(&format!("/camera-{index}"), factory(codec, clip.stream.clone()));
        }
        Ok(Self { listener: Listener::start(server, LOOPBACK, 0)?, number })
    }

    /// Where they are.
    pub fn addresses(&self) -> Vec<String> {
        let port = self.listener.port();
        (0..self.number).map(|index| format!("rtsp://{LOOPBACK}:{port}/camera-{index}")).collect()
    }
}

fn factory(codec: Codec, stream: PathBuf) -> gst_rtsp_server::RTSPMediaFactory {
    let factory = gst_rtsp_server::RTSPMediaFactory::new();
    let (parser, payloader) = codec.elements();
    let stream_caps = format!("video/x-{},stream-format=byte-stream", codec.name());
    factory.set_launch(&format!(
        "( multifilesrc name=clip loop=true caps={stream_caps},framerate={FPS}/1 ! {parser} name=parser \
         ! {stream_caps},alignment=au ! identity sync=true \
         ! {payloader} name=pay0 pt=96 config-interval=1 )",
    ));
    factory.connect_media_configure(move |_, media| {
        let Ok(bin) = media.element().downcast::<gst::Bin>() else { return };
        if let Some(clip) = bin.by_name("clip") {
            // The location is a format of printf.
            clip.set_property("location", stream.to_string_lossy().replace('%', "%%"));
        }
        let parsed = bin.by_name("parser").and_then(|parser| parser.static_pad("src"));
        let Some(parsed) = parsed else { return };
        // A stream without a container has no times; the parser gives the order of decoding, which
        // is that of showing, as there are no B pictures.
        parsed.add_probe(gst::PadProbeType::BUFFER, |_, info| {
            if let Some(buffer) = info.buffer_mut() {
                let buffer = buffer.make_mut();
                if buffer.pts().is_none() {
                    buffer.set_pts(buffer.dts());
                }
            }
            gst::PadProbeReturn::Ok
        });
    });
    factory
}
