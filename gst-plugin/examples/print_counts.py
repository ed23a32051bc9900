#!/usr/bin/env python3
"""Prints the counts that pass through a pipeline, from Python.

    ./print_counts.py "vehicletestsrc num-buffers=50 ! vehiclecounter ! fakesink name=out"

The counts are read on the sink pad of the element called `out`.

SPDX-License-Identifier: Apache-2.0
"""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

import vehiclecount  # noqa: E402

DEFAULT = "vehicletestsrc num-buffers=50 ! vehiclecounter ! fakesink name=out"


def print_count(_pad, info):
    count = vehiclecount.read(info.get_buffer())
    if count is None:
        return Gst.PadProbeReturn.OK
    line = f"{count.camera} frame {count.sequence}: "
    if count.count is None:
        line += "not counted yet"
    else:
        line += f"{count.count:.2f} vehicles (smoothed {count.smoothed:.2f}), {count.level}"
        if count.stale:
            line += f", {count.age:.1f} s old"
        line += "".join(
            f"; {region.name} {region.count:.2f}"
            for region in count.regions
            if region.count is not None
        )
        if count.density:
            density = count.density
            line += f"; density {density.columns}x{density.rows} sums to {sum(density.cells):.2f}"
    print(line, flush=True)
    return Gst.PadProbeReturn.OK


def main():
    Gst.init(None)
    pipeline = Gst.parse_launch(sys.argv[1] if len(sys.argv) > 1 else DEFAULT)
    out = pipeline.get_by_name("out")
    if out is None:
        sys.exit("call one element of the pipeline `out`, as in: fakesink name=out")
    out.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, print_count)
    pipeline.set_state(Gst.State.PLAYING)
    try:
        ends = Gst.MessageType.ERROR | Gst.MessageType.EOS
        message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, ends)
    finally:
        pipeline.set_state(Gst.State.NULL)
    if message.type == Gst.MessageType.ERROR:
        sys.exit(message.parse_error()[0].message)


if __name__ == "__main__":
    main()
