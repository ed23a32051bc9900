"""What ships: files, sums, golden picture, form of the graph. Needs ONNX Runtime."""

import hashlib
import json
import pathlib

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime")

import verify
from vcount import engines

MODELS = pathlib.Path(__file__).parent.parent / "models"
MANIFESTS = sorted(
    path
    for path in MODELS.glob("*.json")
    if "files" in json.loads(path.read_text()) and "task" in json.loads(path.read_text())
)
SIGMOID = {"efficientnet-b0", "ghostnetv2"}
"""Models whose activation or attention is made of it: SiLU, gates."""


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_files_are_those_of_the_manifest(path):
    content = json.loads(path.read_text())
    assert content["schema"] == 1 and content["name"] == path.stem
    for entry in content["files"]:
        assert hashlib.sha256((MODELS / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert {entry["file"] for entry in content["accuracy"]} <= {
        entry["file"] for entry in content["files"]
    }


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_golden_picture_counts_as_expected(path):
    assert list(verify.verify(MODELS, json.loads(path.read_text()))) == []


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_any_batch_and_any_multiple_of_32(path):
    content = json.loads(path.read_text())
    file = next(entry for entry in content["files"] if "onnxruntime" in entry["engines"])
    run = engines.load(MODELS / file["file"], 0, 0, "onnxruntime")
    for shape in ((1, 256, 256, 3), (3, 96, 160, 3)):
        density = run(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
        assert density.shape == (shape[0], 1, shape[1] // 8, shape[2] // 8)
        assert density.dtype == np.float32 and density.min() >= 0


def int8_files(path):
    """The int8 graphs that a manifest names, each with its constants by name."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    for entry in json.loads(path.read_text())["files"]:
        if entry["precision"] == "int8":
            model = onnx.load(MODELS / entry["file"])
            yield (
                model,
                {
                    constant.name: onnx.numpy_helper.to_array(constant)
                    for constant in model.graph.initializer
                },
            )


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_int8_keeps_to_what_every_processor_computes_exactly(path):
    for model, constants in int8_files(path):
        read = {
            node.output[0]: constants[node.input[0]].astype(int)
            for node in model.graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in constants
        }
        convolved = [
            read[node.input[1]]
            for node in model.graph.node
            if node.op_type == "Conv" and node.input[1] in read
        ]
        assert len(convolved) > 10
        for weight in convolved:
            # Two products of 0..255 with 64 are the most that 16 bits hold.
            assert np.abs(weight).max() <= (127 if weight.shape[1] == 1 else 64)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_int8_is_symmetric_with_float_biases(path):
    for model, constants in int8_files(path):
        quantized = [
            node
            for node in model.graph.node
            if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        ]
        assert quantized
        for node in quantized:
            assert constants[node.input[2]].dtype == np.int8 and not constants[node.input[2]].any()
        # An activation in one piece, or none of its pieces can be computed with the convolution
        # before it.
        assert any(node.op_type in ("HardSwish", "Clip", "Relu") for node in model.graph.node)
        pieces = {"Max", "Min"} if path.stem in SIGMOID else {"Max", "Min", "Sigmoid"}
        assert not pieces & {node.op_type for node in model.graph.node}
