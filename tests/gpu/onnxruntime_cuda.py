#!/usr/bin/env python3
"""The model on ONNX Runtime's CUDA provider: for a machine with a GPU and without TensorRT. Needs
onnxruntime-gpu and numpy.

Compares CUDA with the processor, measures images/s for batch 1 to 64, looks for leaks over 10,000
batches, and prints one JSON. Usage: onnxruntime_cuda.py MODEL.onnx [--batches N] [--seconds S], or
--probe: only says whether there is such a provider.
"""

import argparse
import json
import re
import subprocess
import sys
import time

try:
    import numpy as np
    import onnxruntime as ort
except ImportError as error:
    sys.exit(f"python3 has no {error.name}: install onnxruntime-gpu and numpy")

BATCHES = (1, 2, 4, 8, 16, 32, 64)
# Of the count: CUDA convolutions sum in another order, and may use TF32, which is switched off
# below.
TOLERANCE = 0.005


def smi(query):
    """What nvidia-smi answers for the first GPU, or nothing where there is no nvidia-smi."""
    try:
        text = subprocess.check_output(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"], text=True
        )
        return text.splitlines()[0].split(", ")
    except (OSError, subprocess.CalledProcessError, IndexError):
        return []


def card():
    """Name, driver, memory in MiB and compute capability, as nvidia-smi tells them."""
    return dict(
        zip(
            ("name", "driver", "memory-mib", "compute-capability"),
            smi("name,driver_version,memory.total,compute_cap"),
        )
    )


def used():
    """MiB of GPU memory in use, all processes together; 0 where nobody tells."""
    found = re.search(r"\d+", " ".join(smi("memory.used")))
    return int(found.group()) if found else 0


def provider():
    """Ends the program where there is no CUDA provider."""
    # CUDA and cuDNN that were installed as wheels are found by this alone.
    getattr(ort, "preload_dlls", lambda: None)()
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        sys.exit(
            "onnxruntime has no CUDA provider: install onnxruntime-gpu, and CUDA and cuDNN of its version"
        )


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def pictures(batch, size, seed=0):
    """Smooth noise, N x 3 x size x size in 0..255: what has edges is not all noise to the
    network."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (batch, 3, size // 16, size // 16)).astype(np.float32)
    return np.repeat(np.repeat(coarse, 16, axis=2), 16, axis=3)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--probe", action="store_true")
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=384)
    options = parser.parse_args()
    provider()
    if options.probe:
        return
    if not options.model:
        parser.error("which model?")

    report, failures = (
        {"card": card(), "onnxruntime": ort.__version__, "model": options.model.rsplit("/", 1)[-1]},
        [],
    )
    gpu = ort.InferenceSession(
        options.model, providers=[("CUDAExecutionProvider", {"use_tf32": "0"})]
    )
    if gpu.get_providers()[0] != "CUDAExecutionProvider":
        raise SystemExit(
            "the CUDA provider does not start: its messages above name the library that is missing"
        )
    cpu = ort.InferenceSession(options.model, providers=["CPUExecutionProvider"])
    name = gpu.get_inputs()[0].name

    images = pictures(4, options.size)
    on_gpu, on_cpu = gpu.run(None, {name: images})[0], cpu.run(None, {name: images})[0]
    counts = [[float(one.sum()) for one in made] for made in (on_gpu, on_cpu)]
    report["numbers"] = {
        "cuda": counts[0],
        "cpu": counts[1],
        "largest-cell": float(np.abs(on_gpu - on_cpu).max()),
    }
    if any(abs(a - b) > abs(b) * TOLERANCE + 0.01 for a, b in zip(*counts)):
        failures.append(f"CUDA counts {counts[0]}, the processor {counts[1]}")

    report["throughput"] = []
    for batch in BATCHES:
        # Input and output stay on the GPU: the network alone is measured.
        binding = gpu.io_binding()
        binding.bind_ortvalue_input(
            name, ort.OrtValue.ortvalue_from_numpy(pictures(batch, options.size), "cuda", 0)
        )
        binding.bind_output(gpu.get_outputs()[0].name, "cuda")
        for _ in range(10):
            gpu.run_with_iobinding(binding)
        times, end = [], time.perf_counter() + options.seconds
        while len(times) < 10 or time.perf_counter() < end:
            since = time.perf_counter()
            gpu.run_with_iobinding(binding)
            binding.synchronize_outputs()
            times.append(time.perf_counter() - since)
        times.sort()
        median = times[len(times) // 2]
        report["throughput"].append(
            {
                "batch": batch,
                "median-ms": median * 1e3,
                "p99-ms": times[int(len(times) * 0.99)] * 1e3,
                "images-per-second": batch / median,
            }
        )

    images = pictures(4, options.size)
    for _ in range(options.batches // 10):
        gpu.run(None, {name: images})
    before = used(), resident()
    for _ in range(options.batches):
        gpu.run(None, {name: images})
    grown = {"gpu-mib": used() - before[0], "host-bytes": resident() - before[1]}
    report["leaks"] = {"batches": options.batches, "grown": grown}
    if grown["gpu-mib"] > 64 or grown["host-bytes"] > 64 << 20:
        failures.append(f"memory grew: {grown}")

    report["failures"] = failures
    print(json.dumps(report, indent=2))
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
