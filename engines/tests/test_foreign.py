"""A network that somebody has, ResNet50 with a feature pyramid, is exported without training. Needs
PyTorch and timm."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
timm = pytest.importorskip("timm", reason="timm is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

from torch import nn
from torch.nn import functional as F

from vcount import foreign, networks


class Users(nn.Module):
    """Four laterals, three smoothing convolutions, a head of three."""

    def __init__(self, backbone="resnet18", width=16, within=False, coarsest=False, mode="nearest"):
        super().__init__()
        self.backbone = timm.create_model(backbone, features_only=True, out_indices=(1, 2, 3, 4))
        channels = self.backbone.feature_info.channels()
        for number, inputs in enumerate(channels):
            setattr(self, f"lateral{number + 1}", nn.Conv2d(inputs, width, 1))
        for number in range(3):
            setattr(self, f"smooth{number + 1}", nn.Conv2d(width, width, 3, padding=1))
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(),
            nn.Conv2d(width // 2, 1, 1),
        )
        self.within, self.coarsest, self.mode = within, coarsest, mode
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        nn.init.constant_(self.head[-1].bias, 0.02)

    def forward(self, images):
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (networks.MEAN, networks.STD))
        levels = self.backbone((images - mean) / std)
        top = self.lateral4(levels[3])
        for number in (3, 2, 1):
            smooth = getattr(self, f"smooth{4 - number if self.coarsest else number}")
            lateral = getattr(self, f"lateral{number}")(levels[number - 1])
            top = lateral + F.interpolate(top, scale_factor=2, mode=self.mode)
            if self.within:
                top = smooth(top)
        if not self.within:
            top = (self.smooth3 if self.coarsest else self.smooth1)(top)
        return F.relu(self.head(top))


def told(network, number=3, side=64):
    """Images, and what the network's own code counts on them."""
    images = np.random.default_rng(7).uniform(0, 255, (number, 3, side, side)).astype(np.float32)
    with torch.inference_mode():
        return images, network.eval()(torch.from_numpy(images)).sum((1, 2, 3)).numpy()


@pytest.mark.parametrize(
    "code",
    [
        {},
        {"within": True},
        {"coarsest": True},
        {"within": True, "coarsest": True, "mode": "bilinear"},
    ],
    ids=lambda code: ",".join(code) or "plain",
)
def test_the_variant_is_found_by_what_the_own_code_counts(tmp_path, code):
    torch.manual_seed(3)
    users = Users(**code)
    torch.save(users.state_dict(), tmp_path / "mine.pth")
    images, counts = told(users)
    network, parts, error = foreign.agreeing(tmp_path / "mine.pth", images, counts)
    assert error < 1e-3
    assert [len(names) for names in parts.values()] == [4, 3, 3]
    with torch.inference_mode():
        density = network(torch.from_numpy(images))
    assert density.shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model_state_dict": state, "epoch": 3},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": {f"net.{name}": value for name, value in state.items()}},
        lambda state: {"model": {"state_dict": state}, "step": torch.tensor(5)},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {
            "state_dict": {f"model.{name}": value for name, value in state.items()}
            | {"loss.weight": torch.ones(1)}
        },
    ],
    ids=[
        "training state",
        "DataParallel",
        "prefix",
        "nested",
        "nested DataParallel",
        "with a loss",
    ],
)
def test_wrappers_of_training_programs_are_taken_off(tmp_path, wrap):
    users = Users()
    torch.save(wrap(users.state_dict()), tmp_path / "mine.pth")
    images, counts = told(users)
    assert foreign.agreeing(tmp_path / "mine.pth", images, counts)[2] < 1e-3


@pytest.mark.parametrize(
    ("backbone", "width"),
    [("resnet50", 256), ("resnet50", 128), *(("resnet18", width) for width in (64, 128, 256, 512))],
)
def test_the_width_may_be_the_channels_of_a_stage(tmp_path, backbone, width):
    torch.manual_seed(4)
    users = Users(backbone, width)
    torch.save(users.state_dict(), tmp_path / "mine.pth")
    network, parts = foreign.load(tmp_path / "mine.pth")
    assert parts["laterals"] == [f"lateral{number}.weight" for number in (1, 2, 3, 4)]
    assert parts["smooth"] == [f"smooth{number}.weight" for number in (1, 2, 3)]
    assert parts["head"] == ["head.0.weight", "head.3.weight", "head.6.weight"]
    images, counts = told(users, number=1)
    assert foreign.difference(network, images, counts) < 1e-3


class Plain(nn.Module):
    """torchvision's own feature pyramid, whose smoothing has a convolution for every
    level, and a head of `head`."""

    def __init__(self, width, head, laterals=4, norm=None):
        super().__init__()
        feature_pyramid = pytest.importorskip("torchvision").ops.FeaturePyramidNetwork
        self.body = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3, 4))
        self.laterals = laterals
        channels = self.body.feature_info.channels()[-laterals:]
        self.fpn = feature_pyramid(channels, width, norm_layer=norm)
        self.density_head = head

    def forward(self, images):
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (networks.MEAN, networks.STD))
        levels = self.body((images - mean) / std)[-self.laterals :]
        return F.relu(self.density_head(self.fpn(dict(enumerate(levels)))[0]))


@pytest.mark.parametrize("laterals", [3, 4])
@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d], ids=["plain", "normalised"])
@pytest.mark.parametrize("width", [32, 64, 128])
def test_the_names_of_torchvision_are_known(tmp_path, width, norm, laterals):
    torch.manual_seed(6)
    # Inputs of the head's 1x1 convolution are those of a stage: no lateral.
    head = nn.Sequential(
        nn.Conv2d(width, width, 1),
        nn.ReLU(),
        nn.Conv2d(width, 16, 1),
        nn.ReLU(),
        nn.Conv2d(16, 1, 1),
    )
    nn.init.constant_(head[-1].bias, 0.05)
    users = Plain(width, head, laterals, norm)
    torch.save(
        {"module." + name: value for name, value in users.state_dict().items()}, tmp_path / "v"
    )
    images, counts = told(users, number=2)
    _, parts, error = foreign.agreeing(tmp_path / "v", images, counts)
    assert error < 1e-3
    assert [len(names) for names in parts.values()] == [laterals, laterals, 3]
    assert all("inner_blocks" in name for name in parts["laterals"])


@pytest.mark.parametrize(
    "names",
    [
        ["head.0", "head.2", "head.4"],
        ["head1", "head2", "head3"],
        ["decoder.head.0.conv", "decoder.head.1.conv", "decoder.head.2"],
        ["decoder.conv1", "decoder.conv2", "decoder.conv3"],
        ["density.first", "density.second", "density.out"],
        ["head_first", "head_second", "head_out"],
        ["out"],
        ["decoder.out"],
    ],
    ids=lambda names: names[-1],
)
@pytest.mark.parametrize("prefix", ["", "decoder."])
def test_the_head_is_what_is_named_as_its_last_layer(names, prefix):
    width, channels = 64, [64, 128, 256, 512]
    weights = {
        f"{prefix}lateral{number}.weight": torch.zeros(width, inputs, 1, 1)
        for number, inputs in enumerate(channels, 1)
    }
    weights |= {
        f"{prefix}smooth{number}.0.weight": torch.zeros(width, width, 3, 3)
        for number in range(11, 0, -1)
    }
    for name in names[:-1]:
        weights[f"{name}.weight"] = torch.zeros(width, width, 1, 1)
    weights[f"{names[-1]}.weight"] = torch.zeros(1, width, 1, 1)
    for order in (list(weights), list(weights)[::-1]):
        # Whether the head was written first or last: the order inside it is that of the file.
        there = [name for name in order if name.removesuffix(".weight") not in names]
        there = {name: weights[name] for name in there}
        there |= {f"{name}.weight": weights[f"{name}.weight"] for name in names}
        parts = foreign.found("mine.pth", there, channels)
        assert parts["head"] == [f"{name}.weight" for name in names]
        assert parts["laterals"] == [f"{prefix}lateral{number}.weight" for number in (1, 2, 3, 4)]
        assert parts["smooth"] == [f"{prefix}smooth{number}.0.weight" for number in range(1, 12)]


@pytest.mark.parametrize(
    "laterals",
    [
        ["toplayer", "latlayer1", "latlayer2", "latlayer3"],
        ["fpn.P5_1", "fpn.P4_1", "fpn.P3_1", "fpn.P2_1"],
        [f"neck.lateral_convs.{number}.conv" for number in (3, 2, 1, 0)],
        ["fpn_lateral5", "fpn_lateral4", "fpn_lateral3"],
    ],
    ids=lambda names: names[-1],
)
def test_a_convolution_of_the_pyramid_is_no_lateral(laterals):
    channels, width = [256, 512, 1024, 2048], 256
    weights = {
        f"{name}.weight": torch.zeros(width, inputs, 1, 1)
        for name, inputs in zip(laterals, channels[::-1])
    }
    weights["out.weight"] = torch.zeros(1, width, 1, 1)
    wanted = [f"{name}.weight" for name in laterals[::-1]]
    assert foreign.found("mine.pth", weights, channels)["laterals"] == wanted
    # Of the width of the first stage, but not by a lateral's name.
    weights = {"mixed.weight": torch.zeros(width, width, 1, 1), **weights}
    with pytest.raises(SystemExit, match="mixed.weight: neither lateral .* --rename"):
        foreign.found("mine.pth", weights, channels)


def test_own_names_are_renamed(tmp_path):
    users = Users()
    other = {
        name.replace("backbone.", "encoder/"): value for name, value in users.state_dict().items()
    }
    torch.save(other, tmp_path / "mine.pth")
    rename = [("^encoder/", "backbone.")]
    images, counts = told(users)
    assert foreign.agreeing(tmp_path / "mine.pth", images, counts, rename=rename)[2] < 1e-3


def test_what_does_not_agree_is_refused(tmp_path):
    users = Users()
    torch.save(users.state_dict(), tmp_path / "mine.pth")
    images, counts = told(users)
    with pytest.raises(SystemExit, match="density-scale"):
        foreign.agreeing(tmp_path / "mine.pth", images, counts / 100)
    assert foreign.agreeing(tmp_path / "mine.pth", images, counts / 100, scale=0.01)[2] < 1e-3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not weights", "state_dict"),
        ({"epoch": 3}, "no weights in it, but epoch"),
        ({"conv1.weight": torch.zeros(8, 3, 7, 7)}, "no ResNet"),
        (timm.create_model("resnext50_32x4d").state_dict(), "no resnet50: size mismatch for layer"),
        ({"model": {"epoch": 3}}, "no weights in it, but epoch"),
        ({"model": {}}, "no weights in it, but nothing"),
    ],
    ids=["no checkpoint", "no weights", "no ResNet", "ResNeXt", "nested", "empty"],
)
def test_files_that_hold_no_such_network_are_told(tmp_path, content, reason):
    path = tmp_path / "mine.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(SystemExit, match=reason) as refused:
        foreign.load(path)
    assert str(path) in str(refused.value)


def test_weights_that_lack_a_part_are_told(tmp_path):
    for part, reason in (
        ("lateral2.weight", "laterals"),
        ("head.6.weight", "density"),
        ("head.3.weight", "do not follow on each other"),
        ("backbone.layer3.0.conv2.weight", "layer3.0.conv2"),
    ):
        state = Users().state_dict()
        del state[part]
        torch.save(state, tmp_path / "mine.pth")
        with pytest.raises(SystemExit, match=reason):
            foreign.load(tmp_path / "mine.pth")


def test_resnet50_with_the_names_of_the_plan_becomes_a_model(tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(5)
    users = Users("resnet50", width=32)
    torch.save(users.state_dict(), tmp_path / "v2.pth")
    images, counts = told(users, number=2, side=96)
    np.savez(tmp_path / "v2.npz", images=images, counts=counts)
    run = subprocess.run(
        [
            *(sys.executable, "export.py", "--checkpoint", tmp_path / "v2.pth", "--name", "v2"),
            *("--expected", tmp_path / "v2.npz", "--models", tmp_path, "--side", "96"),
            *("--attribution", "our own pictures", "--licence", "ours alone"),
        ],
        cwd=pathlib.Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "lateral4" in run.stdout and "counts as its own code does" in run.stdout
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(tmp_path / "v2.onnx"), providers=["CPUExecutionProvider"]
    )
    density = session.run(["density"], {"images": images})[0]
    assert density.shape == (2, 1, 12, 12)
    assert np.allclose(density.sum((1, 2, 3)), counts, rtol=1e-3)
    content = json.loads((tmp_path / "v2.json").read_text())
    assert content["attribution"] == ["our own pictures"] and content["licence"] == "ours alone"


@pytest.mark.parametrize("decoder", sorted(networks.DECODERS))
@pytest.mark.parametrize(
    "backbone",
    [
        "resnet50",
        "resnet18",
        "efficientnet_b0",
        "mobilenetv3_large_100",
        "mobilenetv3_small_100",
        "ghostnetv2_100",
        "tiny_vit_5m_224",
        "tf_efficientnet_lite0",
    ],
)
def test_every_backbone_takes_every_decoder(backbone, decoder):
    recipe = {"backbone": backbone, "decoder": decoder, "width": 16, "head": 3}
    network = networks.DensityNetwork(recipe).eval()
    with torch.inference_mode():
        for height, width in ((64, 96), (96, 64)):
            density = network(torch.rand(2, 3, height, width) * 255)
            assert density.shape == (2, 1, height // 8, width // 8) and density.min() >= 0
