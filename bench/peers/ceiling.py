#!/usr/bin/env python3
"""OpenVINO's benchmark_app: how fast it runs a network with nothing around it.

Prints frames and seconds as JSON. The precision of what is not quantized
is f32, as in the counter; benchmark_app's own default would be bf16 on some processors.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

SECONDS = 4


def main():
    """Runs benchmark_app and prints what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True, help="WIDTHxHEIGHT of the network's input")
    parser.add_argument("model", type=pathlib.Path)
    options = parser.parse_args()
    width, height = options.input.split("x")
    program = pathlib.Path(sys.executable).with_name("benchmark_app")
    arguments = ["-m", options.model, "-shape", f"[1,3,{height},{width}]", "-t", str(SECONDS)]
    arguments += ["-hint", "throughput", "-infer_precision", "f32", "-d", "CPU"]
    run = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    rate = re.search(r"Throughput:\s+([\d.]+) FPS", run.stdout)
    frames = re.search(r"Count:\s+(\d+) iterations", run.stdout)
    if run.returncode != 0 or not rate or not frames:
        sys.exit(f"benchmark_app: {run.stdout[-2000:]}{run.stderr[-2000:]}")
    seconds = int(frames[1]) / float(rate[1])
    print(json.dumps({"frames": int(frames[1]), "seconds": seconds}))


if __name__ == "__main__":
    main()
