#!/usr/bin/env python3
"""Makes the fixtures of preprocess_reference.rs: what the model input of a picture must be, computed a second time.

The reference is float64 NumPy and shares nothing with the product: every resize is a product with a dense matrix, and the colours come from
the standards' definition of Y'CbCr, inverted numerically. Before anything is written it is itself held against Pillow (the resize that
training uses) and OpenCV (colour conversion, upscaling).

    python3 core/tests/preprocess_reference.py            writes the fixtures
    python3 core/tests/preprocess_reference.py --check    compares them with what is committed; exits 1 on a difference

Needs numpy, pillow and opencv-python-headless. The fixtures are preprocess_reference.json (one case a line) and preprocess_reference.bin (the
expected inputs in the same order, [3, height, width] each, unsigned 16-bit little-endian in 1/256 of a level).
"""

import argparse
import json
import pathlib
import sys

import cv2
import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
BORDER = 114.0
PACKED = {
    "Rgb": "RGB", "Bgr": "BGR", "Rgbx": "RGBx", "Bgrx": "BGRx", "Xrgb": "xRGB", "Xbgr": "xBGR",
    "Rgba": "RGBA", "Bgra": "BGRA", "Argb": "ARGB", "Abgr": "ABGR",
}
FORMATS = ["Nv12", "I420", *PACKED, "Gray8"]


def plane_shapes(case):
    """Samples in a row, rows, bytes in a sample of every plane."""
    width, height = case["width"], case["height"]
    half = ((width + 1) // 2, (height + 1) // 2)
    if case["pixels"] == "Nv12":
        return [(width, height, 1), (*half, 2)]
    if case["pixels"] == "I420":
        return [(width, height, 1), (*half, 1), (*half, 1)]
    if case["pixels"] == "Gray8":
        return [(width, height, 1)]
    return [(width, height, len(PACKED[case["pixels"]]))]


def pattern(plane, rows, columns):
    """Bytes of one plane: slow waves with noise on top. Integers only, so that the Rust test makes the very same."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.uint64)
    wave = np.abs(((5 * x + 3 * y + 40 * plane) % 512).astype(np.int64) - 256)
    mixed = (plane * 0x9E3779B1 + y * 0x85EBCA77 + x * 0xC2B2AE3D) % 2**32
    mixed ^= mixed >> 15
    mixed = mixed * 0x2C1B3C6D % 2**32
    mixed ^= mixed >> 12
    return ((3 * np.minimum(wave, 255) + (mixed % 256).astype(np.int64)) // 4).astype(np.uint8)


def weights(extent, samples, outputs):
    """[outputs, samples]: triangle of half-width max(1, scale) around each output's centre, rows summing to 1."""
    scale = extent / outputs
    centers = (np.arange(outputs) + 0.5) * scale
    distance = np.abs(np.arange(samples) + 0.5 - centers[:, None]) / max(1.0, scale)
    matrix = np.maximum(0.0, 1.0 - distance)
    return matrix / matrix.sum(axis=1, keepdims=True)


def resized(plane, extent, size):
    """`extent` and `size` as (width, height); `plane` is a matrix of samples."""
    rows, columns = plane.shape
    down = weights(extent[1], rows, size[1])
    across = weights(extent[0], columns, size[0])
    result = down @ plane.astype(np.float64) @ across.T
    check_pillow(plane, extent, size, result)
    check_opencv_upscale(plane, extent, size, result)
    return result


def yuv_to_rgb(matrix, limited):
    """Gain [3, 3] and offset [3] from Y'CbCr codes to RGB levels, by inverting the standards' forward definition."""
    kr, kb = {"Bt601": (0.299, 0.114), "Bt709": (0.2126, 0.0722)}[matrix]
    luma = np.array([kr, 1 - kr - kb, kb])
    forward = np.stack([luma, (np.array([0, 0, 1]) - luma) / (2 * (1 - kb)), (np.array([1, 0, 0]) - luma) / (2 * (1 - kr))])
    spans = np.array([219, 224, 224]) if limited else np.array([255, 255, 255])
    zeros = np.array([16 if limited else 0, 128, 128])
    gain = np.linalg.inv(np.diag(spans) @ forward / 255)
    return gain, -gain @ zeros


def placement(case):
    """Left, top, width, height."""
    input_width, input_height = case["input"]
    if case["resize"] == "stretch":
        return 0, 0, input_width, input_height
    scale = min(input_width / case["width"], input_height / case["height"])
    width = min(max(int(np.floor(case["width"] * scale + 0.5)), 1), input_width)
    height = min(max(int(np.floor(case["height"] * scale + 0.5)), 1), input_height)
    return (input_width - width) // 2, (input_height - height) // 2, width, height


def expected(case):
    """The model input, [3, height, width] float64."""
    left, top, width, height = placement(case)
    full, half = (case["width"], case["height"]), (case["width"] / 2, case["height"] / 2)
    planes = [pattern(i, rows, samples * size).reshape(rows, samples, size) for i, (samples, rows, size) in enumerate(plane_shapes(case))]
    limited = case["range"] == "Limited"
    if case["pixels"] in PACKED:
        order = [PACKED[case["pixels"]].index(channel) for channel in "RGB"]
        rgb = np.stack([resized(planes[0][:, :, channel], full, (width, height)) for channel in order])
    elif case["pixels"] == "Gray8":
        grey = resized(planes[0][:, :, 0], full, (width, height))
        rgb = np.stack([(grey - 16) * 255 / 219 if limited else grey] * 3)
    else:
        chroma = [planes[1][:, :, 0], planes[1][:, :, 1]] if case["pixels"] == "Nv12" else [planes[1][:, :, 0], planes[2][:, :, 0]]
        yuv = np.stack([resized(planes[0][:, :, 0], full, (width, height))] + [resized(plane, half, (width, height)) for plane in chroma])
        gain, offset = yuv_to_rgb(case["matrix"], limited)
        rgb = np.tensordot(gain, yuv, 1) + offset[:, None, None]
    result = np.full((3, case["input"][1], case["input"][0]), BORDER)
    result[:, top:top + height, left:left + width] = np.clip(rgb, 0, 255)
    return result


def check_pillow(plane, extent, size, result):
    """Pillow in 32-bit floats must agree to 0.01 level; in 8 bits, where it rounds after each of its two passes, to 1.5 levels."""
    box = (0, 0, *extent)
    for mode, dtype, tolerance in (("F", np.float32, 0.01), ("L", np.uint8, 1.5)):
        image = Image.fromarray(np.ascontiguousarray(plane).astype(dtype))
        assert image.mode == mode
        worst = np.abs(np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box), np.float64) - result).max()
        assert worst <= tolerance, f"Pillow {mode}: {plane.shape} -> {size}: {worst}"


def check_opencv_upscale(plane, extent, size, result):
    """OpenCV's INTER_LINEAR has no antialiasing, so it is the same filter only where nothing shrinks."""
    whole = extent == (plane.shape[1], plane.shape[0])
    if whole and size[0] >= extent[0] and size[1] >= extent[1]:
        image = cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        worst = np.abs(image.astype(np.float64) - result).max()
        assert worst <= 0.05, f"OpenCV: {plane.shape} -> {size}: {worst}"


def check_opencv_colours():
    """OpenCV's 4:2:0 conversion is BT.601 limited; on flat pictures its 8-bit result must agree to 1.5 levels."""
    gain, offset = yuv_to_rgb("Bt601", True)
    for y, u, v in np.random.default_rng(1).integers(16, 236, (500, 3)):
        flat = np.concatenate([np.full(16, y), np.tile([u, v], 4)]).astype(np.uint8).reshape(6, 4)
        got = cv2.cvtColor(flat, cv2.COLOR_YUV2RGB_NV12)[0, 0].astype(np.float64)
        worst = np.abs(got - np.clip(gain @ [y, u, v] + offset, 0, 255)).max()
        assert worst <= 1.5, f"OpenCV: {y} {u} {v}: {worst}"


def cases():
    """Every format down and up with odd sizes and padded rows; both matrices and ranges; and the sizes at the edge of reason."""
    everything = []

    def add(pixels, size, resize, into, matrix="Bt601", range="Limited", padding=0):
        case = {"pixels": pixels, "width": size[0], "height": size[1], "matrix": matrix, "range": range, "resize": resize, "input": into}
        case["strides"] = [samples * sample + padding * (i + 1) for i, (samples, _, sample) in enumerate(plane_shapes(case))]
        everything.append(case)

    for i, pixels in enumerate(FORMATS):
        matrix = ("Bt601", "Bt709")[i % 2]
        add(pixels, (37, 23), "letterbox", (24, 20), matrix, "Limited", padding=5)
        add(pixels, (9, 7), "stretch", (22, 20), matrix, "Full", padding=3)
        add(pixels, (50, 30), "stretch", (14, 18), matrix, "Full")
    for pixels in ("Nv12", "I420"):
        for matrix in ("Bt601", "Bt709"):
            for range in ("Limited", "Full"):
                add(pixels, (64, 36), "letterbox", (20, 20), matrix, range)
                add(pixels, (31, 47), "letterbox", (20, 20), matrix, range, padding=1)
    for range in ("Limited", "Full"):
        add("Gray8", (40, 40), "letterbox", (24, 16), range=range)
    for pixels in ("Nv12", "I420", "Bgrx", "Rgb", "Gray8"):
        for size in ((1, 1), (1, 9), (3, 200), (500, 2), (2, 2), (16, 12)):
            add(pixels, size, "letterbox", (16, 12), "Bt709")
        add(pixels, (1, 77), "stretch", (16, 12), "Bt709", "Full", padding=7)
        add(pixels, (641, 359), "letterbox", (32, 24), "Bt709")
    return everything


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed fixtures, write nothing")
    check = parser.parse_args().check
    check_opencv_colours()
    listed = cases()
    text = "[\n" + ",\n".join(json.dumps(case) for case in listed) + "\n]\n"
    data = b"".join(np.rint(expected(case) * 256).astype("<u2").tobytes() for case in listed)
    names = HERE / "preprocess_reference.json", HERE / "preprocess_reference.bin"
    if check:
        same = names[0].read_text() == text
        # The last place may round differently with another NumPy.
        old, new = (np.frombuffer(bytes_, "<u2").astype(int) for bytes_ in (names[1].read_bytes(), data))
        same = same and old.shape == new.shape and np.abs(old - new).max() <= 1
        print(f"{len(listed)} cases: {'as committed' if same else 'NOT as committed'}")
        sys.exit(0 if same else 1)
    names[0].write_text(text)
    names[1].write_bytes(data)
    print(f"{len(listed)} cases, {len(text) + len(data)} bytes")


if __name__ == "__main__":
    main()
