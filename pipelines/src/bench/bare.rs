//! The engine by itself, with the same frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use gst_video::prelude::*;
use vehiclecount_core::engine::{Engine, Slot};
use vehiclecount_core::frame::{ColorRange, FrameFormat, FrameView, PixelFormat, Plane};
use vehiclecount_core::model::Model;
use vehiclecount_core::preprocess::{Placement, Preprocessor};

use super::Bench;
use super::figure::Subject;
use super::rate::{Rate, rate};
use super::turns::Contender;

/// The frames in batches, as the engine takes them from the element: staged pictures for one that
/// preprocesses, else preprocessed inputs.
pub(super) struct Prepared {
    model: Arc<Model>,
    video: gst_video::VideoInfo,
    format: FrameFormat,
    frames: Vec<gst::Buffer>,
    /// Which frames are in each batch.
    batches: Vec<Vec<usize>>,
}

impl Prepared {
    pub fn new(
        model: &Arc<Model>,
        caps: &gst::Caps,
        frames: &[gst::Buffer],
        batch: usize,
    ) -> Result<Self> {
        let video = gst_video::VideoInfo::from_caps(caps)?;
        let format = FrameFormat {
            range: ColorRange::Limited,
            ..FrameFormat::new(PixelFormat::I420, video.width() as usize, video.height() as usize)
        };
        let count = frames.len().div_ceil(batch);
        let batches = (0..count)
            .map(|first| (0..batch).map(|i| (first * batch + i) % frames.len()).collect())
            .collect();
        Ok(Self { model: model.clone(), video, format, frames: frames.to_vec(), batches })
    }

    /// The format of the frames.
    pub fn format(&self) -> FrameFormat {
        self.format
    }

    /// Shows frame `index` to `read`.
    pub fn view<T>(
        &self,
        index: usize,
        read: impl FnOnce(&FrameView<'_>) -> Result<T>,
    ) -> Result<T> {
        let frame =
            gst_video::VideoFrameRef::from_buffer_ref_readable(&self.frames[index], &self.video)?;
        // Allocations for a frame are counted around this.
        let plane = |plane: u32| {
            let stride = frame.plane_stride()[plane as usize] as usize;
            Ok::<_, glib::BoolError>(Plane { data: frame.plane_data(plane)?, stride })
        };
        let planes = [plane(0)?, plane(1)?, plane(2)?];
        read(&FrameView::new(self.format, &planes)?)
    }

    /// A slot for each frame of each batch, with its input where `engine` takes preprocessed ones.
    fn slots(&self, engine: &dyn Engine) -> Result<Vec<Vec<Slot>>> {
        let resize = self.model.manifest.input.resize;
        let mut preprocessor = Preprocessor::new(self.format, resize, engine.info().input);
        let mut all = Vec::new();
        for batch in &self.batches {
            let mut slots = Vec::new();
            for &index in batch {
                let mut slot = Slot::best_for(engine);
                self.view(index, |view| {
                    slot.input.preprocess(&mut preprocessor, view);
                    Ok(())
                })?;
                slots.push(slot);
            }
            all.push(slots);
        }
        Ok(all)
    }

    /// Stages the pictures of batch `batch`, for an engine that takes these: it lets go of them
    /// after each run.
    fn stage(&self, engine: &dyn Engine, batch: usize, slots: &mut [Slot]) -> Result<()> {
        let (resize, input) = (self.model.manifest.input.resize, engine.info().input);
        let placement = Placement::new(resize, self.format.width, self.format.height, input);
        for (slot, &index) in slots.iter_mut().zip(&self.batches[batch]) {
            if let Some(picture) = slot.input.picture_mut() {
                self.view(index, |view| Ok(picture.stage(view, placement)?))?;
            }
        }
        Ok(())
    }
}

/// `engine`, opened for the input size `choice`, by itself.
pub(super) fn contender<'a>(
    bench: &'a Bench<'_>,
    engine: &'a Arc<dyn Engine>,
    choice: &str,
) -> Contender<'a> {
    let input = engine.info().input.to_string();
    let how = if choice == input { String::new() } else { format!(" ({choice})") };
    Contender {
        name: format!("bare engine, {input}{how}"),
        subject: Subject { input: Some(input), ..Default::default() },
        unit: "frames/s",
        measure: Box::new(move || Ok(bare(engine, &bench.batches, bench.window)?.into())),
    }
}

/// Frames a second of the engine alone, all its lanes at work.
fn bare(engine: &Arc<dyn Engine>, prepared: &Prepared, window: Duration) -> Result<Rate> {
    let (counted, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..engine.info().lanes.max(1))
            .map(|_| {
                let mut lane = engine.lane()?;
                let mut batches = prepared.slots(&**engine)?;
                let (counted, over) = (&counted, &over);
                Ok(scope.spawn(move || {
                    for batch in (0..batches.len()).cycle() {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        prepared.stage(&**engine, batch, &mut batches[batch])?;
                        lane.infer(&mut batches[batch])?;
                        counted.fetch_add(batches[batch].len() as u64, Ordering::Relaxed);
                    }
                    Ok::<_, anyhow::Error>(())
                }))
            })
            .collect::<Result<_>>()?;
        let rate = rate(&counted, window);
        over.store(true, Ordering::Relaxed);
        for lane in lanes {
            match lane.join() {
                Ok(result) => result?,
                Err(_) => bail!("a lane panicked"),
            }
        }
        Ok(rate)
    })
}
