//! `vehicle-count check`: whether a configuration of the service is right.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use crate::config::{self, Service};
use crate::table::say;

/// Options of `vehicle-count check`.
#[derive(clap::Args)]
pub struct Options {
    /// The configuration
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    file: Option<PathBuf>,
    /// Print the JSON Schema of the configuration, for editors
    #[arg(long, conflicts_with = "file")]
    schema: bool,
}

/// Checks the file, and says what it was found to be.
///
/// # Errors
/// All that is wrong with it.
pub fn run(options: &Options) -> Result<()> {
    let Some(file) = &options.file else {
        say(format_args!("{:#}", config::schema()));
        return Ok(());
    };
    let service = read(file)?;
    let absent = config::absent(&service, file);
    if !absent.is_empty() {
        bail!("{}", config::told(&absent));
    }
    let count = service.cameras.len();
    let s = if count == 1 { "" } else { "s" };
    say(format_args!("{}: {count} camera{s}, nothing wrong", file.display()));
    Ok(())
}

/// Reads a configuration.
///
/// # Errors
/// All that is wrong with it, in one text.
pub fn read(file: &Path) -> Result<Service> {
    config::read(file).map_err(|problems| anyhow!(config::told(&problems)))
}
