"""Stands in for pyds, NVIDIA's bindings: as much of it as reading user metadata takes, over ctypes
and the layout of tests/deepstream/include.

What pybind11 makes of C is kept: a `void *` is a capsule without a name, or None; a list ends with
None; the type of metadata is an enum that compares with numbers and may hold one that is no member.

SPDX-License-Identifier: Apache-2.0
"""

import ctypes
import os

_new = ctypes.pythonapi.PyCapsule_New
_new.argtypes, _new.restype = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p], ctypes.py_object
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.argtypes, _pointer.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p

_folder = os.environ["VEHICLECOUNT_DEEPSTREAM"]
_meta = ctypes.CDLL(os.path.join(_folder, "libnvds_meta.so"))
_gst_meta = ctypes.CDLL(os.path.join(_folder, "libnvdsgst_meta.so"))
_gst_meta.gst_buffer_get_nvds_batch_meta.argtypes = [ctypes.c_void_p]
_gst_meta.gst_buffer_get_nvds_batch_meta.restype = ctypes.c_void_p
for _function in (_meta.nvds_acquire_meta_lock, _meta.nvds_release_meta_lock):
    _function.argtypes, _function.restype = [ctypes.c_void_p], None


def _at(address, offset, kind):
    return kind.from_address(address + offset).value


class _Structure:
    def __init__(self, address):
        self._address = address

    @classmethod
    def cast(cls, data):
        return cls(data if isinstance(data, int) else _pointer(data, None))

    def _capsule(self, offset):
        address = _at(self._address, offset, ctypes.c_void_p)
        return _new(address, None, None) if address else None

    def _list(self, offset):
        address = _at(self._address, offset, ctypes.c_void_p)
        return GList(address) if address else None


class GList(_Structure):
    data = property(lambda self: self._capsule(0))
    next = property(lambda self: self._list(8))


class NvDsMetaType:
    def __init__(self, value):
        self._value = value

    def __int__(self):
        return self._value

    def __eq__(self, other):
        return self._value == int(other)

    __hash__ = None


class NvDsBaseMeta(_Structure):
    meta_type = property(lambda self: NvDsMetaType(_at(self._address, 8, ctypes.c_int32)))


class _Meta(_Structure):
    base_meta = property(lambda self: NvDsBaseMeta(self._address))


class NvDsBatchMeta(_Meta):
    frame_meta_list = property(lambda self: self._list(96))


class NvDsFrameMeta(_Meta):
    source_id = property(lambda self: _at(self._address, 72, ctypes.c_uint32))
    frame_user_meta_list = property(lambda self: self._list(120))


class NvDsUserMeta(_Meta):
    user_meta_data = property(lambda self: self._capsule(40))


def gst_buffer_get_nvds_batch_meta(buffer):
    address = _gst_meta.gst_buffer_get_nvds_batch_meta(buffer)
    return NvDsBatchMeta(address) if address else None


def nvds_acquire_meta_lock(batch):
    _meta.nvds_acquire_meta_lock(batch._address)


def nvds_release_meta_lock(batch):
    _meta.nvds_release_meta_lock(batch._address)
