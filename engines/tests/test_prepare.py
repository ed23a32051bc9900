"""Each format that people have becomes annotations.jsonl."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vcount import data


def picture(path, seed=0, width=64, height=48):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    ).save(path)


def prepare(folder, *arguments, fails=False):
    done = subprocess.run(
        [sys.executable, str(folder / "prepare.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done


def test_coco(tmp_path, engines_folder):
    for number, name in enumerate(["north_1.png", "south_1.png"]):
        picture(tmp_path / "pictures" / name, number)
    (tmp_path / "instances.json").write_text(
        json.dumps(
            {
                "images": [
                    {"id": 1, "file_name": "north_1.png", "width": 64, "height": 48},
                    {"id": 2, "file_name": "south_1.png", "width": 64, "height": 48},
                ],
                "categories": [
                    {"id": 3, "name": "car"},
                    {"id": 1, "name": "person"},
                    {"id": 7, "name": "Bicycle"},
                ],
                "annotations": [
                    {"image_id": 1, "category_id": 3, "bbox": [5, 5, 10, 8]},
                    {"image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 9]},
                    {"image_id": 1, "category_id": 7, "bbox": [50, 1, 20, 9]},
                    {"image_id": 2, "category_id": 3, "bbox": [60, 40, 20, 20]},
                    {"image_id": 2, "category_id": 3, "bbox": [0, 0, 60, 40], "iscrowd": 1},
                ],
            }
        )
    )
    prepare(
        engines_folder,
        "coco",
        tmp_path / "instances.json",
        "--images",
        tmp_path / "pictures",
        "--out",
        tmp_path / "out",
    )
    samples = {sample.scene: sample for sample in data.load(tmp_path / "out")}
    assert samples["north"].boxes.tolist() == [[5, 5, 10, 8]] and samples[
        "north"
    ].bikes.tolist() == [[50, 1, 14, 9]]
    # Cut at the picture's edge.
    assert samples["south"].boxes.tolist() == [[60, 40, 4, 8]]
    assert {sample.split for sample in samples.values()} == {"train", "val"}
    assert data.read(samples["north"]).shape == (48, 64, 3)


def test_coco_without_vehicles_says_which_classes_it_has(tmp_path, engines_folder):
    (tmp_path / "instances.json").write_text(
        json.dumps({"images": [], "categories": [{"id": 1, "name": "cat"}], "annotations": []})
    )
    done = prepare(
        engines_folder, "coco", tmp_path / "instances.json", "--out", tmp_path / "out", fails=True
    )
    assert "cat" in done.stderr


@pytest.mark.parametrize(
    "names",
    [
        "names: ['car', 'person', 'motorbike']\n",
        "names:\n  - car\n  - person\n  - motorbike\n",
        "names:\n  0: car\n  1: person\n  2: motorbike\n",
    ],
)
def test_yolo(tmp_path, engines_folder, names):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "data.yaml").write_text(names)
    for part, name in (("train", "a_1"), ("valid", "b_1")):
        picture(tmp_path / "in" / part / "images" / f"{name}.png", len(name) + ord(name[0]))
        labels = tmp_path / "in" / part / "labels" / f"{name}.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text("0 0.5 0.5 0.25 0.5\n1 0.2 0.2 0.1 0.1\n2 0.75 0.75 0.125 0.25\n")
    prepare(engines_folder, "yolo", tmp_path / "in", "--out", tmp_path / "out")
    samples = data.load(tmp_path / "out")
    assert sorted(sample.split for sample in samples) == ["train", "val"]
    assert samples[0].boxes.tolist() == [[24, 12, 16, 24]]
    # Kept, but not counted.
    assert samples[0].bikes.tolist() == [[44, 30, 8, 12]] and samples[0].truth() == 1


def test_trancos_dots_and_masks(tmp_path, engines_folder):
    for number, part in ((1, "trainval"), (2, "test")):
        stem = tmp_path / "in" / "images" / f"image-{number}-000001"
        picture(stem.with_name(stem.name + ".jpg"), number)
        dots = np.zeros((48, 64, 3), np.uint8)
        dots[10, 20] = dots[30, 40] = dots[31, 41] = [255, 0, 0]
        Image.fromarray(dots).save(stem.with_name(stem.name + "dots.png"))
        mask = np.zeros((48, 64), np.uint8)
        mask[:20] = 255
        Image.fromarray(mask).save(stem.with_name(stem.name + "mask.png"))
        listing = tmp_path / "in" / "image_sets" / f"{part}.txt"
        listing.parent.mkdir(exist_ok=True)
        listing.write_text(stem.name + ".jpg\n")
    prepare(engines_folder, "trancos", tmp_path / "in", "--out", tmp_path / "out")
    train, val = data.load(tmp_path / "out", "train"), data.load(tmp_path / "out", "val")
    assert len(train) == len(val) == 1
    # Two dots, one of them of two pixels; one lies inside the mask.
    assert train[0].boxes.tolist() == [[20.5, 10.5, 0, 0], [41, 31, 0, 0]]
    assert train[0].truth() == 1


def test_mirrored_copies_are_left_out_of_training(tmp_path, engines_folder):
    source = tmp_path / "in"
    picture(source / "a_1.png", 1)
    pixels = np.asarray(Image.open(source / "a_1.png"))
    Image.fromarray(np.ascontiguousarray(pixels[:, ::-1])).save(source / "a_2.png")
    picture(source / "a_3.png", 2)
    lines = [
        {
            "file": f"a_{n}.png",
            "width": 64,
            "height": 48,
            "boxes": [[1, 1, 9, 9]],
            "scene": "a",
            "split": "train",
        }
        for n in (1, 2, 3)
    ]
    (source / "annotations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    prepare(engines_folder, "jsonl", source, "--out", tmp_path / "out")
    assert [sample.file.name for sample in data.load(tmp_path / "out", "train")] == [
        "a_1.png",
        "a_3.png",
    ]


def test_broken_line_is_named(tmp_path):
    (tmp_path / "annotations.jsonl").write_text('{"file": "a.png", "width": 3}\n')
    with pytest.raises(SystemExit, match="annotations.jsonl:1"):
        data.load(tmp_path)


def test_a_list_of_scenes_says_kinds_and_what_validates(tmp_path, engines_folder):
    pictures = [
        ("bridge_1", [[1, 1, 4, 4]]),
        ("bridge_2", []),
        *((f"photo_{number}", [[2, 2, 4, 4]]) for number in range(10)),
        ("odd", []),
    ]
    for name, _ in pictures:
        Image.new("RGB", (16, 12), tuple(name.encode()[-3:])).save(tmp_path / f"{name}.png")
    lines = [
        {
            "file": f"{name}.png",
            "width": 16,
            "height": 12,
            "boxes": boxes,
            "scene": name,
            "split": "train",
        }
        for name, boxes in pictures
    ]
    # Their vehicles stand where labels are not complete.
    lines[0]["area"] = [[8, 0], [16, 0], [16, 12], [8, 12]]
    lines[2]["mask"] = "masks/right.png"
    right = Image.new("L", (16, 12))
    right.paste(255, (8, 0, 16, 12))
    (tmp_path / "masks").mkdir()
    right.save(tmp_path / "masks" / "right.png")
    (tmp_path / "annotations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "scenes.toml").write_text(
        'empty = "none"\n[[scenes]]\nkind = "road"\nmatch = ["bridge_*"]\nvalidate = ["bridge_2"]\n'
        '[[scenes]]\nkind = "near"\nmatch = ["photo_*"]\nvalidate-share = 0.2\n'
    )
    said = prepare(
        engines_folder,
        "jsonl",
        tmp_path,
        "--out",
        tmp_path / "out",
        "--scenes",
        tmp_path / "scenes.toml",
    )
    assert "'odd'" in said.stderr
    told = [
        json.loads(line)
        for line in (tmp_path / "out" / "annotations.jsonl").read_text().splitlines()
    ]
    assert [(line["kind"], line["split"]) for line in told[:2]] == [
        ("none", "train"),
        ("none", "val"),
    ]
    assert told[2]["kind"] == "none"
    near = [line for line in told if line.get("kind") == "near"]
    assert len(near) == 9 and sum(line["split"] == "val" for line in near) == 2
    assert "kind" not in told[-1] and told[-1]["split"] == "train"


def test_a_picture_that_lies_on_its_side_is_read_upright(tmp_path):
    picture = Image.new("RGB", (30, 20), "white")
    picture.paste("black", (0, 0, 30, 5))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    picture.save(tmp_path / "a.jpg", exif=exif)

    def read(width, height):
        return data.read(
            data.sample(
                {"file": "a.jpg", "width": width, "height": height, "boxes": []}, tmp_path / "a.jpg"
            )
        )

    upright = read(20, 30)
    assert upright.shape == (30, 20, 3) and upright[15, 18, 0] < 60 and upright[15, 2, 0] > 200
    # Labels of the pixels as they are stored.
    assert read(30, 20)[2, 15, 0] < 60
    with pytest.raises(
        SystemExit, match="20x30, and labelled as 64x64|30x20, and labelled as 64x64"
    ):
        read(64, 64)
