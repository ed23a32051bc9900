#!/usr/bin/env python3
"""After step 2, where it helps: take off the floor of a network's density.

    floor.py --checkpoint checkpoints/mine/best.pt [MORE.pt ...] --data DIR --out checkpoints/mine/floor.pt

Where it is in doubt, a network answers with a little density everywhere; over a whole picture that
is a vehicle or several. The floor, in vehicles per cell, is taken from every cell (the last layer's
bias, before the ReLU that keeps density from being negative). It is the one that brings the
smallest error on the pictures that the network was trained on, over all `--sizes`; the split `val`
is told beside it and does not choose.

Of several checkpoints that went on from the same one, the mean of their weights is taken first: it
is often better than each of them ("model soups", Wortsman et al. 2022).
"""

import argparse
import pathlib

import numpy as np
import torch

from vcount import data, metrics, networks, training

FLOORS = np.arange(0, 0.0155, 0.001)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument(
        "--data", type=pathlib.Path, required=True, help="folder with annotations.jsonl"
    )
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="the checkpoint with its floor taken off"
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[256, 384, 512],
        help="sides that pictures are letterboxed to",
    )
    parser.add_argument(
        "--pictures", type=int, default=300, help="how many of the split train choose"
    )
    options = parser.parse_args()

    network, state = networks.load(*options.checkpoint)
    samples = data.load(options.data, "train")
    samples = samples[:: -(-len(samples) // options.pictures)]
    errors = {
        split: errors_of(network, some, options.sizes)
        for split, some in (("train", samples), ("val", data.load(options.data, "val")))
    }
    for number, floor in enumerate(FLOORS):
        told = "; ".join(
            f"{split} "
            + ", ".join(f"{mae[number]:.3f} at {side}" for side, mae in zip(options.sizes, some))
            for split, some in errors.items()
        )
        print(f"floor {floor:.3f}: MAE {told}")
    chosen = float(FLOORS[errors["train"].mean(axis=0).argmin()])
    with torch.no_grad():
        network.head[-1].bias -= chosen / networks.UNIT
    training.save(options.out, {**state, "network": network.state_dict()})
    print(f"{options.out}: without {chosen:.3f} vehicles per cell")


def errors_of(network, samples, sizes):
    """MAE with each of `FLOORS` taken off: [sizes, floors]."""
    result = []
    for side in sizes:
        counts = [
            [metrics.count(np.maximum(density - floor, 0), sample, box) for floor in FLOORS]
            for sample, density, box in training.densities(network, samples, side)
        ]
        truths = np.array([sample.truth() for sample in samples])
        result.append(np.abs(np.array(counts) - truths[:, None]).mean(axis=0))
    return np.array(result)


if __name__ == "__main__":
    main()
