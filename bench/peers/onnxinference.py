#!/usr/bin/env python3
"""What GStreamer's own inference element does with the same clips and the same network.

For each clip a decoder, videoconvertscale, which letterboxes, and an onnxinference with a session
of its own: the element takes one stream. Runs in a Debian 13, whose GStreamer 1.26 has the element
(onnxinference.sh). Prints frames, seconds (the network's loading left out) and seconds of processor
time as JSON.
"""

import argparse
import json
import pathlib
import resource
import sys
import tempfile
import time

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

# The element wants to be told what each output of the network is called.
OUTPUT = ("density", "vehicle-density")
METADATA_PROPS = 14


def processor_time():
    """Seconds of processor time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def field(number, content):
    """A field of a message in Protocol Buffers' form, shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def named(model, folder):
    """A copy of the network in `folder` that says what its output is called.

    A message of Protocol Buffers may be continued behind its end.
    """
    entry = b"".join(field(number + 1, word.encode()) for number, word in enumerate(OUTPUT))
    copy = pathlib.Path(folder) / model.name
    copy.write_bytes(model.read_bytes() + field(METADATA_PROPS, entry))
    return copy


def element(name, **properties):
    """An element with these properties, of which a value may be a word."""
    made = Gst.ElementFactory.make(name)
    if made is None:
        sys.exit(f"the GStreamer element {name} is missing")
    for key, value in properties.items():
        Gst.util_set_object_arg(made, key.replace("_", "-"), str(value))
    return made


def add_clip(pipeline, clip, model, size, count):
    """Adds what infers the pictures of a clip; `count` is called for each."""
    width, height = size
    caps = f"video/x-raw,format=RGB,width={width},height={height},pixel-aspect-ratio=1/1"
    decoder = element("decodebin")
    chain = [
        element("videoconvertscale", add_borders="true"),
        element("capsfilter", caps=caps),
        element("queue", max_size_buffers=2),
        element(
            "onnxinference",
            model_file=model,
            input_image_format="chw",
            optimization_level="enable-all",
        ),
        element("fakesink", sync="false"),
    ]
    source = element("filesrc", location=clip)
    for part in [source, decoder, *chain]:
        pipeline.add(part)
    source.link(decoder)
    for one, other in zip(chain, chain[1:]):
        one.link(other)
    decoder.connect("pad-added", lambda _, pad: pad.link(chain[0].get_static_pad("sink")))

    def passed(*_):
        count()
        return Gst.PadProbeReturn.OK

    chain[-1].get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, passed)


def run_to(pipeline, state, kind):
    """Takes the pipeline to `state` and waits for a message of that kind, or ends with the error."""
    pipeline.set_state(state)
    kinds = kind | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, kinds)
    if message.type == Gst.MessageType.ERROR:
        sys.exit(str(message.parse_error()))


def main():
    """Infers and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--input", required=True, help="WIDTHxHEIGHT of the network's input")
    parser.add_argument("clips", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    size = tuple(map(int, options.input.split("x")))
    Gst.init(None)
    pipeline = Gst.Pipeline()
    frames = []
    with tempfile.TemporaryDirectory() as folder:
        model = named(options.model, folder)
        for clip in options.clips:
            add_clip(pipeline, clip, model, size, lambda: frames.append(1))
        # A picture of each clip has been inferred then.
        run_to(pipeline, Gst.State.PAUSED, Gst.MessageType.ASYNC_DONE)
        early, begin, busy = len(frames), time.perf_counter(), processor_time()
        run_to(pipeline, Gst.State.PLAYING, Gst.MessageType.EOS)
        seconds, processor = time.perf_counter() - begin, processor_time() - busy
        pipeline.set_state(Gst.State.NULL)
    outcome = {"frames": len(frames) - early, "seconds": seconds, "processor": processor}
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
