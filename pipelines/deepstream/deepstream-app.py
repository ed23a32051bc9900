#!/usr/bin/env python3
"""Runs a configuration of deepstream-app with vehiclecounternvmm in it, by gst-launch-1.0: nothing
to compile.

    deepstream-app.py CONFIG [PROPERTY=VALUE ...]           runs it; properties are those of vehiclecounternvmm
    deepstream-app.py --print CONFIG [PROPERTY=VALUE ...]   prints the line

Cameras, muxer, inference, tiler, OSD and sinks are taken as deepstream-app takes them; what is left
out is said. The counter reads the tensors of the primary inference where its configuration has
network-type=100 and output-tensor-meta=1, else it runs a model of its own. Its regions are those of
[nvds-analytics]. A group [vehiclecount], which deepstream-app passes over, may set any of its
properties.

SPDX-License-Identifier: Apache-2.0
"""

import configparser
import os
import pathlib
import platform
import shlex
import sys

HERE = pathlib.Path(__file__).resolve().parent

# Keys of a source, and what nvurisrcbin and nvmultiurisrcbin call them.
SOURCE = {
    "gpu-id": "gpu-id",
    "latency": "latency",
    "cudadec-memtype": "cudadec-memtype",
    "drop-frame-interval": "drop-frame-interval",
    "num-extra-surfaces": "num-extra-surfaces",
    "select-rtp-protocol": "select-rtp-protocol",
    "rtsp-reconnect-interval-sec": "rtsp-reconnect-interval",
    "rtsp-reconnect-attempts": "rtsp-reconnect-attempts",
}
MUXER = {
    "gpu-id": "gpu-id",
    "batch-size": "batch-size",
    "batched-push-timeout": "batched-push-timeout",
    "width": "width",
    "height": "height",
    "enable-padding": "enable-padding",
    "nvbuf-memory-type": "nvbuf-memory-type",
    "live-source": "live-source",
    "attach-sys-ts-as-ntp": "attach-sys-ts",
    "sync-inputs": "sync-inputs",
    "max-latency": "max-latency",
}
INFER = {
    "gpu-id": "gpu-id",
    "batch-size": "batch-size",
    "interval": "interval",
    "gie-unique-id": "unique-id",
    "model-engine-file": "model-engine-file",
}
TILER = {
    "gpu-id": "gpu-id",
    "rows": "rows",
    "columns": "columns",
    "width": "width",
    "height": "height",
    "nvbuf-memory-type": "nvbuf-memory-type",
}
OSD = {
    "gpu-id": "gpu-id",
    "process-mode": "process-mode",
    "display-text": "display-text",
    "display-bbox": "display-bbox",
    "display-mask": "display-mask",
}
CONVERTER = {
    "msg-conv-payload-type": "payload-type",
    "msg-conv-msg2p-new-api": "msg2p-newapi",
    "msg-conv-frame-interval": "frame-interval",
    "msg-conv-msg2p-lib": "msg2p-lib",
    "msg-conv-comp-id": "comp-id",
}
BROKER = {
    "msg-broker-conn-str": "conn-str",
    "msg-broker-comp-id": "comp-id",
    "topic": "topic",
    "new-api": "new-api",
}


class Config:
    """The file, and which of it has been used."""

    def __init__(self, path):
        self.path = pathlib.Path(path).resolve()
        self.parser = configparser.RawConfigParser(
            delimiters=("=",), comment_prefixes=("#",), strict=False
        )
        self.parser.optionxform = str
        try:
            with open(self.path, encoding="utf-8") as file:
                self.parser.read_file(file)
        except (OSError, configparser.Error, UnicodeDecodeError) as error:
            fail(f"{path}: {error}")
        self.used = set()

    def groups(self, prefix):
        """Groups called `prefix` and a number, in the order of their numbers."""
        found = [
            name
            for name in self.parser.sections()
            if name.startswith(prefix) and name[len(prefix) :].isdigit()
        ]
        return sorted(found, key=lambda name: int(name[len(prefix) :]))

    def get(self, group, key, otherwise=""):
        self.used.add((group, key))
        return self.parser.get(group, key, fallback=otherwise).strip()

    def number(self, group, key, otherwise=0):
        text = self.get(group, key)
        try:
            return int(text) if text else otherwise
        except ValueError:
            fail(f"{self.path}: [{group}] {key}={text} is no whole number")

    def enabled(self, group):
        return self.parser.has_section(group) and self.number(group, "enable", 1) != 0

    def items(self, group):
        return self.parser.items(group) if self.parser.has_section(group) else []

    def list(self, group, key):
        return [part.strip() for part in self.get(group, key).split(";") if part.strip()]

    def file(self, group, key):
        """A path, which is relative to the configuration's folder."""
        text = self.get(group, key)
        return str(self.path.parent / text) if text else ""

    def properties(self, group, names):
        """What is set of the keys in `names`, as properties of an element."""
        return [
            f"{name}={self.get(group, key)}" for key, name in names.items() if self.get(group, key)
        ]

    def left_out(self):
        for group in self.parser.sections():
            quiet = group in ("application", "tests") or (
                "enable" in self.parser[group] and not self.enabled(group)
            )
            keys = [key for key in self.parser[group] if (group, key) not in self.used]
            if keys and not quiet:
                say(f"left out: [{group}] {', '.join(keys)}")


def say(text):
    print(text, file=sys.stderr)


def fail(text):
    sys.exit(f"deepstream-app.py: {text}")


def sources(config):
    """The way to the batch, and the branches that end in its muxer."""
    attributes = "source-attr-all"
    loop = ["file-loop=1"] if config.number("tests", "file-loop") else []
    muxer = config.properties("streammux", MUXER)
    listed = config.list("source-list", "list")
    config.get("source-list", "num-source-bins")
    config.get(attributes, "type"), config.get(attributes, "num-sources")
    if config.number("source-list", "use-nvmultiurisrcbin"):
        most = config.number("source-list", "max-batch-size") or len(listed) or 1
        line = [
            "nvmultiurisrcbin",
            f"max-batch-size={most}",
            *(name for name in muxer if not name.startswith(("batch-size=", "gpu-id="))),
        ]
        line += config.properties("source-list", {"http-ip": "ip-address", "http-port": "port"})
        for key, name in (
            ("sensor-id-list", "sensor-id-list"),
            ("sensor-name-list", "sensor-name-list"),
        ):
            if config.list("source-list", key):
                line.append(f"{name}={','.join(config.list('source-list', key))}")
        if listed:
            line.append(f"uri-list={','.join(listed)}")
        return [*line, *config.properties(attributes, SOURCE), *loop], []
    cameras = [
        ["nvurisrcbin", f"uri={uri}", *config.properties(attributes, SOURCE), *loop]
        for uri in listed
    ]
    for group in config.groups("source"):
        if not config.enabled(group):
            continue
        kind = config.number(group, "type")
        if kind in (2, 3, 4):
            uri = config.get(group, "uri") or fail(f"{config.path}: [{group}] has no uri")
            for index in range(max(config.number(group, "num-sources", 1), 1)):
                one = uri.replace("%d", str(index)) if kind == 3 else uri
                cameras.append(
                    ["nvurisrcbin", f"uri={one}", *config.properties(group, SOURCE), *loop]
                )
        elif kind in (1, 5):
            size = [
                f"{name}={config.get(group, key)}"
                for key, name in (("camera-width", "width"), ("camera-height", "height"))
                if config.get(group, key)
            ]
            rate = f"framerate={config.get(group, 'camera-fps-n', '30')}/{config.get(group, 'camera-fps-d', '1')}"
            if kind == 1:
                device = f"device=/dev/video{config.number(group, 'camera-v4l2-dev-node')}"
                cameras.append(
                    [
                        "v4l2src",
                        device,
                        "!",
                        ",".join(["video/x-raw", *size, rate]),
                        "!",
                        "nvvideoconvert",
                        "!",
                        "video/x-raw(memory:NVMM),format=NV12",
                    ]
                )
            else:
                sensor = f"sensor-id={config.number(group, 'camera-csi-sensor-id')}"
                cameras.append(
                    [
                        "nvarguscamerasrc",
                        sensor,
                        "!",
                        ",".join(["video/x-raw(memory:NVMM)", *size, rate]),
                    ]
                )
        else:
            fail(
                f"{config.path}: [{group}] type={kind}: cameras are 1 (V4L2), 2 and 3 (URI), 4 (RTSP) and 5 (CSI)"
            )
    if not cameras:
        fail(f"{config.path}: no source: a list in [source-list], or [source0] with enable=1")
    if not config.get("streammux", "batch-size"):
        muxer.append(f"batch-size={len(cameras)}")
    branches = []
    for index, camera in enumerate(cameras):
        branches += [*camera, "!", f"m.sink_{index}"]
    return ["nvstreammux", "name=m", *muxer], branches


def infer_config(path):
    """nvinfer's configuration, and what it says that matters here. Ours finds its model where it is
    installed, too."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path}: {error}")
    values = dict(
        line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")
    )
    onnx = values.get("onnx-file", "")
    installed = HERE.parent.parent / "models" / pathlib.Path(onnx).name
    if onnx and not (pathlib.Path(path).parent / onnx).exists() and installed.exists():
        cache = (
            pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
            / "vehiclecount"
            / "infer-app.txt"
        )
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(
            text.replace(f"onnx-file={onnx}", f"onnx-file={installed}"), encoding="utf-8"
        )
        path = str(cache)
    return path, values.get("network-type", "").strip() == "100" and values.get(
        "output-tensor-meta", ""
    ).strip() == "1"


def counter(config, infers, tensors, given):
    """The element of ours. What is given on the command line goes before the file's, and that
    before what follows from the rest."""
    chosen = {"source": "tensor-meta" if tensors else "engine"}
    if tensors:
        chosen["infer-on-gie-id"] = config.get("primary-gie", "gie-unique-id", "1")
    if config.enabled("nvds-analytics"):
        chosen["config-file-path"] = config.file("nvds-analytics", "config-file")
    if config.enabled("osd"):
        chosen["osd-mode"] = "counts"
        if config.get("osd", "text-size"):
            chosen["display-font-size"] = config.get("osd", "text-size")
    if any(
        config.number(group, "type") == 6
        for group in config.groups("sink")
        if config.enabled(group)
    ):
        chosen["message-blob"] = "true"
    for key, value in config.items("vehiclecount"):
        config.get("vehiclecount", key)
        chosen[key] = (
            config.file("vehiclecount", key) if key == "config-file-path" else value.strip()
        )
    chosen.update(given)
    if infers and not tensors and chosen["source"] == "tensor-meta":
        say(
            "the primary inference leaves no density: its configuration needs network-type=100, output-tensor-meta=1 and a model of ours"
        )
    return ["vehiclecounternvmm", *(f"{key}={value}" for key, value in chosen.items())]


def sink(config, group):
    """A sink for pictures."""
    kind = config.number(group, "type")
    sync = [f"sync={config.get(group, 'sync', '1')}"]
    if kind == 1:
        return ["fakesink", *sync]
    if kind == 2:
        return ["nv3dsink" if platform.machine() == "aarch64" else "nveglglessink", *sync]
    if kind == 5:
        return [
            "nvdrmvideosink",
            *config.properties(group, {"conn-id": "conn-id", "plane-id": "plane-id"}),
            *sync,
        ]
    if kind == 3:
        codec = "h265" if config.number(group, "codec", 1) == 2 else "h264"
        rate = config.number(group, "bitrate", 2000000)
        soft = config.number(group, "enc-type")
        encoder = (
            [
                "nvvideoconvert",
                "!",
                "video/x-raw,format=I420",
                "!",
                f"x{codec[1:]}enc",
                f"bitrate={rate // 1000}",
            ]
            if soft
            else [
                "nvvideoconvert",
                "!",
                "video/x-raw(memory:NVMM),format=NV12",
                "!",
                f"nvv4l2{codec}enc",
                f"bitrate={rate}",
            ]
        )
        muxer = "matroskamux" if config.number(group, "container", 1) == 2 else "qtmux"
        location = config.get(group, "output-file") or fail(
            f"{config.path}: [{group}] has no output-file"
        )
        return [*encoder, "!", f"{codec}parse", "!", muxer, "!", "filesink", f"location={location}"]
    say(
        f"left out: [{group}] type={kind}; pictures go to 1 (nowhere), 2 (a window), 3 (a file) or 5 (DRM)"
    )
    return None


def broker(config, group):
    """A sink for messages."""
    convert = ["nvmsgconv", *config.properties(group, CONVERTER)]
    if config.get(group, "msg-conv-config"):
        convert.insert(1, f"config={config.file(group, 'msg-conv-config')}")
    send = [
        "nvmsgbroker",
        f"proto-lib={config.get(group, 'msg-broker-proto-lib')}",
        *config.properties(group, BROKER),
    ]
    if config.get(group, "msg-broker-config"):
        send.append(f"config={config.file(group, 'msg-broker-config')}")
    return [*convert, "!", *send, f"sync={config.get(group, 'sync', '0')}"]


def branch(name, ends):
    """Whatever comes before goes to one end, or through a tee to several."""
    if len(ends) == 1:
        return ["!", *ends[0]]
    line = ["!", "tee", f"name={name}"]
    for end in ends:
        line += [f"{name}.", "!", "queue", "!", *end]
    return line


def line(config, given):
    head, cameras = sources(config)
    infers = config.enabled("primary-gie")
    tensors = False
    if infers:
        if config.number("primary-gie", "plugin-type"):
            fail(
                f"{config.path}: [primary-gie] plugin-type=1 (nvinferserver): set [vehiclecount] source=engine and [primary-gie] enable=0"
            )
        path, tensors = infer_config(config.file("primary-gie", "config-file"))
        head += [
            "!",
            "nvinfer",
            f"config-file-path={path}",
            *config.properties("primary-gie", INFER),
        ]
    head += ["!", *counter(config, infers, tensors, given)]
    picture, messages = [], []
    for group in config.groups("sink"):
        if not config.enabled(group):
            continue
        (
            config.get(group, "source-id"),
            config.get(group, "gpu-id"),
            config.get(group, "nvbuf-memory-type"),
            config.get(group, "qos"),
        )
        if config.number(group, "type") == 6:
            messages.append(broker(config, group))
        else:
            end = sink(config, group)
            picture += [end] if end else []
    drawn = []
    several = (
        len([pad for pad in cameras if pad.startswith("m.sink_")]) > 1 or "nvmultiurisrcbin" in head
    )
    if config.parser.has_section("tiled-display") and (config.enabled("tiled-display") or several):
        drawn += ["nvmultistreamtiler", *config.properties("tiled-display", TILER), "!"]
    if config.enabled("osd"):
        drawn += ["nvvideoconvert", "!", "nvdsosd", *config.properties("osd", OSD), "!"]
    ends = list(messages)
    if picture or not messages:
        shown = branch("shown", picture or [["fakesink"]])[1:]
        ends.append([*drawn, *shown])
    # The tee's branches stand before the cameras', which end in the muxer.
    config.left_out()
    return [*head, *branch("counted", ends), *cameras]


def main():
    arguments = sys.argv[1:]
    show = "--print" in arguments
    arguments = [argument for argument in arguments if argument != "--print"]
    if (
        not arguments
        or arguments[0].startswith("-")
        or not all("=" in argument for argument in arguments[1:])
    ):
        sys.exit(__doc__)
    elements = line(
        Config(arguments[0]), dict(argument.split("=", 1) for argument in arguments[1:])
    )
    if show:
        print(
            "gst-launch-1.0 -e "
            + " ".join(element if element == "!" else shlex.quote(element) for element in elements)
        )
        return
    try:
        os.execvp("gst-launch-1.0", ["gst-launch-1.0", "-e", *elements])
    except OSError as error:
        fail(f"gst-launch-1.0: {error}")


if __name__ == "__main__":
    main()
