//! What is attached to the frames of a batch.

use vehiclecount_core::account::Finding;
use vehiclecount_core::report::FrameReport;

use super::OsdMode;
use super::batch::{FindingState, Order, State, Trouble};
use super::settings::Settings;
use super::source::Notices;
use super::work::Work;
use crate::deepstream::abi::custom_message_type;
use crate::deepstream::batch::{Batch, BatchGuard, Frame, PoolExhausted};
use crate::deepstream::display::{self, DisplayLayout, Style};
use crate::deepstream::meta::{self, Piece};

impl State {
    /// Counts and attaches.
    pub fn finish(
        &mut self,
        batch: &Batch<'_>,
        orders: Vec<Order<'_>>,
        settings: &Settings,
        notices: &mut Notices,
    ) {
        let info = self.work.as_ref().map(Work::info);
        let model = info
            .map_or_else(|| format!("gie-{}", settings.infer_on_gie_id), |info| info.model.clone());
        let engine = info.map_or("nvinfer", |info| info.kind.name());
        let asked = settings.counting.report();
        self.choose_layouts(batch, settings, notices);
        let reports: Vec<_> = orders
            .into_iter()
            .map(|Order { frame, departure, finding }| {
                let finding = match finding {
                    FindingState::Here(finding) => finding,
                    FindingState::Waiting(..) | FindingState::Unread(_) => Finding::Missed,
                };
                let inferred = matches!(finding, Finding::Counted(..));
                let source = self.source(frame.source_id);
                source.label(&model, engine);
                let report = source.account.report(departure, finding, asked);
                notices.log(|| said_of(&report));
                // What costs time is made before the lock is taken.
                let message =
                    self.message_type.filter(|_| settings.message_blob && report.count.is_some());
                let message = message.and_then(|kind| {
                    Some((
                        kind,
                        Piece::message(&serde_json::to_string(&report.to_json(false)).ok()?),
                    ))
                });
                (frame, Piece::count(&report, frame.source_id), report, message, inferred)
            })
            .collect();
        let locked = batch.lock();
        for (frame, piece, report, message, inferred) in reports {
            if inferred {
                locked.set_inferred(&frame);
            }
            if let (Some(count), Ok(index)) = (report.count, usize::try_from(settings.misc_index)) {
                locked.set_misc(&frame, index, (count.raw * settings.misc_scale).round() as i64);
            }
            let mut attached = locked.attach(&frame, self.api.count_type, piece, meta::copy_count);
            if let Some((kind, piece)) = message {
                attached = attached.and(locked.attach(&frame, kind, piece, meta::copy_message));
            }
            attached = attached.and(self.draw(&locked, &frame, &report, settings));
            if attached.is_err() {
                notices.log(|| {
                    format!(
                        "{}, frame {}: nothing could be attached",
                        report.camera, report.sequence
                    )
                });
                self.source(frame.source_id).unattached += 1;
                if self.first(Trouble::PoolExhausted) {
                    notices.warn(
                        "The batch's pool of metadata is exhausted: frames pass without a count, see `unattached` in `statistics`; \
                         let fewer elements attach user metadata, or turn message-blob or osd-mode off"
                    );
                }
            }
        }
    }

    fn draw<'a>(
        &self,
        locked: &BatchGuard<'_, 'a>,
        frame: &Frame<'a>,
        report: &FrameReport,
        settings: &Settings,
    ) -> Result<(), PoolExhausted> {
        let (Some(layout), true) = (self.display, settings.osd_mode != OsdMode::Off) else {
            return Ok(());
        };
        let style = Style {
            counts: settings.osd_mode == OsdMode::Counts,
            font_size: settings.display_font_size,
        };
        display::attach(locked, frame, layout, style, report)
    }

    /// Settles what depends on the version, when it is first asked for.
    fn choose_layouts(&mut self, batch: &Batch<'_>, settings: &Settings, notices: &mut Notices) {
        if settings.osd_mode != OsdMode::Off
            && self.display.is_none()
            && !self.said.contains(&Trouble::Display)
        {
            match DisplayLayout::verify(&batch.figures(), self.api.version) {
                Ok(layout) => self.display = Some(layout),
                Err(error) => {
                    self.first(Trouble::Display);
                    notices.warn(format!("Nothing is drawn: {error}"));
                }
            }
        }
        if settings.message_blob && self.message_type.is_none() && self.first(Trouble::MessageType)
        {
            self.message_type = match settings.message_type {
                0 => self.api.version.and_then(custom_message_type),
                given => i32::try_from(given).ok(),
            };
            if self.message_type.is_none() {
                let version = self
                    .api
                    .version
                    .map_or("of no known version".to_owned(), |(a, b)| format!("{a}.{b}"));
                notices.warn(format!(
                    "No messages are attached: the number of NVDS_CUSTOM_MSG_BLOB in DeepStream {version} is not known; take it from nvdsmeta.h and set \
                     message-type"
                ));
            }
        }
    }
}

/// What the log says of a frame that leaves.
fn said_of(report: &FrameReport) -> String {
    let FrameReport { camera, sequence, stale, .. } = report;
    let stale = if *stale { ", stale" } else { "" };
    match report.count {
        Some(count) => {
            let age = gst::ClockTime::from_nseconds(report.age);
            format!("{camera}, frame {sequence}: leaves with {:.2}{stale}, age {age}", count.raw)
        }
        None => format!("{camera}, frame {sequence}: leaves, nothing is counted yet"),
    }
}
