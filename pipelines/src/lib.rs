//! What the command `vehicle-count` is made of.

pub mod bench;
pub mod demo;
pub mod doctor;
pub mod engine;
pub mod eval;
pub mod manual;
pub mod serve;
pub mod server;
pub mod source;
pub mod synth;
pub mod table;
