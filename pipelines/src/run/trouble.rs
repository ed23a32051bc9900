//! Why pictures of a camera are not counted although they come: what its counter says of that.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::board::Status;
use super::log;
use crate::source::redact;

/// The engine is given this long for a picture before it is said that it does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Failures are over when there was none for this long, and pictures are counted.
const CALM: Duration = Duration::from_secs(3);

/// Warnings that are remembered, so that each is logged once.
const REMEMBERED: usize = 32;

/// What a camera's counter has said.
pub struct Trouble {
    camera: String,
    counter: gst::Element,
    /// What the engine failed with last.
    failure: Option<String>,
    /// When it did so, while that is not over.
    failing: Option<Instant>,
    /// Pictures that have failed.
    failed: u64,
    /// How far the opening of the engine for its pictures is.
    opening: Option<String>,
    warned: BTreeSet<String>,
}

impl Trouble {
    /// Nothing was said yet by the counter of a camera of that name.
    pub fn new(camera: &str, counter: gst::Element, status: &Status) -> Self {
        Self {
            camera: camera.to_owned(),
            counter,
            failure: None,
            failing: None,
            failed: status.failed,
            opening: None,
            warned: BTreeSet::new(),
        }
    }

    /// Takes in a message of the pipeline.
    pub fn take_in(&mut self, message: &gst::MessageRef, now: Instant) {
        let is_own = message.src() == Some(self.counter.upcast_ref());
        match message.view() {
            gst::MessageView::Progress(progress) if is_own => {
                let (kind, _, text) = progress.get();
                let goes_on =
                    matches!(kind, gst::ProgressType::Start | gst::ProgressType::Continue);
                self.opening = goes_on.then(|| format!("not counted yet: {text}"));
            }
            gst::MessageView::Warning(warning) => {
                let text = redact::text(warning.error().message()).into_owned();
                if is_own && warning.error().matches(gst::LibraryError::Failed) {
                    let prefix = format!("Camera {}: ", self.camera);
                    let text = text.strip_prefix(&prefix).unwrap_or(&text).to_owned();
                    (self.failure, self.failing) = (Some(text), Some(now));
                } else if self.warned.len() < REMEMBERED && self.warned.insert(text.clone()) {
                    log(&format!("{}: warning: {text}", self.camera));
                }
            }
            _ => {}
        }
    }

    /// Why its pictures are not counted.
    pub fn reason(&mut self, status: &mut Status, now: Instant) -> Option<String> {
        if let Some(opening) = &self.opening {
            // It takes as long as it takes.
            status.owed = None;
            return Some(opening.clone());
        }
        let since = |then: Instant| now.saturating_duration_since(then);
        if status.failed > self.failed {
            self.failing = Some(now);
        }
        self.failed = status.failed;
        // Nothing was counted since then, or not for long.
        let goes_on =
            |last: &Instant| status.owed.is_some_and(|owed| owed <= *last) || since(*last) <= CALM;
        self.failing = self.failing.filter(goes_on);
        let silent = status.owed.is_some_and(|owed| since(owed) > PATIENCE);
        match (&self.failure, self.failing) {
            (Some(failure), Some(_)) => Some(failure.clone()),
            _ => silent.then(|| "the engine does not count its pictures".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::run::board::Camera;

    #[test]
    fn reason_is_there_for_as_long_as_pictures_fail_or_the_engine_is_opened_for_them() {
        gst::init().unwrap();
        let text = "[cameras.north]\nurl = \"simulated:street\"\n";
        let mut cameras = config::parse(text, Path::new("counter.toml")).unwrap().cameras;
        let camera = Camera::new(cameras.remove(0));
        let counter = gst::Bin::new().upcast::<gst::Element>();
        let mut trouble = Trouble::new("north", counter.clone(), &camera.status());
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        // Seconds, pictures that have failed, and whether one is waited for since when.
        let reason = |trouble: &mut Trouble, seconds, failed, owed: Option<u64>| {
            let mut status = camera.status();
            (status.failed, status.owed) = (failed, owed.map(at));
            let reason = trouble.reason(&mut status, at(seconds));
            (reason, status.owed.is_some())
        };
        assert_eq!(reason(&mut trouble, 0, 0, Some(0)), (None, true));
        let failed = gst::message::Warning::builder(
            gst::LibraryError::Failed,
            "Camera north: CUDA error 719",
        );
        trouble.take_in(&failed.src(&counter).build(), at(1));
        let told = Some("CUDA error 719".to_owned());
        assert_eq!(reason(&mut trouble, 1, 0, Some(0)).0, told);
        // Counted now and then, it fails still.
        assert_eq!(reason(&mut trouble, 3, 1, None).0, told);
        assert_eq!(reason(&mut trouble, 6, 2, None).0, told);
        assert_eq!(reason(&mut trouble, 10, 2, Some(9)).0, None);
        // It fails again, and the counter does not say so each time.
        assert_eq!(reason(&mut trouble, 12, 3, Some(12)).0, told);
        assert_eq!(reason(&mut trouble, 100, 3, Some(12)).0, told);
        assert_eq!(reason(&mut trouble, 101, 3, None).0, None);
        // Warnings of others are none of the engine.
        let other = gst::message::Warning::builder(gst::LibraryError::Failed, "a decoder's");
        trouble.take_in(&other.build(), at(102));
        assert_eq!(reason(&mut trouble, 102, 3, Some(102)).0, None);
        let hung = reason(&mut trouble, 113, 3, Some(102)).0.unwrap();
        assert_eq!(hung, "the engine does not count its pictures");
        // Building a plan takes minutes, for which nothing is owed.
        let tell = |kind, text: &str| {
            gst::message::Progress::builder(kind, "engine", text).src(&counter).build()
        };
        trouble.take_in(&tell(gst::ProgressType::Start, "building"), at(200));
        let opening = reason(&mut trouble, 900, 3, Some(200));
        assert_eq!(opening, (Some("not counted yet: building".to_owned()), false));
        trouble.take_in(&tell(gst::ProgressType::Complete, "open"), at(901));
        assert_eq!(reason(&mut trouble, 902, 3, Some(901)), (None, true));
    }
}
