#!/usr/bin/env python3
"""Step 3: measure a checkpoint or an exported model on pictures with known vehicles.

    evaluate.py --model models/mobilenetv3-large.onnx --data DIR --sizes 256 384 512 --json results/mobilenetv3-large.json
    evaluate.py --model checkpoints/mobilenetv3-large/best.pt --data DIR --sheet sheet.png
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shlex
import sys

import numpy as np

from vcount import data, engines, manifest, metrics


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="an .onnx file or a checkpoint (.pt)")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with annotations.jsonl")
    parser.add_argument("--split", default="val")
    parser.add_argument("--sizes", type=int, nargs="+", default=[384], help="sides of the square input, pixels")
    parser.add_argument("--fit", choices=data.FITS, default="letterbox", help="how pictures are fitted in: as we do, or as nvinfer can")
    parser.add_argument("--engine", choices=["auto", "openvino", "onnxruntime", "torch"], default="auto")
    parser.add_argument("--json", type=pathlib.Path, help="results with command, machine and date")
    parser.add_argument("--lines", type=pathlib.Path, help="a JSON line for each picture")
    parser.add_argument("--sheet", type=pathlib.Path, help="contact sheet: pictures with density drawn over them, the worst first")
    parser.add_argument("--sheet-pictures", type=int, default=24)
    parser.add_argument("--manifest", action="store_true", help="write the result into the manifest beside the model")
    options = parser.parse_args()

    samples = data.load(options.data, options.split)
    results, pictures = [], []
    lines = options.lines and open(options.lines, "w")
    for side in options.sizes:
        run = engines.load(options.model, side, side, options.engine)
        measured = []
        for sample in samples:
            image, box = data.letterbox_exact(data.read(sample), side, side, options.fit)
            density = run(image[None])[0, 0]
            line = {
                "file": sample.name, "scene": sample.scene, "size": side,
                "count": metrics.count(density, sample, box), "truth": sample.truth(),
                **{f"game{level}": metrics.game(density, sample, box, level) for level in (0, 1, 2, 3)},
            }
            measured.append(line)
            if lines:
                lines.write(json.dumps(line) + "\n")
            if options.sheet and side == options.sizes[0]:
                pictures.append((line, draw(image, density, box, sample, line)))
        result = {
            "file": options.model.name, "engine": run.engine, "data": options.data.resolve().name, "split": options.split,
            "width": side, "height": side, **({} if options.fit == "letterbox" else {"fit": options.fit}), **metrics.report(measured),
        }
        results.append(result)
        show(result)
    if options.sheet:
        write_sheet(options.sheet, pictures, options.sheet_pictures)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({
            "command": shlex.join(["evaluate.py", *sys.argv[1:]]), "date": datetime.date.today().isoformat(),
            "machine": machine(), "results": results,
        }, indent=2) + "\n")
    if options.manifest:
        manifest.add_accuracy(options.model, results)


def machine():
    name = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        name = next((line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"


def show(result):
    print(f"{result['file']} ({result['engine']}), {result['data']}/{result['split']} at {result['width']}x{result['height']}:")
    head = f"  {'':26} {'images':>6} {'truth':>7} {'MAE':>7} {'RMSE':>7} {'bias':>7} {'GAME1':>7} {'GAME2':>7} {'GAME3':>7} {'mean':>7}"
    print(head)
    for name, row in [("all", result), *result["per-scene"].items()]:
        print(
            f"  {name:26} {row['images']:6} {row['truth-mean']:7.2f} {row['mae']:7.2f} {row['rmse']:7.2f} {row['bias']:+7.2f} "
            f"{row['game1']:7.2f} {row['game2']:7.2f} {row['game3']:7.2f} {row['mean-baseline-mae']:7.2f}"
        )
    print("  mean: MAE of always answering the mean of the true counts", flush=True)


def draw(image, density, box, sample, line):
    """The picture with density as heat, the labelled area and true centres."""
    import cv2

    side = image.shape[0]
    heat = cv2.resize(np.clip(density / max(np.percentile(density, 99.7), 0.05), 0, 1), (side, side), interpolation=cv2.INTER_LINEAR)
    colour = cv2.cvtColor(cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    alpha = np.clip(heat * 1.5, 0, 0.6)[..., None]
    picture = np.ascontiguousarray((image * (1 - alpha) + colour * alpha).astype(np.uint8))
    scale = np.array([box[2] / sample.width, box[3] / sample.height])
    for x, y, w, h in sample.boxes:
        cx, cy = np.round(np.array([x + w / 2, y + h / 2]) * scale + box[:2]).astype(int)
        cv2.circle(picture, (int(cx), int(cy)), 2, (255, 255, 255), -1)
        cv2.circle(picture, (int(cx), int(cy)), 1, (0, 0, 0), -1)
    if sample.roi:
        x0, y0, x1, y1 = [int(v * 8) for v in metrics.area(sample, box)]
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), (255, 255, 0), 1)
    caption = np.zeros((20, side, 3), np.uint8)
    text = f"{line['scene']}  counted {line['count']:.1f}  true {line['truth']}"
    cv2.putText(caption, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([picture, caption])


def write_sheet(path, pictures, limit):
    """Of each scene as many: the worst, the best, and some between."""
    import cv2

    scenes = {}
    for line, picture in sorted(pictures, key=lambda pair: -abs(pair[0]["count"] - pair[0]["truth"])):
        scenes.setdefault(line["scene"], []).append(picture)
    share = max(limit // len(scenes), 1)
    chosen = []
    for scene in sorted(scenes):
        some = scenes[scene]
        chosen += [some[i] for i in sorted({round(k * (len(some) - 1) / max(share - 1, 1)) for k in range(min(share, len(some)))})]
    columns = min(4, len(chosen))
    while len(chosen) % columns:
        chosen.append(np.zeros_like(chosen[0]))
    rows = [np.hstack(chosen[i : i + columns]) for i in range(0, len(chosen), columns)]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
