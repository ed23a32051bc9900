#!/usr/bin/env python3
"""Three routes from what you have to a model that counts, a command each.

    routes.py optimise --checkpoint mine.pth --data data --models models-mine
    routes.py train --data data --models models-mine
    routes.py both --checkpoint mine.pth --data data --models models-mine

`optimise` exports the network that you have, a ResNet with a feature pyramid, without training, and
quantizes it. `train` trains the network of a recipe, MobileNetV3-Large unless another is named.
`both` does the first, then trains the recipe's network to follow yours. Each ends with a table of
what came of it. The steps are the other scripts here, and are shown as they are called; --dry-run
shows them alone. Training goes on from its last checkpoint when a route is called again.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).parent
RECIPE = HERE / "recipes" / "mobilenetv3-large.toml"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    routes = parser.add_subparsers(dest="route", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--data", type=pathlib.Path, required=True, nargs="+", help="folders with annotations.jsonl"
    )
    common.add_argument(
        "--models", type=pathlib.Path, required=True, help="folder for what is made"
    )
    common.add_argument("--attribution", nargs="*", help="whom the weights owe; see export.py")
    common.add_argument(
        "--sizes", type=int, nargs="+", default=[256, 384, 512], help="inputs to calibrate for"
    )
    common.add_argument("--pictures", type=int, default=300, help="for calibration")
    common.add_argument(
        "--evaluate", nargs="+", default=["256", "384", "512"], help="inputs to measure errors at"
    )
    common.add_argument(
        "--golden",
        type=pathlib.Path,
        default=HERE / "models" / "golden.png",
        help="picture for golden values, which becomes a part of the model",
    )
    common.add_argument("--side", type=int, default=384, help="preferred input, pixels")
    common.add_argument("--dry-run", action="store_true", help="show the steps alone")
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--checkpoint", type=pathlib.Path, required=True, help="the network you have")
    own.add_argument("--name", default="mine", help="name of its model")
    own.add_argument("--expected", type=pathlib.Path, help="see export.py: counts of its own code")
    own.add_argument("--rename", nargs="+", help="see export.py: names of its parts")
    training = argparse.ArgumentParser(add_help=False)
    training.add_argument("--recipe", type=pathlib.Path, default=RECIPE)
    training.add_argument(
        "--weights",
        help="a checkpoint to start from, or none; default: that of the model that ships",
    )
    training.add_argument(
        "--out", type=pathlib.Path, help="folder of checkpoints; default: checkpoints in --models"
    )
    training.add_argument("--steps", type=int, help="instead of the recipe's")
    training.add_argument(
        "--train", nargs=argparse.REMAINDER, default=[], help="all that follows goes to train.py"
    )
    routes.add_parser("optimise", parents=[common, own], help="the network that you have")
    routes.add_parser("train", parents=[common, training], help="the network of a recipe")
    routes.add_parser("both", parents=[common, own, training], help="a network that follows yours")
    options = parser.parse_args()

    steps, models = [], []
    counter = None
    if options.route in ("optimise", "both"):
        counter = options.models / f"{options.name}-counter.pt"
        steps += optimise(options, counter)
        models.append(options.name)
    if options.route in ("train", "both"):
        name = tomllib.loads(options.recipe.read_text())["name"]
        if name in models:
            raise SystemExit(f"--name {name}: the recipe's model has that name: give another one")
        steps += train(options, name, counter if options.route == "both" else None)
        models.append(name)
    for number, step in enumerate(steps, 1):
        print(f"[{number}/{len(steps)}] {shlex.join(map(str, step))}", flush=True)
        if options.dry_run:
            continue
        script, *arguments = step
        done = subprocess.run([sys.executable, HERE / script, *map(str, arguments)])
        if done.returncode:
            raise SystemExit(
                f"step {number} of {len(steps)}, {script}, failed; call the route again when it is mended"
            )
    if not options.dry_run:
        report(options.models, models)


def optimise(options, counter):
    """The steps for the network at hand; without training."""
    export = ["export.py", "--checkpoint", options.checkpoint, "--name", options.name]
    export += ["--models", options.models, "--side", options.side, "--counter", counter]
    for option in ("expected", "rename", "attribution"):
        value = getattr(options, option)
        if value is not None:
            export += [f"--{option}", *(value if isinstance(value, list) else [value])]
    return [export, *after_export(options, options.name)]


def train(options, name, counter):
    """The steps for the network of the recipe, which follows `counter` where there is one."""
    out = options.out or options.models / "checkpoints" / name
    weights = options.weights
    shipped = HERE / "models" / f"{name}.pt"
    if weights is None and shipped.is_file():
        weights = shipped
    step = ["train.py", "--recipe", options.recipe, "--data", *options.data, "--out", out]
    if weights not in (None, "none"):
        step += ["--weights", weights]
    if counter:
        # What you have labelled corrects what yours says.
        step += ["--counter", counter, "--correct", *options.data]
    if options.steps is not None:
        step += ["--steps", options.steps]
    step += options.train
    export = ["export.py", "--checkpoint", out / "best.pt", "--models", options.models]
    export += ["--side", options.side]
    if options.attribution is not None:
        export += ["--attribution", *options.attribution]
    return [step, export, *after_export(options, name)]


def after_export(options, name):
    """From the FP32 file to a model that can be used."""
    file, data = options.models / f"{name}.onnx", ["--data", *options.data]
    quantize = ["quantize.py", "--model", file, *data, "--pictures", options.pictures]
    quantize += ["--sizes", *options.sizes, "--method", "percentile"]
    measure = [
        ["evaluate.py", "--model", each, *data, "--sizes", *options.evaluate, "--manifest"]
        for each in (file, options.models / f"{name}-int8.onnx")
    ]
    verify = ["verify.py", options.models / f"{name}.json", "--golden", options.golden]
    return [quantize, *measure, verify]


def report(folder, models):
    """Prints a line for each file and input size, with speeds on one core, in turns."""
    from vcount import engines

    lines, runs = [], {}
    for name in models:
        content = json.loads((folder / f"{name}.json").read_text())
        for entry in content["accuracy"]:
            size = (entry["width"], entry["height"])
            key = (entry["file"], *size)
            lines.append((key, entry, (folder / entry["file"]).stat().st_size / 1e6))
            run = engines.load(folder / entry["file"], *size, threads=1)
            runs[key] = lambda run=run, image=engines.noise(*size): run(image)
    times = engines.taking_turns(runs, 10)
    print(
        "\n| File | Input | Error | Counted | Bias | Images/s, one core | MB |\n" + "|---" * 7 + "|"
    )
    for key, entry, megabytes in lines:
        error, counted = (
            f"{100 * entry[what]:.1f} %" if entry.get(what) is not None else "-"
            for what in ("relative", "counted")
        )
        print(
            f"| {key[0]} | {key[1]}x{key[2]} | {error} | {counted} | {entry['bias']:+.2f} "
            f"| {1 / times[key]:.3g} | {megabytes:.1f} |"
        )
    print(
        f"\nvehiclecounter model={folder / models[-1]}.json, or VEHICLECOUNT_MODELS={folder} and "
        f"model={models[-1]}, counts by it."
    )


if __name__ == "__main__":
    main()
