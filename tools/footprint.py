#!/usr/bin/env python3
"""What the service needs: memory, threads and processor of `vehicle-count run` with so many cameras
at one count a second, as rows of a table. The streams are those of `vehicle-count serve`, a process
of its own, which is not measured; there are four, and each is read by a quarter of the cameras. They
go first where this may say so: cameras that starve send uneven times, and then all is decoded.
The engine is the scripted one, which takes no time (what a network takes, docs/models.md says),
unless another is given.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

STREAMS = 4
FPS = 10
SECONDS = 30
PATIENCE = 180


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def processor(pid):
    """Seconds of work of a process, fields 14 and 15 of proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status(pid, key):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise KeyError(key)


def cameras(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/cameras", timeout=10) as answer:
        return json.load(answer)["cameras"]


def measure(command, engine, count, folder):
    port, rtsp = free_port(), free_port()
    text = [f'[http]\nlisten = "127.0.0.1:{port}"\n[counter]\nengine = "{engine}"']
    file = folder / f"{count}.toml"
    streams = min(count, STREAMS)
    serve = [command, "serve", "--cameras", str(streams), "--fps", str(FPS), "--port", str(rtsp)]
    with subprocess.Popen(
        serve, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        first(server.pid)
        try:
            urls = [server.stdout.readline().split()[0] for _ in range(streams)]
            for number in range(count):
                text.append(f'[cameras.c{number}]\nurl = "{urls[number % streams]}"')
            file.write_text("\n".join(text) + "\n")
            with subprocess.Popen([command, "run", file], stderr=subprocess.DEVNULL) as service:
                try:
                    return watch(service.pid, port, count)
                finally:
                    service.terminate()
        finally:
            server.terminate()


def first(pid):
    """Lets a process that is a session of its own go first, where the system allows it."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, -15)
    # Where sessions share the processor, what counts is the session's.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("-15")


def watch(pid, port, count):
    begin = time.monotonic()
    while True:
        if time.monotonic() - begin > PATIENCE:
            raise TimeoutError(f"not all of {count} cameras are counted")
        try:
            if all(camera["counted"] > 2 for camera in cameras(port)):
                break
        except OSError:
            pass
        time.sleep(1)
    before, counted = processor(pid), sum(camera["counted"] for camera in cameras(port))
    then = time.monotonic()
    time.sleep(SECONDS)
    elapsed = time.monotonic() - then
    work = (processor(pid) - before) / elapsed
    rate = (sum(camera["counted"] for camera in cameras(port)) - counted) / elapsed
    return status(pid, "VmRSS") / 1024, status(pid, "Threads"), work, rate


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", help="the built vehicle-count")
    parser.add_argument(
        "cameras", nargs="*", type=int, default=(1, 16, 64), help="how many, in turn"
    )
    parser.add_argument("--engine", default="scripted", help="of the service's configuration")
    options = parser.parse_intermixed_args()
    print("| Cameras | Memory, MiB | Threads | Processor, cores | Counts a second |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for count in options.cameras:
            memory, threads, work, rate = measure(
                options.command, options.engine, count, Path(folder)
            )
            print(f"| {count} | {memory:.0f} | {threads} | {work:.2f} | {rate:.1f} |", flush=True)


if __name__ == "__main__":
    main()
