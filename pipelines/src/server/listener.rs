//! The thread on which an RTSP server lives.

use std::thread::{self, JoinHandle};

use anyhow::{Result, anyhow};
use gst_rtsp_server::prelude::*;

/// An RTSP server that listens. It ends, and all its connections with it, when it is dropped.
pub struct Listener {
    main_loop: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
    server: gst_rtsp_server::RTSPServer,
}

impl Listener {
    /// Lets `server` listen on `address` and `port` (0: any that is free).
    ///
    /// # Errors
    /// When it cannot.
    pub fn start(server: gst_rtsp_server::RTSPServer, address: &str, port: u16) -> Result<Self> {
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        server.set_address(address);
        server.set_service(&port.to_string());
        server.attach(Some(&context)).map_err(|_| {
            anyhow!("the RTSP server cannot listen on {address}:{port}; is the port taken?")
        })?;
        let own = main_loop.clone();
        let thread = thread::Builder::new().name("rtsp-server".to_owned()).spawn(move || {
            let run = context.with_thread_default(|| own.run());
            if let Err(error) = run {
                eprintln!("the RTSP server's thread could not run: {error}");
            }
        })?;
        Ok(Self { main_loop, thread: Some(thread), server })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.server.bound_port() as u16
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Connections are closed first: they hold their media.
        self.server.client_filter(Some(&mut |_, _| gst_rtsp_server::RTSPFilterResult::Remove));
        // Asked for inside the loop: a loop that has not begun to run yet would never hear of it
        // otherwise.
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
