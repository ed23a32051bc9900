"""Writes the small density networks of the conformance suite, and what they count by an evaluator
that is none of our engines.

    pip install onnx==1.23.2 onnxruntime==1.32.0 numpy
    python3 core/tests/engines/fixture.py

`tiny.onnx` has the layers of the models that ship (normalisation inside, stride-2 convolutions,
depthwise ones, HardSwish) and random weights. `tiny-int8.onnx` is the same with symmetric Q/DQ.
`tiny-single.onnx` takes one frame at a time: its batch is fixed. `expected.json` holds what ONNX's
own reference evaluator counts on the pictures of `picture()`, which `main.rs` makes alike.
"""

import hashlib
import json
import pathlib
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

HERE = pathlib.Path(__file__).parent
SIZES = [(256, 256), (384, 384), (640, 384)]
SEEDS = [0, 1, 2, 3]


def picture(width, height, seed):
    """Raw RGB, 3 x height x width, of whole numbers 0..255: ramps and hyperbolas."""
    c, y, x = np.meshgrid(np.arange(3), np.arange(height), np.arange(width), indexing="ij")
    return ((x * (2 + seed) + y * 3 + c * 71 + x * y // (32 + seed)) % 256).astype(np.float32)


def network(batch):
    random = np.random.default_rng(7)
    weights = {
        "mean": np.array([123.675, 116.28, 103.53], np.float32).reshape(1, 3, 1, 1),
        "scale": (1 / np.array([58.395, 57.12, 57.375], np.float32)).reshape(1, 3, 1, 1),
    }

    def convolution(name, given, inputs, outputs, stride=1, kernel=3, groups=1):
        fan = inputs // groups * kernel * kernel
        weights[f"{name}.w"] = random.normal(
            0, (2 / fan) ** 0.5, (outputs, inputs // groups, kernel, kernel)
        ).astype(np.float32)
        weights[f"{name}.b"] = random.normal(0, 0.1, outputs).astype(np.float32)
        return helper.make_node(
            "Conv",
            [given, f"{name}.w", f"{name}.b"],
            [name],
            name,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=groups,
        )

    nodes = [
        helper.make_node("Sub", ["images", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["normal"]),
        convolution("stem", "normal", 3, 8, stride=2),
        helper.make_node("HardSwish", ["stem"], ["a"]),
        convolution("down", "a", 8, 16, stride=2),
        helper.make_node("Relu", ["down"], ["b"]),
        convolution("depthwise", "b", 16, 16, stride=2, groups=16),
        helper.make_node("HardSwish", ["depthwise"], ["c"]),
        convolution("mix", "c", 16, 16, kernel=1),
        helper.make_node("Relu", ["mix"], ["d"]),
        convolution("head", "d", 16, 1, kernel=1),
        helper.make_node("Relu", ["head"], ["e"]),
        helper.make_node("Mul", ["e", "unit"], ["density"]),
    ]
    # A density is positive; here every layer adds to it, some ten vehicles in a frame of 384x384.
    weights["head.w"] = np.abs(weights["head.w"])
    weights["unit"] = np.float32(0.002)
    initializers = [
        numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, "height", "width"])],
        [
            helper.make_tensor_value_info(
                "density", TensorProto.FLOAT, [batch, 1, "rows", "columns"]
            )
        ],
        initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="fixture"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class Pictures(CalibrationDataReader):
    def __init__(self):
        self.pictures = iter([{"images": picture(256, 256, seed)[None]} for seed in SEEDS])

    def get_next(self):
        return next(self.pictures, None)


onnx.save(network("batch"), HERE / "tiny.onnx")
onnx.save(network(1), HERE / "tiny-single.onnx")
with tempfile.TemporaryDirectory() as folder:
    quantized = pathlib.Path(folder) / "int8.onnx"
    quantize_static(
        HERE / "tiny.onnx",
        quantized,
        Pictures(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        # As for the models that ship: processors without VNNI overflow with larger weights,
        # those of depthwise convolutions aside.
        reduce_range=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "TensorQuantOverrides": {
                weight.name: [{"axis": 0, "reduce_range": False}]
                for weight in onnx.load(HERE / "tiny.onnx").graph.initializer
                if len(weight.dims) == 4 and weight.dims[1] == 1
            },
        },
    )
    model = onnx.load(quantized)
    del model.metadata_props[:]
    onnx.save(model, HERE / "tiny-int8.onnx")


def entry(name, precision, engines):
    digest = hashlib.sha256((HERE / name).read_bytes()).hexdigest()
    return {"file": name, "precision": precision, "sha256": digest, "engines": engines}


manifest = {
    "schema": 1,
    "name": "tiny",
    "version": "1",
    "input": {
        "name": "images",
        "width": 384,
        "height": 384,
        "multiple-of": 32,
        "resize": "letterbox",
    },
    "output": {"name": "density", "stride": 8},
    "files": [
        entry("tiny.onnx", "fp32", ["openvino", "onnxruntime", "tensorrt"]),
        entry("tiny-int8.onnx", "int8", []),
        entry("tiny-single.onnx", "fp32", []),
    ],
    "licence": "Apache-2.0",
}
(HERE / "tiny.json").write_text(json.dumps(manifest, indent=2) + "\n")

evaluate = ReferenceEvaluator(str(HERE / "tiny.onnx"))
expected = []
for width, height in SIZES:
    for seed in SEEDS:
        (density,) = evaluate.run(None, {"images": picture(width, height, seed)[None]})
        assert density.shape == (1, 1, height // 8, width // 8)
        halves = density[0, 0, :, : width // 16].sum(), density[0, 0, :, width // 16 :].sum()
        expected.append(
            {
                "width": width,
                "height": height,
                "seed": seed,
                "count": float(density.sum(dtype=np.float64)),
                "left": float(halves[0]),
                "right": float(halves[1]),
            }
        )
(HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
