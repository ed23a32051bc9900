#!/usr/bin/env python3
"""What each way to make a model faster does to its speed, and to its error.

    effects.py --model models/mobilenetv3-large.json --checkpoint models/mobilenetv3-large.pt --data data
    effects.py --decoders --recipes recipes/mobilenetv3-large.toml recipes/resnet18.toml

Speeds are medians of rounds in which all take turns, on one core, one picture at a time, and are
told as ratios to the first line. Errors are of the validation pictures of `--data`, inside their
areas, as `evaluate.py` tells them.
"""

import argparse
import json
import pathlib
import platform
import tempfile
import time
import tomllib

import numpy as np
import torch

from vcount import data, folding, metrics, networks


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=pathlib.Path, help="manifest of a model")
    parser.add_argument("--checkpoint", type=pathlib.Path, help="the checkpoint of that model")
    parser.add_argument("--data", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--decoders", action="store_true", help="compare decoders instead")
    parser.add_argument("--recipes", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=pathlib.Path, help="also write a JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.decoders:
        lines = decoders(options)
    elif options.model and options.checkpoint:
        lines = optimisations(options)
    else:
        parser.error("--model and --checkpoint, or --decoders and --recipes")
    columns = list(lines[0])
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for line in lines:
        print("| " + " | ".join(told(line[column]) for column in columns) + " |")
    if options.out:
        machine = {"machine": platform.processor() or platform.machine(), "rounds": options.rounds}
        options.out.write_text(json.dumps({**machine, "lines": lines}, indent=1) + "\n")


def told(value):
    """A cell of the table."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def taking_turns(runs, rounds):
    """Median seconds of each of `runs` [name to callable], which take turns; the first two rounds
    warm up."""
    times = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            since = time.perf_counter()
            run()
            if number >= 2:
                times[name].append(time.perf_counter() - since)
    return {name: float(np.median(values)) for name, values in times.items()}


def openvino(file, side, precision="f32"):
    """A function from images [1, 3, H, W] to density, by OpenVINO on one core."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(str(file))
    model.reshape({model.input(0): [1, 3, *side]})
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda images: request.infer([images])[0]


def onnxruntime(file):
    """The same, by ONNX Runtime."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    session = ort.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["density"], {"images": images})[0]


def pytorch(network):
    """The same, by PyTorch."""

    def run(images):
        with torch.inference_mode():
            return network(torch.from_numpy(images)).numpy()

    return run


def optimisations(options):
    """A line for each way to run the model."""
    content = json.loads(options.model.read_text())
    files = {entry["precision"]: options.model.parent / entry["file"] for entry in content["files"]}
    network, _ = networks.load(options.checkpoint)
    fp32, int8 = files["fp32"], files["int8"]
    ways = [
        ("PyTorch, eager", (384, 384), pytorch(network)),
        ("torch.compile", (384, 384), pytorch(torch.compile(network))),
        ("ONNX Runtime FP32", (384, 384), onnxruntime(fp32)),
        ("OpenVINO FP32", (384, 384), openvino(fp32, (384, 384))),
        ("OpenVINO bfloat16, in place of FP16", (384, 384), openvino(fp32, (384, 384), "bf16")),
        ("OpenVINO INT8", (384, 384), openvino(int8, (384, 384))),
        ("OpenVINO INT8, 256x256", (256, 256), openvino(int8, (256, 256))),
        ("OpenVINO INT8, 512x288", (288, 512), openvino(int8, (288, 512))),
        ("OpenVINO INT8, 512x512", (512, 512), openvino(int8, (512, 512))),
    ]
    random = np.random.default_rng(1)
    shown = {
        side: random.uniform(0, 255, (1, 3, *side)).astype(np.float32)
        for side in {side for _, side, _ in ways}
    }
    times = taking_turns(
        {name: (lambda run=run, images=shown[side]: run(images)) for name, side, run in ways},
        options.rounds,
    )
    samples = [sample for folder in options.data for sample in data.load(folder, "val", False)]
    lines, errors = [], {}
    for name, side, run in ways:
        # Of FP32, one is asked for all.
        key = (name if "INT8" in name or "bfloat16" in name else "FP32", side)
        if samples and key not in errors:
            errors[key] = error(run, samples, side)
        lines.append(
            {
                "way": name,
                "images/s": 1 / times[name],
                "times": times[ways[0][0]] / times[name],
                "error, %": 100 * errors[key]["relative"] if samples else None,
                "counted, %": 100 * errors[key]["counted"] if samples else None,
            }
        )
    return lines


def error(run, samples, side):
    """What `metrics.report` tells of `run` on the pictures, letterboxed to `side`, height first."""
    counts = []
    for sample in samples:
        image, box = data.letterbox(data.read(sample), side[1], side[0])
        density = run(np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32))[0, 0]
        counts.append(
            {
                "count": metrics.count(density, sample, box),
                "truth": sample.truth(),
                "kind": sample.kind,
                "scene": sample.scene,
            }
        )
    return metrics.report(counts)


def decoders(options):
    """A line for each recipe and decoder, with weights at random: speed does not depend on them."""
    runs, sizes = {}, {}
    images = np.random.default_rng(1).uniform(0, 255, (1, 3, 384, 384)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        for path in options.recipes:
            for decoder in networks.DECODERS:
                recipe = tomllib.loads(path.read_text()) | {"decoder": decoder}
                network = networks.DensityNetwork(recipe).eval()
                name = f"{recipe['name']}, {decoder}"
                sizes[name] = sum(each.numel() for each in network.parameters()) / 1e6
                folding.fix_padding(folding.fold(network))
                file = f"{folder}/network.onnx"
                torch.onnx.export(
                    network,
                    (torch.from_numpy(images),),
                    file,
                    input_names=["images"],
                    output_names=["density"],
                    opset_version=17,
                    dynamo=False,
                )
                run = openvino(file, (384, 384))
                runs[name] = lambda run=run: run(images)
        times = taking_turns(runs, options.rounds)
    return [
        {
            "network": name,
            "parameters, million": sizes[name],
            "milliseconds": 1000 * seconds,
            "to fpn": seconds / times[f"{name.partition(', ')[0]}, fpn"],
        }
        for name, seconds in times.items()
    ]


if __name__ == "__main__":
    main()
