"""Runs a model file or a checkpoint on batches of pictures: uint8 [N, H, W, 3] RGB in, float32 [N,
1, H/8, W/8] out."""

import os
import pathlib
import platform
import re
import shlex
import sys
import time

import numpy as np


def planes(images):
    """Batch of RGB pictures as the model takes it."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2).astype(np.float32))


def load(path, width, height, engine="auto", threads=0, precision="f32"):
    """A function from pictures to density; its attribute `engine` says what runs it. Shapes are
    static, but for the batch in ONNX Runtime and PyTorch. `precision` is OpenVINO's hint."""
    if path.suffix == ".pt":
        from . import networks

        return of_network(networks.load(path)[0])
    if engine == "openvino" or engine == "auto" and there("openvino"):
        return _openvino(path, width, height, threads, precision)
    return _onnxruntime(path, threads)


def there(module):
    import importlib.util

    return importlib.util.find_spec(module) is not None


def of_network(network):
    """The same function of a network of PyTorch."""
    import torch

    def run(images):
        with torch.inference_mode():
            return network(
                torch.from_numpy(planes(images)).contiguous(memory_format=torch.channels_last)
            ).numpy()

    run.engine = "torch"
    return run


def _openvino(path, width, height, threads, precision):
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape({"images": [1, 3, height, width]})
    # Left to itself it takes bf16 on some processors, which is less exact.
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(images):
        return np.concatenate(
            [request.infer({"images": planes(image[None])})["density"].copy() for image in images]
        )

    run.engine = "openvino"
    return run


def _onnxruntime(path, threads):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    def run(images):
        return session.run(["density"], {"images": planes(images)})[0]

    run.engine = "onnxruntime"
    return run


def command():
    """The command line that was given, without the folders of absolute paths: a file's place on
    this machine says nothing elsewhere."""
    return shlex.join(re.sub(r"(^|=)/.*/(?=.)", r"\1", each) for each in sys.argv)


def machine():
    """The processor's name and the number of its cores."""
    name = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        name = next(
            (
                line.split(":", 1)[1].strip()
                for line in cpuinfo.read_text().splitlines()
                if line.startswith("model name")
            ),
            name,
        )
    return f"{name}, {os.cpu_count()} cores"


def noise(width, height):
    """A batch of one picture of noise."""
    return np.random.default_rng(1).integers(0, 256, (1, height, width, 3), np.uint8)


def taking_turns(runs, rounds, clock=time.perf_counter):
    """Median seconds of each of `runs` [name to callable] by `clock`; they take turns, and the
    first two rounds warm up."""
    times = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            since = clock()
            run()
            if number >= 2:
                times[name].append(clock() - since)
    return {name: float(np.median(values)) for name, values in times.items()}
