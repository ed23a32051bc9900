#!/usr/bin/env python3
"""Before step 2, where no ImageNet weights can be had: start a network from a larger one that
counts already.

    prune.py --counter checkpoints/efficientnet-lite0/best.pt --recipe recipes/mobilenetv3-large.toml --data DIR --out checkpoints/pruned.pt

EfficientNet-Lite and MobileNetV3, large and small, are chains of the same inverted residuals, of
nearly the same widths. Block by block, the student takes the expanded channels of the teacher that
matter most, and the layer behind them, which is linear, is fitted to the teacher's output by least
squares (channel pruning, He et al. 2017). What it cannot have, it loses; training with
`train.py --weights OUT --counter TEACHER` wins most of it back. The student must have the teacher's
activation and no squeeze-and-excitation.
"""

import argparse
import itertools
import pathlib
import tomllib

import torch
from torch.nn import functional as F

from vcount import networks, training


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--counter", type=pathlib.Path, required=True, help="checkpoint of the larger network"
    )
    parser.add_argument("--recipe", type=pathlib.Path, required=True, help="of the smaller one")
    parser.add_argument(
        "--data",
        type=pathlib.Path,
        required=True,
        nargs="+",
        help="folders with annotations.jsonl; labels are not used",
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument(
        "--batches", type=int, default=14, help="of pictures that decide what matters"
    )
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()

    teacher, state = networks.load(options.counter)
    recipe = tomllib.loads(options.recipe.read_text())
    torch.manual_seed(options.seed)
    student = networks.DensityNetwork(recipe)
    loader = training.batches_of(options.data, state["recipe"], options.seed)
    images = [training.to_network(next(loader)[0])[:4] for _ in range(options.batches)]
    for name, explained in prune(teacher, student, images):
        print(f"{name}: explains {explained:.1%} of the teacher's output", flush=True)
    with torch.inference_mode():
        counts = [(float(teacher(some).sum()), float(student(some).sum())) for some in images]
    told, own = (sum(column) for column in zip(*counts))
    training.save(options.out, {"network": student.state_dict(), "recipe": recipe, "step": 0})
    print(f"{options.out}: counts {own:.1f} where the teacher counts {told:.1f}")


@torch.no_grad()
def prune(teacher, student, images):
    """Gives the student what it can hold of the teacher. Yields, block by block, how much of the
    teacher's variance it explains."""
    for network in (teacher, student):
        network.eval().requires_grad_(False)
    if networks.gated(student.backbone):
        raise SystemExit(
            'the smaller network has squeeze-and-excitation, which this cannot set: its recipe needs "squeeze-excitation = false"'
        )
    if (teacher.mean != student.mean).any() or (teacher.std != student.std).any():
        raise SystemExit("both networks need the same mean and std in their recipes")
    old, new = teacher.backbone, student.backbone
    # The smaller network may reach a stride with fewer stages: its first then stands for several.
    ahead = len(old.blocks) - len(new.blocks)
    if ahead < 0:
        raise SystemExit(
            f"the smaller network has {len(new.blocks)} stages, the larger one {len(old.blocks)}"
        )
    inputs = [(some - teacher.mean) / teacher.std for some in images]
    told = [old.bn1(old.conv_stem(some)) for some in inputs]
    yield "stem", prune_stem(old, new, told)
    own = [new.bn1(new.conv_stem(some)) for some in inputs]
    told = [old.blocks[:ahead](some) for some in told]
    theirs, ours = old.blocks[ahead:], new.blocks
    # Of the teacher's channels at the end of a stage, those that the student has.
    columns = choose_columns(theirs, ours, 0, told)
    told = [theirs[0](some) for some in told]
    first = ours[0][0]
    yield (
        "blocks.0.0",
        fit_linear(
            first,
            "conv_pw",
            "bn2",
            lambda some: first.bn1(first.conv_dw(some)),
            own,
            channels(told, columns),
        ),
    )
    own = [ours[0](some) for some in own]

    for stage in range(1, len(ours)):
        kept = columns
        if type(ours[stage][0]).__name__ == "ConvBnAct":
            told = [theirs[stage](some) for some in told]
            take_expansion(ours[stage][0], theirs[stage][0], kept, teacher.decoder.laterals[-1])
            own = [ours[stage](some) for some in own]
            continue
        columns = choose_columns(theirs, ours, stage, told)
        for number, sources in enumerate(pairs(len(ours[stage]), len(theirs[stage]))):
            block, ends = ours[stage][number], [theirs[stage][index] for index in sources]
            if number < len(theirs[stage]):
                for end in ends:
                    told = [end(some) for some in told]
            yield (
                f"blocks.{stage}.{number}",
                fit_block(
                    block, ends, kept if number == 0 else columns, own, channels(told, columns)
                ),
            )
            own = [block(some) for some in own]
    yield from fit_decoder(teacher, student, images)


def pairs(own, theirs):
    """Which of the teacher's blocks of a stage each of the student's follows. The first, which
    shrinks, follows the first; fewer blocks follow several each, blocks too many what all did."""
    others = list(range(1, theirs))
    if own == theirs == 1:
        return [[0]]
    if own == 1 or theirs == 1:
        raise SystemExit(f"a stage of {own} blocks cannot follow one of {theirs}")
    if own > theirs:
        return [[0], *([index] for index in others), *[others] * (own - theirs)]
    size, more = divmod(len(others), own - 1)
    ends = list(itertools.accumulate(size + (turn < more) for turn in range(own - 1)))
    return [[0], *(others[begin:end] for begin, end in zip([0, *ends], ends))]


def prune_stem(old, new, told):
    block, own = old.blocks[0][0], new.blocks[0][0]
    filtered, _ = cells([block.bn1(block.conv_dw(some)) for some in told])
    matter = filtered.abs().mean(0) * block.conv_pw.weight[:, :, 0, 0].double().norm(dim=0)
    kept = best(matter, len(new.conv_stem.weight))
    new.conv_stem.weight.copy_(old.conv_stem.weight[kept])
    own.conv_dw.weight.copy_(block.conv_dw.weight[kept])
    copy_norm(new.bn1, [old.bn1], kept)
    copy_norm(own.bn1, [block.bn1], kept)
    return float(matter[kept].sum() / matter.sum())


def choose_columns(theirs, ours, stage, told):
    """None where the student's stage is as wide as the teacher's; else the channels that the rest
    reads most. `told` is what comes to the stage."""
    width, wide = (len(networks.linear(blocks[stage][-1]).weight) for blocks in (ours, theirs))
    if width > wide:
        raise SystemExit(
            f"stage {stage}: {width} channels cannot be taken from the teacher's {wide}"
        )
    if width == wide:
        return None
    readers = [
        *theirs[stage][1:],
        *(theirs[stage + 1][:1] if stage + 1 < len(theirs) else []),
    ]
    out, _ = cells([theirs[stage][0](some) for some in told])
    return best(
        out.std(0) * sum(expansion(reader)[:, :, 0, 0].double().norm(dim=0) for reader in readers),
        width,
    )


def channels(tensors, columns):
    """The channels `columns` of each; None: all."""
    return tensors if columns is None else [each[:, columns] for each in tensors]


def expansion(block):
    """The weights that read the block's input: those of an inverted residual, or of the single
    convolution that ends MobileNetV3."""
    return (block.conv_pw if hasattr(block, "conv_pw") else block.conv).weight


def take_expansion(block, source, columns, lateral):
    """The single convolution that ends the smaller network takes the channels that matter most to
    what reads them: the source's own end, or the decoder."""
    [weight] = channels([expansion(source)], columns)
    reader = source.conv_pwl if hasattr(source, "conv_pwl") else lateral
    kept = best(reader.weight[:, :, 0, 0].norm(dim=0), len(block.conv.weight))
    block.conv.weight.copy_(weight[kept])
    copy_norm(block.bn1, [source.bn1], kept)


def fit_block(block, sources, columns, own, wanted):
    """An inverted residual: the channels of `sources` that matter most, and its linear end
    fitted."""
    side, stride = block.conv_dw.kernel_size[0], block.conv_dw.stride
    weights = channels([source.conv_pw.weight for source in sources], columns)
    filters = [middle(source.conv_dw.weight, side) for source in sources]

    def expanded(some):
        parts = []
        for source, weight, kernel in zip(sources, weights, filters):
            part = source.bn1(F.conv2d(some, weight))
            before = (side - stride[0]) // 2
            part = F.pad(part, (before, side - stride[0] - before) * 2)
            parts.append(source.bn2(F.conv2d(part, kernel, stride=stride, groups=len(kernel))))
        return torch.cat(parts, 1)

    room = len(block.conv_dw.weight)
    inside, outside = cells([expanded(some) for some in own], rest(block, own, wanted))
    kept = best(inside.std(0) * least_squares(inside, outside)[0].norm(dim=1), room)
    block.conv_pw.weight[: len(kept)].copy_(torch.cat(weights)[kept])
    block.conv_dw.weight[: len(kept)].copy_(torch.cat(filters)[kept])
    copy_norm(block.bn1, [source.bn1 for source in sources], kept)
    copy_norm(block.bn2, [source.bn2 for source in sources], kept)
    return fit_linear(
        block,
        "conv_pwl",
        "bn3",
        lambda some: block.bn2(block.conv_dw(block.bn1(block.conv_pw(some)))),
        own,
        wanted,
    )


def fit_linear(block, convolution, norm, inside, own, wanted):
    """Sets the block's last convolution and its normalisation. Statistics are those measured, so
    that training may go on with them."""
    convolution, norm = getattr(block, convolution), getattr(block, norm)
    given, missing = cells([inside(some) for some in own], rest(block, own, wanted))
    weight, bias = least_squares(given, missing)
    out = given @ weight
    mean, variance = out.mean(0), out.var(0)
    convolution.weight.copy_(weight.T[:, :, None, None])
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean + bias)
    result, truth = cells([block(some) for some in own], wanted)
    return explained(truth, result)


def fit_decoder(teacher, student, images):
    own, told = (
        [student.features(some) for some in images],
        [teacher.features(some) for some in images],
    )
    weights = student.decoder.state_dict()
    weights.update(
        {
            key: value
            for key, value in teacher.decoder.state_dict().items()
            if weights[key].shape == value.shape
        }
    )
    student.decoder.load_state_dict(weights)
    student.head.load_state_dict(teacher.head.state_dict())
    for level, lateral in enumerate(student.decoder.laterals):
        given, wanted = cells(
            [some[level] for some in own],
            [teacher.decoder.laterals[level](some[level]) for some in told],
        )
        weight, bias = least_squares(given, wanted)
        lateral.weight.copy_(weight.T[:, :, None, None])
        lateral.bias.copy_(bias)
        yield f"lateral {level}", explained(wanted, given @ weight + bias)


def rest(block, own, wanted):
    """What is left for the block's own work when its input passes by it."""
    return [target - some for some, target in zip(own, wanted)] if block.has_skip else wanted


def cells(inputs, outputs=None, number=1500):
    """Some places of each batch, as rows: [places, channels] of the inputs and of the outputs at
    the same places."""
    generator = torch.Generator().manual_seed(1)
    columns = []
    for one, other in zip(inputs, outputs or inputs):
        chosen = torch.randperm(one.shape[0] * one.shape[2] * one.shape[3], generator=generator)[
            :number
        ]
        columns.append(
            [
                part.permute(0, 2, 3, 1).reshape(-1, part.shape[1])[chosen].double()
                for part in (one, other)
            ]
        )
    return [torch.cat(column) for column in zip(*columns)]


def least_squares(given, wanted, ridge=1e-3):
    """Weight and bias of wanted = given · weight + bias, held back a little where channels say the
    same."""
    mean, target = given.mean(0), wanted.mean(0)
    centred = given - mean
    square = centred.T @ centred
    square += ridge * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
    weight = torch.linalg.solve(square, centred.T @ (wanted - target))
    return weight, target - mean @ weight


def explained(wanted, result):
    return float(1 - ((wanted - result) ** 2).sum() / ((wanted - wanted.mean(0)) ** 2).sum())


def best(matter, number):
    return matter.argsort(descending=True)[:number].sort().values


def middle(kernels, side):
    """The middle of larger kernels; smaller ones with a border of zeros."""
    margin = (kernels.shape[-1] - side) // 2
    return F.pad(kernels, [-margin] * 4)


def copy_norm(norm, sources, kept):
    norm.eps = sources[0].eps
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(norm, name)[: len(kept)].copy_(
            torch.cat([getattr(source, name) for source in sources])[kept]
        )


if __name__ == "__main__":
    main()
