"""The heat scale is one, in Rust and in Python."""

import json
import pathlib
import re

import numpy as np
import pytest

from vcount import heat

RUST = pathlib.Path(__file__).parents[2] / "core" / "src" / "heat.rs"


def constant(name):
    """The value of a constant of `heat.rs`."""
    return json.loads(re.search(rf"const {name}: [^=]+=\s*(.+?);", RUST.read_text(), re.S)[1])


def test_scale_is_that_of_the_overlay():
    assert heat.WARM == constant("WARM")
    assert heat.COLOURS == constant("COLORS")


def test_heat_rises_with_density_and_runs_through_the_colours():
    heats = heat.of_density(np.array([0, -1, heat.WARM, 0.1, 0.2, 1e9]))
    assert heats[:3] == pytest.approx([0, 0, 0.632], abs=1e-3)
    assert heats[3] < heats[4] < 1 and heats[5] == 1
    assert heat.colour(np.array([0, 1 / 3, 0.5, 1, 2])) == pytest.approx(
        np.array([heat.COLOURS[0], heat.COLOURS[1], [0.5, 0.85, 0.425], *[heat.COLOURS[3]] * 2])
    )
