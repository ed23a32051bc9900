//! The engine of an element: which one, opening it, and what is told meanwhile.

mod choice;
mod explicit;
mod open;
mod preset;
mod progress;

pub use choice::register;
pub use open::{EngineSettings, OpenedEngine, open_shape};
pub use preset::announce as announce_preset;
pub use progress::{PendingEngine, Start};
