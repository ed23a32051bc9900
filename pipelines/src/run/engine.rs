//! The engine: opened once, before any camera, and kept open while cameras come and go.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use serde::Serialize;
use vehiclecount_core::batch::BATCH_SIZES;

use crate::config::Counter;
use crate::preset;
use crate::source::Reason;
use crate::stop::stop;

/// The word of the configuration for an enumeration's value, which is GStreamer's too.
pub fn word(value: &impl Serialize) -> String {
    let word = serde_json::to_value(value).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The element that opens the engine, as it is configured.
///
/// # Errors
/// The element is missing.
fn counter(settings: &Counter) -> Result<gst::Element> {
    let element = gst::ElementFactory::make("vehiclecounter")
        .property("gpu-id", settings.gpu_id)
        .property_from_str("engine", &word(&settings.engine))
        .property_from_str("preset", &word(&settings.preset))
        .property_if_some("model", settings.model.as_ref())
        .property_if_some("input-size", settings.input_size.as_ref())
        .build();
    let element = element.context("the plugin is not loaded")?;
    if let Some(precision) = &settings.precision {
        element.set_property_from_str("precision", &word(precision));
    }
    Ok(element)
}

/// Properties that say which engine it is, and how batches are made for it.
const OF_ENGINE: [&str; 7] =
    ["model", "engine", "precision", "input-size", "gpu-id", "batch-size", "batched-push-timeout"];

/// An element that counts with the engine that `open` has opened, after its preset has chosen.
///
/// # Errors
/// The element is missing.
pub fn sharing(open: &gst::Element) -> Result<gst::Element> {
    let element = gst::ElementFactory::make("vehiclecounter").build();
    let element = element.context("the plugin is not loaded")?;
    for property in OF_ENGINE {
        element.set_property_from_value(property, &open.property_value(property));
    }
    Ok(element)
}

/// The engine that runs.
#[derive(Clone, Debug, Serialize)]
pub struct Engine {
    /// Its name: "openvino".
    pub engine: String,
    /// Its version.
    pub version: String,
    /// What it runs on.
    pub device: String,
    /// The model's name.
    pub model: String,
    /// In what precision it runs.
    pub precision: String,
}

/// What the engine has done since it was opened, and what it has before it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Load {
    /// Batches that were counted.
    pub batches: u64,
    /// Pictures in them.
    pub frames: u64,
    /// Batches of up to 1, 2, 4, 8, 16, 32 and 64 pictures and more than the size before, and those
    /// that are larger.
    pub sizes: [u64; BATCH_SIZES.len() + 1],
    /// Seconds that the lanes worked on them, all lanes together.
    pub busy: f64,
    /// Lanes, which work side by side.
    pub lanes: u32,
    /// Pictures that wait for a lane at the moment.
    pub waiting: u32,
}

/// The load of the engine that a counter uses.
pub fn load(counter: &gst::Element) -> Load {
    let statistics = counter.property::<gst::Structure>("statistics");
    let long = |name| statistics.get::<u64>(name).unwrap_or_default();
    let short = |name| statistics.get::<u32>(name).unwrap_or_default();
    let mut sizes = [0; BATCH_SIZES.len() + 1];
    let told = statistics.get::<gst::Array>("batch-sizes").ok();
    for (size, told) in sizes.iter_mut().zip(told.iter().flat_map(|told| told.iter())) {
        *size = told.get().unwrap_or_default();
    }
    Load {
        batches: long("batches"),
        frames: long("batch-frames"),
        sizes,
        busy: long("busy") as f64 / 1e9,
        lanes: short("lanes"),
        waiting: short("waiting"),
    }
}

/// An open engine. It closes when this is dropped.
pub struct OpenEngine {
    pipeline: gst::Pipeline,
    /// The element that keeps it open.
    pub counter: gst::Element,
}

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
        let counter = counter(settings)?;
        pipeline.add(&counter)?;
        let bus = pipeline.bus().context("a pipeline has a bus")?;
        let open = Self { pipeline, counter };
        let started = open.pipeline.set_state(gst::State::Paused);
        loop {
            let message = bus.timed_pop(gst::ClockTime::from_mseconds(200));
            let mut said = None;
            match message.as_deref().map(gst::MessageRef::view) {
                Some(gst::MessageView::Error(error)) => bail!("{}", Reason::of(error)),
                Some(gst::MessageView::Progress(progress)) => {
                    said = Some(progress.get().2.to_string())
                }
                Some(gst::MessageView::Element(element))
                    if element.has_name("vehiclecount-preset") =>
                {
                    said = element.structure().map(preset::told);
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
        stop(&self.pipeline);
    }
}

/// How long an engine may take before it is said that it is being opened.
pub const PATIENCE: Duration = Duration::from_secs(1);
