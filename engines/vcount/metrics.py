"""Errors of counts: MAE, RMSE, bias and GAME. `pipelines/src/eval/metrics.rs` is the twin of this
file."""

import numpy as np

from . import targets


def area(sample, box):
    """The labelled area in cells of the density grid: x0, y0, x1, y1. `box` is where the picture
    lies in the input, in pixels."""
    left, top, w, h = box
    x, y, rw, rh = sample.roi or (0, 0, sample.width, sample.height)
    sx, sy = w / sample.width, h / sample.height
    return (
        np.array([left + x * sx, top + y * sy, left + (x + rw) * sx, top + (y + rh) * sy])
        / targets.STRIDE
    )


def parts(density, sample, box, level):
    """Vehicles counted in each of the 2^level x 2^level equal parts of the labelled area, cells
    shared out by coverage.

    Without a `roi` the outer parts reach to the ends of the grid: the count is the sum of all
    cells, as the element reports it for the whole frame, and what a network sees in the letterbox's
    border counts as an error. A `roi` is a region: it ends at the picture's edge.
    """
    x0, y0, x1, y1 = area(sample, box)
    rows, columns = density.shape
    if sample.mask is not None:
        density = density * masked(sample, box, columns, rows)
    across, down = np.linspace(x0, x1, 2**level + 1), np.linspace(y0, y1, 2**level + 1)
    if sample.roi is None:
        across[0], across[-1], down[0], down[-1] = 0, columns, 0, rows
    return (
        targets.shares(down, rows) @ density.astype(np.float64) @ targets.shares(across, columns).T
    )


def masked(sample, box, columns, rows):
    """Share of each cell in which labels are complete, by exact area."""
    left, top, w, h = box
    across = targets.shares(
        (np.arange(columns + 1) * targets.STRIDE - left) * (sample.width / w), sample.width
    )
    down = targets.shares(
        (np.arange(rows + 1) * targets.STRIDE - top) * (sample.height / h), sample.height
    )
    cell = targets.STRIDE**2 * (sample.width / w) * (sample.height / h)
    return down @ sample.mask.astype(np.float64) @ across.T / cell


def true_parts(sample, level):
    """Vehicles whose centre lies in each part of the labelled area."""
    x, y, w, h = sample.roi or (0, 0, sample.width, sample.height)
    centres = sample.centres()
    if sample.roi is None:
        centres = np.clip(centres, 0, [sample.width - 1e-3, sample.height - 1e-3])
    cells = np.floor((centres - [x, y]) / [w, h] * 2**level).astype(int)
    inside = ((cells >= 0) & (cells < 2**level)).all(axis=1)
    grid = np.zeros((2**level, 2**level))
    np.add.at(grid, (cells[inside, 1], cells[inside, 0]), 1)
    return grid


def game(density, sample, box, level):
    """Grid average mean absolute error of one picture (Guerrero-Gómez-Olmedo et al. 2015): the
    labelled area in 4^level equal parts that do not overlap, their absolute errors added. Level 0
    is the absolute error of the count."""
    return float(np.abs(parts(density, sample, box, level) - true_parts(sample, level)).sum())


def count(density, sample, box):
    """Vehicles counted inside the labelled area."""
    return float(parts(density, sample, box, 0)[0, 0])


def summary(counts, truths):
    """MAE, RMSE and bias; MAE as a share of the mean true count; the share of the vehicles that is
    counted (above 1 where too many are); the error of always answering the mean. Without vehicles
    there are no shares; `most` is the largest count."""
    counts, truths = np.asarray(counts, float), np.asarray(truths, float)
    error = counts - truths
    mean = truths.mean()
    return {
        "images": len(counts),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "bias": float(error.mean()),
        "truth-mean": float(mean),
        "mean-baseline-mae": float(np.abs(truths - mean).mean()),
        **(
            {
                "relative": float(np.abs(error).mean() / mean),
                "counted": float(counts.sum() / truths.sum()),
            }
            if mean > 0
            else {"most": float(counts.max())}
        ),
    }


def line(density, sample, box):
    """What `report` asks of one picture."""
    return {
        "scene": sample.scene,
        "kind": sample.kind,
        "count": count(density, sample, box),
        "truth": sample.truth(),
    }


def report(lines):
    """Summary over pictures, over the kinds of view and over the scenes that they come from; each
    line has count, truth, kind and scene, and game1 to game3 where those are wanted."""

    def one(some):
        result = summary([line["count"] for line in some], [line["truth"] for line in some])
        for level in (1, 2, 3):
            if f"game{level}" in some[0]:
                result[f"game{level}"] = float(np.mean([line[f"game{level}"] for line in some]))
        return result

    result = one(lines)
    for key in ("kind", "scene"):
        result[f"per-{key}"] = {
            name: one([line for line in lines if line[key] == name])
            for name in sorted({line[key] for line in lines})
        }
    result["score"] = score(lines)
    return result


def score(lines):
    """One number to choose a network by, lower is better: the relative error of each kind of view,
    scenes weighing alike, then the mean over kinds. A kind without vehicles adds a tenth of what is
    counted in a picture. So neither a scene of many pictures nor one of many vehicles decides."""
    kinds = {}
    for line in lines:
        kinds.setdefault(line["kind"], {}).setdefault(line["scene"], []).append(
            (line["count"], line["truth"])
        )
    parts = []
    for scenes in kinds.values():
        error = np.mean(
            [np.mean([abs(count - truth) for count, truth in some]) for some in scenes.values()]
        )
        mean = np.mean([np.mean([truth for _, truth in some]) for some in scenes.values()])
        parts.append(error / mean if mean > 0 else 0.1 * error)
    return float(np.mean(parts))
