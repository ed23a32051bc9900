"""Density networks: a timm backbone, a decoder, and normalisation inside the graph."""

import functools

import timm
import torch
from torch import nn
from torch.nn import functional as F

from . import targets

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
"""ImageNet's, on the scale 0..255."""

UNIT = 0.1
"""Vehicles per cell for which the head's last layer says 1."""


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs, outputs, kernel):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Fpn(nn.Module):
    """Strides 8, 16 and 32 joined at stride 8 (Lin et al. 2017, with one smoothing convolution
    only)."""

    strides = (8, 16, 32)

    def __init__(self, channels, width):
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = ConvBlock(width, width, 3)

    def forward(self, features):
        *finer, top = [lateral(f) for lateral, f in zip(self.laterals, features)]
        for lateral in reversed(finer):
            top = lateral + F.interpolate(top, scale_factor=2.0, mode="nearest")
        return self.smooth(top)


class Fpn4(nn.Module):
    """Strides 4, 8, 16 and 32 joined at stride 4, with a smoothing convolution behind each sum
    (Lin et al. 2017): the largest decoder."""

    strides = (4, 8, 16, 32)

    def __init__(self, channels, width):
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(ConvBlock(width, width, 3) for _ in channels[1:])

    def forward(self, features):
        *finer, top = [lateral(f) for lateral, f in zip(self.laterals, features)]
        for lateral, smooth in zip(reversed(finer), reversed(self.smooth)):
            top = smooth(lateral + F.interpolate(top, scale_factor=2.0, mode="nearest"))
        return top


class Single(nn.Module):
    """The smallest decoder: stride 16 alone, one lateral, one convolution, up to stride 8."""

    strides = (8, 16, 32)

    def __init__(self, channels, width):
        super().__init__()
        self.lateral = nn.Conv2d(channels[1], width, 1)
        self.smooth = ConvBlock(width, width, 3)

    def forward(self, features):
        return F.interpolate(
            self.smooth(self.lateral(features[1])), scale_factor=2.0, mode="nearest"
        )


DECODERS = {"fpn4": Fpn4, "fpn": Fpn, "single": Single}


def pool(density, stride):
    """Density at `stride`, 4 or 8 pixels a cell, at the stride of all: cells are summed, so that
    the count stays."""
    factor = targets.STRIDE // stride
    return density if factor == 1 else F.avg_pool2d(density, factor) * factor**2


class DensityNetwork(nn.Module):
    """RGB 0..255 [N, 3, H, W] to vehicles per cell [N, 1, H/8, W/8]."""

    def __init__(self, recipe, pretrained=False):
        super().__init__()
        options = dict(recipe.get("backbone-options", {}))
        if "activation" in recipe:
            # Of blocks whose activation timm's architecture leaves open: HardSwish in MobileNetV3.
            options["act_layer"] = recipe["activation"]
        self.backbone = timm.create_model(
            recipe["backbone"], features_only=True, pretrained=pretrained, **options
        )
        if not recipe.get("squeeze-excitation", True):
            # Nothing looks at the whole input then, and int8 has less to leave in float.
            for block in gated(self.backbone):
                block.se = nn.Identity()
        decoder = DECODERS[recipe.get("decoder", "fpn")]
        strides = self.backbone.feature_info.reduction()
        self.levels = [strides.index(stride) for stride in decoder.strides]
        channels = [self.backbone.feature_info.channels()[level] for level in self.levels]
        width = recipe.get("width", 64)
        self.decoder = decoder(channels, width)
        widths = [width // 2**depth for depth in range(recipe.get("head", 2))]
        self.head = nn.Sequential(
            *[ConvBlock(a, b, 3) for a, b in zip(widths, widths[1:])], nn.Conv2d(widths[-1], 1, 1)
        )
        nn.init.normal_(self.head[-1].weight, std=0.01)
        nn.init.constant_(self.head[-1].bias, 0.1)
        self.register_buffer("mean", torch.tensor(recipe.get("mean", MEAN)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(recipe.get("std", STD)).view(1, 3, 1, 1))
        self.channels = channels

    def features(self, images):
        """The backbone's features at the decoder's strides; the last three are 8, 16 and 32."""
        features = self.backbone((images - self.mean) / self.std)
        return [features[level] for level in self.levels]

    def count(self, fused):
        """Density from the decoder's features. A cell rarely holds more than 0.1 vehicles: the head
        works in tenths."""
        return pool(F.relu(self.head(fused)) * UNIT, self.decoder.strides[0])

    def forward(self, images):
        return self.count(self.decoder(self.features(images)))


def depthwise_in_float(network):
    """Keeps depthwise convolutions in float32 under autocast: on processors, their gradient in
    bfloat16 takes several times as long."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = functools.partial(_in_float, module.forward)
    return network


def _in_float(forward, images):
    with torch.autocast(images.device.type, enabled=False):
        return forward(images.float())


def load(*paths):
    """A network from its checkpoint, ready to count, and the rest of what the checkpoint says. Of
    several checkpoints of one recipe: the mean of their weights, and the rest of what the first
    says."""
    states = [torch.load(path, weights_only=True) for path in paths]
    network = DensityNetwork(states[0]["recipe"])
    network.load_state_dict(mean(paths, [state["network"] for state in states]))
    return network.eval().to(memory_format=torch.channels_last), states[0]


def mean(paths, weights):
    """The mean of the weights that the checkpoints at `paths` hold."""
    shapes = [{name: value.shape for name, value in each.items()} for each in weights]
    for path, own in zip(paths, shapes):
        if own != shapes[0]:
            raise SystemExit(f"{path}: not of the recipe that {paths[0]} has")
    # In double precision; counters of batch normalisation are whole numbers.
    return {
        name: sum(each[name].double() for each in weights).div(len(weights)).to(value.dtype)
        for name, value in weights[0].items()
    }


def gated(backbone):
    """The blocks with squeeze-and-excitation (Hu et al. 2018)."""
    return [module for module in backbone.modules() if hasattr(getattr(module, "se", None), "gate")]


def linear(block):
    """The convolution that ends a block, behind its gate: timm's name in an inverted residual, or
    in a depthwise separable convolution."""
    return block.conv_pwl if hasattr(block, "conv_pwl") else block.conv_pw


@torch.no_grad()
def open_gates(network):
    """Sets each channel's gate to 0.95 (1 where the sigmoid is a hard one), whatever the input, and
    takes the factor out of the convolution behind it: a start for training with gates from the
    weights of a network without, which counts as that one does."""
    bias = torch.tensor(3.0)
    for block in gated(network.backbone):
        block.se.conv_expand.weight.zero_()
        block.se.conv_expand.bias.fill_(bias)
        linear(block).weight.div_(block.se.gate(bias))


@torch.inference_mode()
def fold_gates(network, batches):
    """Takes squeeze-and-excitation out of a trained network: each channel's gate becomes its mean
    over `batches` of images, and a factor of the weights of the convolution that follows. What is
    left looks at its surroundings alone and is a start for training without gates."""
    network.eval()
    blocks = gated(network.backbone)
    sums = [0.0] * len(blocks)

    def record(index):
        def hook(_module, _inputs, gate):
            sums[index] = sums[index] + gate.mean((0, 2, 3))

        return hook

    hooks = [
        block.se.gate.register_forward_hook(record(index)) for index, block in enumerate(blocks)
    ]
    number = 0
    for images in batches:
        network(images)
        number += 1
    for hook in hooks:
        hook.remove()
    for block, gate in zip(blocks, sums):
        linear(block).weight.mul_((gate / number)[None, :, None, None])
        block.se = nn.Identity()


def load_backbone(backbone, path):
    """Weights of the whole timm network, from a file, into its features-only form."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights = load_file(path)
    else:
        weights = torch.load(path, weights_only=True, map_location="cpu")
    missing, _ = backbone.load_state_dict(weights, strict=False)
    if missing:
        raise SystemExit(
            f"{path}: lacks {missing[0]} and {len(missing) - 1} more tensors of the backbone"
        )
