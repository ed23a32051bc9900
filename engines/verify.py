#!/usr/bin/env python3
"""Step 6: verify that a model's files are whole and count as they should.

    verify.py models/mobilenetv3-large.json
    verify.py models/mobilenetv3-large.json --golden PICTURE.png

Each file's SHA-256, the form of its Q/DQ nodes, and on the golden picture the count and the
density, on every engine that is installed. `--golden` takes a new picture, measures it with ONNX
Runtime and writes it beside the model.
"""

import argparse
import hashlib
import json
import pathlib

import numpy as np
from PIL import Image

from vcount import data, engines, manifest


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=pathlib.Path)
    parser.add_argument(
        "--golden", type=pathlib.Path, help="take this picture; it is published with the model"
    )
    options = parser.parse_args()

    content = json.loads(options.manifest.read_text())
    folder = options.manifest.parent
    if options.golden:
        take(options.golden, folder, content)
    failures = list(verify(folder, content))
    for failure in failures:
        print(failure)
    if failures:
        raise SystemExit(1)


def take(picture, folder, content):
    """Golden values from the reference: ONNX Runtime on the CPU, which runs every file in the
    arithmetic that the graph says."""
    width, height = content["input"]["width"], content["input"]["height"]
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    image, _ = data.letterbox(pixels, width, height)
    Image.fromarray(image).save(folder / "golden.png", optimize=True)
    densities, files = {}, {}
    for entry in content["files"]:
        density = engines.load(folder / entry["file"], width, height, "onnxruntime")(image[None])[
            0, 0
        ]
        count = float(density.sum())
        # Engines sum in other orders; int8 engines also round elsewhere, and fuse differently.
        share = 0.08 if entry["precision"] == "int8" else 0.01
        files[entry["file"]] = {
            "count": round(count, 4),
            "tolerance": round(max(share * count, 0.05), 4),
        }
        densities[entry["file"]] = {
            "cell-tolerance": round(
                float(density.max()) * (0.15 if entry["precision"] == "int8" else 0.02), 5
            ),
            "density": np.round(density, 5).tolist(),
        }
    # The first model's companion has the plain name, from when there was one model.
    companion = (content.get("golden") or {}).get(
        "density"
    ) or f"golden-density-{content['name']}.json"
    temporary = folder / f"{companion}.tmp"
    temporary.write_text(
        json.dumps(
            {
                "schema": 1,
                "width": width,
                "height": height,
                "stride": content["output"]["stride"],
                "files": densities,
            }
        )
        + "\n"
    )
    temporary.replace(folder / companion)
    content["golden"] = {
        "picture": "golden.png",
        "density": companion,
        "width": width,
        "height": height,
        "files": files,
    }
    manifest.save(folder, content)


def verify(folder, content):
    """Yields what is wrong, prints what is right."""
    golden = content.get("golden")
    for entry in content["files"]:
        path = folder / entry["file"]
        if not path.exists():
            yield f"{path}: missing"
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            yield f"{path}: its SHA-256 is not the manifest's"
            continue
        if not golden or entry["file"] not in golden["files"]:
            yield f"{path}: no golden values; make them with --golden"
            continue
        image = np.asarray(Image.open(folder / golden["picture"]).convert("RGB"))
        expected = golden["files"][entry["file"]]
        companion = json.loads((folder / golden["density"]).read_text())["files"][entry["file"]]
        for engine in ("openvino", "onnxruntime"):
            if not engines.there(engine):
                continue
            density = engines.load(path, golden["width"], golden["height"], engine)(image[None])[
                0, 0
            ]
            off = abs(float(density.sum()) - expected["count"])
            cell = float(np.abs(density - np.array(companion["density"])).max())
            if not off <= expected["tolerance"]:
                yield f"{path} on {engine}: counts {density.sum():.3f} on {golden['picture']}, expected {expected['count']:.3f} within {expected['tolerance']:.3f}"
            elif not cell <= companion["cell-tolerance"]:
                yield f"{path} on {engine}: a cell is off by {cell:.4f}, more than {companion['cell-tolerance']:.4f}"
            else:
                print(
                    f"{path} on {engine}: counts {density.sum():.3f}, expected {expected['count']:.3f}; largest difference of a cell {cell:.5f}"
                )


if __name__ == "__main__":
    main()
