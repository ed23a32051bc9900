"""Operations of ONNX (opset 17) in PyTorch, with their gradients: those of which the networks of
`networks.py` consist when exported."""

import numpy as np
import onnx
import torch
from torch.nn import functional as F


def convolution(inputs, attributes):
    value, weight, bias = [*inputs, None][:3]
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        value, top, left = F.pad(value, (left, right, top, bottom)), 0, 0
    return F.conv2d(
        value,
        weight,
        bias,
        attributes.get("strides", 1),
        (top, left),
        attributes.get("dilations", 1),
        attributes.get("group", 1),
    )


def pooled(pool, **options):
    """MaxPool or AveragePool by PyTorch's function `pool`."""

    def operation(inputs, attributes):
        top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
        if (top, left) != (bottom, right) or set(attributes.get("dilations", [1])) != {1}:
            raise SystemExit("MaxPool, AveragePool: only with the same padding at opposite sides")
        return pool(
            inputs[0],
            attributes["kernel_shape"],
            attributes.get("strides", 1),
            (top, left),
            ceil_mode=bool(attributes.get("ceil_mode", 0)),
            **{name: bool(attributes.get(name, 0)) for name in options},
        )

    return operation


def enlarged(inputs, attributes):
    if attributes.get("mode") != b"nearest" or attributes.get("nearest_mode") != b"floor":
        raise SystemExit("Resize: only to the nearest below, as export.py writes it")
    value, _, scales, sizes = [*inputs, None][:4]
    if sizes is not None:
        return F.interpolate(value, size=sizes[2:].tolist(), mode="nearest")
    return F.interpolate(value, scale_factor=scales[2:].tolist(), mode="nearest")


def clipped(inputs, _attributes):
    low, high = [None if bound is None else float(bound) for bound in [*inputs[1:], None, None][:2]]
    return inputs[0].clamp(low, high)


def divided(inputs, _attributes):
    whole = not inputs[0].is_floating_point()
    return torch.div(*inputs, rounding_mode="trunc" if whole else None)


def averaged(inputs, attributes):
    axes = inputs[1].tolist() if len(inputs) > 1 else attributes["axes"]
    return inputs[0].mean(axes, keepdim=bool(attributes.get("keepdims", 1)))


def gathered(inputs, attributes):
    value, index = inputs
    axis = attributes.get("axis", 0) % value.ndim
    picked = value.index_select(axis, index.flatten() % value.shape[axis])
    return picked.reshape([*value.shape[:axis], *index.shape, *value.shape[axis + 1 :]])


def cut(inputs, _attributes):
    value, starts, ends, axes, steps = [*inputs, None, None][:5]
    axes = range(len(starts)) if axes is None else axes.tolist()
    steps = [1] * len(starts) if steps is None else steps.tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes, steps):
        positions = range(value.shape[axis])[start:end:step]
        value = value.index_select(axis, torch.tensor(positions, dtype=torch.int64))
    return value


def padded(inputs, attributes):
    value, pads, constant = [*inputs, None][:3]
    if attributes.get("mode", b"constant") != b"constant":
        raise SystemExit("Pad: only with a constant")
    before, behind = pads.reshape(2, -1).tolist()
    sides = [side for pair in zip(reversed(before), reversed(behind)) for side in pair]
    return F.pad(value, sides, value=0.0 if constant is None else float(constant))


def reshaped(inputs, _attributes):
    value, shape = inputs
    return value.reshape(
        [value.shape[axis] if side == 0 else side for axis, side in enumerate(shape.tolist())]
    )


def unsqueezed(inputs, _attributes):
    value, axes = inputs
    rank = value.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes.tolist()):
        value = value.unsqueeze(axis)
    return value


def filled(inputs, attributes):
    constant = torch.from_numpy(np.array(onnx.numpy_helper.to_array(attributes["value"])))
    return constant.expand(inputs[0].tolist())


def converted(inputs, attributes):
    of_numpy = np.zeros(0, onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))
    return inputs[0].to(torch.from_numpy(of_numpy).dtype)


def normalised(inputs, attributes):
    value, weight, bias = [*inputs, None][:3]
    shape = value.shape[attributes.get("axis", -1) :]
    return F.layer_norm(value, shape, weight, bias, attributes.get("epsilon", 1e-5))


OPERATIONS = {
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "AveragePool": pooled(F.avg_pool2d, count_include_pad=False),
    "Cast": converted,
    "Clip": clipped,
    "Concat": lambda inputs, attributes: torch.cat(inputs, attributes["axis"]),
    "ConstantOfShape": filled,
    "Conv": convolution,
    "Div": divided,
    "Erf": lambda inputs, _: torch.erf(inputs[0]),
    "Gather": gathered,
    "GlobalAveragePool": lambda inputs, _: inputs[0].mean((2, 3), keepdim=True),
    "HardSigmoid": lambda inputs, attributes: (
        inputs[0] * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5)
    ).clamp(0, 1),
    "HardSwish": lambda inputs, _: F.hardswish(inputs[0]),
    "Identity": lambda inputs, _: inputs[0],
    "LayerNormalization": normalised,
    "MatMul": lambda inputs, _: inputs[0] @ inputs[1],
    "MaxPool": pooled(F.max_pool2d),
    "Mod": lambda inputs, _: torch.remainder(inputs[0], inputs[1]),
    "Mul": lambda inputs, _: inputs[0] * inputs[1],
    "Pad": padded,
    "ReduceMean": averaged,
    "Relu": lambda inputs, _: F.relu(inputs[0]),
    "Reshape": reshaped,
    "Resize": enlarged,
    "Shape": lambda inputs, _: torch.tensor(inputs[0].shape),
    "Sigmoid": lambda inputs, _: inputs[0].sigmoid(),
    "Slice": cut,
    "Softmax": lambda inputs, attributes: inputs[0].softmax(attributes.get("axis", -1)),
    "Split": lambda inputs, attributes: inputs[0].split(
        inputs[1].tolist(), attributes.get("axis", 0)
    ),
    "Sqrt": lambda inputs, _: inputs[0].sqrt(),
    "Sub": lambda inputs, _: inputs[0] - inputs[1],
    "Transpose": lambda inputs, attributes: inputs[0].permute(attributes["perm"]),
    "Unsqueeze": unsqueezed,
}
"""Each takes the inputs of a node, None for those left out, and its attributes by name, and gives
its output, or several."""

LEARNING = {"Conv", "LayerNormalization", "MatMul"}
"""Operations whose constants are weights and biases."""
