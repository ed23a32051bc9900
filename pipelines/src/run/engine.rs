//! The engine: opened once, before any camera, and kept open while cameras come and go.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use serde::Serialize;

use super::board::Engine;
use crate::config::Counter;
use crate::source::Reason;

/// The word of the configuration for an enumeration's value, which is GStreamer's too.
pub fn word(value: &impl Serialize) -> String {
    let word = serde_json::to_value(value).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The element that counts, as it is configured. All of them share one engine.
///
/// # Errors
/// The element is missing.
pub fn counter(settings: &Counter) -> Result<gst::Element> {
    let element = gst::ElementFactory::make("vehiclecounter")
        .property("model", &settings.model)
        .property("input-size", &settings.input_size)
        .property("gpu-id", settings.gpu_id)
        .property_from_str("engine", &word(&settings.engine))
        .property_from_str("precision", &word(&settings.precision))
        .build();
    element.context("the plugin is not loaded")
}

/// An open engine. It closes when this is dropped.
pub struct OpenEngine(gst::Pipeline);

impl OpenEngine {
    /// Opens the engine, which may take minutes where a plan is built first; `wait` is called
    /// meanwhile with what there is to say, and says whether to go on.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open(
        settings: &Counter,
        mut wait: impl FnMut(Option<String>) -> bool,
    ) -> Result<Option<(Self, Engine)>> {
        let pipeline = gst::Pipeline::new();
        pipeline.add(&counter(settings)?)?;
        let bus = pipeline.bus().context("a pipeline has a bus")?;
        let open = Self(pipeline);
        let started = open.0.set_state(gst::State::Paused);
        loop {
            let message = bus.timed_pop(gst::ClockTime::from_mseconds(200));
            let mut said = None;
            match message.as_deref().map(gst::MessageRef::view) {
                Some(gst::MessageView::Error(error)) => bail!("{}", Reason::of(error)),
                Some(gst::MessageView::Progress(progress)) => {
                    said = Some(progress.get().2.to_string())
                }
                Some(gst::MessageView::Element(element))
                    if element.has_name("vehiclecount-engine") =>
                {
                    let structure = element.structure().context("the message says something")?;
                    let word = |name: &str| structure.get::<String>(name).unwrap_or_default();
                    let engine = Engine {
                        engine: word("engine"),
                        version: word("version"),
                        device: word("device"),
                        model: word("model"),
                        precision: word("precision"),
                    };
                    return Ok(Some((open, engine)));
                }
                None if started.is_err() => bail!("the engine does not open"),
                _ => {}
            }
            if !wait(said) {
                return Ok(None);
            }
        }
    }
}

impl Drop for OpenEngine {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// How long an engine may take before it is said that it is being opened.
pub const PATIENCE: Duration = Duration::from_secs(1);
