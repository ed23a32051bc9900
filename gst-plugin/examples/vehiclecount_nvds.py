"""Reads the vehicle count that vehiclecounternvmm leaves on frames of a DeepStream pipeline, beside
`pyds` or without it.

One file over ctypes: copy it, or put its folder on PYTHONPATH. It needs DeepStream's libraries and,
for `read_buffer`, PyGObject; not `pyds`. docs/deepstream.md lists the fields with their units.
Times are seconds here.

With pyds, in a probe:

    for count in vehiclecount_nvds.of_frame(frame_meta):  # pyds.NvDsFrameMeta
        print(count.camera, count.count)

Without, for a whole buffer:

    for count in vehiclecount_nvds.read_buffer(buffer):   # Gst.Buffer
        print(count.camera, count.count)

SPDX-License-Identifier: Apache-2.0
"""

import ctypes
import os
from array import array
from dataclasses import dataclass
from typing import Iterator, List, Optional, Tuple

TYPE_NAME = b"VEHICLECOUNT.COUNTER.FRAME_COUNT"
MAGIC = 0x544E4356
LEVELS = ("free", "moderate", "dense", "jammed")

COUNTED, STALE, PTS, CAPTURE_TIME = 1, 2, 4, 8


class _Region(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("corners", ctypes.POINTER(ctypes.c_double)),
        ("n_corners", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("level", ctypes.c_int32),
        ("reserved", ctypes.c_uint32),
        ("count", ctypes.c_double),
        ("smoothed", ctypes.c_double),
    ]


class _Count(ctypes.Structure):
    _fields_ = [
        ("magic", ctypes.c_uint32),
        ("version", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
        ("unique_id", ctypes.c_uint32),
        ("source_id", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("level", ctypes.c_int32),
        ("sequence", ctypes.c_uint64),
        ("pts", ctypes.c_uint64),
        ("capture_time", ctypes.c_uint64),
        ("age", ctypes.c_uint64),
        ("inference_time", ctypes.c_uint64),
        ("count", ctypes.c_double),
        ("smoothed", ctypes.c_double),
        ("camera", ctypes.c_char_p),
        ("model", ctypes.c_char_p),
        ("engine", ctypes.c_char_p),
        ("regions", ctypes.POINTER(_Region)),
        ("n_regions", ctypes.c_uint32),
        ("columns", ctypes.c_uint32),
        ("rows", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("cells", ctypes.POINTER(ctypes.c_float)),
        ("x", ctypes.c_double),
        ("y", ctypes.c_double),
        ("width", ctypes.c_double),
        ("height", ctypes.c_double),
        ("received_time", ctypes.c_uint64),
    ]


# The beginnings of DeepStream's own structures, the same in all versions since 5.0: enough to find
# frames and their user metadata.
class _List(ctypes.Structure):
    pass


_List._fields_ = [
    ("data", ctypes.c_void_p),
    ("next", ctypes.POINTER(_List)),
    ("previous", ctypes.POINTER(_List)),
]


class _BaseMeta(ctypes.Structure):
    _fields_ = [
        ("batch_meta", ctypes.c_void_p),
        ("meta_type", ctypes.c_int32),
        ("context", ctypes.c_void_p),
        ("copy_func", ctypes.c_void_p),
        ("release_func", ctypes.c_void_p),
    ]


class _BatchMeta(ctypes.Structure):
    _fields_ = [
        ("base", _BaseMeta),
        ("frames", ctypes.c_uint32 * 2),
        ("pools", ctypes.c_void_p * 6),
        ("frame_list", ctypes.POINTER(_List)),
    ]


class _FrameMeta(ctypes.Structure):
    _fields_ = [
        ("base", _BaseMeta),
        ("numbers", ctypes.c_uint8 * 80),
        ("user_list", ctypes.POINTER(_List)),
    ]


class _UserMeta(ctypes.Structure):
    _fields_ = [("base", _BaseMeta), ("data", ctypes.c_void_p)]


assert ctypes.sizeof(_Count) == 184 and ctypes.sizeof(_Region) == 48
assert (
    _BatchMeta.frame_list.offset == 96
    and _FrameMeta.user_list.offset == 120
    and _UserMeta.data.offset == 40
)


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
    source_id: int
    sequence: int
    unique_id: int
    pts: Optional[float]
    capture_time: Optional[float]  # since 1970
    received_time: float  # since 1970: when the frame reached the counter
    count: Optional[float]
    smoothed: Optional[float]
    level: Optional[str]
    stale: bool  # the count should have been this frame's own and is an older one
    age: float  # how much older
    regions: List[Region]
    density: Optional[Density]
    model: str
    engine: str
    inference_time: float


def _library(name):
    folders = [
        os.environ.get("VEHICLECOUNT_DEEPSTREAM"),
        "",
        "/opt/nvidia/deepstream/deepstream/lib",
    ]
    errors = []
    for folder in folders:
        if folder is None:
            continue
        try:
            return ctypes.CDLL(os.path.join(folder, name))
        except OSError as error:
            errors.append(str(error))
    raise OSError(f"DeepStream's {name} was not found: " + "; ".join(errors))


class _Libraries:
    """Opened at the first use, so that this module can be imported anywhere."""

    def __init__(self):
        self.meta = _library("libnvds_meta.so")
        self.meta.nvds_get_user_meta_type.argtypes = [ctypes.c_char_p]
        self.meta.nvds_get_user_meta_type.restype = ctypes.c_int32
        self.meta.nvds_acquire_meta_lock.argtypes = [ctypes.c_void_p]
        self.meta.nvds_acquire_meta_lock.restype = None
        self.meta.nvds_release_meta_lock.argtypes = [ctypes.c_void_p]
        self.meta.nvds_release_meta_lock.restype = None
        self.gst_meta = _library("libnvdsgst_meta.so")
        self.gst_meta.gst_buffer_get_nvds_batch_meta.argtypes = [ctypes.c_void_p]
        self.gst_meta.gst_buffer_get_nvds_batch_meta.restype = ctypes.c_void_p
        self.count_type = self.meta.nvds_get_user_meta_type(TYPE_NAME)


_libraries = None


def _open():
    global _libraries
    if _libraries is None:
        _libraries = _Libraries()
    return _libraries


def meta_type() -> int:
    """The number of our type of user metadata in this process."""
    return _open().count_type


def of_frame(frame) -> List[Count]:
    """The counts on a `pyds.NvDsFrameMeta`: one of each counter that it passed. Hold the batch's
    lock meanwhile."""
    import pyds

    counts = []
    item = frame.frame_user_meta_list
    while item is not None:
        count = from_user_meta(pyds.NvDsUserMeta.cast(item.data))
        if count is not None:
            counts.append(count)
        try:
            item = item.next
        except StopIteration:
            break
    return counts


def from_user_meta(user) -> Optional[Count]:
    """The count behind a `pyds.NvDsUserMeta`; None where it is another program's."""
    # pyds has an enum here, of which registered types are no members.
    if int(user.base_meta.meta_type) != meta_type():
        return None
    capsule = user.user_meta_data
    if capsule is None or isinstance(capsule, int):
        return from_address(capsule or 0)
    name = ctypes.pythonapi.PyCapsule_GetName
    name.argtypes, name.restype = [ctypes.py_object], ctypes.c_char_p
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.argtypes, pointer.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    return from_address(pointer(capsule, name(capsule)))


def from_address(address: int) -> Optional[Count]:
    """The count at `address`, the `user_meta_data` of a user meta of our type. Everything is copied
    out of it here and now."""
    if not address:
        return None
    count = _Count.from_address(address)
    if count.magic != MAGIC or count.version < 2:
        return None
    regions = [
        Region(
            name=region.name.decode(),
            polygon=[
                (region.corners[2 * i], region.corners[2 * i + 1]) for i in range(region.n_corners)
            ],
            **_counted(region),
        )
        for region in (count.regions[i] for i in range(count.n_regions))
    ]
    density = None
    if count.cells:
        cells = array("f", count.cells[: count.columns * count.rows])
        density = Density(
            count.columns, count.rows, (count.x, count.y, count.width, count.height), cells
        )
    return Count(
        camera=count.camera.decode(),
        source_id=count.source_id,
        sequence=count.sequence,
        unique_id=count.unique_id,
        pts=count.pts / 1e9 if count.flags & PTS else None,
        capture_time=count.capture_time / 1e9 if count.flags & CAPTURE_TIME else None,
        received_time=count.received_time / 1e9,
        stale=bool(count.flags & STALE),
        age=count.age / 1e9,
        regions=regions,
        density=density,
        model=count.model.decode(),
        engine=count.engine.decode(),
        inference_time=count.inference_time / 1e9,
        **_counted(count),
    )


def _counted(structure):
    if not structure.flags & COUNTED:
        return {"count": None, "smoothed": None, "level": None}
    return {
        "count": structure.count,
        "smoothed": structure.smoothed,
        "level": LEVELS[structure.level],
    }


def _items(first) -> Iterator[int]:
    while first:
        yield first.contents.data
        first = first.contents.next


def read_buffer(buffer) -> List[Count]:
    """The counts on all frames of a `Gst.Buffer`, in the batch's order."""
    libraries = _open()
    batch = libraries.gst_meta.gst_buffer_get_nvds_batch_meta(hash(buffer))
    if not batch:
        return []
    counts = []
    libraries.meta.nvds_acquire_meta_lock(batch)
    try:
        for frame in _items(_BatchMeta.from_address(batch).frame_list):
            for user in _items(_FrameMeta.from_address(frame).user_list):
                meta = _UserMeta.from_address(user)
                if meta.base.meta_type == libraries.count_type:
                    count = from_address(meta.data)
                    if count is not None:
                        counts.append(count)
    finally:
        libraries.meta.nvds_release_meta_lock(batch)
    return counts
