//! The end of a camera: its pads are released within a bound, whatever stands behind them.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use gst::prelude::*;

use super::camera::Camera;
use super::imp::CAT;

/// How long a push in progress may take to end while downstream runs, before it is flushed.
const GRACE: Duration = Duration::from_millis(500);

/// How long downstream may take to give a frame back after that.
const BOUND: Duration = Duration::from_secs(2);

impl Camera {
    /// Ends both pads, for good. A push in progress gets time to end while downstream `runs`; then
    /// downstream is flushed. `false` where it holds a frame all the same: a thread ends the pads
    /// as soon as it gives that back.
    pub fn release(self: &Arc<Self>, runs: bool) -> bool {
        let mut state = self.lock();
        state.stopped = true;
        state.flushing = true;
        self.wake(&mut state);
        if runs {
            state = self.wait_while(state, GRACE, |state| state.pushing || state.querying);
        }
        let stuck = state.pushing || state.querying;
        drop(state);
        if !stuck {
            let _ = self.sinkpad.set_active(false);
            let _ = self.srcpad.set_active(false);
            return true;
        }
        gst::debug!(
            CAT,
            obj = self.srcpad,
            "Flushing downstream, which holds a frame, to release the camera"
        );
        let (done, ended) = mpsc::channel();
        let camera = self.clone();
        let end = move || {
            camera.flush_and_end();
            let _ = done.send(());
        };
        match thread::Builder::new().name("vehicle-release".to_owned()).spawn(end) {
            Ok(_) => ended.recv_timeout(BOUND).is_ok(),
            Err(error) => {
                gst::error!(CAT, obj = self.srcpad, "Cannot start a thread: {error}");
                self.flush_and_end();
                true
            }
        }
    }

    /// Makes downstream give back what it holds, and ends both pads.
    fn flush_and_end(&self) {
        let peer = self.srcpad.peer();
        self.srcpad.push_event(gst::event::FlushStart::new());
        let _ = self.sinkpad.set_active(false);
        let _ = self.srcpad.stop_task();
        // What is linked downstream may be linked to another camera later; the pads may have been
        // unlinked meanwhile.
        if let Some(peer) = peer {
            peer.send_event(gst::event::FlushStop::new(false));
        }
        let _ = self.srcpad.set_active(false);
    }
}
