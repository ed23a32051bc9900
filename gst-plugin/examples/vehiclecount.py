"""Reads VehicleCountMeta, the vehicle count on a Gst.Buffer.

One file that needs PyGObject with GStreamer's overrides (packages python3-gi and python3-gst-1.0):
copy it, or put its folder on PYTHONPATH. docs/metadata.md lists the fields with their units. Times
are seconds here.

SPDX-License-Identifier: Apache-2.0
"""

import sys
from array import array
from dataclasses import dataclass
from typing import List, Optional, Tuple

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

NAME = "VehicleCountMeta"


@dataclass(frozen=True)
class Region:
    """A count inside a polygon. `count`, `smoothed` and `level` are None before the first count."""

    name: str
    polygon: List[Tuple[float, float]]  # corners in 0..1 of the frame
    count: Optional[float]
    smoothed: Optional[float]
    level: Optional[str]  # free, moderate, dense or jammed


@dataclass(frozen=True)
class Density:
    """Vehicles per cell, row by row; with NumPy:
    `numpy.frombuffer(density.cells, "f4").reshape(density.rows, density.columns)`."""

    columns: int
    rows: int
    rect: Tuple[
        float, float, float, float
    ]  # x, y, width, height of the grid in the frame, which spans 0..1
    cells: array


@dataclass(frozen=True)
class Count:
    """What was counted in a frame. `count`, `smoothed` and `level` are None before the first
    count."""

    camera: str
    sequence: int
    unique_id: int
    pts: Optional[float]
    capture_time: Optional[float]  # since 1970, by the camera's clock
    received_time: float  # since 1970, when the frame reached the counter
    count: Optional[float]
    smoothed: Optional[float]
    level: Optional[str]
    stale: bool  # the count should have been this frame's own and is an older one
    confirmed: bool  # the frame does not differ from the counted picture and keeps its count
    age: float  # how much older
    regions: List[Region]
    density: Optional[Density]
    model: str
    engine: str
    inference_time: float


def read(buffer: Gst.Buffer) -> Optional[Count]:
    """The count on `buffer`, or None. Where several counters left theirs: the first (PyGObject
    reaches no other)."""
    # Asking for a name that no plugin has registered is a critical warning.
    meta = buffer.get_custom_meta(NAME) if Gst.Meta.get_info(NAME) else None
    # The structure lives in the buffer, so everything is taken out of it here and now.
    return _count(meta.get_structure()) if meta else None


def _get(structure, name):
    return structure.get_value(name) if structure.has_field(name) else None


def _seconds(structure, name):
    time = _get(structure, name)
    return None if time is None else time / Gst.SECOND


def _array(structure, name):
    return list(structure.get_value(name))


def _counted(structure):
    return {
        "count": _get(structure, "count"),
        "smoothed": _get(structure, "count-smoothed"),
        "level": _get(structure, "level"),
    }


def _region(structure):
    corners = _array(structure, "polygon")
    return Region(
        name=structure.get_value("name"),
        polygon=list(zip(corners[::2], corners[1::2])),
        **_counted(structure),
    )


def _density(structure):
    if not structure.has_field("density"):
        return None
    cells = array("f", structure.get_value("density").get_data())
    if sys.byteorder == "big":
        cells.byteswap()
    rect = tuple(structure.get_value(f"density-{side}") for side in ("x", "y", "width", "height"))
    return Density(
        structure.get_value("density-columns"), structure.get_value("density-rows"), rect, cells
    )


def _count(structure):
    return Count(
        camera=structure.get_value("camera"),
        sequence=structure.get_value("sequence"),
        unique_id=structure.get_value("unique-id"),
        pts=_seconds(structure, "pts"),
        capture_time=_seconds(structure, "capture-time"),
        received_time=_seconds(structure, "received-time"),
        stale=structure.get_value("stale"),
        confirmed=structure.get_value("confirmed"),
        age=_seconds(structure, "age"),
        regions=[_region(region) for region in _array(structure, "regions")],
        density=_density(structure),
        model=structure.get_value("model"),
        engine=structure.get_value("engine"),
        inference_time=_seconds(structure, "inference-time"),
        **_counted(structure),
    )
