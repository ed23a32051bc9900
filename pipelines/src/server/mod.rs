//! An RTSP server on loopback with cameras that do not exist: simulated ones, or files.

mod listener;
mod show;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use gst::prelude::*;
use gst_rtsp_server::prelude::*;
use gstvehiclecount::meta::truth;
use parking_lot::Mutex;

use crate::source::Reason;
use crate::stop::stop;

pub use listener::Listener;
pub use show::{Show, name, shows, simulated};

/// True counts by the time at which they were shown, seconds since 1970.
#[derive(Clone, Default)]
pub struct Truths(Arc<Mutex<VecDeque<(f64, u32)>>>);

/// Ten minutes at 25 frames a second.
const REMEMBERED: usize = 15_000;

impl Truths {
    fn note(&self, count: u32) {
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let mut truths = self.0.lock();
        if truths.len() == REMEMBERED {
            truths.pop_front();
        }
        truths.push_back((now, count));
    }

    /// The true count at `time`, if a frame was shown within half of `frame` seconds of it.
    pub fn at(&self, time: f64, frame: f64) -> Option<u32> {
        let truths = self.0.lock();
        let nearest =
            truths.iter().min_by(|a, b| (a.0 - time).abs().total_cmp(&(b.0 - time).abs()))?;
        ((nearest.0 - time).abs() <= frame * 0.5).then_some(nearest.1)
    }
}

/// Why a camera of the server does not play, as its own elements say it. Its readers only hear that
/// it does not.
#[derive(Clone, Default)]
pub struct Fault(Arc<Mutex<Option<String>>>);

impl Fault {
    fn set(&self, reason: Option<String>) {
        *self.0.lock() = reason;
    }

    /// The reason, where it does not play.
    pub fn get(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

/// The address that only this machine reaches.
pub const LOOPBACK: &str = "127.0.0.1";

/// A running server. It ends when it is dropped.
pub struct Server {
    listener: Listener,
    truths: Vec<Truths>,
    faults: Vec<Fault>,
}

/// What makes the camera of `show` for those who watch it: one for all of them, as with a real one.
fn factory(
    show: &Show,
    fps: u32,
    truths: &Truths,
    fault: &Fault,
) -> gst_rtsp_server::RTSPMediaFactory {
    let factory = gst_rtsp_server::RTSPMediaFactory::new();
    factory.set_launch(&show.launch(fps));
    factory.set_shared(true);
    let (show, truths, fault) = (show.clone(), truths.clone(), fault.clone());
    factory.connect_media_configure(move |_, media| {
        fault.set(None);
        let Ok(bin) = media.element().downcast::<gst::Bin>() else { return };
        watch(media, &bin, &fault);
        if let Err(error) = show.begin(&bin) {
            fault.set(Some(format!("{error:#}")));
        }
        let Some(pad) = bin.by_name(show::CAMERA).and_then(|camera| camera.static_pad("src"))
        else {
            return;
        };
        let truths = truths.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(truth) = info.buffer().and_then(|buffer| truth::read(buffer)) {
                truths.note(truth.count);
            }
            gst::PadProbeReturn::Ok
        });
    });
    factory
}

/// Notes the first error of the pipeline of `media`, which `bin` is in, and ends it with the media.
fn watch(media: &gst_rtsp_server::RTSPMedia, bin: &gst::Bin, fault: &Fault) {
    let Some(pipeline) = bin.parent().and_downcast::<gst::Pipeline>() else { return };
    // Where a client goes while the pipeline starts, gst-rtsp-server 1.22 may dispose it in PAUSED.
    let started = pipeline.clone();
    media.add_weak_ref_notify(move || {
        stop(&started);
    });
    // A pipeline that fails while it starts may fail to stop as well: gst-rtsp-server 1.22 then
    // removes and disposes its rtpbin in READY.
    pipeline.connect_element_removed(|_, element| {
        stop(element);
    });
    let Some(bus) = pipeline.bus() else { return };
    bus.enable_sync_message_emission();
    let fault = fault.clone();
    bus.connect_sync_message(Some("error"), move |_, message| {
        if let (gst::MessageView::Error(error), None) = (message.view(), fault.get()) {
            fault.set(Some(Reason::of(error).to_string()));
        }
    });
}

impl Server {
    /// Starts a server on `address` and `port` (0: any that is free), with a camera for each of
    /// `shows`, at `fps` frames a second.
    pub fn start(shows: &[Show], fps: u32, address: &str, port: u16) -> Result<Self> {
        for show in shows {
            if let Show::File(path) = show {
                ensure!(path.is_file(), "{}: it is not a file", path.display());
            }
        }
        let server = gst_rtsp_server::RTSPServer::new();
        let mounts = server.mount_points().context("the RTSP server has no mount points")?;
        let (mut truths, mut faults) = (Vec::new(), Vec::new());
        for (index, show) in shows.iter().enumerate() {
            let (noted, fault) = (Truths::default(), Fault::default());
            mounts.add_factory(&format!("/camera-{index}"), factory(show, fps, &noted, &fault));
            truths.push(noted);
            faults.push(fault);
        }
        Ok(Self { listener: Listener::start(server, address, port)?, truths, faults })
    }

    /// Where camera `index` is.
    pub fn url(&self, index: usize) -> String {
        format!("rtsp://127.0.0.1:{}/camera-{index}", self.port())
    }

    /// What camera `index` knows of itself, if it is a simulated one.
    pub fn truths(&self, index: usize) -> Truths {
        self.truths[index].clone()
    }

    /// Why camera `index` does not play, if it does not.
    pub fn fault(&self, index: usize) -> Fault {
        self.faults[index].clone()
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }
}
