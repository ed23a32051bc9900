#!/usr/bin/env python3
"""OpenCV's way from the planes of a decoded picture to a network's input, on one thread.

Prints the milliseconds of processor time of one picture, the median of 61 of noise.
"""

import argparse
import statistics
import time

import cv2
import numpy as np

RUNS = 61
PICTURES = 8
CODES = {"I420": cv2.COLOR_YUV2RGB_I420, "NV12": cv2.COLOR_YUV2RGB_NV12}


def size(text):
    """Width and height of WIDTHxHEIGHT."""
    width, height = map(int, text.split("x"))
    return width, height


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=size, required=True)
    parser.add_argument("--input", type=size, required=True)
    parser.add_argument("--format", choices=CODES, required=True)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = options.picture
    random = np.random.default_rng(7)
    shape = (PICTURES, height * 3 // 2, width)
    pictures = random.integers(0, 256, shape, np.uint8)
    times = []
    for run in range(RUNS + 1):
        picture = pictures[run % PICTURES]
        begin = time.thread_time()
        rgb = cv2.cvtColor(picture, CODES[options.format])
        small = cv2.resize(rgb, options.input)
        cv2.dnn.blobFromImage(small)
        if run > 0:
            times.append((time.thread_time() - begin) * 1e3)
    print(statistics.median(times))


if __name__ == "__main__":
    main()
