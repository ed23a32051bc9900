//! The command `vehicle-count`: counts vehicles on many cameras, and everything around it.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use vehicle_count::source::redact;
use vehicle_count::{
    bench, calibrate, check, demo, doctor, engine, eval, manual, models, plan, preset,
    run as service, serve, synth,
};

/// Counts vehicles on many cameras at once.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// One file each, in the folder beside this one.
#[derive(Subcommand)]
enum Command {
    /// Count on the cameras of a configuration until it is stopped, and show what is counted over
    /// HTTP
    Run(service::Options),
    /// Count on cameras of a local RTSP server, simulated ones or files, and record what is counted
    Demo(demo::Options),
    /// Serve RTSP cameras that do not exist, to try pipelines on
    Serve(serve::Options),
    /// Check the configuration of the service, or print its JSON Schema
    Check(check::Options),
    /// List what is found on this machine, what is missing, and the remedy
    Doctor(doctor::Options),
    /// Measure what this machine counts, against the bare engine and the decoder, in one run
    Bench(bench::Options),
    /// Say how many cameras a machine holds, from what the bench has measured on it
    Plan(plan::Options),
    /// Measure the error of a model on pictures whose vehicles are known
    Eval(eval::Options),
    /// Find out from a few pictures of a camera how it is best counted: scale, closer looks, factor
    Calibrate(calibrate::Options),
    /// See whether engines count what a model is known to count
    Engine {
        #[command(subcommand)]
        command: engine::Command,
    },
    /// List the models with their errors and sizes, and measure how fast they are on this machine
    Models(models::Options),
    /// Show what each preset chooses on this machine, and why
    Presets(preset::Options),
    /// Write labelled pictures of simulated traffic
    Synth(synth::Options),
    /// Write the manual page, or what a shell needs to complete this command
    #[command(hide = true)]
    Manual(manual::Options),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return wrong_call(&error),
    };
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vehicle-count: {}", redact::text(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Says what is wrong with a call, or the help that was asked for. A word of the call that is
/// quoted may be a camera's address: its password is not shown.
fn wrong_call(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        error.exit();
    }
    let rendered = error.render();
    let mut text = if std::io::stderr().is_terminal() {
        rendered.ansi().to_string()
    } else {
        rendered.to_string()
    };
    for word in std::env::args().skip(1).filter(|word| word.contains("://")) {
        for word in [word.as_str(), word.split_once('=').map_or("", |(_, value)| value)] {
            if word.contains("://") {
                text = text.replace(word, &redact::url(word));
            }
        }
    }
    eprint!("{}", redact::text(&text));
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(options) => with_gstreamer(|| service::run(&options)),
        Command::Demo(options) => with_gstreamer(|| demo::run(&options)),
        Command::Serve(options) => with_gstreamer(|| serve::run(&options)),
        Command::Doctor(options) => with_gstreamer(|| doctor::run(&options)),
        Command::Check(options) => check::run(&options),
        Command::Bench(options) => with_gstreamer(|| bench::run(&options)),
        Command::Plan(options) => with_gstreamer(|| plan::run(&options)),
        Command::Eval(options) => eval::run(&options),
        Command::Calibrate(options) => with_gstreamer(|| calibrate::run(&options)),
        Command::Engine { command } => engine::run(&command),
        Command::Models(options) => models::run(&options),
        Command::Presets(options) => preset::run(&options),
        Command::Synth(options) => synth::run(&options),
        Command::Manual(options) => manual::run(&options, Arguments::command()),
    }
}

/// Starts GStreamer with our own elements inside: the command needs no plugin path.
fn with_gstreamer(run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    gst::init().context("GStreamer does not start")?;
    gstvehiclecount::plugin_register_static().context("our own elements cannot be registered")?;
    run()
}
