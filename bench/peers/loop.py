#!/usr/bin/env python3
"""What a short program does with the same clips and the same network.

OpenCV reads the clips in turn, as cameras, and makes the network's input, with the resize that it
takes unless told otherwise: bilinear without antialiasing, its quickest one. OpenVINO infers
asynchronously with its own settings for throughput; ONNX Runtime, which has nothing alike in Python,
in a thread for each processor. Prints frames, seconds (the network's loading left out), seconds of
processor time and the mean count as JSON.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import resource
import time

import cv2
import numpy as np

BORDER = 114


def processor_time():
    """Seconds of processor time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def prepare(frame, width, height):
    """The network's input of a picture: letterboxed, RGB 0..255, planar."""
    scale = min(width / frame.shape[1], height / frame.shape[0])
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    small = cv2.resize(frame, size)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    right, bottom = width - size[0] - left, height - size[1] - top
    if left or top or right or bottom:
        edges = (top, bottom, left, right)
        small = cv2.copyMakeBorder(small, *edges, cv2.BORDER_CONSTANT, value=(BORDER,) * 3)
    return cv2.dnn.blobFromImage(small, swapRB=True)


def opened(clips):
    """The clips, ready to be read."""
    return [cv2.VideoCapture(str(clip)) for clip in clips]


def frames(captures):
    """The pictures of all clips, one of each in turn."""
    while captures:
        for capture in list(captures):
            there, frame = capture.read()
            if there:
                yield frame
            else:
                captures.remove(capture)


def with_openvino(model, width, height, clips):
    """The count of each picture, by OpenVINO."""
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    network.reshape([1, 3, height, width])
    # As in the counter: what is not quantized is f32, where some processors would take bf16.
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(network, "CPU", hints)
    queue = openvino.AsyncInferQueue(compiled)
    counts = []
    queue.set_callback(
        lambda request, _: counts.append(float(request.get_output_tensor(0).data.sum()))
    )
    captures = opened(clips)
    begin, busy = time.perf_counter(), processor_time()
    for frame in frames(captures):
        queue.start_async({0: prepare(frame, width, height)})
    queue.wait_all()
    return counts, time.perf_counter() - begin, processor_time() - busy


def with_onnxruntime(model, width, height, clips):
    """The count of each picture, by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    lanes = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def count(frame):
        return float(session.run(None, {name: prepare(frame, width, height)})[0].sum())

    count(np.zeros((height, width, 3), np.uint8))
    counts = []
    captures = opened(clips)
    begin, busy = time.perf_counter(), processor_time()
    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        waiting = []
        for frame in frames(captures):
            waiting.append(pool.submit(count, frame))
            # No more pictures in memory than are of use.
            if len(waiting) > 2 * lanes:
                counts.append(waiting.pop(0).result())
        counts.extend(future.result() for future in waiting)
    return counts, time.perf_counter() - begin, processor_time() - busy


def main():
    """Counts and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["openvino", "onnxruntime"], required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--input", required=True, help="WIDTHxHEIGHT of the network's input")
    parser.add_argument("clips", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    width, height = map(int, options.input.split("x"))
    run = {"openvino": with_openvino, "onnxruntime": with_onnxruntime}[options.engine]
    counts, seconds, busy = run(options.model, width, height, options.clips)
    outcome = {"frames": len(counts), "seconds": seconds, "processor": busy}
    print(json.dumps({**outcome, "count": sum(counts) / max(len(counts), 1)}))


if __name__ == "__main__":
    main()
