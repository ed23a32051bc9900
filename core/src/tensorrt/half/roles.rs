//! Which tensors are weights, which are scales, and which stay in FP32.

use std::collections::{BTreeMap, BTreeSet};

use super::HalfError;
use crate::tensorrt::onnx::schema;
use crate::tensorrt::onnx::wire::{Field, read};

/// What a tensor of numbers is to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
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
pub(super) struct Roles {
    of: BTreeMap<String, Role>,
    /// The network has quantizers.
    pub quantized: bool,
}

impl Roles {
    pub fn of(graph: &[Field<'_>]) -> Result<Self, HalfError> {
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

    pub fn role(&self, name: &str) -> Role {
        self.of.get(name).copied().unwrap_or(Role::Weights)
    }
}
