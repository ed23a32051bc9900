//! Nodes: the conversions at both ends, reductions as newer opsets have them, types in attributes.

use super::HalfError;
use super::roles::Roles;
use super::tensor::convert_tensor;
use crate::tensorrt::onnx::schema;
use crate::tensorrt::onnx::wire::{Field, Value, read, read_varint, write};

/// A node that converts `from` into `to` of another type.
pub(super) fn cast(from: &str, to: &str, data_type: u64) -> Vec<u8> {
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
pub(super) type NodeWithAxes = (Vec<u8>, Vec<u8>);

/// A node of an opset before 18 as [`QUANTIZER_OPSET`] has it, where that differs: reductions take
/// their axes as a tensor, which comes second. `None` where nothing changes.
pub(super) fn newer_node(node: &[Field<'_>]) -> Result<Option<NodeWithAxes>, HalfError> {
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

pub(super) fn convert_node(
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
