"""Density targets whose sum is the number of vehicles."""

import numpy as np

STRIDE = 8
"""Input pixels per density cell."""


def _mass(centre, sigma, cells):
    """Share of a Gaussian's mass in each of `cells` unit cells, all of it inside: what would fall
    outside is given to the inside."""
    edges = (np.arange(cells + 1) - centre) / (sigma * np.sqrt(2.0))
    share = np.diff(_erf(edges))
    return share / max(share.sum(), 1e-9)


def _erf(x):
    """Abramowitz and Stegun 7.1.26, within 1.5e-7."""
    t = 1.0 / (1.0 + 0.3275911 * np.abs(x))
    poly = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    return np.sign(x) * (1.0 - poly * np.exp(-x * x))


def density(boxes, width, height, spread=0.2, widest=np.inf):
    """Density of `boxes` (x, y, w, h in input pixels) on the grid of a `width` x `height` input,
    vehicles per cell.

    Each vehicle whose centre lies inside is a Gaussian of sum 1, its sigma `spread` of the box's
    sides, at least 0.6 cells and at most `widest`.
    """
    columns, rows = width // STRIDE, height // STRIDE
    target = np.zeros((rows, columns), np.float32)
    for x, y, w, h in boxes:
        cx, cy = (x + w / 2) / STRIDE, (y + h / 2) / STRIDE
        if not (0 <= cx < columns and 0 <= cy < rows):
            continue
        horizontal = _mass(cx, np.clip(spread * w / STRIDE, 0.6, widest), columns)
        vertical = _mass(cy, np.clip(spread * h / STRIDE, 0.6, widest), rows)
        target += np.outer(vertical, horizontal).astype(np.float32)
    return target


def shares(edges, cells):
    """Share of each of `cells` unit cells that lies between each pair of neighbouring edges: [edges
    - 1, cells]."""
    edges, begin = np.asarray(edges), np.arange(cells)
    return np.clip(
        np.minimum(begin + 1, edges[1:, None]) - np.maximum(begin, edges[:-1, None]), 0, 1
    )


def coverage(rect, columns, rows):
    """Share of each cell of a `columns` x `rows` grid that lies inside `rect` (x0, y0, x1, y1 in
    cells)."""
    x0, y0, x1, y1 = rect
    return np.outer(shares([y0, y1], rows), shares([x0, x1], columns)).astype(np.float32)


COUNTED, NOTHING = 0.4, 0.15
"""Of a vehicle that the edge cuts: from which share on it counts, and up to which it is nothing. In
between, nothing is learned there. People who label count a vehicle when about a third of it shows;
where the edge is a picture's own, their box holds what shows already."""


def cut(boxes, seen):
    """Boxes (x, y, w, h) of which only what lies in `seen` (x0, y0, x1, y1) shows: the part that
    shows of those that count, and of those that are in doubt. A point, a box of no size, counts
    where it lies inside."""
    boxes = np.asarray(boxes, np.float32)
    corner, end = (
        np.maximum(boxes[:, :2], seen[:2]),
        np.minimum(boxes[:, :2] + boxes[:, 2:], seen[2:]),
    )
    shown = np.concatenate([corner, np.maximum(end - corner, 0)], axis=1)
    size = boxes[:, 2] * boxes[:, 3]
    inside = ((boxes[:, :2] >= seen[:2]) & (boxes[:, :2] < seen[2:])).all(axis=1)
    share = np.where(size > 0, shown[:, 2] * shown[:, 3] / np.maximum(size, 1e-9), inside)
    return shown[share >= COUNTED], shown[(share > NOTHING) & (share < COUNTED)]
