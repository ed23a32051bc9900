#!/usr/bin/env python3
"""Step 1: bring pictures and labels into the chain's own form, `annotations.jsonl`.

    prepare.py coco instances.json --images DIR --out DIR
    prepare.py yolo DIR --classes car truck bus --out DIR
    prepare.py trancos TRANCOS_v3 --out DIR
    prepare.py jsonl DIR --out DIR

Pictures stay where they are; the new file points at them. Vehicles of one camera never stand on
both sides of the split: a scene, which is found from the file name (`--scene`), is either trained
on or validated on. Copies and mirrored copies are found and marked (`copy-of`); training leaves
them out.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import sys
import tomllib

import numpy as np
from PIL import Image, ImageOps

from vcount import data

VEHICLES = [
    "car",
    "truck",
    "bus",
    "van",
    "pickup",
    "lorry",
    "vehicle",
    "trailer",
    "taxi",
    "motor vehicle",
]
BIKES = ["bike", "bicycle", "motorbike", "motorcycle", "moped", "scooter", "cyclist"]
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("form", choices=["coco", "yolo", "trancos", "jsonl"])
    parser.add_argument(
        "source", type=pathlib.Path, help="the labels: COCO's .json, or the data set's folder"
    )
    parser.add_argument(
        "--images",
        type=pathlib.Path,
        help="COCO: folder of the pictures, default that of the .json",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="folder for annotations.jsonl"
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        default=VEHICLES,
        help="classes that count as vehicles, names or numbers",
    )
    parser.add_argument(
        "--bikes",
        nargs="+",
        default=BIKES,
        help="classes of two-wheelers, which do not count: training pastes them in as such",
    )
    parser.add_argument(
        "--scene",
        default=r"^(.*?)[-_ ]?\d*$",
        help="pattern whose first group, found in a file's name, is its scene",
    )
    parser.add_argument(
        "--scenes",
        type=pathlib.Path,
        help="a list of scenes (.toml): their kinds of view, and which of them validate",
    )
    parser.add_argument(
        "--validate",
        type=float,
        default=0.2,
        help="share of the scenes kept for validation, where the data has no split",
    )
    options = parser.parse_args()

    # Paths are written relative to the folder, and read so before the file is written.
    options.out.mkdir(parents=True, exist_ok=True)
    entries = {"coco": coco, "yolo": yolo, "trancos": trancos, "jsonl": jsonl}[options.form](
        options
    )
    if not entries:
        raise SystemExit(f"{options.source}: no labelled pictures found")
    check(entries)
    if options.scenes:
        sort_scenes(entries, tomllib.loads(options.scenes.read_text()), options)
    split(entries, options)
    mark_copies(entries)
    write(entries, options.out)
    for part in ("train", "val"):
        some = [entry for entry in entries if entry["split"] == part]
        vehicles = sum(len(entry.get("boxes", entry.get("points"))) for entry in some)
        print(
            f"{part}: {len(some)} pictures of {len({entry['scene'] for entry in some})} scenes, {vehicles} vehicles"
        )
    print(
        f"{sum('copy-of' in entry for entry in entries)} copies or mirrored copies, left out of training"
    )


def coco(options):
    content = json.loads(options.source.read_text())
    kinds = {c["id"]: kind(options, c["name"], str(c["id"])) for c in content["categories"]}
    if "boxes" not in kinds.values():
        names = ", ".join(c["name"] for c in content["categories"])
        raise SystemExit(f"{options.source}: none of its classes ({names}) is in --classes")
    folder = options.images or options.source.parent
    entries = {
        i["id"]: entry(folder / i["file_name"], options, i["width"], i["height"])
        for i in content["images"]
    }
    for annotation in content["annotations"]:
        key = kinds.get(annotation["category_id"])
        if key and not annotation.get("iscrowd"):
            entries[annotation["image_id"]].setdefault(key, []).append(annotation["bbox"])
    return list(entries.values())


def kind(options, name, number):
    """Where a class's boxes belong: with the vehicles, with the two-wheelers, or nowhere."""
    for key, classes in (("boxes", options.classes), ("bikes", options.bikes)):
        if name.lower() in classes or number in classes:
            return key
    return None


def yolo(options):
    """Pictures anywhere below the folder; their labels beside them, or where `images` in the path
    reads `labels`."""
    names = {}
    for path in [*options.source.glob("*.yaml"), *options.source.glob("*.yml")]:
        names = yaml_names(path.read_text())
    listed = options.source / "classes.txt"
    if listed.exists():
        names = dict(enumerate(listed.read_text().split("\n")))
    entries = []
    for picture in sorted(
        path for path in options.source.rglob("*") if path.suffix.lower() in SUFFIXES
    ):
        parts = picture.relative_to(options.source).with_suffix(".txt").parts
        labels = [
            options.source.joinpath(*("labels" if part == "images" else part for part in parts)),
            picture.with_suffix(".txt"),
        ]
        found = next((path for path in labels if path.exists()), None)
        if found is None:
            continue
        new = entry(picture, options)
        for number, line in enumerate(found.read_text().splitlines(), 1):
            values = line.split()
            if not values:
                continue
            if len(values) < 5 or len(values) == 6 and not 0 <= float(values[5]) <= 1:
                raise SystemExit(f"{found}:{number}: {line!r} is not 'class x y w h'")
            key = kind(options, names.get(int(values[0]), values[0]), values[0])
            if key:
                numbers = np.array(values[1:], float)
                if len(numbers) > 5:
                    # A polygon: its box.
                    xs, ys = numbers[0::2], numbers[1::2]
                    x, y, w, h = (
                        (xs.min() + xs.max()) / 2,
                        (ys.min() + ys.max()) / 2,
                        np.ptp(xs),
                        np.ptp(ys),
                    )
                else:
                    x, y, w, h = numbers[:4]
                width, height = new["width"], new["height"]
                box = [
                    round(float(v), 2)
                    for v in ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
                ]
                new.setdefault(key, []).append(box)
        part = next((part for part in parts if part in ("train", "val", "valid", "test")), None)
        if part:
            new["split"] = "train" if part == "train" else "val"
        entries.append(new)
    return entries


def yaml_names(text):
    """`names` of a YOLO data file: a list in one line, a list over lines, or numbers with names."""
    inline = re.search(r"^names:\s*\[(.*?)\]", text, re.M | re.S)
    if inline:
        return dict(enumerate(name.strip(" '\"\n") for name in inline[1].split(",")))
    block = re.search(r"^names:\s*\n((?:[ \t]*(?:-|\d+:).*\n?)+)", text, re.M)
    if not block:
        return {}
    names = {}
    for number, line in enumerate(block[1].splitlines()):
        key, name = re.match(r"[ \t]*(-|\d+:)\s*(.*)", line).groups()
        names[number if key == "-" else int(key[:-1])] = name.strip(" '\"")
    return names


def trancos(options):
    """A picture, `NAMEdots.png` with a coloured pixel for each vehicle, `NAMEmask.mat` or
    `NAMEmask.png` where roads are labelled."""
    splits = {}
    for path in options.source.rglob("image_sets/*.txt"):
        part = "train" if path.stem.startswith("train") else "val"
        for name in path.read_text().split():
            # The test set validates, and the official validation set too where it stands alone.
            splits[pathlib.Path(name).stem] = part
    entries = []
    for dots in sorted(options.source.rglob("*dots.png")):
        stem = dots.name.removesuffix("dots.png")
        picture = next(
            (
                dots.with_name(stem + suffix)
                for suffix in SUFFIXES
                if dots.with_name(stem + suffix).exists()
            ),
            None,
        )
        if picture is None:
            raise SystemExit(f"{dots}: its picture {stem}.jpg is not beside it")
        new = entry(picture, options)
        del new["boxes"]
        new["points"] = centres(np.asarray(Image.open(dots).convert("RGB")).max(axis=2) > 80)
        mask = trancos_mask(dots.with_name(stem + "mask"))
        if mask is not None:
            path = options.out / "masks" / f"{stem}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(path)
            new["mask"] = str(pathlib.Path("masks") / path.name)
        if stem in splits:
            new["split"] = splits[stem]
        entries.append(new)
    return entries


def centres(marked):
    """Centres [[x, y]] of the dots; pixels that touch are one dot."""
    left, points = set(zip(*np.nonzero(marked))), []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        dot = [start]
        for row, column in dot:
            near = {(row + dy, column + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            dot += near
        y, x = np.mean(dot, axis=0) + 0.5
        points.append([round(float(x), 1), round(float(y), 1)])
    return points


def trancos_mask(base):
    if base.with_suffix(".png").exists():
        return np.asarray(Image.open(base.with_suffix(".png")).convert("L")) > 127
    if base.with_suffix(".mat").exists():
        try:
            import scipy.io
        except ImportError as error:
            raise SystemExit(f"{base}.mat: reading it needs scipy (pip install scipy)") from error
        content = scipy.io.loadmat(base.with_suffix(".mat"))
        return np.asarray(content["BW"]) > 0
    return None


def jsonl(options):
    entries = []
    for line in (options.source / "annotations.jsonl").read_text().splitlines():
        new = json.loads(line)
        new["path"] = options.source / new["file"]
        if "mask" in new:
            new["mask"] = os.path.relpath(options.source / new["mask"], options.out)
        new.setdefault("scene", scene(new["path"], options))
        entries.append(new)
    return entries


def entry(picture, options, width=None, height=None):
    if width is None:
        width, height = ImageOps.exif_transpose(Image.open(picture)).size
    return {
        "path": picture,
        "width": width,
        "height": height,
        "boxes": [],
        "scene": scene(picture, options),
    }


def scene(picture, options):
    found = re.search(options.scene, picture.stem)
    return found[1] if found and found.groups() and found[1] else picture.parent.name


def check(entries):
    """Says what is wrong, puts right what has one meaning, and goes on."""
    for new in entries:
        for key in ("boxes", "bikes"):
            if key in new:
                new[key] = inside(new, new[key])


def inside(new, boxes):
    """The boxes cut at the picture's edges, each once."""
    kept = []
    for box in boxes:
        x0, y0 = max(box[0], 0.0), max(box[1], 0.0)
        x1, y1 = min(box[0] + box[2], new["width"]), min(box[1] + box[3], new["height"])
        if x1 - x0 < 1 or y1 - y0 < 1:
            print(
                f"{new['path']}: left out a box of {box[2]:.0f}x{box[3]:.0f} at {box[0]:.0f},{box[1]:.0f}",
                file=sys.stderr,
            )
        elif [x0, y0, x1 - x0, y1 - y0] not in kept:
            kept.append([x0, y0, x1 - x0, y1 - y0])
    return [[round(float(v), 2) for v in box] for box in kept]


def sort_scenes(entries, content, options):
    """Gives each picture the kind of view and the split that the list of scenes says, and leaves
    those of other scenes as they are."""
    shares = {}
    for new in entries:
        rule = next(
            (rule for rule in content["scenes"] if matches(new["scene"], rule["match"])), None
        )
        if rule is None:
            print(f"{options.scenes}: no entry matches the scene {new['scene']!r}", file=sys.stderr)
            continue
        if "validate-share" in rule:
            scenes = {other["scene"] for other in entries if matches(other["scene"], rule["match"])}
            held = shares.setdefault(rule["kind"], held_back(scenes, rule["validate-share"]))
            new["split"] = "val" if new["scene"] in held else "train"
        else:
            new["split"] = "val" if matches(new["scene"], rule.get("validate", [])) else "train"
        new["kind"] = (
            content["empty"]
            if "empty" in content and vehicles_inside(new, options) == 0
            else rule["kind"]
        )


def matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def held_back(scenes, share):
    """The scenes that validate, by the SHA-256 of their names: the same ones for ever, in no order
    of their own."""
    ordered = sorted(scenes, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return set(ordered[: max(round(len(ordered) * share), 1)])


def vehicles_inside(new, options):
    """Vehicles whose centre lies where labels are complete."""
    mask = options.out / new["mask"] if new.get("mask") else None
    return data.sample(new, new["path"], mask).truth()


def split(entries, options):
    without = [new for new in entries if "split" not in new]
    scenes = {new["scene"] for new in without}
    if without and len(scenes) == 1:
        print(
            f"one scene only ({min(scenes)}): its last {options.validate:.0%} validate, which flatters; name scenes with --scene",
            file=sys.stderr,
        )
        for number, new in enumerate(without):
            new["split"] = "val" if number >= len(without) * (1 - options.validate) else "train"
        return
    validating = held_back(scenes, options.validate)
    for new in without:
        new["split"] = "val" if new["scene"] in validating else "train"


def mark_copies(entries, tolerance=1.5):
    """Within a scene: pictures that are the same, or mirrored, but for compression, with as many
    vehicles."""
    seen = {}
    for new in entries:
        try:
            small = np.asarray(
                Image.open(new["path"]).convert("L").resize((32, 32), Image.BOX), np.float32
            )
        except OSError as error:
            raise SystemExit(f"{new['path']}: cannot be read as a picture: {error}") from error
        vehicles = len(new.get("boxes", new.get("points")))
        for other, thumb in seen.setdefault((new["scene"], vehicles), []):
            if (
                np.abs(small - thumb).mean() < tolerance
                or np.abs(small[:, ::-1] - thumb).mean() < tolerance
            ):
                new["copy-of"] = other
                break
        else:
            seen[new["scene"], vehicles].append((str(new["path"].name), small))


def write(entries, out):
    temporary = out / "annotations.jsonl.tmp"
    with open(temporary, "w") as lines:
        for new in entries:
            path = new.pop("path")
            new = {
                "file": os.path.relpath(path, out),
                **{key: value for key, value in new.items() if key != "file"},
            }
            lines.write(json.dumps(new) + "\n")
    temporary.replace(out / "annotations.jsonl")


if __name__ == "__main__":
    main()
