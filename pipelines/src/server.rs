//! An RTSP server on loopback with cameras that do not exist: simulated ones, or files.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;
use gst_rtsp_server::prelude::*;
use gstvehiclecount::meta::truth;

/// What a camera of the server shows.
#[derive(Clone, Debug)]
pub enum Show {
    /// `vehicletestsrc` with these properties.
    Simulated(String),
    /// A file, from its beginning for everyone who comes when nobody watches.
    File(PathBuf),
}

/// True counts by the time at which they were shown, seconds since 1970.
#[derive(Clone, Default)]
pub struct Truths(Arc<Mutex<VecDeque<(f64, u32)>>>);

/// Ten minutes at 25 frames a second.
const REMEMBERED: usize = 15_000;

impl Truths {
    fn note(&self, count: u32) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let mut truths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if truths.len() == REMEMBERED {
            truths.pop_front();
        }
        truths.push_back((now, count));
    }

    /// The true count at `time`, if a frame was shown within half of `frame` seconds of it.
    pub fn at(&self, time: f64, frame: f64) -> Option<u32> {
        let truths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let nearest = truths.iter().min_by(|a, b| (a.0 - time).abs().total_cmp(&(b.0 - time).abs()))?;
        ((nearest.0 - time).abs() <= frame * 0.5).then_some(nearest.1)
    }
}

/// The address that only this machine reaches.
pub const LOOPBACK: &str = "127.0.0.1";

/// A running server. It ends when it is dropped.
pub struct Server {
    main_loop: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
    server: gst_rtsp_server::RTSPServer,
    truths: Vec<Truths>,
}

/// How the server's cameras encode: one keyframe a second, no frame reordering, 4:2:0.
fn encode(fps: u32) -> String {
    format!(
        "x264enc tune=zerolatency speed-preset=superfast bitrate=1200 key-int-max={fps} \
         ! video/x-h264,profile=main ! rtph264pay name=pay0 pt=96 config-interval=1"
    )
}

fn launch(show: &Show, fps: u32) -> String {
    match show {
        Show::Simulated(properties) => format!(
            "( vehicletestsrc name=camera is-live=true {properties} ! video/x-raw,format=I420,width=640,height=360,framerate={fps}/1 ! {} )",
            encode(fps)
        ),
        Show::File(path) => format!(
            "( filesrc location=\"{}\" ! decodebin ! videoconvert ! videorate ! video/x-raw,format=I420,framerate={fps}/1 ! identity sync=true ! {} )",
            path.display(),
            encode(fps)
        ),
    }
}

impl Server {
    /// Starts a server on `address` and `port` (0: any that is free), with a camera for each of `shows`, at `fps` frames a second.
    pub fn start(shows: &[Show], fps: u32, address: &str, port: u16) -> Result<Self> {
        for show in shows {
            if let Show::File(path) = show {
                anyhow::ensure!(path.is_file(), "{}: no such file", path.display());
            }
        }
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let server = gst_rtsp_server::RTSPServer::new();
        server.set_address(address);
        server.set_service(&port.to_string());
        let mounts = server.mount_points().context("the RTSP server has no mount points")?;
        let mut truths = Vec::new();
        for (index, show) in shows.iter().enumerate() {
            let factory = gst_rtsp_server::RTSPMediaFactory::new();
            factory.set_launch(&launch(show, fps));
            // Everybody sees the same camera, as with a real one.
            factory.set_shared(true);
            let noted = Truths::default();
            truths.push(noted.clone());
            factory.connect_media_configure(move |_, media| {
                let camera = media.element().downcast::<gst::Bin>().ok().and_then(|bin| bin.by_name("camera"));
                let Some(pad) = camera.and_then(|camera| camera.static_pad("src")) else { return };
                let noted = noted.clone();
                pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                    if let Some(truth) = info.buffer().and_then(|buffer| truth::read(buffer)) {
                        noted.note(truth.count);
                    }
                    gst::PadProbeReturn::Ok
                });
            });
            mounts.add_factory(&format!("/camera-{index}"), factory);
        }
        server
            .attach(Some(&context))
            .map_err(|_| anyhow!("the RTSP server cannot listen on {address}:{port}; is the port taken?"))?;
        let own = main_loop.clone();
        let thread = thread::Builder::new().name("rtsp-server".to_owned()).spawn(move || {
            let run = context.with_thread_default(|| own.run());
            if let Err(error) = run {
                eprintln!("the RTSP server's thread could not run: {error}");
            }
        })?;
        Ok(Self { main_loop, thread: Some(thread), server, truths })
    }

    /// Where camera `index` is.
    pub fn url(&self, index: usize) -> String {
        format!("rtsp://127.0.0.1:{}/camera-{index}", self.server.bound_port())
    }

    /// What camera `index` knows of itself, if it is a simulated one.
    pub fn truths(&self, index: usize) -> Truths {
        self.truths[index].clone()
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.server.bound_port() as u16
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Connections are closed first: they hold their media.
        self.server.client_filter(Some(&mut |_, _| gst_rtsp_server::RTSPFilterResult::Remove));
        // Asked for inside the loop: a loop that has not begun to run yet would never hear of it otherwise.
        let main_loop = self.main_loop.clone();
        let quit = glib::idle_source_new(None, glib::Priority::HIGH, move || {
            main_loop.quit();
            glib::ControlFlow::Break
        });
        quit.attach(Some(&self.main_loop.context()));
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
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
        Show::Simulated(format!("viewpoint={viewpoint} weather={weather} traffic={traffic} seed={index}"))
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
        Show::File(path) => path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        Show::Simulated(properties) => {
            let word = |key: &str| {
                let value = properties.split_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
                value.unwrap_or("?").to_owned()
            };
            format!("{} {}", word("viewpoint"), word("weather"))
        }
    }
}

/// Whether `path` could be a video file at all; what is inside shows when it is opened.
fn check_input(path: &Path) -> Result<()> {
    let size = path.metadata().with_context(|| format!("{}: cannot be read", path.display()))?.len();
    anyhow::ensure!(size > 0, "{}: the file is empty", path.display());
    Ok(())
}
