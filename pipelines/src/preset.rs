//! `vehicle-count presets`, and the option `--preset` of the other commands.

use anyhow::Result;
use vehiclecount_core::engine::EngineKind;
use vehiclecount_core::model::{self, Model};
use vehiclecount_core::preprocess::InputChoice;
use vehiclecount_core::preset::{self, Choice, Installed, Preset, Settled, Surroundings};
use vehiclecount_core::tensorrt::Precision;

use crate::table::say;

/// Options of `vehicle-count presets`.
#[derive(clap::Args)]
pub struct Options {
    /// Tell of this one alone
    #[arg(help = format!("Tell of this one alone, and why: {}", Preset::names()))]
    preset: Option<Preset>,
    /// Model: a name, a manifest (.json) or an .onnx file
    #[arg(long, default_value = "")]
    model: String,
    /// Engine
    #[arg(long, default_value = "auto", help = crate::engine::help())]
    engine: EngineKind,
    /// Index of the GPU, for engines that run on one
    #[arg(long, default_value_t = 0)]
    gpu: u32,
}

/// The help text of the option `--preset`.
pub(crate) fn help() -> String {
    format!(
        "Need for which model, input size, precision and batches are chosen where they are not \
         given: {}",
        Preset::names()
    )
}

/// What a command was given of what a preset chooses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// Empty: not given.
    pub model: String,
    /// `None`: not given.
    pub input: Option<InputChoice>,
    /// Which engine.
    pub engine: EngineKind,
    /// Index of the GPU.
    pub gpu: u32,
}

/// What a command runs: what it was given, and for the rest what a preset chose.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    /// Empty: the model that ships.
    pub model: String,
    /// Sizes of the input.
    pub input: InputChoice,
    /// In which precision.
    pub precision: Precision,
    /// Frames in a batch; 0: what suits the engine.
    pub batch_size: usize,
}

impl Given {
    /// The rest after `preset`, which tells on standard error what it chooses and why.
    ///
    /// # Errors
    /// A model that was given is not there.
    pub fn with(&self, preset: Option<Preset>) -> Result<Taken> {
        let mut taken = Taken {
            model: self.model.clone(),
            input: self.input.unwrap_or_default(),
            ..Taken::default()
        };
        let Some(preset) = preset else { return Ok(taken) };
        let choose = self.chooser()?;
        let choice = choose(preset);
        eprintln!("preset {preset}: {}", line(&choice));
        choice.reasons.iter().for_each(|reason| eprintln!("  {reason}"));
        if taken.model.is_empty() {
            taken.model = choice.model.unwrap_or_default();
        }
        taken.input = self.input.or(choice.input).unwrap_or_default();
        taken.precision = choice.precision.unwrap_or_default();
        taken.batch_size = choice.batch_size;
        Ok(taken)
    }

    /// What a preset chooses; what there is to choose from is looked up once for all.
    fn chooser(&self) -> Result<impl Fn(Preset) -> Choice> {
        let models = match self.model.as_str() {
            "" => Model::installed(&model::folders()),
            // A plan that was built by hand is what it is.
            name => Vec::from_iter(
                Some(Model::open(name, &model::folders())?).filter(|model| model.plan().is_none()),
            ),
        };
        let settled = Settled { engine: self.engine, input: self.input, precision: None };
        let (surroundings, installed) = (Surroundings::here(self.gpu), Installed::of(models));
        Ok(move |preset| preset::choose(preset, &surroundings, &installed, &settled))
    }
}

/// What was chosen, as properties.
fn line(choice: &Choice) -> String {
    let mut words = Vec::new();
    if let Some(model) = &choice.model {
        words.push(format!("model={model}"));
    }
    if let Some(input) = choice.input {
        words.push(format!("input-size={input}"));
    }
    if let Some(precision) = choice.precision {
        words.push(format!("precision={precision}"));
    }
    words.push(format!("batch-size={}", choice.batch_size));
    words.push(format!("batched-push-timeout={}", choice.batch_timeout.as_micros()));
    words.push(format!("max-latency={}", choice.max_latency.as_millis()));
    words.join(" ")
}

/// Shows what each preset chooses on this machine.
///
/// # Errors
/// A model that was named is not there.
pub fn run(options: &Options) -> Result<()> {
    let given = Given {
        model: options.model.clone(),
        input: None,
        engine: options.engine,
        gpu: options.gpu,
    };
    let choose = given.chooser()?;
    if let Some(preset) = options.preset {
        let choice = choose(preset);
        say(format_args!("{preset}: {}\n  {}", preset.title(), line(&choice)));
        choice.reasons.iter().for_each(|reason| say(format_args!("    {reason}")));
        return Ok(());
    }
    for preset in Preset::ALL {
        let choice = choose(preset);
        say(format_args!("{preset:<15} {}\n{:<15} {}", preset.title(), "", line(&choice)));
        if let Some(chosen) = &choice.candidate {
            let percent = |share: f64| format!("{:.1} %", share * 100.0);
            say(format_args!(
                "{:<15} {} {}: error {}, {} images/s, {} ms for one picture",
                "",
                chosen.model,
                chosen.precision,
                chosen.error.map_or("unknown".to_owned(), percent),
                chosen.images_per_second.map_or("?".to_owned(), |rate| format!("{rate:.0}")),
                chosen.milliseconds.map_or("?".to_owned(), |time| format!("{time:.1}")),
            ));
        }
    }
    say("\n`vehicle-count presets NAME` says why.");
    Ok(())
}

/// What each preset chooses on this machine, in a line.
pub(crate) fn all() -> Result<Vec<(Preset, String)>> {
    let given = Given::default();
    let choose = given.chooser()?;
    Ok(Preset::ALL.into_iter().map(|preset| (preset, line(&choose(preset)))).collect())
}

/// What an element's message about its preset says, in a line.
pub(crate) fn told(message: &gst::StructureRef) -> String {
    let word = |name: &str| message.get::<String>(name).unwrap_or_default();
    let fields = ["model", "input-size", "precision", "batch-size", "batched-push-timeout"];
    let fields: Vec<_> = fields
        .into_iter()
        .filter(|field| message.has_field(*field))
        .map(|field| format!("{field}={}", word(field)))
        .collect();
    let reasons = message.get::<gst::ArrayRef>("reasons");
    let reasons: Vec<String> = reasons
        .iter()
        .flat_map(|reasons| reasons.iter())
        .filter_map(|reason| reason.get().ok())
        .collect();
    format!("preset {}: {} ({})", word("preset"), fields.join(" "), reasons.join("; "))
}
