//! ONNX files, as far as an editor of them needs.

pub mod schema;
pub mod wire;
