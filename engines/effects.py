#!/usr/bin/env python3
"""What each way to make a model faster does to its speed, and to its error.

    effects.py --model models/mobilenetv3-large.json --checkpoint models/mobilenetv3-large.pt --data data
    effects.py --decoders --recipes recipes/mobilenetv3-large.toml recipes/resnet18.toml

Speeds are medians of rounds in which all take turns, of processor time, so that a busy machine
counts less, on one core, one picture at a time, each told as times that of another way. Errors are
of the validation pictures of `--data`, inside their areas, as `evaluate.py` tells them. `--int8
"PTQ, 100 pictures=q100/NAME-int8.onnx" ...` compares several int8 files of the model; the first is
also measured at other sizes.
"""

import argparse
import dataclasses
import datetime
import json
import pathlib
import tempfile
import time
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
    parser.add_argument(
        "--int8",
        nargs="+",
        type=named,
        metavar="NAME=FILE",
        help="int8 files to compare; default: that of the manifest",
    )
    parser.add_argument(
        "--most", type=int, metavar="N", help="errors of every so many pictures alone, N at most"
    )
    parser.add_argument("--decoders", action="store_true", help="compare decoders instead")
    parser.add_argument("--recipes", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument(
        "--out", type=pathlib.Path, help="also write FILE.json and the table as FILE.md"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.decoders:
        lines = decoders(options)
    elif options.model and options.checkpoint:
        lines = optimisations(options)
    else:
        parser.error("--model and --checkpoint, or --decoders and --recipes")
    text = table(lines)
    print(text, end="")
    if options.out:
        told = {
            "command": engines.command(),
            "date": datetime.date.today().isoformat(),
            "machine": engines.machine(),
            "rounds": options.rounds,
            "lines": lines,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(text)


def named(text):
    """A name and a file: NAME=FILE."""
    name, equals, file = text.partition("=")
    path = pathlib.Path(file)
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r}: give NAME=FILE")
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{file}: no such file")
    return name, path


def table(lines):
    """Lines with the same keys as Markdown."""
    columns = list(lines[0])
    rows = [columns, ["---"] * len(columns)]
    rows += [[cell(line[column]) for column in columns] for line in lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def cell(value):
    """A cell of the table."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclasses.dataclass
class Way:
    """A way to run the model, what it is compared with, and what that was to bring."""

    name: str
    run: object = None
    size: tuple = (384, 384)
    than: str | None = None
    goal: str | None = None
    # Of FP32, one is asked for all.
    errors: str | None = None


GPU = "not measured: no GPU"


def ways(fp32, int8, network):
    """Every way to run the FP32 file, the int8 files [(name, file), ...] and the network."""

    def openvino(file, size=(384, 384), precision="f32"):
        return engines.load(file, *size, "openvino", 1, precision)

    first, file = int8[0]
    yield Way("PyTorch, eager", engines.of_network(network), errors="FP32")
    compiled = engines.of_network(torch.compile(network))
    yield Way("torch.compile", compiled, than="PyTorch, eager", goal="1.2 to 1.5", errors="FP32")
    onnxruntime = engines.load(fp32, 384, 384, "onnxruntime", 1)
    yield Way(
        "ONNX Runtime FP32", onnxruntime, than="PyTorch, eager", goal="1.3 to 1.7", errors="FP32"
    )
    yield Way("OpenVINO FP32", openvino(fp32), than="PyTorch, eager", errors="FP32")
    bfloat16 = openvino(fp32, precision="bf16")
    yield Way("OpenVINO bfloat16, in place of FP16", bfloat16, than="OpenVINO FP32")
    for name, path in int8:
        yield Way(f"OpenVINO {name}", openvino(path), than="OpenVINO FP32")
    for size, goal in (
        ((256, 256), "2.3, error +5 to +10 %"),
        ((512, 288), None),
        ((512, 512), None),
    ):
        name = f"OpenVINO {first}, {size[0]}x{size[1]}"
        yield Way(name, openvino(file, size), size, f"OpenVINO {first}", goal)
    for engine in ("TensorRT", "TensorRT-RTX"):
        for precision in ("FP16", "INT8"):
            yield Way(f"{engine} {precision}", goal=GPU)


def optimisations(options):
    """A line for each way to run the model."""
    content = json.loads(options.model.read_text())
    files = {entry["precision"]: options.model.parent / entry["file"] for entry in content["files"]}
    network, _ = networks.load(options.checkpoint)
    int8 = options.int8 or [("INT8", files["int8"])]
    every = list(ways(files["fp32"], int8, network))
    runs = {
        way.name: lambda way=way, image=engines.noise(*way.size): way.run(image)
        for way in every
        if way.run
    }
    times = engines.taking_turns(runs, options.rounds, time.process_time)
    samples = [sample for folder in options.data for sample in data.load(folder, "val", False)]
    if options.most:
        samples = samples[:: -(-len(samples) // options.most)]
    lines, errors = [], {}
    for way in every:
        known = way.errors or way.name
        if samples and way.run:
            if known not in errors:
                errors[known] = error(way.run, samples, *way.size)
            errors[way.name] = errors[known]
        # Neither share is there where the pictures have no vehicles.
        found, than = errors.get(way.name, {}), errors.get(way.than, {})
        relative, before = found.get("relative"), than.get("relative")
        counted = found.get("counted")
        lines.append(
            {
                "way": way.name,
                "images/s": 1 / times[way.name] if way.run else None,
                "than": way.than,
                "times as fast": times[way.than] / times[way.name] if way.than else None,
                "goal": way.goal,
                "error, %": relative and 100 * relative,
                "error more than there, %": relative and before and 100 * (relative / before - 1),
                "counted, %": counted and 100 * counted,
                "pictures": found.get("images"),
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
        times = engines.taking_turns(runs, options.rounds, time.process_time)
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
