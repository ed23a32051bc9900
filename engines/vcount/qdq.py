"""What quantization and training after it share: what a quantized graph must be, and how its counts
compare with those in FP32."""

import numpy as np
import onnx

from . import data, engines, metrics


def check_symmetric(model):
    """Every zero point is 0 and int8; no convolution of a bias as int32."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    kinds = {}
    for node in model.graph.node:
        kinds[node.op_type] = kinds.get(node.op_type, 0) + 1
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = onnx.numpy_helper.to_array(constants[node.input[2]])
            if zero.dtype != np.int8 or zero.any():
                raise SystemExit(f"{node.name}: zero point {zero} is not int8 zero")
    print(
        f"{kinds.get('QuantizeLinear', 0)} Q and {kinds.get('DequantizeLinear', 0)} DQ nodes, {kinds.get('Conv', 0)} convolutions"
    )


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
