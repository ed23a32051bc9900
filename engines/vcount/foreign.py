"""Density networks of others: a ResNet with a feature pyramid, from its weights alone.

A checkpoint holds names and shapes of weights, not what the code does between them. The parts are
found by their shapes: the ResNet by torchvision's names behind any prefix, the lateral 1x1
convolutions by the ResNet's channels, the 3x3 smoothing convolutions, and the head, in their order.
What shapes do not tell (`Variant`) is told by the options, or found by comparing with counts that
the network's own code gave.
"""

import dataclasses
import itertools
import re

import numpy as np
import timm
import torch
from torch import nn
from torch.nn import functional as F

from . import networks

WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "ema", "weights")
"""Keys under which training programs put the weights beside other things."""

RESNETS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
}
"""timm's name, blocks of each stage, and whether the blocks are bottlenecks."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """What the names and shapes of weights leave open."""

    smooth: str = "after"
    """`after`: smoothing follows the whole top-down path. `within`: it is a part of it, and coarser
    levels reach the finest one smoothed."""
    upsample: str = "nearest"
    """How a level is enlarged: `nearest` or `bilinear`."""
    order: str = "finest"
    """Which level the first smoothing convolution belongs to: the `finest` or the `coarsest`."""
    relu_smooth: bool = False
    """ReLU behind each smoothing convolution."""
    final: str = "relu"
    """What the last layer's output goes through: `relu`, `softplus`, `abs` or `none`."""

    @classmethod
    def all(cls):
        """Every variant, the usual ones first."""
        return [
            cls(*values)
            for values in itertools.product(
                ("after", "within"),
                ("nearest", "bilinear"),
                ("finest", "coarsest"),
                (False, True),
                ("relu", "none", "softplus", "abs"),
            )
        ]


class Pyramid(nn.Module):
    """RGB 0..255 [N, 3, H, W] to vehicles per cell [N, 1, H/8, W/8]: a ResNet, three or four
    lateral convolutions, smoothing convolutions, and a head of convolutions with ReLU between."""

    def __init__(self, backbone, laterals, smooth, head, variant, scale):
        super().__init__()
        self.backbone, self.variant, self.scale = backbone, variant, scale
        # In the order of their numbers.
        self.laterals, self.smooth = nn.ModuleList(laterals), nn.ModuleList(smooth)
        self.head = nn.Sequential(*head)
        self.register_buffer("mean", torch.tensor(networks.MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(networks.STD).view(1, 3, 1, 1))
        self.channels = backbone.feature_info.channels()[-len(laterals) :]
        self.width = laterals[0][0].out_channels

    def enlarged(self, level):
        """A level at the size of the next finer one."""
        if self.variant.upsample == "nearest":
            return F.interpolate(level, scale_factor=2.0, mode="nearest")
        return F.interpolate(level, scale_factor=2.0, mode="bilinear", align_corners=False)

    def smoothed(self, number, level):
        """The level `number`, the finest is 0, behind its smoothing convolution where it has one."""
        if number >= len(self.smooth):
            return level
        if self.variant.order == "coarsest":
            number = len(self.smooth) - 1 - number
        level = self.smooth[number](level)
        return F.relu(level) if self.variant.relu_smooth else level

    def features(self, images):
        """The ResNet's features at the strides that the laterals look at."""
        return self.backbone((images - self.mean) / self.std)[-len(self.laterals) :]

    def decoder(self, features):
        """The levels joined at the finest stride, as the head sees them."""
        *finer, top = [lateral(f) for lateral, f in zip(self.laterals, features)]
        for number in reversed(range(len(finer))):
            top = finer[number] + self.enlarged(top)
            if self.variant.smooth == "within":
                top = self.smoothed(number, top)
        return self.smoothed(0, top) if self.variant.smooth == "after" else top

    def count(self, fused):
        """Density from the decoder's features."""
        density = self.head(fused)
        if self.variant.final != "none":
            density = {"relu": F.relu, "softplus": F.softplus, "abs": torch.abs}[
                self.variant.final
            ](density)
        return networks.pool(density * self.scale, 8 if len(self.laterals) == 3 else 4)

    def forward(self, images):
        return self.count(self.decoder(self.features(images)))


def is_own(path):
    """Whether `train.py` wrote the checkpoint."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise SystemExit(f"{path}: no such file") from None
    except Exception:
        return False
    return isinstance(state, dict) and {"recipe", "network"} <= set(state)


def weights(path, rename=()):
    """The weights in a checkpoint, without the wrappers of DataParallel and of training programs.
    `rename`: pairs of a regular expression and what takes its place, applied to each name."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise SystemExit(
            f"{path}: cannot be read as weights ({str(error).splitlines()[0]}): save them alone, by "
            "torch.save(model.state_dict(), FILE), and give that file"
        ) from None
    while isinstance(state, dict):
        inner = next((state[key] for key in WRAPPERS if isinstance(state.get(key), dict)), None)
        if inner is None:
            break
        state = inner
    if not isinstance(state, dict):
        raise SystemExit(f"{path}: a {type(state).__name__}, not weights: save model.state_dict()")
    if not any(torch.is_tensor(value) for value in state.values()):
        raise SystemExit(
            f"{path}: no weights in it, but {', '.join(map(str, state)) or 'nothing'}: save "
            "model.state_dict()"
        )
    renamed = {}
    for name, value in state.items():
        if not torch.is_tensor(value) or name.endswith("num_batches_tracked"):
            continue
        name = name.removeprefix("module.")
        for pattern, replacement in rename:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value.float()
    # A module around the whole network says nothing.
    while len({name.partition(".")[0] for name in renamed}) == 1 and len(renamed) > 1:
        renamed = {name.partition(".")[2]: value for name, value in renamed.items()}
    return renamed


def resnet(path, state):
    """The ResNet that the weights hold, with them inside, and its prefix."""
    stem = [name for name in state if name.endswith("conv1.weight") and state[name].ndim == 4]
    prefixes = [name.removesuffix("conv1.weight") for name in stem if state[name].shape[1] == 3]
    for prefix in prefixes:
        depths = tuple(
            len(
                {
                    name.split(".")[0]
                    for name in (
                        key.removeprefix(f"{prefix}layer{stage}.")
                        for key in state
                        if key.startswith(f"{prefix}layer{stage}.")
                    )
                }
            )
            for stage in (1, 2, 3, 4)
        )
        wide = f"{prefix}layer1.0.conv3.weight" in state
        for name, shape in RESNETS.items():
            if shape == (depths, wide):
                backbone = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4))
                own = {
                    key.removeprefix(prefix): value
                    for key, value in state.items()
                    if key.startswith(prefix)
                }
                try:
                    missing, _ = backbone.load_state_dict(own, strict=False)
                except RuntimeError as error:  # Shapes differ: ResNeXt, or a wide ResNet.
                    reason = str(error).splitlines()[-1].strip()
                    raise SystemExit(f"{path}: {prefix or 'it'} is no {name}: {reason}") from None
                missing = [key for key in missing if not key.endswith("num_batches_tracked")]
                if missing:
                    raise SystemExit(f"{path}: lacks {prefix}{missing[0]} of {name}")
                return backbone, prefix
    raise SystemExit(
        f"{path}: no ResNet by torchvision's names (conv1, bn1, layer1.0.conv1, ...): name its "
        "parts so by --rename"
    )


def convolution(state, name):
    """The convolution whose weight is `name`, its normalisation where it has one directly behind
    it (by number in a Sequential, or by name: conv1 and bn1, conv and bn), and that one's name."""
    weight = state[name]
    base = name.removesuffix(".weight")
    bias = state.get(f"{base}.bias")
    layer = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        weight.shape[2:],
        padding=tuple(side // 2 for side in weight.shape[2:]),
        bias=bias is not None,
    )
    layer.load_state_dict({"weight": weight} | ({"bias": bias} if bias is not None else {}))
    for other in followers(base):
        if f"{other}.running_mean" in state:
            norm = nn.BatchNorm2d(weight.shape[0])
            norm.load_state_dict(
                {
                    key: state[f"{other}.{key}"]
                    for key in ("weight", "bias", "running_mean", "running_var")
                },
                strict=False,
            )
            return nn.Sequential(layer, norm)
    return nn.Sequential(layer)


def followers(base):
    """Names that the normalisation behind the convolution `base` may have."""
    *before, last = base.split(".")
    names = [re.sub("conv", part, last) for part in ("bn", "norm")] if "conv" in last else []
    if last.isdecimal():
        names.append(str(int(last) + 1))
    return [".".join([*before, name]) for name in names]


def load(path, variant=Variant(), scale=1.0, rename=()):
    """The network whose weights the checkpoint at `path` holds, in `variant`; its density is
    multiplied by `scale`."""
    state = weights(path, rename)
    backbone, prefix = resnet(path, state)
    channels = backbone.feature_info.channels()
    own = tuple(f"{prefix}{part}." for part in ("conv1", "layer1", "layer2", "layer3", "layer4"))
    rest = {
        name: value
        for name, value in state.items()
        if value.ndim == 4 and not name.startswith((*own, f"{prefix}fc."))
    }
    parts = found(path, rest, channels)
    layers = []
    for name in parts["head"]:
        layers += [convolution(state, name), nn.ReLU()]
    network = Pyramid(
        backbone,
        [convolution(state, name) for name in parts["laterals"]],
        [convolution(state, name) for name in parts["smooth"]],
        layers[:-1],
        variant,
        scale,
    )
    return network.eval(), parts


def found(path, convolutions, channels):
    """Names of the laterals, of the smoothing convolutions and of the head's among `convolutions`
    [name to weight], those behind a ResNet whose stages have `channels`."""
    last = next((name for name in reversed(convolutions) if len(convolutions[name]) == 1), None)
    if last is None:
        raise SystemExit(f"{path}: no convolution has one output, the density")
    refusal = None
    for name in stems(last):
        # The head goes first: a 1x1 convolution of it may look as a lateral does.
        head = [other for other in convolutions if other.startswith(name)]
        others = {other: convolutions[other] for other in convolutions if other not in head}
        try:
            laterals = laterals_in(path, others, channels)
            width = len(convolutions[laterals[0]])
            flow = [(width, width), *(convolutions[other].shape[:2] for other in head)]
            if any(before[0] != after[1] for before, after in zip(flow, flow[1:])):
                raise SystemExit(
                    f"{path}: the convolutions of the head do not follow on each other: {head}"
                )
            smooth = [other for other in others if other not in laterals]
            for other in smooth:
                if others[other].shape != (width, width, 3, 3):
                    raise SystemExit(
                        f"{path}: {other}: neither lateral nor smoothing nor head; where it is one "
                        "of them by another name, --rename tells"
                    )
        except SystemExit as error:
            refusal = refusal or error
            continue
        return {"laterals": laterals, "smooth": sorted(smooth, key=numbers), "head": head}
    raise refusal


def laterals_in(path, convolutions, channels):
    """Names of the 1x1 convolutions from the last three or four of `channels` to one width, which
    may be that of a stage."""
    widths = {}
    for name, weight in convolutions.items():
        outputs, inputs, *kernel = weight.shape
        if kernel == [1, 1] and inputs in channels:
            widths.setdefault(outputs, {}).setdefault(inputs, []).append(name)
    by_inputs = max(widths.values(), key=len, default={})
    width = next((width for width in widths if widths[width] is by_inputs), None)
    # Any 1x1 convolution inside the pyramid fits the stage of its width: of the laterals' names
    # alone is the one that looks at it.
    others = {bare(name) for inputs in by_inputs if inputs != width for name in by_inputs[inputs]}
    if alike := [name for name in by_inputs.pop(width, ()) if bare(name) in others]:
        by_inputs[width] = alike
    names = [by_inputs[inputs][0] for inputs in channels if inputs in by_inputs]
    if len(names) < 3 or set(by_inputs) != set(channels[-len(names) :]):
        raise SystemExit(
            f"{path}: 1x1 convolutions of {', '.join(map(str, channels))} channels, the laterals, "
            f"are not all there: {', '.join(names) or 'none'}"
        )
    return names


def bare(name):
    """A name without its numbers."""
    return re.sub(r"\d+", "", name)


def stems(name):
    """What the names of the convolutions beside `name` may begin with, the likeliest first: all
    before the last number or module (head.6, head3, head.2.conv, head.out), before the last word
    (head_out), or the name alone."""
    base = name.removesuffix(".weight")
    before, dot, word = base.rpartition(".")
    some = [
        re.sub(r"[\d.]+[a-z_]*$", "", base),
        before + dot + re.split(r"[\d_]", word)[0],
        base,
    ]
    return list(dict.fromkeys(stem for stem in some if stem.strip(".")))


def save(target, path, network, rename=()):
    """Writes the checkpoint at `path` again, with all that `load` was told of it to `network`, so
    that `train.py --counter` follows the same network."""
    content = {
        "pyramid": {"variant": dataclasses.asdict(network.variant), "scale": network.scale},
        "weights": weights(path, rename),
    }
    torch.save(content, target)


def counter(path):
    """The network to follow at `path`, a checkpoint of train.py, of `save` or of a program of one's
    own, and the width of its decoder."""
    if is_own(path):
        network, state = networks.load(path)
        return network, state["recipe"].get("width", 64)
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception:
        state = None  # `load` says what is wrong with it.
    if isinstance(state, dict) and "pyramid" in state:
        told = state["pyramid"]
        network, _ = load(path, Variant(**told["variant"]), told["scale"])
    else:
        network, _ = load(path)
        print(f"{path}: followed as {network.variant}; export.py --counter FILE settles it")
    return network.to(memory_format=torch.channels_last), network.width


def numbers(name):
    """The numbers in a name, in their order: smooth1, P2, smooth.0, smooth1.0."""
    return [int(number) for number in re.findall(r"\d+", name)]


def difference(network, images, counts):
    """Largest difference of the network's counts from `counts` [N], as a share of the largest of
    these, on `images` [N, 3, H, W], RGB 0..255."""
    with torch.inference_mode():
        own = network(torch.from_numpy(np.asarray(images, np.float32))).sum((1, 2, 3)).numpy()
    return float(np.abs(own - counts).max() / max(np.abs(counts).max(), 1e-6))


def agreeing(path, images, counts, scale=1.0, rename=(), within=1e-3):
    """The network in the variant whose counts agree with `counts` (see `difference`), its parts and
    the difference that is left."""
    network, parts = load(path, Variant(), scale, rename)
    errors = {}
    for variant in Variant.all():
        network.variant = variant
        errors[variant] = difference(network, images, counts)
        if errors[variant] <= within:
            break
    network.variant = min(errors, key=errors.get)
    error = errors[network.variant]
    if not error <= within:
        raise SystemExit(
            f"{path}: no variant of the network counts as its own code did: the nearest "
            f"({network.variant}) is off by {error:.1%} of the largest count. Does the code use "
            "another normalisation, or a factor (--density-scale)?"
        )
    return network, parts, error
