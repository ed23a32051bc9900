#!/usr/bin/env python3
"""Step 4: export a checkpoint to FP32 ONNX, with its manifest and a parity check.

    export.py --checkpoint checkpoints/mobilenetv3-large/best.pt --models models

`quantize.py` makes INT8 of it, and `verify.py` adds golden values.

The checkpoint may be of a program of your own, a ResNet with a feature pyramid: see "A network that
you have" in README.md.

    export.py --checkpoint mine.pth --name mine --expected mine.npz --models models-mine
"""

import argparse
import pathlib

import numpy as np
import torch

from vcount import folding, foreign, manifest, networks


def load(options):
    """The network of the checkpoint, and its recipe."""
    if foreign.is_own(options.checkpoint):
        return networks.load(options.checkpoint)
    path, rename = options.checkpoint, [part.split("=", 1) for part in options.rename]
    if any(len(part) != 2 for part in rename):
        raise SystemExit("--rename: PATTERN=NEW, as in '^encoder=backbone'")
    if options.expected:
        expected = np.load(options.expected)
        network, parts, error = foreign.agreeing(
            path, expected["images"], expected["counts"], options.density_scale, rename
        )
        print(f"{network.variant}: counts as its own code does, within {error:.2%}")
    else:
        network, parts = foreign.load(path, scale=options.density_scale, rename=rename)
        print(
            f"{path}: exported as {network.variant}, which the weights do not tell: give --expected, "
            "what its own code counts, to be sure"
        )
    if options.counter:
        options.counter.parent.mkdir(parents=True, exist_ok=True)
        foreign.save(options.counter, path, network, rename)
    for part, names in parts.items():
        print(f"{part}: {', '.join(name.removesuffix('.weight') for name in names)}")
    options.attribution = options.attribution or []
    options.licence = options.licence or "not stated"
    return network, {"recipe": {"name": options.name or "resnet50-fpn"}}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument(
        "--models", type=pathlib.Path, default=pathlib.Path(__file__).parent / "models"
    )
    parser.add_argument("--side", type=int, default=384, help="preferred size of the input, pixels")
    parser.add_argument("--version", default="0.1.0")
    parser.add_argument(
        "--attribution", nargs="*", help="whom the weights owe; default: that of the shipped model"
    )
    parser.add_argument(
        "--licence", help="of the weights; default: Apache-2.0, or `not stated` where not ours"
    )
    parser.add_argument(
        "--weights",
        action="store_true",
        help="put the checkpoint, without the trainer's state, beside the model, to go on from",
    )
    own = parser.add_argument_group("a checkpoint that train.py did not write")
    own.add_argument("--name", help="name of the model; default: resnet50-fpn")
    own.add_argument(
        "--expected",
        type=pathlib.Path,
        help="what its own code gives: .npz with images [N, 3, H, W], RGB 0..255, sides multiples "
        "of 32, and counts [N]; the variant of the network that agrees is taken",
    )
    own.add_argument(
        "--counter",
        type=pathlib.Path,
        metavar="FILE",
        help="also write the network as it was found, for train.py --counter to follow",
    )
    own.add_argument(
        "--density-scale",
        type=float,
        default=1.0,
        help="vehicles in a sum of 1 over its density, where training multiplied it",
    )
    own.add_argument(
        "--rename",
        nargs="+",
        default=[],
        metavar="PATTERN=NEW",
        help="regular expressions that name its parts so that they are found",
    )
    options = parser.parse_args()

    network, state = load(options)
    recipe = state["recipe"]
    side = options.side
    probe = torch.rand(2, 3, side, side) * 255
    with torch.no_grad():
        wanted = network(probe).numpy()
        folding.fix_padding(folding.fold(network))
        folded = network(probe).numpy()
    if np.abs(folded - wanted).max() > 1e-4:
        raise SystemExit(f"folding changed the density by {np.abs(folded - wanted).max()}")

    parameters = sum(each.numel() for each in network.parameters())
    options.models.mkdir(parents=True, exist_ok=True)
    name = recipe["name"]
    path = options.models / f"{name}.onnx"
    temporary = path.with_suffix(".tmp")
    folding.write(network, probe, temporary)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, side, side), (3, 3, 256, 416)):
        images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
        with torch.no_grad():
            wanted = network(torch.from_numpy(images)).numpy()
        got = session.run(["density"], {"images": images})[0]
        difference = abs(got.sum() - wanted.sum()) / max(wanted.sum(), 1)
        if got.shape != wanted.shape or difference > 1e-3:
            raise SystemExit(
                f"{temporary}: {got.shape}, count off by {difference:.2%} from PyTorch's {wanted.shape}"
            )
    temporary.replace(path)
    manifest.write(
        options.models,
        recipe,
        side,
        options.version,
        path,
        "fp32",
        manifest.ENGINES["fp32"],
        options.attribution,
        options.licence,
        parameters,
    )
    if options.weights:
        if "network" not in state:
            raise SystemExit("--weights: only of a checkpoint that train.py wrote")
        torch.save(
            {"network": state["network"], "recipe": recipe, "step": state["step"]},
            options.models / f"{name}.pt",
        )
    step = f", from step {state['step']}" if "step" in state else ""
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB{step}")


if __name__ == "__main__":
    main()
