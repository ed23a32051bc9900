//! What the command `vehicle-count` is made of.

pub mod bench;
pub mod calibrate;
pub mod check;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod engine;
pub mod eval;
pub mod manual;
pub mod models;
pub mod plan;
pub mod preset;
pub mod run;
pub mod serve;
pub mod server;
pub mod source;
pub mod stop;
pub mod synth;
pub mod table;
