//! The table that a person watches: in place on a terminal, a line now and then elsewhere.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{IsTerminal, Write};

use vehiclecount_core::region::Level;

/// One camera's line.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The camera's id.
    pub camera: String,
    /// The smoothed count.
    pub count: Option<f64>,
    /// How full it is.
    pub level: Option<Level>,
    /// Frames a second.
    pub fps: f64,
    /// From the counter's door to door, milliseconds, median.
    pub latency: Option<f64>,
    /// Share of frames without a count of their own.
    pub stale: f64,
    /// What is wrong, or nothing.
    pub trouble: String,
}

/// Where the table is shown.
pub struct Table {
    terminal: bool,
    lines: usize,
}

fn level_color(level: Option<Level>) -> &'static str {
    match level {
        Some(Level::Free) => "32",
        Some(Level::Moderate) => "33",
        Some(Level::Dense) => "38;5;208",
        Some(Level::Jammed) => "31",
        None => "90",
    }
}

/// Columns of a camera's name at most.
pub(crate) const NAME: usize = 28;

/// Columns of a line at most: a line that is wrapped counts as two where the table is drawn again
/// in place.
const WIDTH: usize = 110;

/// `text` without control characters, which would move the cursor or end the line.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, "\u{fffd}").into(),
        false => text.into(),
    }
}

/// `text` in at most `width` characters.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= width {
        return text.into_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Prints a line of `text` on standard output.
pub(crate) fn say(text: impl Display) {
    // A reader that is gone does not stop the counting.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints what is wrong on standard error.
pub(crate) fn complain(text: &str) {
    // As with `say`.
    let _ = writeln!(std::io::stderr().lock(), "vehicle-count: {}", printable(text));
}

impl Table {
    /// A table on standard output.
    pub fn on_stdout() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), lines: 0 }
    }

    /// Whether it is redrawn in place.
    pub fn is_live(&self) -> bool {
        self.terminal
    }

    /// Says `text` on standard error; the table is drawn anew below it.
    pub fn note(&mut self, text: &str) {
        complain(text);
        self.lines = 0;
    }

    /// Shows `rows`, in place of those before on a terminal.
    pub fn show(&mut self, status: &str, rows: &[Row]) {
        let mut text = String::new();
        if self.terminal && self.lines > 0 {
            text.push_str(&format!("\x1b[{}A", self.lines));
        }
        let end = if self.terminal { "\x1b[K\n" } else { "\n" };
        let wide =
            rows.iter().map(|row| row.camera.chars().count()).max().unwrap_or(0).clamp(6, NAME);
        text.push_str(&format!("{status}{end}"));
        text.push_str(&format!(
            "  {:wide$}  {:>6}  {:<8}  {:>5}  {:>8}  {:>6}{end}",
            "camera", "count", "level", "fps", "latency", "stale"
        ));
        for row in rows {
            let count = row.count.map_or("–".to_owned(), |count| format!("{count:.1}"));
            let level = format!("{:<8}", row.level.map_or("–", Level::name));
            let level = if self.terminal {
                format!("\x1b[{}m{level}\x1b[0m", level_color(row.level))
            } else {
                level
            };
            let latency =
                row.latency.map_or("–".to_owned(), |latency| format!("{latency:.0} ms"));
            let stale = format!("{:.0} %", row.stale * 100.0);
            let camera = fit(&row.camera, wide);
            let line = format!(
                "  {camera:wide$}  {count:>6}  {level}  {:>5.1}  {latency:>8}  {stale:>6}  {}",
                row.fps,
                fit(&row.trouble, WIDTH - wide - 47)
            );
            text.push_str(line.trim_end());
            text.push_str(end);
        }
        self.lines = rows.len() + 2;
        let mut out = std::io::stdout().lock();
        // A reader that is gone does not stop the counting.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
