#!/usr/bin/env python3
"""Step 2: train a density network.

    train.py --recipe recipes/mobilenetv3-large.toml --data DIR --out checkpoints/mobilenetv3-large

First, where the recipe says so, the backbone learns the features of an ImageNet network on every
picture at hand (distillation); then the network learns to count. Both go on from the checkpoints in
`--out` when they are started again.
"""

import argparse
import json
import pathlib
import time
import tomllib

import cv2
import numpy as np
import timm
import torch
from torch.nn import functional as F

from vcount import data, folding, foreign, networks, targets, training


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", type=pathlib.Path, required=True)
    parser.add_argument(
        "--data",
        type=pathlib.Path,
        required=True,
        nargs="+",
        help="folders with annotations.jsonl; their split val validates",
    )
    parser.add_argument(
        "--shares",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="how often pictures of each folder of --data are drawn; else by its number of scenes",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="folder of checkpoints and log"
    )
    parser.add_argument(
        "--correct",
        type=pathlib.Path,
        nargs="+",
        default=[],
        help="folders of --data whose labels replace what the --counter says; those of the others are then not looked at",
    )
    parser.add_argument(
        "--unlabelled",
        type=pathlib.Path,
        nargs="*",
        default=[],
        help="clips whose frames serve distillation",
    )
    parser.add_argument(
        "--teacher-weights",
        type=pathlib.Path,
        help="the teacher's weights (.safetensors); else timm fetches them",
    )
    parser.add_argument(
        "--counter",
        type=pathlib.Path,
        help="checkpoint of a trained network whose density and features the network follows",
    )
    parser.add_argument("--weights", type=pathlib.Path, help="a checkpoint to start from")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--distill-steps", type=int, help="instead of the recipe's")
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="other values of the recipe, as in train.ema=0.99",
    )
    parser.add_argument("--validate-every", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--bf16",
        action="store_true",
        help="compute in bfloat16 where that is safe: faster on processors that have it",
    )
    options = parser.parse_args()

    recipe = tomllib.loads(options.recipe.read_text())
    if options.steps:
        recipe["train"]["steps"] = options.steps
    if options.distill_steps is not None and "distill" in recipe:
        recipe["distill"]["steps"] = options.distill_steps
    for change in options.set:
        key, value = change.split("=", 1)
        *tables, last = key.split(".")
        table = recipe
        for name in tables:
            table = table[name]
        table[last] = tomllib.loads(f"value = {value}")["value"]
    if options.counter:
        follow(recipe, {change.partition("=")[0] for change in options.set})
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    cv2.setNumThreads(1)

    if options.shares and (len(options.shares) != len(options.data) or min(options.shares) <= 0):
        raise SystemExit(
            f"--shares: give each of the {len(options.data)} folders of --data a share above 0"
        )
    if recipe["train"].get("labels", 1.0) <= 0 and not options.counter:
        raise SystemExit(
            "train.labels is 0, and there is no --counter to follow: nothing would be learned"
        )
    closer = recipe["train"].get("closer", 1)
    if closer != 1 and not options.counter:
        raise SystemExit(
            "train.closer is for a --counter that looks closer than the network: give one, or leave it out"
        )
    if closer < 1 or any(view["side"] * closer % 32 for view in recipe["train"]["views"]):
        raise SystemExit(
            f"train.closer is {closer}: it must be 1 or more, and each view's side times it a multiple of 32"
        )
    if options.correct and not (options.counter and set(options.correct) <= set(options.data)):
        raise SystemExit("--correct: name folders of --data, and a --counter that they correct")
    folders = [data.load(folder, "train") for folder in options.data]
    if options.correct:
        # As if the others had no labels: there the counter is followed.
        for sample in (
            sample
            for name, folder in zip(options.data, folders)
            if name not in options.correct
            for sample in folder
        ):
            sample.mask = np.zeros((sample.height, sample.width), np.uint8)
    samples = [sample for folder in folders for sample in folder]
    pictures = [data.read(sample) for sample in samples]
    validation = [
        sample for folder in options.data for sample in data.load(folder, "val", required=False)
    ]
    if not validation:
        raise SystemExit(
            "--data: none of the folders has a picture of the split val, which chooses among checkpoints"
        )
    print(f"{len(samples)} pictures to train on, {len(validation)} to validate", flush=True)

    network = networks.DensityNetwork(recipe)
    if options.weights:
        take(network, networks.load(options.weights)[0], samples, pictures)
    else:
        # Statistics of batch normalisation hold for the activation that they were learned with.
        fit = from_imagenet(network, recipe, samples, pictures) and "activation" not in recipe
        if not fit and recipe["train"].get("freeze-after", 1.0) <= 0:
            raise SystemExit(
                f"{options.recipe}: batch normalisation is frozen from the first step (freeze-after = 0): start from --weights, or --set train.freeze-after=0.6"
            )
    network = network.to(memory_format=torch.channels_last)
    if options.bf16:
        networks.depthwise_in_float(network)
    frames = [(clip.stem, frame) for clip in options.unlabelled for frame in clip_frames(clip)]
    unlabelled = [
        data.Sample(
            clip,
            f.shape[1],
            f.shape[0],
            np.zeros((0, 4), np.float32),
            clip,
            "train",
            mask=np.zeros(f.shape[:2], np.uint8),
        )
        for clip, f in frames
    ]
    # Clips together are drawn as often as the least of the folders.
    data.weigh(
        [*folders, unlabelled],
        options.shares and [*options.shares, min(options.shares)],
        recipe["train"].get("kinds"),
    )
    everything, everywhere = samples + unlabelled, pictures + [frame for _, frame in frames]
    if options.counter:
        # What is seen outside the labels is worth as much as what the labels say.
        train(
            network,
            Counter(options.counter, recipe, network.channels),
            everything,
            everywhere,
            validation,
            recipe,
            options,
        )
        return
    teacher = Teacher(recipe, network, options.teacher_weights) if "distill" in recipe else None
    if teacher and recipe["distill"]["steps"]:
        distill(network, teacher, everything, everywhere, recipe, options)
    train(network, teacher, samples, pictures, validation, recipe, options)


FOLLOWED = {"distill": 1.0, "distill-until": 1.2}
"""How much a `--counter` says where nothing else is told, and the share of the steps at which it is
silent: never."""


def follow(recipe, changed):
    """Says in the recipe how its network follows a `--counter`. `changed`: the values of the recipe
    that the command line gives."""
    settings = recipe["train"]
    for key, value in FOLLOWED.items():
        # A recipe with a teacher of its own, an ImageNet network, means that one.
        if f"train.{key}" not in changed and ("distill" in recipe or key not in settings):
            settings[key] = value
    if settings["distill"] <= 0 or settings["distill-until"] <= 0:
        raise SystemExit(
            "train.distill or train.distill-until is 0: the --counter would not be followed; leave "
            "it out, or give a value above 0"
        )
    if settings.get("labels", 1.0) <= 0 and settings["distill-until"] < 1:
        raise SystemExit(
            f"train.labels is 0, and the --counter is silent after {settings['distill-until']} of "
            "the steps: nothing would be learned in the rest; --set train.distill-until=1.2"
        )


def from_imagenet(network, recipe, samples, pictures):
    """Starts from ImageNet weights: the recipe's `weights`, a file, or with `pretrained` timm's
    from the hub. False where there are none."""
    published = {**recipe, "squeeze-excitation": True}
    if recipe.get("weights"):
        before = networks.DensityNetwork(published)
        networks.load_backbone(before.backbone, pathlib.Path(recipe["weights"]))
    elif recipe.get("pretrained"):
        try:
            before = networks.DensityNetwork(published, pretrained=True)
        except Exception as error:  # timm raises whatever its hub client raises
            print(
                f"no pre-trained weights for {recipe['backbone']} ({type(error).__name__}): starting from scratch",
                flush=True,
            )
            return False
    else:
        return False
    take(network, before, samples, pictures)
    return True


def take(network, before, samples, pictures):
    """Takes the weights of another. Squeeze-and-excitation that it has and the network has not is
    folded into its convolutions; what the network has and the other has not begins with open
    gates."""
    if networks.gated(before.backbone) and not networks.gated(network.backbone):
        chosen = np.random.default_rng(1).permutation(len(samples))[:60]
        networks.fold_gates(
            before,
            (
                training.to_network(
                    torch.from_numpy(data.letterbox(pictures[i], side, side)[0])[None]
                )
                for side in (256, 384, 512)
                for i in chosen
            ),
        )
    weights = before.state_dict()
    if networks.gated(network.backbone) and not networks.gated(before.backbone):
        gates = {name: value for name, value in network.state_dict().items() if ".se." in name}
        network.load_state_dict({**weights, **gates})
        networks.open_gates(network)
    else:
        network.load_state_dict(weights)


class Teacher(torch.nn.Module):
    """A network with ImageNet features, and projections from the student's channels to its own."""

    def __init__(self, recipe, network, weights):
        super().__init__()
        settings = recipe["distill"]
        backbone = timm.create_model(
            settings["teacher"], features_only=True, pretrained=weights is None
        )
        if weights:
            networks.load_backbone(backbone, weights)
        self.backbone = backbone.eval().requires_grad_(False)
        strides = backbone.feature_info.reduction()
        self.levels = [strides.index(stride) for stride in (8, 16, 32)]
        channels = [backbone.feature_info.channels()[level] for level in self.levels]
        self.project = torch.nn.ModuleList(
            torch.nn.Conv2d(a, b, 1) for a, b in zip(network.channels[-3:], channels)
        )
        self.register_buffer("mean", torch.tensor(settings["mean"]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(settings["std"]).view(1, 3, 1, 1))

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images, features, _fused, _density, _known=None, _closer=None):
        """Mean squared error of the projected features, each teacher channel scaled to unit
        variance."""
        with torch.no_grad():
            wanted = self.backbone((images - self.mean) / self.std)
        loss = 0.0
        for level, project, feature in zip(self.levels, self.project, features[-3:]):
            target = wanted[level]
            mean, std = (
                target.mean((0, 2, 3), keepdim=True),
                target.std((0, 2, 3), keepdim=True) + 1e-4,
            )
            loss = loss + F.mse_loss(project(feature), (target - mean) / std)
        return loss / len(self.levels)


class Counter(torch.nn.Module):
    """A trained density network: its density and its features, everywhere, labelled or not."""

    def __init__(self, checkpoint, recipe, channels):
        super().__init__()
        self.network, width = foreign.counter(checkpoint)
        self.network = folding.fold(self.network.eval()).requires_grad_(False)
        self.mirror = recipe["train"].get("mirror", True)
        # Strides 8, 16 and 32 are those that every decoder looks at.
        own = [*channels[-3:], recipe.get("width", 64)]
        wanted = [*self.network.channels[-3:], width]
        self.project = torch.nn.ModuleList(torch.nn.Conv2d(a, b, 1) for a, b in zip(own, wanted))
        # Each channel in units of its spread over the first batches: over one batch, a channel that
        # is silent there would be nothing but noise.
        self.scales = torch.nn.ModuleList(
            torch.nn.BatchNorm2d(number, affine=False, momentum=None) for number in wanted
        )
        self.weights = recipe["train"]["loss"]

    def train(self, mode=True):
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, images, features, fused, density, known=None, closer=None):
        """Error of the projected features (smooth L1), of backbone and decoder, and the counting
        loss against the teacher's density.

        With `closer` or `known`, the teacher counts the mirror images too, those of `closer`, the
        same images larger, where that is given; the mean of both is its density, which is followed
        where the two agree (`agreement`). That takes as long again: `train.mirror = false` in the
        recipe leaves the mirror images of the same size out. Where the density is `known`, as
        density and the cells where that holds, the true density takes its place."""
        with torch.no_grad():
            levels = self.network.features(images)
            wanted = [*levels[-3:], self.network.decoder(levels)]
            told = self.network.count(wanted[-1])
            weight = torch.ones_like(told)
            if closer is not None or (known and self.mirror):
                other = training.regrid(
                    self.network((images if closer is None else closer).flip(3)).flip(3),
                    told.shape[2:],
                )
                weight, told = agreement(told, other), (told + other) / 2
            if known:
                target, labelled = known
                told = torch.lerp(told, target, labelled)
                weight = torch.maximum(weight, labelled)
        loss = 0.0
        for project, scale, own, level in zip(
            self.project, self.scales, [*features[-3:], fused], wanted
        ):
            # One decoder may be finer than the other.
            if own.shape[2:] != level.shape[2:]:
                side = tuple(min(sides) for sides in zip(own.shape[2:], level.shape[2:]))
                own, level = (F.adaptive_avg_pool2d(each, side) for each in (own, level))
            if scale.num_batches_tracked < 30:
                scale(level)
            target = F.batch_norm(level, scale.running_mean, scale.running_var)
            loss = loss + F.smooth_l1_loss(project(own), target) / len(wanted)
        return loss + training.counting_loss(density, told, weight, self.weights)


def agreement(one, other, block=4):
    """1 in the blocks of cells whose two counts differ by at most 0.15 vehicles and a quarter of
    the larger, else 0. [N, 1, H, W]"""
    a, b = (
        F.avg_pool2d(density, block, ceil_mode=True, divisor_override=1) for density in (one, other)
    )
    agree = ((a - b).abs() <= 0.15 + 0.25 * torch.maximum(a, b)).to(one)
    return F.interpolate(agree, scale_factor=block)[:, :, : one.shape[2], : one.shape[3]]


def shrink(images, target, labelled, factor):
    """Images as the network sees them, `factor` smaller than they were drawn, and their target and
    labelled share on the cells of that."""
    sides = [round(side / factor) for side in images.shape[2:]]
    small = F.interpolate(images, sides, mode="bilinear", antialias=True).contiguous(
        memory_format=torch.channels_last
    )
    cells = [side // targets.STRIDE for side in sides]
    return small, training.regrid(target, cells), training.regrid(labelled, cells) / factor**2


def clip_frames(path, every=24, limit=40):
    """Frames of a video clip, some apart."""
    video = cv2.VideoCapture(str(path))
    frames, number = [], 0
    while len(frames) < limit:
        there, frame = video.read()
        if not there:
            break
        if number % every == 0:
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        number += 1
    return frames


def precision(options):
    """What the network computes in: bfloat16 where the options say so and it is safe. Losses are
    for float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=options.bf16)


def distill(network, teacher, samples, pictures, recipe, options):
    path = options.out / "distilled.pt"
    settings = recipe["distill"]
    begin = 0
    parameters = [*network.backbone.parameters(), *teacher.project.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, settings["learning-rate"], weight_decay=recipe["train"]["weight-decay"]
    )
    rate = training.schedule(optimizer, settings["steps"], recipe["train"]["warmup"])
    if path.exists():
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        teacher.project.load_state_dict(state["project"])
        begin = state["step"]
        if begin >= settings["steps"]:
            return
        optimizer.load_state_dict(state["optimizer"])
        rate.load_state_dict(state["rate"])
    loader = training.batches(samples, pictures, recipe, options.seed + begin, options.workers)
    network.train()
    teacher.train()
    since, losses = time.time(), []
    for step in range(begin, settings["steps"]):
        images, _, _ = next(loader)
        images = training.to_network(images)
        with precision(options):
            features = network.features(images)
        loss = teacher(images, [feature.float() for feature in features], None, None)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        rate.step()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            print(
                f"distill {step + 1}/{settings['steps']} loss {np.mean(losses[-50:]):.4f} {(time.time() - since) / 50:.2f} s/step",
                flush=True,
            )
            since = time.time()
        if (step + 1) % 250 == 0 or step + 1 == settings["steps"]:
            training.save(
                path,
                {
                    "network": network.state_dict(),
                    "project": teacher.project.state_dict(),
                    "step": step + 1,
                    "optimizer": optimizer.state_dict(),
                    "rate": rate.state_dict(),
                },
            )


def train(network, teacher, samples, pictures, validation, recipe, options):
    settings = recipe["train"]
    path = options.out / "last.pt"
    backbone = list(network.backbone.parameters())
    others = [
        *network.decoder.parameters(),
        *network.head.parameters(),
        *(teacher.project.parameters() if teacher else ()),
    ]
    parameters = backbone + others
    # A backbone that knows many pictures forgets them for the few at hand if it may: let it learn
    # more slowly.
    groups = [
        {"params": others},
        {"params": backbone, "lr": settings["learning-rate"] * settings.get("backbone-rate", 1.0)},
    ]
    optimizer = torch.optim.AdamW(
        groups, settings["learning-rate"], weight_decay=settings["weight-decay"]
    )
    rate = training.schedule(optimizer, settings["steps"], settings["warmup"])
    average = (
        networks.DensityNetwork(recipe)
        .to(memory_format=torch.channels_last)
        .eval()
        .requires_grad_(False)
    )
    average.load_state_dict(network.state_dict())
    begin, best = 0, float("inf")
    if path.exists():
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        if teacher:
            teacher.project.load_state_dict(state["project"])
        optimizer.load_state_dict(state["optimizer"])
        rate.load_state_dict(state["rate"])
        begin, best = state["step"], state["best"]
    larger, batches = settings.get("closer", 1), settings.get("accumulate", 1)
    loader = training.batches(
        samples, pictures, recipe, options.seed + 7 + begin, options.workers, larger
    )
    since, losses = time.time(), []
    for step in range(begin, settings["steps"]):
        network.train()
        if step >= settings.get("freeze-after", 1.0) * settings["steps"]:
            # Batch normalisation as it will be at run time: what is trained is what counts.
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for _ in range(batches):
            images, target, labelled = next(loader)
            images, closer = training.to_network(images), None
            if larger > 1:
                closer = images
                images, target, labelled = shrink(closer, target, labelled, larger)
            with precision(options):
                features = network.features(images)
                fused = network.decoder(features)
                density = network.count(fused)
            features, fused, density = (
                [feature.float() for feature in features],
                fused.float(),
                density.float(),
            )
            loss = settings.get("labels", 1.0) * training.counting_loss(
                density, target, labelled, settings["loss"]
            )
            if teacher and settings.get("distill"):
                # Fades out: at the end the network is free.
                share = settings["distill"] * max(
                    0.0, 1.0 - step / (settings.get("distill-until", 0.7) * settings["steps"])
                )
                if share > 0:
                    loss = loss + share * teacher(
                        images,
                        features,
                        fused,
                        density,
                        (target, labelled) if options.correct else None,
                        closer,
                    )
            (loss / batches).backward()
            total += loss.item() / batches
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        rate.step()
        losses.append(total)
        with torch.no_grad():
            decay = min(settings["ema"], (step + 1) / (step + 10))
            for slow, fast in zip(average.state_dict().values(), network.state_dict().values()):
                slow.lerp_(fast, 1 - decay) if slow.dtype.is_floating_point else slow.copy_(fast)
        if (step + 1) % 50 == 0:
            print(
                f"train {step + 1}/{settings['steps']} loss {np.mean(losses[-50:]):.4f} {(time.time() - since) / 50:.2f} s/step",
                flush=True,
            )
            since = time.time()
        if (step + 1) % options.validate_every == 0 or step + 1 == settings["steps"]:
            result = training.validate(average, validation)
            kinds = " ".join(
                f"{kind} {entry.get('relative', entry['mae']):.2f}({entry['bias']:+.2f})"
                for kind, entry in result["per-kind"].items()
            )
            print(
                f"val at {step + 1}: score {result['score']:.3f} MAE {result['mae']:.3f} bias {result['bias']:+.3f} | {kinds}",
                flush=True,
            )
            with open(options.out / "log.jsonl", "a") as log:
                log.write(
                    json.dumps({"step": step + 1, "loss": float(np.mean(losses[-200:])), **result})
                    + "\n"
                )
            if result["score"] < best:
                best = result["score"]
                training.save(
                    options.out / "best.pt",
                    {
                        "network": average.state_dict(),
                        "recipe": recipe,
                        "step": step + 1,
                        "val": best,
                    },
                )
            training.save(
                path,
                {
                    "network": network.state_dict(),
                    "average": average.state_dict(),
                    "project": teacher.project.state_dict() if teacher else {},
                    "optimizer": optimizer.state_dict(),
                    "rate": rate.state_dict(),
                    "step": step + 1,
                    "best": best,
                },
            )
            since = time.time()
    training.save(
        options.out / "final.pt",
        {"network": average.state_dict(), "recipe": recipe, "step": settings["steps"]},
    )


if __name__ == "__main__":
    main()
