"""From pictures to a verified int8 model in a few steps. Needs PyTorch."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("timm", reason="timm is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("cv2", reason="OpenCV is not installed")

RECIPE = """
name = "tiny"
backbone = "mobilenetv3_small_050"
decoder = "{decoder}"
width = 16

[train]
views = [{{ share = 0.5, side = 64, batch = 2, whole = true }}, {{ share = 0.5, side = 96, batch = 2, whole = false }}]
steps = 3
warmup = 1
learning-rate = 1.0e-3
weight-decay = 0.01
ema = 0.5
longest-side = [64, 96]
loss = {{ density = 1.0, blocks = 1.0, count = 0.5 }}
"""


def pictures(folder):
    """Grey roads with coloured rectangles."""
    random = np.random.default_rng(5)
    lines = []
    for number in range(8):
        picture = Image.new("RGB", (96, 64), (90, 90, 95))
        boxes = []
        for _ in range(random.integers(0, 4)):
            x, y = random.integers(0, 70), random.integers(0, 48)
            boxes.append([int(x), int(y), 22, 14])
            ImageDraw.Draw(picture).rectangle(
                [x, y, x + 21, y + 13], tuple(int(v) for v in random.integers(0, 256, 3))
            )
        picture.save(folder / f"{number}.png")
        roi = {"roi": [0, 10, 96, 50]} if number % 3 == 0 else {}
        lines.append(
            {
                "file": f"{number}.png",
                "width": 96,
                "height": 64,
                "boxes": boxes,
                "scene": f"s{number % 4}",
                "split": "val" if number % 4 == 3 else "train",
                **roi,
            }
        )
    (folder / "annotations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("decoder", ["fpn", "single"])
def test_chain(tmp_path, engines_folder, decoder):
    def step(script, *arguments):
        done = subprocess.run(
            [sys.executable, str(engines_folder / script), *map(str, arguments)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{script}: {done.stdout}\n{done.stderr}"
        return done.stdout

    source, out, models = tmp_path / "data", tmp_path / "out", tmp_path / "models"
    source.mkdir()
    pictures(source)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.format(decoder=decoder))
    step("train.py", "--recipe", recipe, "--data", source, "--out", out, "--validate-every", 2)
    # Started again with more steps, it goes on from its checkpoint.
    again = step(
        "train.py",
        "--recipe",
        recipe,
        "--data",
        source,
        "--out",
        out,
        "--steps",
        4,
        "--validate-every",
        1,
    )
    assert "val at 4" in again and "val at 3" not in again
    # Started from nothing, a network needs statistics of its own.
    frozen = subprocess.run(
        [
            sys.executable,
            str(engines_folder / "train.py"),
            "--recipe",
            str(recipe),
            "--data",
            str(source),
            "--out",
            str(tmp_path / "x"),
            "--set",
            "train.freeze-after=0.0",
        ],
        capture_output=True,
        text=True,
    )
    assert frozen.returncode == 1 and "start from --weights" in frozen.stderr
    # A plainer network learns from the first one.
    follow = tmp_path / "follow.toml"
    follow.write_text(
        'squeeze-excitation = false\nactivation = "relu"\n'
        + recipe.read_text().replace("whole = false", "whole = false, mosaic = true")
    )
    step(
        "train.py",
        "--recipe",
        follow,
        "--data",
        source,
        "--out",
        tmp_path / "follow",
        "--counter",
        out / "final.pt",
        "--bf16",
        "--shares",
        1,
        "--correct",
        source,
        "--set",
        "train.labels=0.0",
    )
    assert torch.load(tmp_path / "follow" / "final.pt")["recipe"]["train"]["distill"] == 1.0
    assert "floor 0.015: MAE train" in step(
        "floor.py",
        "--checkpoint",
        out / "final.pt",
        "--data",
        source,
        "--out",
        out / "floor.pt",
        "--sizes",
        64,
        96,
    )
    step(
        "export.py",
        "--checkpoint",
        out / "floor.pt",
        "--models",
        models,
        "--side",
        96,
        "--attribution",
        "mine",
    )
    step(
        "quantize.py",
        "--model",
        models / "tiny.onnx",
        "--data",
        source,
        "--pictures",
        4,
        "--sizes",
        64,
        96,
        "--method",
        "percentile",
    )
    before = (models / "tiny-int8.onnx").read_bytes()
    told = step(
        "qat.py",
        "--model",
        models / "tiny.onnx",
        "--recipe",
        recipe,
        "--data",
        source,
        "--steps",
        2,
        "--sizes",
        96,
        "--check",
        2,
    )
    assert (
        told.count("on 2 pictures at 96") == 2
        and (models / "tiny-int8.onnx").read_bytes() != before
    )
    step(
        "evaluate.py",
        "--model",
        models / "tiny.onnx",
        "--data",
        source,
        "--sizes",
        96,
        "--engine",
        "onnxruntime",
        "--manifest",
        "--sheet",
        tmp_path / "sheet.png",
        "--json",
        tmp_path / "r.json",
    )
    step("verify.py", models / "tiny.json", "--golden", source / "0.png")
    content = json.loads((models / "tiny.json").read_text())
    assert [entry["precision"] for entry in content["files"]] == ["fp32", "int8"]
    assert content["accuracy"][0]["images"] == 2 and content["attribution"] == ["mine"]
    assert (tmp_path / "sheet.png").stat().st_size > 0
    assert json.loads((tmp_path / "r.json").read_text())["results"][0]["file"] == "tiny.onnx"


def test_crops_mark_what_is_labelled_and_keep_the_sum(tmp_path):
    from vcount import augment, data

    pictures(tmp_path)
    samples = data.load(tmp_path)
    recipe = {
        "train": {
            "views": [{"share": 1, "side": 64, "batch": 2, "whole": False}],
            "longest-side": [64, 200],
        }
    }
    crops = augment.Crops(samples, [data.read(sample) for sample in samples], recipe, 1)
    for turn in range(90):
        if turn % 3 == 2:
            image, target, labelled = crops.mosaic(64)
        else:
            crops.crop = 64
            image, target, labelled = crops.draw(whole=turn % 3 == 0)
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        assert target.shape == labelled.shape == (8, 8)
        assert target.sum() == pytest.approx(round(float(target.sum())), abs=1e-3)
        assert 0 <= labelled.min() and labelled.max() <= 1


def test_a_pasted_two_wheeler_is_seen_and_not_counted(tmp_path):
    from vcount import augment, data

    image = np.full((120, 120, 3), 90, np.uint8)
    image[40:70, 50:65] = (250, 10, 10)
    one = data.Sample(
        "none.png",
        120,
        120,
        np.zeros((0, 4), np.float32),
        "here",
        "train",
        bikes=np.array([[50, 40, 15, 30]], np.float32),
    )
    recipe = {
        "train": {
            "views": [{"share": 1, "side": 96, "batch": 1, "whole": False}],
            "longest-side": [96, 96],
        }
    }
    crops = augment.Crops([one], [image], recipe, 1)
    assert crops.stickers == [] and len(crops.bikes) == 1
    road, pasted = np.full((96, 96, 3), 90, np.uint8), 0
    for _ in range(20):
        after, boxes = crops._paste(
            road, np.zeros((0, 4), np.float32), crops.bikes, share=0.55, smallest=18
        )
        pasted += (after != road).any()
    assert pasted > 10 and (road == 90).all()
    assert all(crops.draw()[1].sum() == 0 for _ in range(40))


def test_views_from_above_lie_in_every_way_and_vehicles_with_them(tmp_path):
    from vcount import augment, data

    # A yellow vehicle with a red nose, and a blue kerb on its left.
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[8:16, 8:32] = (255, 255, 0)
    picture[8:16, 28:32], picture[2:6, 8:32] = (255, 0, 0), (0, 0, 255)
    box = np.array([[8, 8, 24, 8]], np.float32)
    recipe = {
        "train": {
            "views": [{"share": 1, "side": 64, "batch": 1, "whole": False}],
            "longest-side": [64, 64],
            "above": ["aerial"],
        }
    }
    seen = {"aerial_1": set(), "bridge_1": set()}
    for scene, ways in seen.items():
        one = data.Sample("none.png", 64, 64, box, scene, "train", roi=(0, 0, 40, 24))
        crops = augment.Crops([one], [picture], recipe, 1)
        crops.stickers = []
        crops._clutter, crops._shade, crops._weather = (
            (lambda image, _: image),
            (lambda image: image),
            (lambda image: image),
        )
        for _ in range(120):
            image, target, labelled = crops.draw()
            light = (image[..., 0] > 200) & (image[..., 2] < 60)
            middle = np.argwhere(light).mean(0)
            cells = np.indices(target.shape).reshape(2, -1) * 8 + 4
            where = (cells * target.ravel()).sum(1) / target.sum()
            assert np.abs(where - middle).max() < 4
            assert labelled[tuple((where / 8).astype(int))] == 1
            nose = np.argwhere(light & (image[..., 1] < 60)).mean(0) - middle
            kerb = np.argwhere((image[..., 2] > 200) & (image[..., 0] < 60)).mean(0) - middle
            ways.add((*np.sign(np.round(nose / 8)), *np.sign(np.round(kerb / 8))))
    assert len(seen["aerial_1"]) == 8 and len(seen["bridge_1"]) == 2


def test_a_folder_of_many_scenes_gets_no_more_than_its_share():
    from vcount import data

    def folder(*scenes):
        return [
            data.Sample("none.png", 64, 64, np.zeros((0, 4), np.float32), scene, "train")
            for scene in scenes
        ]

    cameras, web = folder("bridge", "bridge", "bridge", "bridge", "gate"), folder(*"abcdefgh")
    data.weigh([cameras, web])
    # Of one camera four pictures count twice as much as one, and every picture of the web is a
    # scene of its own.
    assert [sample.weight for sample in cameras] == [0.5] * 4 + [1.0] and {
        sample.weight for sample in web
    } == {1.0}
    data.weigh([cameras, web], [3, 1])
    assert sum(sample.weight for sample in cameras) == pytest.approx(3) and sum(
        sample.weight for sample in web
    ) == pytest.approx(1)
    assert cameras[4].weight == pytest.approx(2 * cameras[0].weight)
    # A camera whose pictures lie in two folders is still one scene.
    data.weigh([folder("gate", "gate"), more := folder("gate", "gate", "bridge")])
    assert [sample.weight for sample in more] == [0.5, 0.5, 1.0]
    # A kind of view of few scenes gets the share that is asked for, and the rest is shared as
    # before; one of which there is none takes nothing away.
    above = folder("roof", "roof")
    for sample in above:
        sample.kind = "above"
    data.weigh([cameras, web, above], [3, 1, 0.1], {"above": 0.2, "night": 0.3})
    sums = [sum(sample.weight for sample in samples) for samples in (cameras, web, above)]
    assert sums == pytest.approx([0.6, 0.2, 0.2])
    for wrong in ({"above": 0.0}, {"above": 0.5, "night": 0.5}):
        with pytest.raises(SystemExit, match="train.kinds: shares above 0, and less than 1 in all"):
            data.weigh([cameras, web, above], None, wrong)


@pytest.mark.parametrize(
    "wrong, told",
    [
        (["--shares", "1", "2"], "--shares: give each of the 1 folders of --data a share above 0"),
        (["--shares", "0"], "--shares: give each of the 1 folders of --data a share above 0"),
        (
            ["--correct", "roofs", "--counter", "larger.pt"],
            "--correct: name folders of --data, and a --counter that they correct",
        ),
        (
            ["--set", "train.labels=0.0", "train.distill=0.0", "--counter", "larger.pt"],
            "train.distill or train.distill-until is 0: the --counter would not be followed",
        ),
        (["--set", "train.labels=0.0"], "train.labels is 0, and there is no --counter to follow"),
        (
            ["--set", "train.closer=1.5"],
            "train.closer is for a --counter that looks closer than the network",
        ),
        (
            ["--set", "train.closer=1.2", "--counter", "larger.pt"],
            "train.closer is 1.2: it must be 1 or more, and each view's side times it a multiple of 32",
        ),
    ],
)
def test_options_that_fit_nothing_are_refused(tmp_path, engines_folder, wrong, told):
    (tmp_path / "tiny.toml").write_text(RECIPE.format(decoder="fpn"))
    command = [
        sys.executable,
        engines_folder / "train.py",
        "--recipe",
        tmp_path / "tiny.toml",
        "--data",
        tmp_path,
        "--out",
        tmp_path / "out",
        *wrong,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and told in done.stderr


def test_shade_darkens_part_of_a_picture_and_moves_nothing(tmp_path):
    from vcount import augment, data

    one = data.Sample("none.png", 64, 64, np.zeros((0, 4), np.float32), "here", "train")
    recipe = {
        "train": {
            "views": [{"share": 1, "side": 64, "batch": 1, "whole": False}],
            "longest-side": [64, 64],
        }
    }
    crops = augment.Crops([one], [np.zeros((64, 64, 3), np.uint8)], recipe, 1)
    light = np.full((64, 64, 3), 200, np.uint8)
    shares = []
    for _ in range(30):
        dark = crops._shade(light)
        assert dark.dtype == np.uint8 and dark.max() <= 200 and dark.min() >= 200 * 0.24
        shares.append((dark < 180).mean())
    assert min(shares) < 0.4 and max(shares) > 0.4
