#!/usr/bin/env python3
"""Step 5: quantize an exported model to int8, as a graph with Q/DQ nodes that TensorRT and OpenVINO
both run.

    quantize.py --model models/mobilenetv3-large.onnx --data DIR

Symmetric int8 everywhere (TensorRT takes no other zero point), weights per channel, biases left in
float (TensorRT refuses them as int32). Weights of more than one input channel keep to -64..64, in
which processors without VNNI compute exactly (`vcount/qdq.py`). The pictures for calibration come
from the split `train`, letterboxed as at run time.
"""

import argparse
import pathlib
import time

import numpy as np
import onnx
from onnxruntime import quantization

from vcount import data, engines, manifest, qdq

METHODS = {
    "minmax": quantization.CalibrationMethod.MinMax,
    "entropy": quantization.CalibrationMethod.Entropy,
    "percentile": quantization.CalibrationMethod.Percentile,
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True, nargs="+")
    parser.add_argument("--pictures", type=int, default=128, help="for calibration")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[384],
        help="sides that calibration pictures are letterboxed to, in turn",
    )
    parser.add_argument(
        "--method", choices=METHODS, default="minmax", help="how ranges of activations are chosen"
    )
    parser.add_argument("--percentile", type=float, default=99.995)
    parser.add_argument(
        "--keep",
        nargs="*",
        help="nodes to leave in float, by name or the beginning of it; default: the head's last layer",
    )
    parser.add_argument(
        "--check",
        type=int,
        default=0,
        metavar="N",
        help="compare counts with FP32 on N pictures of the split val",
    )
    parser.add_argument("--time", action="store_true", help="time both on OpenVINO in turn")
    options = parser.parse_args()

    target = options.model.with_name(options.model.stem + "-int8.onnx")
    content = manifest.read(options.model.parent, options.model.stem)
    if content is None:
        raise SystemExit(f"{options.model}: no manifest beside it; export.py writes one")
    samples = [sample for folder in options.data for sample in data.load(folder, "train")]
    quantize(options, samples, target)
    manifest.add_file(
        options.model.parent, content["name"], target, "int8", manifest.ENGINES["int8"]
    )
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
    if options.check:
        validation = data.load(options.data[0], "val")
        qdq.compare(options.model, target, validation, options.check, options.sizes)
    if options.time:
        for line in timed(options.model, target):
            print(line)


class Pictures(quantization.CalibrationDataReader):
    """Pictures of every scene in turn. ONNX Runtime asks for `at_once` of them at a time, which are
    of one size: it keeps what every node made of them until it has counted it."""

    AT_ONCE = 10

    def __init__(self, samples, number, sizes):
        scenes = {}
        for sample in samples:
            scenes.setdefault(sample.scene, []).append(sample)
        random = np.random.default_rng(0)
        for some in scenes.values():
            random.shuffle(some)
        order = [
            scenes[name][turn]
            for turn in range(max(map(len, scenes.values())))
            for name in sorted(scenes)
            if turn < len(scenes[name])
        ]
        order = order[:number]
        self.at_once = min(self.AT_ONCE, len(order))
        # No smaller group at the end: ONNX Runtime takes none.
        groups = [
            order[begin : begin + self.at_once]
            for begin in range(0, len(order) - self.at_once + 1, self.at_once)
        ]
        self.pictures = [
            (sample, sizes[turn % len(sizes)])
            for turn, group in enumerate(groups)
            for sample in group
        ]
        self.set_range(0, len(self.pictures))

    def __len__(self):
        return len(self.pictures)

    def set_range(self, start_index, end_index):
        self.left = iter(self.pictures[start_index:end_index])

    def get_next(self):
        sample, side = next(self.left, (None, None))
        if sample is None:
            return None
        return {"images": engines.planes(data.letterbox(data.read(sample), side, side)[0][None])}


def quantize(options, samples, target):
    model = onnx.load(options.model)
    names = [node.name for node in model.graph.node]
    if options.keep is None:
        # The last convolution makes the count: its output is small, and rounding it costs most.
        keep = [[node.name for node in model.graph.node if node.op_type == "Conv"][-1]]
    else:
        keep = [name for name in names if any(name.startswith(some) for some in options.keep)]
    temporary = target.with_suffix(".tmp")
    pictures = Pictures(samples, options.pictures, options.sizes)
    extra = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "CalibPercentile": options.percentile,
        "CalibStridedMinMax": pictures.at_once,  # for every method, whatever its name says
        # The activation that follows a convolution is computed with it: rounding before ReLU6
        # wastes levels on what it cuts off.
        "OpTypesToExcludeOutputQuantization": ["Conv"],
        "TensorQuantOverrides": {
            weight: [{"axis": 0, "reduce_range": False}] for weight in qdq.depthwise(model)
        },
    }
    quantization.quantize_static(
        str(options.model),
        str(temporary),
        pictures,
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=["Conv", "Add", "MatMul", "GlobalAveragePool"],
        nodes_to_exclude=keep,
        calibrate_method=METHODS[options.method],
        extra_options=extra,
    )
    model = onnx.load(temporary)
    widened = hold_scales(model)
    if widened:
        print(f"{widened} channels of weights near zero were given steps that FP16 holds")
    pictures.set_range(0, len(pictures))
    qdq.widen(model, (each["images"] for each in iter(pictures.get_next, None)))
    onnx.save(model, temporary)
    qdq.check(model)
    temporary.replace(target)


SMALLEST_SCALE = 2.0**-16
"""TensorRT takes scales in FP16 where a network computes in it; smaller ones it would hold badly or
not at all. Weights that round to zero in such steps are nothing beside any input."""


def hold_scales(model):
    """Gives channels of weights whose steps are below `SMALLEST_SCALE` that one, and tells how many
    there were."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    widened = 0
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            continue
        weight, scale = (onnx.numpy_helper.to_array(constants[name]) for name in node.input[:2])
        small = scale < SMALLEST_SCALE
        if not small.any():
            continue
        held = np.where(small, np.float32(SMALLEST_SCALE), scale)
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        change = qdq.spread(scale / held, attributes.get("axis", 1), weight.ndim)
        constants[node.input[0]].CopyFrom(
            onnx.numpy_helper.from_array(np.round(weight * change).astype(np.int8), node.input[0])
        )
        constants[node.input[1]].CopyFrom(
            onnx.numpy_helper.from_array(held.astype(np.float32), node.input[1])
        )
        widened += int(small.sum())
    return widened


def timed(model, target, sides=((384, 384), (512, 512)), rounds=25):
    """Medians of runs in turn on OpenVINO with one thread; processor time, so that a busy machine
    counts less."""
    for height, width in sides:
        runs, image = {}, engines.noise(width, height)
        for path in (model, target):
            run = engines.load(path, width, height, "openvino", threads=1)
            runs[path] = lambda run=run, image=image: run(image)
        times = engines.taking_turns(runs, rounds, time.process_time)
        fp32, int8 = (times[path] * 1000 for path in (model, target))
        yield f"OpenVINO, one thread, {width}x{height}: FP32 {fp32:.1f} ms, int8 {int8:.1f} ms of processor time a picture: {fp32 / int8:.2f} times"


if __name__ == "__main__":
    main()
