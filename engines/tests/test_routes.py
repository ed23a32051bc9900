"""The three routes, from what a person has to a model that counts, each in a few steps. Needs
PyTorch."""

import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("timm", reason="timm is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("cv2", reason="OpenCV is not installed")

import numpy as np
from PIL import Image
from test_chain import RECIPE, pictures
from test_foreign import Users, told

from vcount import foreign

SMALL = ["--side", 96, "--sizes", 64, 96, "--pictures", 4, "--evaluate", 96]


def route(folder, *arguments):
    """What the route prints, whether it ends well, and what it says of an error."""
    done = subprocess.run(
        [sys.executable, str(folder / "routes.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    return done.stdout, done.returncode, done.stderr


@pytest.fixture
def given(tmp_path):
    """Labelled pictures, a network of a program of one's own, and what that counts."""
    data = tmp_path / "data"
    data.mkdir()
    pictures(data)
    torch.manual_seed(3)
    network = Users(within=True)
    checkpoint, expected = tmp_path / "mine.pth", tmp_path / "mine.npz"
    torch.save({"epoch": 7, "model_state_dict": network.state_dict()}, checkpoint)
    images, counts = told(network)
    np.savez(expected, images=images, counts=counts)
    recipe, golden = tmp_path / "tiny.toml", tmp_path / "picture.png"
    recipe.write_text(RECIPE.format(decoder="fpn"))
    Image.open(data / "0.png").save(golden)
    return tmp_path, checkpoint, expected, network


def is_whole(models, name):
    """Both files are there, with errors and golden values."""
    content = json.loads((models / f"{name}.json").read_text())
    files = {entry["file"] for entry in content["files"]}
    assert files == {f"{name}.onnx", f"{name}-int8.onnx"}
    assert {entry["file"] for entry in content["accuracy"]} == files
    assert set(content["golden"]["files"]) == files and content["parameters"] > 1000


@pytest.mark.parametrize("name", ["optimise", "train", "both"])
def test_route_ends_in_models_that_count(given, engines_folder, name):
    folder, checkpoint, expected, network = given
    models = folder / "models"
    arguments = ["--data", folder / "data", "--models", models, *SMALL]
    arguments += ["--golden", folder / "picture.png", "--attribution", "My city"]
    if name != "train":
        arguments += ["--checkpoint", checkpoint, "--expected", expected]
    if name != "optimise":
        arguments += ["--recipe", folder / "tiny.toml", "--steps", 2]
        arguments += ["--train", "--validate-every", 1]
    said, code, error = route(engines_folder, name, *arguments)
    assert code == 0, said + error
    made = {"optimise": ["mine"], "train": ["tiny"], "both": ["mine", "tiny"]}[name]
    for model in made:
        is_whole(models, model)
        assert f"| {model}.onnx | 96x96 |" in said and f"| {model}-int8.onnx | 96x96 |" in said
    assert ("val at 2" in said) == ("tiny" in made) and ("--counter" in said) == (name != "train")
    if "mine" in made:
        # What is written to be followed counts as the network's own code does.
        images, counts = told(network, number=2, side=96)
        follower, width = foreign.counter(models / "mine-counter.pt")
        assert foreign.difference(follower, images, counts) < 1e-3 and width == 16


def test_steps_are_shown_without_being_done(given, engines_folder):
    folder, checkpoint, *_ = given
    models = folder / "models"
    said, code, error = route(
        engines_folder,
        "both",
        "--checkpoint",
        checkpoint,
        "--data",
        folder / "data",
        "--models",
        models,
        "--dry-run",
    )
    assert code == 0, error
    scripts = [line.split()[1] for line in said.splitlines() if line.startswith("[")]
    after = ["quantize.py", "evaluate.py", "evaluate.py", "verify.py"]
    assert scripts == ["export.py", *after, "train.py", "export.py", *after]
    # The default recipe starts from the weights that ship.
    assert "mobilenetv3-large.pt" in said and not models.exists()


def test_step_that_fails_is_named(given, engines_folder):
    folder, *_ = given
    arguments = ["--data", folder / "data", "--models", folder / "models"]
    missing = ["--checkpoint", folder / "absent.pth"]
    said, code, error = route(engines_folder, "optimise", *missing, *arguments)
    assert code == 1 and "step 1 of 5, export.py, failed" in error and "absent.pth" in error
    same = ["--checkpoint", folder / "mine.pth", "--name", "mobilenetv3-large"]
    said, code, error = route(engines_folder, "both", *same, *arguments)
    assert code == 1 and "give another one" in error
