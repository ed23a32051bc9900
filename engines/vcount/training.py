"""What the steps that train share: batches, losses, rates of learning, averages, checkpoints, and
the error on pictures with labels."""

import math
import queue
import threading

import numpy as np
import torch
from torch.nn import functional as F

from . import augment, data, metrics, targets


class Loader:
    """Batches made ahead by threads."""

    def __init__(self, make, workers):
        self.queue = queue.Queue(4)
        for worker in range(workers):
            threading.Thread(target=self._work, args=(make(worker),), daemon=True).start()

    def _work(self, draw):
        while True:
            self.queue.put(draw())

    def __next__(self):
        return self.queue.get()


def batches_of(folders, recipe, seed, workers=1):
    """Batches from the pictures of `folders` to train on, as training without shares draws them."""
    folders = [data.load(folder, "train") for folder in folders]
    data.weigh(folders, kinds=recipe["train"].get("kinds"))
    samples = [sample for folder in folders for sample in folder]
    return batches(samples, [data.read(sample) for sample in samples], recipe, seed, workers)


def batches(samples, pictures, recipe, seed, workers, larger=1):
    def make(worker):
        crops = augment.Crops(samples, pictures, recipe, seed * 1000 + worker, larger)

        def draw():
            drawn = crops.batch()
            images, target, labelled = (np.stack(part) for part in zip(*drawn))
            return (
                torch.from_numpy(images),
                torch.from_numpy(target)[:, None],
                torch.from_numpy(labelled)[:, None],
            )

        return draw

    return Loader(make, workers)


def to_network(images):
    return images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)


def schedule(optimizer, steps, warmup):
    """Up in a line, then down in a half cosine."""

    def factor(step):
        return (
            step / warmup
            if step < warmup
            else 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
        )

    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(factor(step + 1), 1e-3))


def save(path, content):
    """Whole or not at all, in a folder that is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    temporary.replace(path)


def counting_loss(density, target, labelled, weights):
    """Per cell, per block of cells, and per picture, all inside the labelled area."""
    density, target = density * labelled, target * labelled
    scale = 10.0
    cells = (
        F.mse_loss(density * scale, target * scale, reduction="sum")
        / labelled.sum().clamp(min=1)
        * 10
    )
    blocks = 0.0
    for size in (size for size in (4, 8, 16) if size <= min(density.shape[2:])):
        seen = F.avg_pool2d(density, size) * size * size
        true = F.avg_pool2d(target, size) * size * size
        blocks = blocks + F.smooth_l1_loss(seen, true, beta=0.25)
    counted, truth = density.sum((1, 2, 3)), target.sum((1, 2, 3))
    count = ((counted - truth).abs() / (truth + 2.0)).mean()
    loss = weights["density"] * cells + weights["blocks"] * blocks + weights["count"] * count
    if weights.get("quiet"):
        # Density where nothing is, in relation to the vehicles: the other terms hardly feel a
        # little of it everywhere.
        loss = (
            loss
            + weights["quiet"] * ((density * (target < 1e-3)).sum((1, 2, 3)) / (truth + 2.0)).mean()
        )
    if weights.get("transport"):
        loss = loss + weights["transport"] * transport_loss(density[:, 0], target[:, 0])
    return loss


def transport_loss(density, target, blur=10.0, rounds=40):
    """Optimal transport of counted to true vehicles, both as shares of their sums, as in DM-Count
    (Wang et al. 2020): mean squared way in cells, blurred by entropy. Sinkhorn's iterations (Cuturi
    2013), whose kernel exp(-distance² / blur) is one along rows times one along columns. Pictures
    without vehicles cost nothing. [N, H, W]"""
    some = target.sum((1, 2)) > 0.5
    if not some.any():
        return density.sum() * 0.0
    density, target = density[some], target[some]
    total = density.sum((1, 2), keepdim=True) + 1e-6
    with torch.no_grad():

        def kernel(cells):
            place = torch.arange(cells, dtype=torch.float64)
            return torch.exp(-((place[:, None] - place[None]) ** 2) / blur)

        down, across = kernel(density.shape[1]), kernel(density.shape[2])
        counted = (density / total).double() + 1e-9
        true = (target / target.sum((1, 2), keepdim=True)).double() + 1e-9
        counted, true = (
            counted / counted.sum((1, 2), keepdim=True),
            true / true.sum((1, 2), keepdim=True),
        )
        left = torch.ones_like(counted)
        for _ in range(rounds):
            right = true / (down @ left @ across)
            left = counted / (down @ right @ across)
        # What a little more mass in each cell would cost; a constant changes nothing.
        price = blur * left.log()
        price = (price - (price * counted).sum((1, 2), keepdim=True)).float()
    return (price * density / total.detach()).sum((1, 2)).mean()


def regrid(density, shape):
    """Density [..., H, W] on another grid over the same area: of each cell, every new one gets the
    part that lies in it, and the sum stays."""
    down, across = (
        torch.from_numpy(targets.shares(np.linspace(0, cells, wanted + 1), cells)).to(density)
        for cells, wanted in zip(density.shape[-2:], shape)
    )
    return down @ density @ across.T


def densities(network, samples, side):
    """Each sample, the network's density of it at `side` x `side`, and where the picture lies in
    the input."""
    for sample in samples:
        image, box = data.letterbox(data.read(sample), side, side)
        with torch.inference_mode():
            density = network(to_network(torch.from_numpy(image)[None]))[0, 0].numpy()
        yield sample, density, box


def validate(network, samples, side=384):
    """Error of the counts inside the labelled area, at `side` x `side`, as `metrics.report` has
    it."""
    return metrics.report(
        [
            metrics.line(density, sample, box)
            for sample, density, box in densities(network, samples, side)
        ]
    )
