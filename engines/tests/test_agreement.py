"""`vehicle-count eval` and `evaluate.py` measure the same. Needs the command and ONNX Runtime's
library, as `./run test` has them."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")

ROOT = pathlib.Path(__file__).parent.parent.parent
COMMAND = (
    pathlib.Path(os.environ.get("VEHICLECOUNT_BIN", ROOT / "target" / "debug")) / "vehicle-count"
)
MODEL = ROOT / "engines" / "models" / "mobilenetv3-large.onnx"

pytestmark = pytest.mark.skipif(not COMMAND.exists(), reason=f"{COMMAND} is not built")


def call(*arguments):
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


def pictures(folder):
    """Simulated traffic in several sizes; one picture each with a roi, a mask, an area and points,
    and one with boxes across its edges."""
    call(COMMAND, "synth", "--out", folder, "--images", 12, "--seed", 31, "--split", "val")
    path = folder / "annotations.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    width, height = lines[0]["width"], lines[0]["height"]
    lines[0]["roi"] = [width * 0.13, height * 0.21, width * 0.6, height * 0.71]
    mask = np.zeros((lines[1]["height"], lines[1]["width"]), np.uint8)
    mask[17:-23, 31:-40] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    lines[1]["mask"] = "mask.png"
    lines[5]["area"] = [
        [3.5, 20],
        [lines[5]["width"] - 31.2, 8],
        [lines[5]["width"] * 0.7, lines[5]["height"] - 2],
    ]
    lines[2]["points"] = [[x + w / 2, y + h / 2] for x, y, w, h in lines[2].pop("boxes")]
    lines[3]["boxes"] += [
        [-30, 10, 40, 20],
        [lines[3]["width"] - 4, lines[3]["height"] - 4, 30, 30],
    ]
    # PNG and grey are read, too.
    picture = Image.open(folder / lines[4]["file"]).convert("L")
    picture.save(folder / "grey.png")
    lines[4]["file"] = "grey.png"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("side", [384, 256])
def test_command_and_script_agree(tmp_path, side):
    pictures(tmp_path)
    call(
        COMMAND,
        "eval",
        "--model",
        MODEL,
        "--engine",
        "onnxruntime",
        "--data",
        tmp_path,
        "--input-size",
        f"{side}x{side}",
        "--json",
        tmp_path / "a.jsonl",
    )
    call(
        sys.executable,
        ROOT / "engines" / "evaluate.py",
        "--model",
        MODEL,
        "--engine",
        "onnxruntime",
        "--data",
        tmp_path,
        "--sizes",
        side,
        "--lines",
        tmp_path / "b.jsonl",
    )
    command, script = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("a.jsonl", "b.jsonl")
    )
    assert [line["file"] for line in command] == [line["file"] for line in script] and len(
        command
    ) == 12
    for one, other in zip(command, script):
        assert (one["truth"], one["scene"]) == (other["truth"], other["scene"])
        assert one["game0"] == pytest.approx(abs(one["count"] - one["truth"]), abs=1e-9)
        for key in ("count", "game0", "game1", "game2", "game3"):
            # Preprocessing agrees to a hundredth of a level, which an empty road's density shows as
            # well.
            assert one[key] == pytest.approx(other[key], rel=1e-3, abs=2e-3), (
                f"{key} of {one['file']}"
            )
    for key in ("count", "game0", "game1", "game2", "game3"):
        assert sum(line[key] for line in command) == pytest.approx(
            sum(line[key] for line in script), rel=1e-3
        ), key


def test_command_names_what_is_wrong(tmp_path):
    pictures(tmp_path)
    path = tmp_path / "annotations.jsonl"
    lines = path.read_text().splitlines()
    broken = json.loads(lines[5])
    (tmp_path / broken["file"]).unlink()
    for change, words in (
        (None, ["annotations.jsonl:6", broken["file"]]),
        ({"height": 7}, ["annotations.jsonl:6", "7"]),
        ("nonsense", ["annotations.jsonl:6"]),
    ):
        if change == "nonsense":
            lines[5] = change
        elif change:
            Image.new("RGB", (broken["width"], broken["height"])).save(tmp_path / broken["file"])
            lines[5] = json.dumps({**broken, **change})
        path.write_text("\n".join(lines) + "\n")
        done = subprocess.run(
            [COMMAND, "eval", "--engine", "scripted", "--data", tmp_path],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        for word in words:
            assert word in done.stderr
