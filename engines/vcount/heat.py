"""The heat scale of the overlay and of pictures of an evaluation, as in `core/src/heat.rs`."""

import numpy as np

WARM = 0.07
"""Density, in vehicles per cell, at which heat has gone 63 % of the way from cold to hot."""

COLOURS = [[0.1, 0.25, 0.95], [0.0, 0.85, 0.75], [1.0, 0.85, 0.1], [1.0, 0.15, 0.1]]
"""Colours from cold to hot at equal steps of heat: red, green and blue in 0..1."""


def of_density(density):
    """The heat of densities, from 0 for none towards 1."""
    return 1 - np.exp(-np.maximum(density, 0) / WARM)


def colour(heat):
    """The colours of an array of heat: one more axis, of red, green and blue in 0..1."""
    steps = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(heat, steps, channel) for channel in np.transpose(COLOURS)], axis=-1)
