//! An ONNX network in FP32, made into one in FP16.
//!
//! From TensorRT 11 on, and in TensorRT-RTX, a network's precision is what its graph says. So the
//! graph is rewritten before a build: weights and constants become FP16, the input is converted at
//! the network's door and the density at its exit, so that both stay f32. Of a Q/DQ network, the
//! scales become FP16 too: its convolutions stay INT8, and what lies between them, which TensorRT
//! would else run in FP32, becomes FP16.
//!
//! Scales are what INT8 rests on, so each is looked at. FP16 has 11 bits from 6.1e-5 on, and fewer
//! below, in steps of 6e-8:
//!
//! - of what is computed, a scale is a share of every value: one that FP16 does not hold to 1/256,
//!   half a step of INT8 at its largest, is refused by name;
//! - of weights, the smallest step that a scale can be off by makes 127 x 3e-8 = 4e-6 at most, less
//!   than what FP16 rounds off any weight above 0.008: it is taken, and never becomes zero.
//!
//! ONNX is protobuf: of the messages only the fields that matter are read, everything else is
//! copied as it is.

mod node;
mod roles;
mod tensor;
#[cfg(test)]
mod tests;

use node::{cast, convert_node, newer_node};
use roles::Roles;
use tensor::convert_tensor;
use thiserror::Error;

use super::onnx::schema;
use super::onnx::wire::{Field, WireError, read, write};

/// Why a network is not converted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HalfError {
    /// Not a network.
    #[error("not an ONNX file, or cut off")]
    Damaged,
    /// Something that this conversion does not know.
    #[error("{0}: build it with --precision fp32, or convert it with NVIDIA's ModelOpt")]
    Unknown(String),
}

impl From<WireError> for HalfError {
    fn from(_: WireError) -> Self {
        Self::Damaged
    }
}

/// The first opset whose quantizers take FP16 scales.
const QUANTIZER_OPSET: u64 = 19;

/// The network in FP16, with input and output in f32 still.
pub fn to_half(model: &[u8]) -> Result<Vec<u8>, HalfError> {
    let mut fields = read(model)?;
    let graph = fields
        .iter()
        .position(|field| field.number == schema::MODEL_GRAPH)
        .ok_or(HalfError::Damaged)?;
    let bytes = fields[graph].bytes().to_vec();
    let mut opset = QUANTIZER_OPSET;
    for field in fields.iter().filter(|field| field.number == schema::MODEL_OPSET) {
        let parts = read(field.bytes())?;
        if parts.iter().all(|part| part.number != schema::OPSET_DOMAIN || part.bytes().is_empty()) {
            opset = parts
                .iter()
                .find(|part| part.number == schema::OPSET_VERSION)
                .map_or(opset, Field::varint);
        }
    }
    let (converted, quantized) = convert_graph(&bytes, opset < 18)?;
    fields[graph] = Field::written(schema::MODEL_GRAPH, converted);
    if quantized {
        for field in fields.iter_mut().filter(|field| field.number == schema::MODEL_OPSET) {
            let bytes = field.bytes().to_vec();
            let mut opset = read(&bytes)?;
            let own = opset
                .iter()
                .any(|field| field.number == schema::OPSET_DOMAIN && !field.bytes().is_empty());
            if own {
                continue;
            }
            for version in opset.iter_mut().filter(|field| field.number == schema::OPSET_VERSION) {
                *version =
                    Field::number(schema::OPSET_VERSION, version.varint().max(QUANTIZER_OPSET));
            }
            *field = Field::written(schema::MODEL_OPSET, write(&opset));
        }
    }
    Ok(write(&fields))
}

/// The graph in FP16, and whether it has quantizers.
fn convert_graph(bytes: &[u8], old: bool) -> Result<(Vec<u8>, bool), HalfError> {
    let fields = read(bytes)?;
    if fields.iter().any(|field| field.number == schema::GRAPH_SPARSE) {
        return Err(HalfError::Unknown("the network has sparse weights".to_owned()));
    }
    let names = |number: u64| -> Result<Vec<String>, HalfError> {
        let of = |field: &Field<'_>| {
            Ok(read(field.bytes())?.iter().find(|field| field.number == 1).map(Field::text))
        };
        let found: Result<Vec<_>, HalfError> =
            fields.iter().filter(|field| field.number == number).map(of).collect();
        Ok(found?.into_iter().flatten().collect())
    };
    let (inputs, outputs) = (names(schema::GRAPH_INPUT)?, names(schema::GRAPH_OUTPUT)?);
    let ([input], [output]) = (inputs.as_slice(), outputs.as_slice()) else {
        return Err(HalfError::Unknown(format!(
            "the network has {} inputs and {} outputs",
            inputs.len(),
            outputs.len()
        )));
    };
    let roles = Roles::of(&fields)?;
    let quantized = roles.quantized;
    let inner = |name: &str| format!("{name}_half");
    let mut converted =
        vec![Field::written(schema::GRAPH_NODE, cast(input, &inner(input), schema::FLOAT16))];
    for field in &fields {
        match field.number {
            schema::GRAPH_NODE => {
                let mut node = read(field.bytes())?;
                let bytes;
                if quantized
                    && old
                    && let Some((newer, axes)) = newer_node(&node)?
                {
                    bytes = newer;
                    node = read(&bytes)?;
                    converted.push(Field::written(schema::GRAPH_INITIALIZER, axes));
                }
                let node = convert_node(&node, [input, output], &inner, &roles)?;
                converted.push(Field::written(schema::GRAPH_NODE, node));
            }
            schema::GRAPH_INITIALIZER => {
                let tensor = convert_tensor(field.bytes(), None, &roles)?;
                converted.push(Field::written(schema::GRAPH_INITIALIZER, tensor));
            }
            // Types of what lies between: no longer right, and not needed.
            schema::GRAPH_VALUE_INFO => {}
            _ => converted.push(field.clone()),
        }
    }
    converted.push(Field::written(schema::GRAPH_NODE, cast(&inner(output), output, schema::FLOAT)));
    Ok((write(&converted), quantized))
}
