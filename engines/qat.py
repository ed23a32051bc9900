#!/usr/bin/env python3
"""After step 5, where int8 costs too much: quantization-aware training (Jacob et al. 2018) of what
`quantize.py` wrote.

    qat.py --model models/mobilenetv3-large.onnx --recipe recipes/mobilenetv3-large.toml --data DIR

It trains the very graph that ships, `NAME-int8.onnx`, node by node: weights and biases move so that
its density follows that of the FP32 file, with every rounding in place, whose gradient is taken as
one inside the range (straight-through estimator). The ranges of activations are trained too (LSQ,
Esser et al. 2020), but for that of the features that the head reads: it is widened to what they
reach, as training would cut off the densest of them. At the end the last layer, which is left in
float, gets the factor that keeps the mean count. No label is needed: pictures are drawn as in
training, and FP32 is the truth. The file keeps its nodes; only its numbers change.
"""

import argparse
import copy
import pathlib
import tomllib

import cv2
import numpy as np
import onnx
import torch
from onnx import numpy_helper

from vcount import data, engines, manifest, qdq, training
from vcount.operations import LEARNING, OPERATIONS


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        type=pathlib.Path,
        required=True,
        help="the FP32 file; NAME-int8.onnx lies beside it",
    )
    parser.add_argument(
        "--recipe",
        type=pathlib.Path,
        required=True,
        help="says how pictures are drawn and the loss",
    )
    parser.add_argument("--data", type=pathlib.Path, required=True, nargs="+")
    parser.add_argument(
        "--steps", type=int, default=600, help="0: nothing but the last layer's factor"
    )
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument(
        "--check",
        type=int,
        default=0,
        metavar="N",
        help="compare counts with FP32 on N pictures of the split val, before and after",
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[384], help="sides at which --check compares"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    cv2.setNumThreads(1)

    target = options.model.with_name(options.model.stem + "-int8.onnx")
    content = manifest.read(options.model.parent, options.model.stem)
    if content is None or not target.exists():
        raise SystemExit(
            f"{target}: needs this file, and a manifest beside it; export.py and quantize.py write them"
        )
    quantized = onnx.load(target)
    qdq.check(quantized)
    recipe = tomllib.loads(options.recipe.read_text())
    validation = data.load(options.data[0], "val") if options.check else []
    if validation:
        qdq.compare(options.model, target, validation, options.check, options.sizes)

    loader = training.batches_of(options.data, recipe, options.seed, options.workers)
    drawn = (next(loader)[0].numpy() for _ in range(BATCHES))
    qdq.widen(quantized, map(engines.planes, drawn))
    teacher = Graph(onnx.load(options.model), options.model).requires_grad_(False)
    student = Graph(quantized, target)
    if options.steps:
        follow(student, teacher, loader, recipe["train"]["loss"], options)
    match(student, teacher, loader)
    temporary = target.with_suffix(".tmp")
    onnx.save(student.model(), temporary)
    qdq.check(onnx.load(temporary))
    temporary.replace(target)
    manifest.add_file(
        options.model.parent, content["name"], target, "int8", manifest.ENGINES["int8"]
    )
    if validation:
        qdq.compare(options.model, target, validation, options.check, options.sizes)


def follow(student, teacher, loader, weights, options):
    """Trains the student's numbers to give the teacher's density, and leaves it with their average
    over the steps."""
    numbers, ranges = student.groups()
    optimizer = torch.optim.Adam(
        [{"params": numbers}, {"params": ranges, "lr": options.learning_rate * 10}],
        options.learning_rate,
    )
    rate = training.schedule(optimizer, options.steps, min(50, options.steps // 10 + 1))
    average, losses = copy.deepcopy(student).requires_grad_(False), []
    for step in range(options.steps):
        images = training.to_network(next(loader)[0])
        with torch.no_grad():
            wanted = teacher(images)
        loss = training.counting_loss(student(images), wanted, torch.ones_like(wanted), weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*numbers, *ranges], 1.0)
        optimizer.step()
        rate.step()
        losses.append(loss.item())
        with torch.no_grad():
            decay = min(0.99, (step + 1) / (step + 10))
            for slow, fast in zip(average.parameters(), student.parameters()):
                slow.lerp_(fast, 1 - decay)
        if (step + 1) % 50 == 0:
            print(
                f"{step + 1}/{options.steps} loss against FP32 {np.mean(losses[-50:]):.4f}",
                flush=True,
            )
    student.load_state_dict(average.state_dict())


BATCHES = 80
"""How many batches say what is there: the range of features, the mean count."""


def match(student, teacher, loader, batches=BATCHES):
    """Gives the student's last layer, where that is left in float, the factor by which it counts as
    many vehicles as the teacher on as many batches: roundings do not cancel on the average."""
    last = [node for node in student.nodes if node.op_type == "Conv"][-1]
    numbers = [key(name) for name in last.input[1:]]
    if last.input[1] in student.weights or any(name not in student.trained for name in numbers):
        return
    counted, wanted = 0.0, 0.0
    with torch.no_grad():
        for _ in range(batches):
            images = training.to_network(next(loader)[0])
            counted += student(images).sum().item()
            wanted += teacher(images).sum().item()
        factor = wanted / counted if counted else 1.0
        if not 0.8 < factor < 1.25:
            print(f"counts {1 / factor:.2f} times what FP32 does: left so; train for more steps")
            return
        for name in numbers:
            student.trained[name].mul_(factor)
    print(f"last layer times {factor:.3f}, for the mean count of FP32")


class Graph(torch.nn.Module):
    """An exported network, with or without Q/DQ nodes, run node by node in PyTorch so that its
    constants can be trained."""

    def __init__(self, model, path="the model"):
        super().__init__()
        self.source = model
        unknown = {node.op_type: node.name for node in model.graph.node}
        for known in (*OPERATIONS, "Constant", "QuantizeLinear", "DequantizeLinear"):
            unknown.pop(known, None)
        if unknown:
            told = ", ".join(f"{kind} ({name})" for kind, name in sorted(unknown.items()))
            raise SystemExit(
                f"{path}: operations that this script cannot train: {told}. The int8 file stays "
                "as quantize.py wrote it; vcount/operations.py is where to add them"
            )
        self.constants = {
            entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer
        }
        for node in model.graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(
                    onnx.helper.get_node_attr_value(node, "value")
                )
        self.nodes = [node for node in model.graph.node if node.op_type != "Constant"]
        self.attributes = [
            {
                attribute.name: onnx.helper.get_attribute_value(attribute)
                for attribute in node.attribute
            }
            for node in self.nodes
        ]
        # Names of the steps of activations; of weights in int8, each with its steps and bound.
        self.ranges = {node.input[1] for node in self.nodes if node.op_type == "QuantizeLinear"}
        self.weights, self.axes, self.bounds = {}, {}, qdq.bounds(model)
        for node, attributes in zip(self.nodes, self.attributes):
            if node.op_type == "DequantizeLinear" and node.input[0] in self.constants:
                self.weights[node.input[0]] = node.input[1]
                self.axes[node.input[0]] = attributes.get("axis", 1)
        self.trained = torch.nn.ParameterDict()
        for node in self.nodes:
            for name in node.input:
                value = self.constants.get(name)
                if value is None or key(name) in self.trained:
                    continue
                if name in self.weights:
                    # Kept in float between steps.
                    self.trained[key(name)] = torch.from_numpy(
                        value.astype(np.float32) * self.steps(name)
                    )
                elif node.op_type in LEARNING:
                    self.trained[key(name)] = torch.from_numpy(np.array(value))
                elif name in self.ranges:
                    self.trained[key(name)] = torch.from_numpy(np.array(np.log(value)))
        self.fixed = {
            name: torch.from_numpy(np.array(value))
            for name, value in self.constants.items()
            if key(name) not in self.trained
        }

    def groups(self):
        """Weights and biases; logarithms of the ranges of activations. That of the features which
        the head reads is in neither: it stays whole."""
        ranges = {key(name) for name in self.ranges}
        features = qdq.features(self.source)
        whole = features and key(features.input[1])
        named = [(name, value) for name, value in self.trained.items() if name != whole]
        return [value for name, value in named if name not in ranges], [
            value for name, value in named if name in ranges
        ]

    def steps(self, weight):
        """One for each channel of an int8 weight, or one for all, shaped to multiply it."""
        return qdq.spread(
            self.constants[self.weights[weight]], self.axes[weight], self.constants[weight].ndim
        )

    def value(self, values, name):
        return (
            values[name]
            if name in values
            else self.trained[key(name)]
            if key(name) in self.trained
            else self.fixed[name]
        )

    def forward(self, images):
        values = {self.source.graph.input[0].name: images}
        for node, attributes in zip(self.nodes, self.attributes):
            if node.op_type == "QuantizeLinear":
                # Rounded, but still in the units of its input: what follows is a DequantizeLinear
                # with the same scale.
                values[node.output[0]] = rounded(
                    self.value(values, node.input[0]), self.value(values, node.input[1]).exp()
                )
            elif node.op_type == "DequantizeLinear":
                value = self.value(values, node.input[0])
                if node.input[0] in self.weights:
                    scale = self.fixed[node.input[1]]
                    zero = torch.zeros_like(scale, dtype=torch.int32)
                    most = self.bounds[node.input[0]]
                    if scale.ndim:
                        axis = self.axes[node.input[0]]
                        value = torch.fake_quantize_per_channel_affine(
                            value, scale, zero, axis, -most, most
                        )
                    else:
                        value = torch.fake_quantize_per_tensor_affine(
                            value, scale, zero, -most, most
                        )
                values[node.output[0]] = value
            else:
                inputs = [self.value(values, name) if name else None for name in node.input]
                outputs = OPERATIONS[node.op_type](inputs, attributes)
                outputs = [outputs] if torch.is_tensor(outputs) else outputs
                values.update(zip(node.output, outputs))
        return values[self.source.graph.output[0].name]

    def model(self):
        """The model with the trained numbers."""
        changed = copy.deepcopy(self.source)
        for entry in changed.graph.initializer:
            if key(entry.name) not in self.trained:
                continue
            value = self.trained[key(entry.name)].detach().numpy()
            if entry.name in self.ranges:
                # What was not trained stays the same to the last digit, which a logarithm loses.
                before, value = self.constants[entry.name], np.exp(value)
                value = np.where(np.isclose(value, before, rtol=1e-6, atol=0), before, value)
            elif entry.name in self.weights:
                most = self.bounds[entry.name]
                value = np.clip(np.round(value / self.steps(entry.name)), -most, most)
            value = value.astype(self.constants[entry.name].dtype).reshape(
                self.constants[entry.name].shape
            )
            entry.CopyFrom(numpy_helper.from_array(value, entry.name))
        return changed


def key(name):
    """A tensor's name as PyTorch takes it for a parameter's."""
    return name.replace(".", "|")


def rounded(value, scale):
    """To the nearest of 256 levels; the gradient passes the rounding, and stops outside the
    range."""
    levels = value / scale
    levels = levels + (levels.round() - levels).detach()
    return levels.clamp(-128, 127) * scale


if __name__ == "__main__":
    main()
