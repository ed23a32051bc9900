//! The property `preset`: what it chooses when the element starts, and what is said of it.

use std::path::Path;

use gst::prelude::*;
use vehiclecount_core::engine::EngineKind;
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preset::{self, Choice, Installed, Preset, Settled, Surroundings};

use super::choice::PrecisionChoice;
use super::explicit::CHOSEN;
use super::open::EngineSettings;

/// Those of [`CHOSEN`] that have a reason even where they are set, or the element lacks them. It
/// begins with the name.
const TIMING: [&str; 3] = ["batch-size", "batched-push-timeout", "max-latency"];

impl EngineSettings {
    /// What the preset chooses for this machine: `None` without a preset. Reads the manifests of
    /// the models, and looks for a GPU and for the libraries of engines.
    pub fn choose(&self) -> Result<Option<Choice>, gst::ErrorMessage> {
        let Some(preset) = Option::<Preset>::from(self.preset) else { return Ok(None) };
        let engine = EngineKind::from(self.engine);
        let settled = Settled {
            engine,
            input: match self.explicit.has("input-size") {
                // What cannot be read is an error of the opening.
                true => self.input_size.parse().ok(),
                false => None,
            },
            precision: self.explicit.has("precision").then(|| self.precision.into()),
        };
        let models = if engine == EngineKind::Scripted || self.has_plan() {
            // A script has no files, and a plan that was built by hand is what it is.
            Vec::new()
        } else if self.explicit.has("model") {
            let model = Model::open(&self.model, &model::folders())
                .map_err(|error| gst::error_msg!(gst::ResourceError::Settings, ("{error}")))?;
            vec![model]
        } else {
            Model::installed(&model::folders())
        };
        let surroundings = Surroundings::here(self.gpu);
        let choice = preset::choose(preset, &surroundings, &Installed::of(models), &settled);
        Ok(Some(choice))
    }

    /// Whether a TensorRT plan that was built by hand is named.
    fn has_plan(&self) -> bool {
        let end = Path::new(&self.model).extension();
        !self.model_engine_file.is_empty()
            || end.is_some_and(|end| end == "plan" || end == "engine")
    }

    /// Takes from `choice` what is not set by the user.
    pub fn take(&mut self, choice: &Choice) {
        // What an earlier start chose may not suit what was set since.
        self.reset_chosen();
        let open = |property: &str| !self.explicit.has(property);
        if let Some(model) = choice.model.clone().filter(|_| open("model")) {
            self.model = model;
        }
        if let Some(input) = choice.input.filter(|_| open("input-size")) {
            self.input_size = input.to_string();
        }
        if let Some(precision) = choice.precision.filter(|_| open("precision")) {
            self.precision = PrecisionChoice::from(precision);
        }
        // A plan that was built by hand has the batch that it has.
        if open("batch-size") && !self.has_plan() {
            self.batch_size = choice.batch_size as u32;
        }
        if open("batched-push-timeout") {
            self.batched_push_timeout = choice.batch_timeout;
        }
    }

    /// Puts back to its default what a preset may have chosen.
    pub fn reset_chosen(&mut self) {
        let defaults = Self::default();
        let open = |property: &str| !self.explicit.has(property);
        if open("model") {
            self.model = defaults.model;
        }
        if open("input-size") {
            self.input_size = defaults.input_size;
        }
        if open("precision") {
            self.precision = defaults.precision;
        }
        if open("batch-size") {
            self.batch_size = defaults.batch_size;
        }
        if open("batched-push-timeout") {
            self.batched_push_timeout = defaults.batched_push_timeout;
        }
    }
}

/// Says on the bus what a preset chose for `element`, whose settings are `settings` now, and why;
/// and notifies of the properties that may have other values.
pub fn announce(element: &gst::Element, settings: &EngineSettings, choice: &Choice) {
    let properties: Vec<_> =
        CHOSEN.into_iter().filter(|property| element.has_property(property)).collect();
    let mut message =
        gst::Structure::builder("vehiclecount-preset").field("preset", choice.preset.name());
    let mut told = Vec::new();
    for &property in &properties {
        let value = element.property_value(property);
        let text = match value.get::<Option<String>>() {
            Ok(text) => text.unwrap_or_default(),
            Err(_) => value.serialize().map(String::from).unwrap_or_default(),
        };
        told.push(format!("{property}={text}"));
        message = message.field(property, text);
    }
    // What the element does not have, or the user has set, needs no reason.
    let is_told = |reason: &&String| {
        let property = reason.split([' ', ':']).next().unwrap_or_default();
        !TIMING.contains(&property)
            || properties.contains(&property) && !settings.explicit.has(property)
    };
    let mut reasons: Vec<_> = choice.reasons.iter().filter(is_told).cloned().collect();
    let set: Vec<_> =
        properties.iter().filter(|property| settings.explicit.has(property)).copied().collect();
    if !set.is_empty() {
        reasons.push(format!("set, and kept: {}", set.join(", ")));
    }
    let runs = choice.candidate.as_ref();
    let message = message
        .field("file", runs.map(|runs| runs.file.as_str()).unwrap_or_default())
        .field("engine", choice.engine.map_or("", EngineKind::name))
        .field("reasons", gst::Array::new(&reasons))
        .build();
    gst::element_info!(
        element,
        gst::ResourceError::Settings,
        ("preset={}: {}", choice.preset, told.join(" ")),
        ["{}", reasons.join("; ")]
    );
    let _ = element.post_message(gst::message::Element::builder(message).src(element).build());
    for property in properties {
        element.notify(property);
    }
}
