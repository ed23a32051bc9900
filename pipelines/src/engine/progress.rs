//! How far the build of a plan is, on the terminal.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use parking_lot::Mutex;
use vehiclecount_core::engine::Progress;

/// The progress of a build: one line that changes where standard error is a terminal, else nothing
/// but what is built.
pub struct BuildProgress {
    live: bool,
    since: Instant,
    /// Outer phases, the steps done of each, and all of its steps.
    phases: Mutex<Vec<(String, u32, u32)>>,
}

impl Default for BuildProgress {
    fn default() -> Self {
        Self {
            live: std::io::stderr().is_terminal(),
            since: Instant::now(),
            phases: Mutex::default(),
        }
    }
}

impl BuildProgress {
    /// Shows `progress`; always true, as the build is to go on.
    pub fn show(&self, progress: Progress<'_>) -> bool {
        let mut phases = self.phases.lock();
        match progress {
            Progress::Waiting if phases.is_empty() => {
                phases.push(("waiting for another process".to_owned(), 0, 1))
            }
            Progress::Building { .. } => phases.clear(),
            Progress::Waiting
            | Progress::Built { .. }
            | Progress::Timing { .. }
            | Progress::Compiling => {}
            Progress::Begin { phase, steps, .. } => phases.push((phase.to_owned(), 0, steps)),
            Progress::Step { phase, step } => {
                phases
                    .iter_mut()
                    .filter(|(name, ..)| name == phase)
                    .for_each(|(_, done, _)| *done = step + 1);
            }
            Progress::End { phase } => {
                if let Some(at) = phases.iter().rposition(|(name, ..)| name == phase) {
                    phases.remove(at);
                }
            }
        }
        if self.live {
            let line: Vec<_> = phases
                .iter()
                .take(3)
                .map(|(name, done, steps)| format!("{name} {done}/{steps}"))
                .collect();
            let _ = write!(std::io::stderr(), "\r\x1b[K  {:.100}", line.join(" > "));
        }
        true
    }

    /// As [`show`](Self::show), and says in a line of its own what is built: for those that did not
    /// ask for a build.
    pub fn announce(&self, progress: Progress<'_>) -> bool {
        if let Progress::Building { what, .. } = progress {
            println!(
                "  building {what}: minutes with TensorRT, seconds with TensorRT-RTX; the counter uses it"
            );
        }
        self.show(progress)
    }

    /// Removes the line, and says how long it took.
    pub fn end(&self) {
        self.clear();
        println!("  done in {:.1} s", self.since.elapsed().as_secs_f64());
    }

    /// Removes the line.
    pub fn clear(&self) {
        if self.live {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
