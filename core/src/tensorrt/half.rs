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

use std::collections::{BTreeMap, BTreeSet};

use half::f16;
use thiserror::Error;

use super::onnx::schema;
use super::onnx::wire::{Damaged, Field, Value, read, read_varint, write};

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

impl From<Damaged> for HalfError {
    fn from(_: Damaged) -> Self {
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

/// What a tensor of numbers is to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Weights and constants.
    Weights,
    /// The scale of quantized weights.
    WeightScale,
    /// The scale of what is computed.
    Scale,
    /// It stays in f32.
    Stays,
}

/// The roles of tensors that are not mere weights, by name.
struct Roles {
    of: BTreeMap<String, Role>,
    /// The network has quantizers.
    quantized: bool,
}

impl Roles {
    fn of(graph: &[Field<'_>]) -> Result<Self, HalfError> {
        let name = |field: &Field<'_>, number: u64| -> Result<_, HalfError> {
            Ok(read(field.bytes())?.iter().find(|field| field.number == number).map(Field::text))
        };
        let initializers = graph.iter().filter(|field| field.number == schema::GRAPH_INITIALIZER);
        let names: Result<BTreeSet<_>, _> =
            initializers.map(|field| name(field, schema::TENSOR_NAME)).collect();
        let weights = names?;
        let mut roles = Self { of: BTreeMap::new(), quantized: false };
        for field in graph.iter().filter(|field| field.number == schema::GRAPH_NODE) {
            let node = read(field.bytes())?;
            let inputs: Vec<_> = node
                .iter()
                .filter(|field| field.number == schema::NODE_INPUT)
                .map(Field::text)
                .collect();
            let operator = name(field, schema::NODE_OPERATOR)?.unwrap_or_default();
            match operator.as_str() {
                // The scales of Resize are f32, whatever it scales. An input that is left out has
                // no name.
                "Resize" => {
                    let scales = inputs.into_iter().skip(1).filter(|name| !name.is_empty());
                    roles.of.extend(scales.map(|name| (name, Role::Stays)));
                }
                "QuantizeLinear" | "DequantizeLinear" => {
                    roles.quantized = true;
                    let mut inputs = inputs.into_iter();
                    let (Some(from), Some(scale)) = (inputs.next(), inputs.next()) else {
                        continue;
                    };
                    let of_weights =
                        operator == "DequantizeLinear" && weights.contains(&Some(from));
                    // One that serves both is held to more.
                    let role = roles.of.entry(scale).or_insert(Role::WeightScale);
                    if !of_weights {
                        *role = Role::Scale;
                    }
                }
                _ => {}
            }
        }
        Ok(roles)
    }

    fn role(&self, name: &str) -> Role {
        self.of.get(name).copied().unwrap_or(Role::Weights)
    }
}

/// A node that converts `from` into `to` of another type.
fn cast(from: &str, to: &str, data_type: u64) -> Vec<u8> {
    let attribute = write(&[
        Field::written(schema::ATTRIBUTE_NAME, b"to".to_vec()),
        Field::number(schema::ATTRIBUTE_INT, data_type),
        Field::number(schema::ATTRIBUTE_TYPE, schema::INT),
    ]);
    write(&[
        Field::written(schema::NODE_INPUT, from.as_bytes().to_vec()),
        Field::written(schema::NODE_OUTPUT, to.as_bytes().to_vec()),
        Field::written(schema::NODE_NAME, format!("{to}_cast").into_bytes()),
        Field::written(schema::NODE_OPERATOR, b"Cast".to_vec()),
        Field::written(schema::NODE_ATTRIBUTE, attribute),
    ])
}

/// A node, and the tensor that it takes in.
type Newer = (Vec<u8>, Vec<u8>);

/// A node of an opset before 18 as [`QUANTIZER_OPSET`] has it, where that differs: reductions take
/// their axes as a tensor, which comes second. `None` where nothing changes.
fn newer_node(node: &[Field<'_>]) -> Result<Option<Newer>, HalfError> {
    let text = |number: u64| {
        node.iter().find(|field| field.number == number).map(Field::text).unwrap_or_default()
    };
    let (operator, made) = (text(schema::NODE_OPERATOR), text(schema::NODE_OUTPUT));
    let inputs = node.iter().filter(|field| field.number == schema::NODE_INPUT).count();
    if operator == "Split" && inputs < 2 {
        return Err(HalfError::Unknown(format!("{made:?} is split into parts of no given size")));
    }
    if !operator.starts_with("Reduce") || operator == "ReduceSum" {
        return Ok(None);
    }
    let mut axes: Option<Vec<u64>> = None;
    let mut kept = Vec::new();
    for field in node {
        if field.number == schema::NODE_ATTRIBUTE {
            let attribute = read(field.bytes())?;
            if attribute
                .iter()
                .any(|part| part.number == schema::ATTRIBUTE_NAME && part.bytes() == b"axes")
            {
                let mut numbers = Vec::new();
                for part in attribute.iter().filter(|part| part.number == schema::ATTRIBUTE_INTS) {
                    // One by one, or packed.
                    let mut packed = part.bytes();
                    if let Value::Varint(number) = part.value {
                        numbers.push(number);
                    }
                    while !packed.is_empty() {
                        numbers.push(read_varint(&mut packed)?);
                    }
                }
                axes = Some(numbers);
                continue;
            }
        }
        kept.push(field.clone());
    }
    let Some(axes) = axes else { return Ok(None) };
    let name = format!("{made}_axes");
    let last =
        kept.iter().rposition(|field| field.number == schema::NODE_INPUT).map_or(0, |at| at + 1);
    kept.insert(last, Field::written(schema::NODE_INPUT, name.clone().into_bytes()));
    let tensor = write(&[
        Field::number(schema::TENSOR_SIZES, axes.len() as u64),
        Field::number(schema::TENSOR_TYPE, schema::INT64),
        Field::written(schema::TENSOR_NAME, name.into_bytes()),
        Field::written(
            schema::TENSOR_RAW,
            axes.iter().flat_map(|axis| axis.to_le_bytes()).collect(),
        ),
    ]);
    Ok(Some((write(&kept), tensor)))
}

fn convert_node(
    node: &[Field<'_>],
    face: [&String; 2],
    inner: &dyn Fn(&str) -> String,
    roles: &Roles,
) -> Result<Vec<u8>, HalfError> {
    let operator = node
        .iter()
        .find(|field| field.number == schema::NODE_OPERATOR)
        .map(Field::text)
        .unwrap_or_default();
    let made = node
        .iter()
        .find(|field| field.number == schema::NODE_OUTPUT)
        .map(Field::text)
        .unwrap_or_default();
    let mut fields = Vec::new();
    for field in node {
        match field.number {
            schema::NODE_INPUT | schema::NODE_OUTPUT
                if face.iter().any(|name| name.as_bytes() == field.bytes()) =>
            {
                fields.push(Field::written(field.number, inner(&field.text()).into_bytes()));
            }
            schema::NODE_ATTRIBUTE => {
                let mut attribute = read(field.bytes())?;
                let name = attribute
                    .iter()
                    .find(|field| field.number == schema::ATTRIBUTE_NAME)
                    .map(Field::text);
                for part in &mut attribute {
                    match part.number {
                        schema::ATTRIBUTE_GRAPH => {
                            return Err(HalfError::Unknown(format!(
                                "the network has a branch or a loop ({operator})"
                            )));
                        }
                        schema::ATTRIBUTE_TENSOR => {
                            *part = Field::written(
                                part.number,
                                convert_tensor(part.bytes(), Some(&made), roles)?,
                            );
                        }
                        schema::ATTRIBUTE_INT
                            if operator == "Cast"
                                && name.as_deref() == Some("to")
                                && part.varint() == schema::FLOAT =>
                        {
                            *part = Field::number(part.number, schema::FLOAT16);
                        }
                        _ => {}
                    }
                }
                if operator == "Constant"
                    && name.as_deref().is_some_and(|name| name.starts_with("value_float"))
                {
                    return Err(HalfError::Unknown(format!("the constant {made:?} is no tensor")));
                }
                fields.push(Field::written(schema::NODE_ATTRIBUTE, write(&attribute)));
            }
            _ => fields.push(field.clone()),
        }
    }
    Ok(write(&fields))
}

/// A tensor in FP16, if it was in FP32 and is not to stay so. The tensor inside a constant is
/// called as what the node makes.
fn convert_tensor(bytes: &[u8], made: Option<&str>, roles: &Roles) -> Result<Vec<u8>, HalfError> {
    let fields = read(bytes)?;
    let find = |number: u64| fields.iter().find(|field| field.number == number);
    let name = made.map_or_else(
        || find(schema::TENSOR_NAME).map(Field::text).unwrap_or_default(),
        str::to_owned,
    );
    let role = roles.role(&name);
    if find(schema::TENSOR_TYPE).is_none_or(|field| field.varint() != schema::FLOAT)
        || role == Role::Stays
    {
        return Ok(bytes.to_vec());
    }
    if find(schema::TENSOR_LOCATION).is_some_and(|field| field.varint() != 0)
        || find(schema::TENSOR_EXTERNAL).is_some()
    {
        return Err(HalfError::Unknown(format!("the weights {name:?} lie in another file")));
    }
    let mut raw = Vec::new();
    let mut add = |bytes: &[u8]| -> Result<(), HalfError> {
        for value in bytes.chunks_exact(4) {
            let value = f32::from_le_bytes([value[0], value[1], value[2], value[3]]);
            raw.extend_from_slice(&convert(value, role, &name)?.to_le_bytes());
        }
        Ok(())
    };
    // Either raw bytes, or numbers one by one, packed or not.
    for field in fields
        .iter()
        .filter(|field| [schema::TENSOR_FLOATS, schema::TENSOR_RAW].contains(&field.number))
    {
        match &field.value {
            Value::Fixed32(bytes) => add(bytes)?,
            _ => add(field.bytes())?,
        }
    }
    let mut converted: Vec<Field<'_>> = fields
        .iter()
        .filter(|field| {
            ![schema::TENSOR_TYPE, schema::TENSOR_FLOATS, schema::TENSOR_RAW]
                .contains(&field.number)
        })
        .cloned()
        .collect();
    converted.push(Field::number(schema::TENSOR_TYPE, schema::FLOAT16));
    converted.push(Field::written(schema::TENSOR_RAW, raw));
    Ok(write(&converted))
}

/// A number of the tensor `name`, or why FP16 does not hold it.
fn convert(value: f32, role: Role, name: &str) -> Result<u16, HalfError> {
    let near = f16::from_f32(value);
    if !near.is_finite() {
        return Err(HalfError::Unknown(format!(
            "the weights {name:?} have {value}, which FP16 does not"
        )));
    }
    if matches!(role, Role::Weights | Role::Stays) {
        return Ok(near.to_bits());
    }
    let refused =
        |why: &str| Err(HalfError::Unknown(format!("the scale {name:?} is {value}: {why}")));
    // What is quantized goes from -127 to 127 steps.
    if value <= 0.0 || !f16::from_f32(value * 127.0).is_finite() {
        return refused("no scale of INT8 that FP16 can hold");
    }
    let near = near.max(f16::from_bits(1));
    if role == Role::Scale && (near.to_f32() - value).abs() > value / 256.0 {
        return refused("too small for FP16, which would be off by more than half a step of INT8");
    }
    Ok(near.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_network_is_smaller_and_keeps_its_face() {
        let bytes = include_bytes!("../../tests/engines/tiny.onnx");
        let half = to_half(bytes).expect("it converts");
        assert!(half.len() < bytes.len() * 3 / 4, "{} of {}", half.len(), bytes.len());
        let face = |model: &[u8]| {
            let fields = read(model).expect("a network");
            let graph =
                fields.iter().find(|field| field.number == schema::MODEL_GRAPH).expect("a graph");
            let graph = read(graph.bytes()).expect("a graph");
            let face = graph.iter().filter(|field| {
                [schema::GRAPH_INPUT, schema::GRAPH_OUTPUT].contains(&field.number)
            });
            face.map(|field| field.bytes().to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(face(&half), face(bytes));
    }

    /// The scales of a network's quantizers, by name, with what they scale.
    fn scales(model: &[u8]) -> Vec<(String, Role, Vec<f32>)> {
        let fields = read(model).expect("a network");
        let graph =
            fields.iter().find(|field| field.number == schema::MODEL_GRAPH).expect("a graph");
        let graph = read(graph.bytes()).expect("a graph");
        let roles = Roles::of(&graph).expect("a graph");
        let mut found = Vec::new();
        for field in graph.iter().filter(|field| field.number == schema::GRAPH_INITIALIZER) {
            let tensor = read(field.bytes()).expect("a tensor");
            let get = |number: u64| tensor.iter().find(|field| field.number == number);
            let name = get(schema::TENSOR_NAME).expect("a name").text();
            let role = roles.role(&name);
            if !matches!(role, Role::Scale | Role::WeightScale) {
                continue;
            }
            let bytes = get(schema::TENSOR_RAW)
                .or_else(|| get(schema::TENSOR_FLOATS))
                .expect("numbers")
                .bytes()
                .to_vec();
            let values = match get(schema::TENSOR_TYPE).expect("a type").varint() {
                schema::FLOAT => {
                    bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
                }
                schema::FLOAT16 => bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|two| f16::from_le_bytes(*two).to_f32())
                    .collect(),
                other => panic!("{name} is of type {other}"),
            };
            found.push((name, role, values));
        }
        found
    }

    #[test]
    fn every_scale_of_the_quantized_networks_is_held_by_fp16() {
        let large =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../engines/models/mobilenetv3-large-int8.onnx");
        let lite =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../engines/models/efficientnet-lite0-int8.onnx");
        let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engines/tiny-int8.onnx");
        for file in [large, lite, tiny] {
            let model = std::fs::read(file).expect("it is committed");
            let (before, after) = (scales(&model), scales(&to_half(&model).expect("it converts")));
            assert!(
                before.len() > 10 && before.len() == after.len(),
                "{file}: {} scales",
                before.len()
            );
            assert!(before.iter().any(|(_, role, _)| *role == Role::Scale));
            for ((name, role, before), (other, _, after)) in before.iter().zip(&after) {
                assert_eq!((name, before.len()), (other, after.len()));
                for (&before, &after) in before.iter().zip(after) {
                    // Half of the last of 11 bits; below the normal numbers, half a step of 2^-24.
                    let allowed = (before * 2.0_f32.powi(-11)).max(2.0_f32.powi(-25));
                    assert!(
                        (before - after).abs() <= allowed,
                        "{file} {name}: {after}, not {before}"
                    );
                    // None of what is computed lies so low.
                    assert!(
                        *role == Role::WeightScale || before > 2.0_f32.powi(-14),
                        "{file} {name}: {before}"
                    );
                }
            }
        }
    }

    #[test]
    fn scales_at_the_ends_of_fp16_are_kept_or_refused_by_name() {
        let step = 2.0_f32.powi(-24);
        let of = |value, role| convert(value, role, "s").map(|bits| f16::from_bits(bits).to_f32());
        // In the normal range, and below it as long as INT8 does not see the difference.
        for value in [0.01, 2.0_f32.powi(-14), 200.5 * step, 500.0] {
            let got = of(value, Role::Scale).expect("it is held");
            assert!((got - value).abs() <= value / 256.0, "{got}, not {value}");
        }
        for value in [100.5 * step, 0.3 * step, 1e-9, 516.0, 65_504.0, 0.0, -0.1] {
            let error = of(value, Role::Scale).expect_err("FP16 does not hold it").to_string();
            assert!(
                error.contains("the scale \"s\" is ") && error.contains("--precision fp32"),
                "{error}"
            );
        }
        // Weights of such scales are next to nothing: they stay so, and a scale is never zero.
        assert_eq!(of(100.2 * step, Role::WeightScale), Ok(100.0 * step));
        assert_eq!(of(1e-12, Role::WeightScale), Ok(step));
        assert!(of(0.0, Role::WeightScale).is_err() && of(f32::NAN, Role::WeightScale).is_err());
        // What is no scale may be zero.
        assert_eq!((of(1e-12, Role::Weights), of(0.0, Role::Weights)), (Ok(0.0), Ok(0.0)));
        assert!(of(1e6, Role::Weights).is_err());
    }

    #[test]
    fn damaged_and_unknown_networks_are_refused() {
        let bytes = include_bytes!("../../tests/engines/tiny.onnx");
        for length in [1, 10, bytes.len() / 2, bytes.len() - 1] {
            assert_eq!(to_half(&bytes[..length]), Err(HalfError::Damaged), "{length}");
        }
        assert_eq!(to_half(b""), Err(HalfError::Damaged));
    }
}
