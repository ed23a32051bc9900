"""What quantization and training after it share: what a quantized graph must be, and how its counts
compare with those in FP32."""

import numpy as np
import onnx
import onnxruntime

from . import data, engines, metrics


MOST = 127
"""The largest weight of int8, both ways."""

MOST_IN_PAIRS = 64
"""The largest weight where products are summed. x86 processors without VNNI multiply pairs of 8-bit
numbers, unsigned by signed, and hold the sum of both products in 16 bits (`vpmaddubsw`): 2 * 255 *
64 fits, more saturates. Engines move int8 activations to 0..255, so all of that range is met.
Depthwise convolutions have other kernels."""


def depthwise(model):
    """Names of the weights of convolutions of one channel each, as the convolutions read them."""
    shapes = {constant.name: constant.dims for constant in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
    weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    return {name for name in weights & shapes.keys() if shapes[name][1] == 1}


def bounds(model):
    """The largest value that each int8 weight of the graph may have, both ways, by name."""
    alone = depthwise(model)
    constants = {constant.name for constant in model.graph.initializer}
    return {
        node.input[0]: MOST if node.output[0] in alone else MOST_IN_PAIRS
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }


def check(model):
    """Every zero point is 0 and int8, every weight within its bound; no bias is int32."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    most = bounds(model)
    kinds = {}
    for node in model.graph.node:
        kinds[node.op_type] = kinds.get(node.op_type, 0) + 1
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = onnx.numpy_helper.to_array(constants[node.input[2]])
            if zero.dtype != np.int8 or zero.any():
                raise SystemExit(f"{node.name}: zero point {zero} is not int8 zero")
        if node.op_type == "DequantizeLinear" and node.input[0] in most:
            weight = onnx.numpy_helper.to_array(constants[node.input[0]])
            if weight.dtype != np.int8:
                raise SystemExit(f"{node.name}: {weight.dtype} where int8 is wanted")
            largest = np.abs(weight.astype(int)).max()
            if largest > most[node.input[0]]:
                raise SystemExit(
                    f"{node.name}: a weight of {largest}, where {most[node.input[0]]} is the most "
                    "that processors without VNNI compute exactly: quantize.py writes the file anew"
                )
    print(
        f"{kinds.get('QuantizeLinear', 0)} Q and {kinds.get('DequantizeLinear', 0)} DQ nodes, {kinds.get('Conv', 0)} convolutions"
    )


def features(model):
    """The QuantizeLinear node before the last convolution of int8, which rounds the features that
    the count is made of; `None` where there is none."""
    made = {name: node for node in model.graph.node for name in node.output}
    for node in reversed(model.graph.node):
        if node.op_type != "Conv" or node.input[0] not in made:
            continue
        dequantize = made[node.input[0]]
        if dequantize.op_type == "DequantizeLinear" and dequantize.input[0] in made:
            return made[dequantize.input[0]]
    return None


def widen(model, batches):
    """Gives the features that the count is made of the range that they reach in `batches`, pictures
    as the model takes them, where theirs is smaller.

    Percentiles and training narrow it, as large values are rare. They lie where vehicles stand
    densest, and what is cut off there is not counted: in mobilenetv3-large 0.5.1 0.04 % of the
    values, and 5 % of the vehicles.
    """
    node = features(model)
    if node is None:
        return
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.append(
        onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    most = max(
        float(np.abs(session.run([node.input[0]], {"images": images})[0]).max())
        for images in batches
    )
    constant = next(each for each in model.graph.initializer if each.name == node.input[1])
    scale = onnx.numpy_helper.to_array(constant)
    wide = np.maximum(scale, np.float32(most / MOST)).astype(scale.dtype)
    if (wide > scale).any():
        print(f"{node.input[0]}: range {scale.max() * MOST:.3g} widened to {most:.3g}")
        constant.CopyFrom(onnx.numpy_helper.from_array(wide, constant.name))


def spread(scale, axis, rank):
    """Steps of a weight with `rank` axes, one for all or one for each channel along `axis`, shaped
    to multiply it."""
    return scale.reshape(
        [-1 if other == axis else 1 for other in range(rank)] if scale.ndim else []
    )


def compare(model, target, samples, number, sizes):
    """Counts of both files on the same pictures, `number` of `samples`, at every size."""
    some = samples[:: max(len(samples) // number, 1)]
    truths = np.array([sample.truth() for sample in some])
    for side in sizes:
        runs = [engines.load(path, side, side, "openvino") for path in (model, target)]
        counts = []
        for sample in some:
            image, box = data.letterbox(data.read(sample), side, side)
            counts.append([metrics.count(run(image[None])[0, 0], sample, box) for run in runs])
        counts = np.array(counts)
        mae = np.abs(counts - truths[:, None]).mean(axis=0)
        print(
            f"on {len(some)} pictures at {side}: MAE {mae[0]:.3f} in FP32, {mae[1]:.3f} in int8 ({mae[1] / mae[0] - 1:+.1%}); "
            f"counts differ by {np.abs(counts[:, 1] - counts[:, 0]).mean():.3f} on average",
            flush=True,
        )
