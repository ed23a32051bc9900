//! `vehicle-count manual`: the manual page and the shells' completions, made of what the command
//! line says of itself.

use std::io::Write;

use anyhow::{Context, Result};
use clap_complete::Shell;
use clap_mangen::Man;

/// Options of `vehicle-count manual`.
#[derive(clap::Args)]
pub struct Options {
    /// What to write to standard output
    #[arg(value_enum)]
    what: What,
}

/// What can be written.
#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// The manual page, in roff
    Man,
    /// Completions for bash
    Bash,
    /// Completions for zsh
    Zsh,
    /// Completions for fish
    Fish,
}

/// What the page says beside the options: the environment, and an example that runs.
const END: &str = r#".SH ENVIRONMENT
.TP
.B VEHICLECOUNT_RUNTIME
Folder of the engines' libraries, searched before all others: it holds
.IR openvino/ ", " onnxruntime/ ", " tensorrt/ " or " tensorrt\-rtx/ .
.TP
.B VEHICLECOUNT_MODELS
Folder of models, searched before all others.
.TP
.B VEHICLECOUNT_CACHE
Folder of what was learnt about this machine: plans that TensorRT built, and which engines count right.
Else
.IR $XDG_CACHE_HOME/vehiclecount " or " ~/.cache/vehiclecount .
.TP
.B VEHICLECOUNT_SCRIPT
File that steers the engine
.BR scripted ,
for tests: while it says
.BR "fail REASON" ,
batches fail for that reason; while it says
.BR hang ,
they wait.
.TP
.B VEHICLECOUNT_DEEPSTREAM
Folder of DeepStream's libraries, searched before all others.
.TP
.B GST_DEBUG
What GStreamer logs, such as
.BR vehiclecounter:5 .
.SH EXIT STATUS
0 on success, 1 on an error and where nothing was counted, 2 on a wrong call, 130 when interrupted twice.
.SH EXAMPLES
Count on four simulated cameras for half a minute:
.PP
.EX
vehicle\-count demo
.EE
.PP
Count on two real ones, under names of their own, until interrupted:
.PP
.EX
vehicle\-count demo \-\-duration 0 \-\-segment 60 \-\-rtsp gate=rtsp://gate/stream yard=rtsp://yard/stream
.EE
.SH SEE ALSO
.BR gst\-launch\-1.0 (1),
.BR gst\-inspect\-1.0 (1)
"#;

/// What each part that clap_mangen renders begins with: how an apostrophe is written.
const QUOTES: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// Writes what was asked for to standard output.
pub fn run(options: &Options, mut command: clap::Command) -> Result<()> {
    let shell = match options.what {
        What::Man => {
            let page = page(command).context("the manual page cannot be made")?;
            return std::io::stdout().write_all(&page).context("the manual page cannot be written");
        }
        What::Bash => Shell::Bash,
        What::Zsh => Shell::Zsh,
        What::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "vehicle-count", &mut text);
    std::io::stdout().write_all(&text).context("the completions cannot be written")
}

/// One page for the command and its subcommands, one below another.
fn page(mut command: clap::Command) -> std::io::Result<Vec<u8>> {
    // Names become whole: "vehicle-count demo" rather than "demo".
    command.build();
    command = without_empty_defaults(command);
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    subcommands(&command, &mut page)?;
    page.extend_from_slice(END.as_bytes());
    // Each part begins with the same two lines, of which the page needs one pair.
    let text = String::from_utf8_lossy(&page).replace(QUOTES, "");
    Ok(format!("{QUOTES}{text}").into_bytes())
}

/// "[default: ]" says nothing.
fn without_empty_defaults(command: clap::Command) -> clap::Command {
    let quiet = |arg: clap::Arg| {
        let empty = arg.get_default_values().iter().all(|value| value.is_empty());
        arg.hide_default_value(empty)
    };
    command.mut_args(quiet).mut_subcommands(without_empty_defaults)
}

fn subcommands(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    for sub in
        command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
    {
        let title = sub.get_bin_name().unwrap_or(sub.get_name());
        let mut part = Vec::new();
        let man = Man::new(sub.clone());
        man.render_description_section(&mut part)?;
        man.render_synopsis_section(&mut part)?;
        man.render_options_section(&mut part)?;
        // Its sections become parts of the section that is the subcommand's own.
        let part =
            String::from_utf8_lossy(&part).replace(".SH DESCRIPTION\n", "").replace(".SH ", ".SS ");
        writeln!(page, ".SH \"{}\"", title.to_uppercase().replace('-', r"\-"))?;
        page.extend_from_slice(part.as_bytes());
        subcommands(sub, page)?;
    }
    Ok(())
}
