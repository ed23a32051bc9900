//! Tensors: weights, constants and scales in FP16.

use half::f16;

use super::HalfError;
use super::roles::{Role, Roles};
use crate::tensorrt::onnx::schema;
use crate::tensorrt::onnx::wire::{Field, Value, read, write};

/// A tensor in FP16, if it was in FP32 and is not to stay so. The tensor inside a constant is
/// called as what the node makes.
pub(super) fn convert_tensor(
    bytes: &[u8],
    made: Option<&str>,
    roles: &Roles,
) -> Result<Vec<u8>, HalfError> {
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
pub(super) fn convert(value: f32, role: Role, name: &str) -> Result<u16, HalfError> {
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
