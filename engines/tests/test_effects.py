"""The table of what makes a model faster. Needs PyTorch, timm, onnxruntime and openvino."""

import json
import subprocess
import sys
import types

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("timm", reason="timm is not installed")
pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("openvino", reason="OpenVINO is not installed")

import argparse

import effects
from test_chain import pictures
from test_quantization import RECIPE, quantized

from vcount import manifest, networks


@pytest.fixture
def model(tmp_path):
    """A network's checkpoint and its files beside a manifest."""
    fp32, int8 = quantized(tmp_path, pictures=4, method="minmax")
    network = networks.DensityNetwork(RECIPE)
    torch.save({"network": network.state_dict(), "recipe": RECIPE}, tmp_path / "tiny.pt")
    manifest.write(tmp_path, RECIPE, 384, "0.1.0", fp32, "fp32", manifest.ENGINES["fp32"])
    manifest.add_file(tmp_path, "tiny", int8, "int8", manifest.ENGINES["int8"])
    source = tmp_path / "data"
    source.mkdir()
    pictures(source)
    return tmp_path, source, int8


def test_every_way_has_its_line_with_speed_error_and_goal(model, monkeypatch):
    folder, source, int8 = model
    # Compiling takes a compiler and a minute.
    monkeypatch.setattr(torch, "compile", lambda network: network)
    options = types.SimpleNamespace(
        model=folder / "tiny.json",
        checkpoint=folder / "tiny.pt",
        data=[source],
        rounds=1,
        most=2,
        int8=[("PTQ, 100 pictures", int8), ("QAT", int8)],
    )
    lines = {line["way"]: line for line in effects.optimisations(options)}
    assert {"OpenVINO PTQ, 100 pictures", "OpenVINO QAT", "TensorRT-RTX INT8"} <= set(lines)
    assert lines["torch.compile"]["goal"] == "1.2 to 1.5"
    assert lines["ONNX Runtime FP32"]["goal"] == "1.3 to 1.7"
    small = lines["OpenVINO PTQ, 100 pictures, 256x256"]
    assert small["than"] == "OpenVINO PTQ, 100 pictures" and "2.3" in small["goal"]
    assert small["times as fast"] > 0 and small["error more than there, %"] is not None
    one, other = lines["OpenVINO QAT"], lines["OpenVINO PTQ, 100 pictures"]
    assert one["error, %"] == other["error, %"] and one["pictures"] <= 2
    for name, line in lines.items():
        assert ("TensorRT" in name) == (line["images/s"] is None) == (line["goal"] == effects.GPU)
    text = effects.table(list(lines.values()))
    assert text.count("\n") == len(lines) + 2 and "not measured: no GPU" in text


def test_decoders_are_told_as_a_table_and_as_json(tmp_path, engines_folder):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text('name = "tiny"\nbackbone = "mobilenetv3_small_050"\nwidth = 16\n')
    command = ["effects.py", "--decoders", "--recipes", recipe, "--rounds", 1]
    command += ["--out", tmp_path / "results" / "decoders.json"]
    subprocess.run(
        [sys.executable, *map(str, command)], cwd=engines_folder, check=True, capture_output=True
    )
    told = json.loads((tmp_path / "results" / "decoders.json").read_text())
    assert [line["network"] for line in told["lines"]] == [
        f"tiny, {decoder}" for decoder in networks.DECODERS
    ]
    assert told["date"] and told["machine"] and str(tmp_path) not in told["command"]
    text = (tmp_path / "results" / "decoders.md").read_text()
    assert text.startswith("| network |") and text.count("\n") == 5


def test_int8_files_are_given_by_name(tmp_path):
    file = tmp_path / "a=b.onnx"
    file.write_bytes(b"")
    assert effects.named(f"PTQ, 100={file}") == ("PTQ, 100", file)
    for wrong in (str(tmp_path), f"={file}", f"PTQ={tmp_path / 'none.onnx'}", "PTQ="):
        with pytest.raises(argparse.ArgumentTypeError):
            effects.named(wrong)
