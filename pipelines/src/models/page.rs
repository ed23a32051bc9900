//! The page about the models, docs/models.md.

use std::fmt::Write;

use vehiclecount_core::model::Speeds;

use super::family::{BASE, FAMILY, Member};
use super::{Line, plot};

/// "12 %", or "-" where it is not known.
pub(super) fn percent(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{:.0} %", value * 100.0))
}

/// "1.8", or "-" where the file is not there.
pub(super) fn megabytes(size: Option<u64>) -> String {
    size.map_or("-".to_owned(), |size| format!("{:.1}", size as f64 / 1e6))
}

/// "1.6 M", or "-" where it is not known.
pub(super) fn millions(parameters: Option<u64>) -> String {
    parameters.map_or("-".to_owned(), |number| format!("{:.1} M", number as f64 / 1e6))
}

/// "-1.4", or "-" where it is not known.
pub(super) fn bias(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:+.1}"))
}

/// Images a second and milliseconds on the machine of that number, or "-" where they were not
/// measured.
pub(super) fn speed(line: &Line, machine: usize) -> [String; 2] {
    match line.speed(machine) {
        Some(speed) => {
            [format!("{:.0}", speed.images_per_second), format!("{}", speed.milliseconds)]
        }
        None => ["-".to_owned(), "-".to_owned()],
    }
}

/// The cells of [`speed`] for all machines.
fn speeds(line: &Line) -> String {
    let cells = (0..line.speeds.len()).map(|machine| {
        let [rate, time] = speed(line, machine);
        format!(" {rate} | {time} |")
    });
    cells.collect()
}

/// The titles of [`speeds`], and the line below them: `with (1)` where there are several machines.
fn titles(machines: &[Speeds]) -> (String, String) {
    let several = machines.len() > 1;
    let number = |machine| if several { format!(" ({})", machine + 1) } else { String::new() };
    let titles = (0..machines.len()).map(number).map(|of| format!(" Images/s{of} | ms{of} |"));
    (titles.collect(), "---|---|".repeat(machines.len()))
}

/// The page in Markdown.
pub(super) fn markdown(lines: &[Line], machines: &[Speeds]) -> String {
    let images = lines.iter().map(|line| line.images).max().unwrap_or(0);
    let mut text = format!(
        "# Models\n\n\
         This page is written by `vehicle-count models --time --page docs`; without `--page` the same\n\
         command lists the models of your machine, with the speed they have there. `model=NAME` on\n\
         `vehiclecounter` chooses one, `preset=NAME` chooses for a need ([presets.md](presets.md)). How\n\
         each was trained, and where it fails, stands in its card.\n\n\
         - Error: mean absolute error as a share of the mean number of vehicles, on {images} validation\n  \
           pictures ([evaluation.md](evaluation.md)). Counted: vehicles counted as a share of those that\n  \
           are there. Bias: count minus truth, vehicles a picture.\n\
         - Images a second with all lanes at work, and milliseconds for one picture alone, on the\n  \
           machines below. No GPU was measured.\n\
         - Parameters are those of the network as it runs, with normalisation folded.\n\n"
    );
    for (number, machine) in machines.iter().enumerate() {
        let _ = write!(
            text,
            "({}) {machine}:\n\n![Error against images a second, machine {0}]({})\n\n",
            number + 1,
            plot::name(number)
        );
    }
    summary(&mut text, lines, machines);
    files(&mut text, lines, machines);
    goals(&mut text, lines);
    text
}

/// A line for each model at its own input size, in INT8 where it has that, and for each recipe that
/// has no model.
fn summary(text: &mut String, lines: &[Line], machines: &[Speeds]) {
    let (titles, rule) = titles(machines);
    let _ = write!(
        text,
        "## One line each\n\n\
         At the size of the input that each prefers, in INT8. \"Not trained\": there is a recipe, and no\n\
         weights; `./run route train --recipe FILE` trains it\n\
         ([engines/README.md](../engines/README.md#three-routes)).\n\n\
         | Model | Error | Counted | Bias |{titles} INT8 MB | FP32 MB | Parameters | Licence |\n\
         |---|---|---|---|{rule}---|---|---|---|\n"
    );
    for model in models(lines) {
        let Some(line) = representative(lines, model) else { continue };
        let size = |precision: &str| {
            let of = lines.iter().find(|each| each.model == model && each.precision == precision);
            megabytes(of.and_then(|line| line.size))
        };
        let _ = writeln!(
            text,
            "| [{model}](../engines/models/{model}.md) {} | {} | {} | {} |{} {} | {} | {} | {} |",
            line.version,
            percent(line.error),
            percent(line.counted),
            bias(line.bias),
            speeds(line),
            size("int8"),
            size("fp32"),
            millions(line.parameters),
            line.licence
        );
    }
    for member in untrained(lines) {
        let _ = writeln!(
            text,
            "| [{0}](../engines/recipes/{0}.toml): not trained | - | - | - |{1} - | - | - | - |",
            member.name,
            " - | - |".repeat(machines.len())
        );
    }
}

/// A line for each file and input size.
fn files(text: &mut String, lines: &[Line], machines: &[Speeds]) {
    let (titles, rule) = titles(machines);
    let _ = write!(
        text,
        "\n## Every file and input size\n\n\
         Inputs marked auto are taken by `input-size=auto`, the default, for cameras of their aspect\n\
         ratio ([engines.md](engines.md#size-and-shape-of-the-input)).\n\n\
         | Model | Precision | Input | Error | Counted | Bias |{titles} MB | Engine measured |\n\
         |---|---|---|---|---|---|{rule}---|---|\n"
    );
    for line in lines {
        let mut engines = line.speeds.iter().flatten().map(|speed| speed.engine.as_str());
        let _ = writeln!(
            text,
            "| {} | {} | {}x{}{} | {} | {} | {} |{} {} | {} |",
            line.model,
            line.precision,
            line.input.width,
            line.input.height,
            if line.is_auto { ", auto" } else { "" },
            percent(line.error),
            percent(line.counted),
            bias(line.bias),
            speeds(line),
            megabytes(line.size),
            engines.next().unwrap_or("-")
        );
    }
}

/// What each network of the family is to reach, and whether it does.
fn goals(text: &mut String, lines: &[Line]) {
    let base = representative(lines, BASE).and_then(|line| line.error);
    let _ = write!(
        text,
        "\n## Goals\n\n\
         What each network was to reach, and what it does; the goal stands in brackets. Errors are\n\
         compared with that of {BASE}{}.\n\
         Images a second are for a GPU of the class of an RTX 5090: none was at hand.\n\n\
         | Network | Parameters | FP32 MB | Error beyond {BASE} | Images/s on a GPU |\n\
         |---|---|---|---|---|\n",
        if base.is_some() { "" } else { ", which has no weights yet: those are open" }
    );
    for member in &FAMILY {
        let own = |line: &&Line| line.model == member.name;
        let parameters = lines.iter().find(own).and_then(|line| line.parameters);
        let fp32 = lines.iter().filter(own).find(|line| line.precision == "fp32");
        let size = fp32.and_then(|line| line.size);
        let error = representative(lines, member.name).and_then(|line| line.error);
        let beyond = error.zip(base).map(|(error, base)| (error / base - 1.0) * 100.0);
        let _ = writeln!(
            text,
            "| {} ({}) | {} | {} | {} | not measured ({:.0}) |",
            member.name,
            member.network,
            against(parameters.map(|number| number as f64 / 1e6), member.parameters, 1, " M"),
            against(size.map(|size| size as f64 / 1e6), member.megabytes, 1, ""),
            against(beyond, member.error, 0, " %"),
            member.rate
        );
    }
}

/// "1.6 M (5 M), reached": what is, what is the most that it may be, and whether it is so.
fn against(value: Option<f64>, most: f64, digits: usize, unit: &str) -> String {
    match value {
        Some(value) => {
            let reached = if value <= most { "reached" } else { "missed" };
            format!("{value:.digits$}{unit} ({most}{unit}), {reached}")
        }
        None => format!("open ({most}{unit})"),
    }
}

/// The names of the models, in the order of the lines.
pub(super) fn models(lines: &[Line]) -> Vec<&str> {
    let mut models: Vec<&str> = Vec::new();
    for line in lines {
        if !models.contains(&line.model.as_str()) {
            models.push(&line.model);
        }
    }
    models
}

/// The line of `model` at its own input size: in INT8, else in what there is.
pub(super) fn representative<'a>(lines: &'a [Line], model: &str) -> Option<&'a Line> {
    let own = || lines.iter().filter(|line| line.model == model && line.preferred);
    own().find(|line| line.precision == "int8").or_else(|| own().next())
}

/// The recipes of which there is no model.
pub(super) fn untrained<'a>(lines: &'a [Line]) -> impl Iterator<Item = &'static Member> + 'a {
    FAMILY.iter().filter(|member| lines.iter().all(|line| line.model != member.name))
}
