//! The engine of an element: which one, opening it, and what is told meanwhile.

mod choice;
mod open;
mod progress;

pub use choice::register;
pub use open::{EngineSettings, OpenedEngine, open_shape};
pub use progress::{PendingEngine, Start};
