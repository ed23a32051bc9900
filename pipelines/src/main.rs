//! The command `vehicle-count`: counts vehicles on many cameras, and everything around it.

use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use vehicle_count::{bench, demo, doctor, engine, manual, serve, synth};
