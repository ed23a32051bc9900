#!/usr/bin/env python3
"""Prints the counts that pass through a DeepStream pipeline, from Python.

    ./deepstream_print_counts.py "nvurisrcbin uri=file:///clip.mp4 ! m.sink_0 nvstreammux name=m batch-size=1 width=1920 height=1080 \\
      ! nvinfer config-file-path=config_infer_vehiclecount.txt ! vehiclecounternvmm ! fakesink name=out"

The counts are read on the sink pad of the element called `out`.

SPDX-License-Identifier: Apache-2.0
"""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

import vehiclecount_nvds  # noqa: E402


def print_counts(_pad, info):
    for count in vehiclecount_nvds.read_buffer(info.get_buffer()):
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
                line += (
                    f"; density {density.columns}x{density.rows} sums to {sum(density.cells):.2f}"
                )
        print(line, flush=True)
    return Gst.PadProbeReturn.OK


def main():
    Gst.init(None)
    if len(sys.argv) != 2:
        sys.exit(
            f"usage: {sys.argv[0]} PIPELINE, one element of which is called `out`, as in: fakesink name=out"
        )
    pipeline = Gst.parse_launch(sys.argv[1])
    out = pipeline.get_by_name("out")
    if out is None:
        sys.exit("call one element of the pipeline `out`, as in: fakesink name=out")
    out.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, print_counts)
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
