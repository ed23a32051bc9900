#!/usr/bin/env python3
"""Step 3: measure a checkpoint or an exported model on pictures with known vehicles.

    evaluate.py --model models/mobilenetv3-large.onnx --data DIR --sizes 384 512x288 --json results.json
    evaluate.py --model checkpoints/mine/best.pt --data DIR --sheet sheet.png --scatter scatter.png

Pictures of all folders of `--data` are measured together.
"""

import argparse
import datetime
import json
import pathlib

from vcount import data, engines, manifest, metrics


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=pathlib.Path, required=True, help="an .onnx file or a checkpoint (.pt)"
    )
    parser.add_argument(
        "--data", type=pathlib.Path, required=True, nargs="+", help="folders with annotations.jsonl"
    )
    parser.add_argument("--split", default="val")
    parser.add_argument(
        "--sizes",
        type=size,
        nargs="+",
        default=[(384, 384)],
        metavar="SIZE",
        help="input in pixels: the side of a square, or as in 512x288",
    )
    parser.add_argument(
        "--fit",
        choices=data.FITS,
        default="letterbox",
        help="how pictures are fitted in: as we do, or as nvinfer can",
    )
    parser.add_argument(
        "--engine", choices=["auto", "openvino", "onnxruntime", "torch"], default="auto"
    )
    parser.add_argument(
        "--per-scene", action="store_true", help="show every scene, not only every kind of view"
    )
    parser.add_argument("--json", type=pathlib.Path, help="results with command, machine and date")
    parser.add_argument("--lines", type=pathlib.Path, help="a JSON line for each picture")
    parser.add_argument(
        "--sheet",
        type=pathlib.Path,
        help="contact sheet of the first size: density, true centres and areas, the worst picture first",
    )
    parser.add_argument(
        "--sheet-pictures", type=int, default=48, help="number of pictures in it; 0 for all"
    )
    parser.add_argument(
        "--scatter",
        type=pathlib.Path,
        help="picture of the true counts against the counts, of the first size",
    )
    parser.add_argument(
        "--manifest",
        action="store_true",
        help="write the result into the manifest beside the model",
    )
    options = parser.parse_args()

    samples = [
        sample
        for folder in options.data
        for sample in data.load(folder, options.split, required=False)
    ]
    if not samples:
        raise SystemExit(
            f"none of {', '.join(map(str, options.data))} has a picture of split {options.split!r}"
        )
    if options.sheet or options.scatter:
        from vcount import sheet  # needs OpenCV
    results, pictures = [], []
    lines = options.lines and open(options.lines, "w")
    for width, height in options.sizes:
        run = engines.load(options.model, width, height, options.engine)
        measured = []
        for sample in samples:
            image, box = data.letterbox_exact(data.read(sample), width, height, options.fit)
            density = run(image[None])[0, 0]
            line = {
                "file": sample.name,
                "size": f"{width}x{height}",
                **metrics.line(density, sample, box),
                **{
                    f"game{level}": metrics.game(density, sample, box, level)
                    for level in (0, 1, 2, 3)
                },
            }
            measured.append(line)
            if lines:
                lines.write(json.dumps(line) + "\n")
            if options.sheet and not results:
                pictures.append((line, sheet.draw(image, density, box, sample, line)))
        if options.scatter and not results:
            sheet.scatter(options.scatter, measured, f"{options.model.name} at {width}x{height}")
        result = {
            "file": options.model.name,
            "engine": run.engine,
            "data": "+".join(folder.resolve().name for folder in options.data),
            "split": options.split,
            "width": width,
            "height": height,
            **({} if options.fit == "letterbox" else {"fit": options.fit}),
            **metrics.report(measured),
        }
        results.append(result)
        show(result, options.per_scene)
    if options.sheet:
        sheet.write(options.sheet, pictures, options.sheet_pictures)
    if options.json:
        # Hundreds of scenes are photographs, of one picture each.
        for result in results:
            result["per-scene"] = {
                scene: row for scene, row in result["per-scene"].items() if row["images"] > 1
            }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps(
                {
                    "command": engines.command(),
                    "date": datetime.date.today().isoformat(),
                    "machine": engines.machine(),
                    "results": results,
                },
                indent=2,
            )
            + "\n"
        )
    if options.manifest:
        manifest.add_accuracy(options.model, results)


def size(text):
    """Width and height of the input."""
    sides = [int(side) for side in text.split("x")]
    if len(sides) > 2 or min(sides) <= 0 or any(side % 32 for side in sides):
        raise argparse.ArgumentTypeError(
            f"{text!r}: give the side of a square, or width x height as in 512x288, multiples of 32"
        )
    return sides[0], sides[-1]


def show(result, per_scene):
    print(
        f"{result['file']} ({result['engine']}), {result['data']}/{result['split']} at {result['width']}x{result['height']}:"
    )
    print(
        f"  {'':26} {'images':>6} {'truth':>7} {'MAE':>7} {'of truth':>8} {'counted':>8} {'bias':>7} {'RMSE':>7} "
        f"{'GAME1':>7} {'GAME2':>7} {'GAME3':>7} {'mean':>7}"
    )
    rows = [
        ("all", result),
        *result["per-kind"].items(),
        *(result["per-scene"].items() if per_scene else ()),
    ]
    for name, row in rows:
        shares = (
            f"{row['relative']:8.1%} {row['counted']:8.1%}"
            if "relative" in row
            else f"{'':8} {'at most':>8}"
        )
        print(
            f"  {name:26} {row['images']:6} {row['truth-mean']:7.2f} {row['mae']:7.2f} {shares} {row['bias']:+7.2f} {row['rmse']:7.2f} "
            f"{row['game1']:7.2f} {row['game2']:7.2f} {row['game3']:7.2f} {row['mean-baseline-mae']:7.2f}"
            + (f"  {row['most']:.2f}" if "most" in row else "")
        )
    print(
        f"  of truth: MAE as a share of the mean true count; counted: share of the vehicles; mean: MAE of always answering it; score {result['score']:.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
