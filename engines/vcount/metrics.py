"""Errors of counts: MAE, RMSE, bias and GAME."""

import numpy as np


def roi_coverage(sample, box, columns, rows):
    """Share of each cell that lies inside the sample's labelled area; `box` is where the picture lies in the input, in pixels."""
    from . import targets

    left, top, w, h = box
    x, y, rw, rh = sample.roi or (0, 0, sample.width, sample.height)
    sx, sy = w / sample.width, h / sample.height
    if sample.roi is None:
        return np.ones((rows, columns), np.float32)
    rect = np.array([left + x * sx, top + y * sy, left + (x + rw) * sx, top + (y + rh) * sy]) / targets.STRIDE
    return targets.coverage(rect, columns, rows)


def game(density, centres, level):
    """Grid average mean absolute error of one picture (Guerrero-Gomez-Olmo et al. 2015): the labelled area in 4^level equal parts, the
    absolute errors of the parts added. `density` is cells of the area with their place in 0..1 of it; `centres` are in 0..1 too."""
    parts = 2**level
    values, xs0, ys0, xs1, ys1 = density
    total = 0.0
    for row in range(parts):
        for column in range(parts):
            x0, x1, y0, y1 = column / parts, (column + 1) / parts, row / parts, (row + 1) / parts
            across = np.clip(np.minimum(xs1, x1) - np.maximum(xs0, x0), 0, None) / (xs1 - xs0)
            down = np.clip(np.minimum(ys1, y1) - np.maximum(ys0, y0), 0, None) / (ys1 - ys0)
            # Density in the letterbox's border belongs to no part; it is counted in MAE alone.
            counted = float((values * np.outer(down, across)).sum())
            inside = (centres[:, 0] >= x0) & (centres[:, 0] < x1) & (centres[:, 1] >= y0) & (centres[:, 1] < y1)
            total += abs(counted - inside.sum())
    return total


def summary(counts, truths):
    """MAE, RMSE, bias, and the error of always answering the mean."""
    counts, truths = np.asarray(counts, float), np.asarray(truths, float)
    error = counts - truths
    return {
        "images": len(counts), "mae": float(np.abs(error).mean()), "rmse": float(np.sqrt((error**2).mean())),
        "bias": float(error.mean()), "truth-mean": float(truths.mean()), "mean-baseline-mae": float(np.abs(truths - truths.mean()).mean()),
    }
