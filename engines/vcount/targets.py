"""Density targets whose sum is the number of vehicles."""

import numpy as np

STRIDE = 8
"""Input pixels per density cell."""


def _mass(centre, sigma, cells):
    """Share of a Gaussian's mass in each of `cells` unit cells, all of it inside: what would fall outside is given to the inside."""
    edges = (np.arange(cells + 1) - centre) / (sigma * np.sqrt(2.0))
    share = np.diff(_erf(edges))
    return share / max(share.sum(), 1e-9)


def _erf(x):
    """Abramowitz and Stegun 7.1.26, within 1.5e-7."""
    t = 1.0 / (1.0 + 0.3275911 * np.abs(x))
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1.0 - poly * np.exp(-x * x))


def density(boxes, width, height, spread=0.2):
    """Density of `boxes` (x, y, w, h in input pixels) on the grid of a `width` x `height` input, vehicles per cell.

    Each vehicle whose centre lies inside is a Gaussian of sum 1, its sigma `spread` of the box's sides, at least 0.6 cells.
    """
    columns, rows = width // STRIDE, height // STRIDE
    target = np.zeros((rows, columns), np.float32)
    for x, y, w, h in boxes:
        cx, cy = (x + w / 2) / STRIDE, (y + h / 2) / STRIDE
        if not (0 <= cx < columns and 0 <= cy < rows):
            continue
        horizontal = _mass(cx, max(spread * w / STRIDE, 0.6), columns)
        vertical = _mass(cy, max(spread * h / STRIDE, 0.6), rows)
        target += np.outer(vertical, horizontal).astype(np.float32)
    return target


def shares(edges, cells):
    """Share of each of `cells` unit cells that lies between each pair of neighbouring edges: [edges - 1, cells]."""
    edges, begin = np.asarray(edges), np.arange(cells)
    return np.clip(np.minimum(begin + 1, edges[1:, None]) - np.maximum(begin, edges[:-1, None]), 0, 1)


def coverage(rect, columns, rows):
    """Share of each cell of a `columns` x `rows` grid that lies inside `rect` (x0, y0, x1, y1 in cells)."""
    x0, y0, x1, y1 = rect
    return np.outer(shares([y0, y1], rows), shares([x0, x1], columns)).astype(np.float32)
