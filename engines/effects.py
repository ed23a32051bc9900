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
import tempfile
import tomllib

import torch

from vcount import data, engines, folding, metrics, networks


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
        machine = {"machine": engines.machine(), "rounds": options.rounds}
        options.out.write_text(json.dumps({**machine, "lines": lines}, indent=1) + "\n")


def told(value):
    """A cell of the table."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def optimisations(options):
    """A line for each way to run the model."""
    content = json.loads(options.model.read_text())
    files = {entry["precision"]: options.model.parent / entry["file"] for entry in content["files"]}
    network, _ = networks.load(options.checkpoint)
    fp32, int8 = files["fp32"], files["int8"]

    def openvino(file, width, height, precision="f32"):
        return engines.load(file, width, height, "openvino", 1, precision)

    ways = [
        ("PyTorch, eager", (384, 384), engines.of_network(network)),
        ("torch.compile", (384, 384), engines.of_network(torch.compile(network))),
        ("ONNX Runtime FP32", (384, 384), engines.load(fp32, 384, 384, "onnxruntime", 1)),
        ("OpenVINO FP32", (384, 384), openvino(fp32, 384, 384)),
        ("OpenVINO bfloat16, in place of FP16", (384, 384), openvino(fp32, 384, 384, "bf16")),
        ("OpenVINO INT8", (384, 384), openvino(int8, 384, 384)),
        ("OpenVINO INT8, 256x256", (256, 256), openvino(int8, 256, 256)),
        ("OpenVINO INT8, 512x288", (512, 288), openvino(int8, 512, 288)),
        ("OpenVINO INT8, 512x512", (512, 512), openvino(int8, 512, 512)),
    ]
    shown = {size: engines.noise(*size) for _, size, _ in ways}
    times = engines.taking_turns(
        {name: (lambda run=run, images=shown[size]: run(images)) for name, size, run in ways},
        options.rounds,
    )
    samples = [sample for folder in options.data for sample in data.load(folder, "val", False)]
    lines, errors = [], {}
    for name, size, run in ways:
        # Of FP32, one is asked for all.
        key = (name if "INT8" in name or "bfloat16" in name else "FP32", size)
        if samples and key not in errors:
            errors[key] = error(run, samples, *size)
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


def error(run, samples, width, height):
    """What `metrics.report` tells of `run` on the pictures, as `evaluate.py` letterboxes them."""
    lines = []
    for sample in samples:
        image, box = data.letterbox_exact(data.read(sample), width, height)
        lines.append(metrics.line(run(image[None])[0, 0], sample, box))
    return metrics.report(lines)


def decoders(options):
    """A line for each recipe and decoder, with weights at random: speed does not depend on them."""
    runs, sizes = {}, {}
    image = engines.noise(384, 384)
    with tempfile.TemporaryDirectory() as folder:
        for path in options.recipes:
            for decoder in networks.DECODERS:
                recipe = tomllib.loads(path.read_text()) | {"decoder": decoder}
                network = networks.DensityNetwork(recipe).eval()
                name = f"{recipe['name']}, {decoder}"
                sizes[name] = sum(each.numel() for each in network.parameters()) / 1e6
                folding.fix_padding(folding.fold(network))
                file = pathlib.Path(folder) / "network.onnx"
                folding.write(network, torch.from_numpy(engines.planes(image)), file)
                run = engines.load(file, 384, 384, "openvino", 1)
                runs[name] = lambda run=run: run(image)
        times = engines.taking_turns(runs, options.rounds)
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
