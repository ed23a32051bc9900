//! What the command `vehicle-count` is made of.

pub mod camera;
pub mod demo;
pub mod serve;
pub mod server;
pub mod synth;
pub mod table;
