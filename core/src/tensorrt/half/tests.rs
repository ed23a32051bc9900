//! Tests of the conversion to FP16.

use half::f16;

use super::roles::{Role, Roles};
use super::tensor::convert;
use super::*;

#[test]
fn network_in_fp16_is_smaller_and_keeps_its_inputs_and_outputs() {
    let bytes = include_bytes!("../../../tests/engines/tiny.onnx");
    let half = to_half(bytes).expect("it converts");
    assert!(half.len() < bytes.len() * 3 / 4, "{} of {}", half.len(), bytes.len());
    let face = |model: &[u8]| {
        let fields = read(model).expect("a network");
        let graph =
            fields.iter().find(|field| field.number == schema::MODEL_GRAPH).expect("a graph");
        let graph = read(graph.bytes()).expect("a graph");
        let face = graph
            .iter()
            .filter(|field| [schema::GRAPH_INPUT, schema::GRAPH_OUTPUT].contains(&field.number));
        face.map(|field| field.bytes().to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(face(&half), face(bytes));
}

/// The scales of a network's quantizers, by name, with what they scale.
fn scales(model: &[u8]) -> Vec<(String, Role, Vec<f32>)> {
    let fields = read(model).expect("a network");
    let graph = fields.iter().find(|field| field.number == schema::MODEL_GRAPH).expect("a graph");
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
                assert!((before - after).abs() <= allowed, "{file} {name}: {after}, not {before}");
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
    let bytes = include_bytes!("../../../tests/engines/tiny.onnx");
    for length in [1, 10, bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(to_half(&bytes[..length]), Err(HalfError::Damaged), "{length}");
    }
    assert_eq!(to_half(b""), Err(HalfError::Damaged));
}
