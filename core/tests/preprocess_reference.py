#!/usr/bin/env python3
"""Makes the fixtures of preprocess_reference.rs: what the model input of a picture must be,
computed a second time.

The reference is float64 NumPy and shares nothing with the product: every resize is a product with a
dense matrix, and the colours come from the standards' definition of Y'CbCr, inverted numerically.
Before anything is written it is itself held against Pillow (the resize that training uses) and
OpenCV (colour conversion, upscaling).

    python3 core/tests/preprocess_reference.py            writes the fixtures
    python3 core/tests/preprocess_reference.py --check    compares them with what is committed; exits 1 on a difference

Needs numpy, pillow and opencv-python-headless. The fixtures are preprocess_reference.json (one case
a line) and preprocess_reference.bin (the expected inputs in the same order, [3, height, width]
each, unsigned 16-bit little-endian in 1/256 of a level).
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
# Of each plane: the samples of a group in their order, and the pixels that the group covers.
FORMATS = {
    "Nv12": [("Y", 1, 1), ("UV", 2, 2)],
    "Nv21": [("Y", 1, 1), ("VU", 2, 2)],
    "Nv16": [("Y", 1, 1), ("UV", 2, 1)],
    "Nv61": [("Y", 1, 1), ("VU", 2, 1)],
    "Nv24": [("Y", 1, 1), ("UV", 1, 1)],
    "I420": [("Y", 1, 1), ("U", 2, 2), ("V", 2, 2)],
    "Yv12": [("Y", 1, 1), ("V", 2, 2), ("U", 2, 2)],
    "Y41b": [("Y", 1, 1), ("U", 4, 1), ("V", 4, 1)],
    "Y42b": [("Y", 1, 1), ("U", 2, 1), ("V", 2, 1)],
    "Y444": [("Y", 1, 1), ("U", 1, 1), ("V", 1, 1)],
    "Yuy2": [("YUYV", 2, 1)],
    "Yvyu": [("YVYU", 2, 1)],
    "Uyvy": [("UYVY", 2, 1)],
    "Vyuy": [("VYUY", 2, 1)],
    "P01010le": [("Y", 1, 1), ("UV", 2, 2)],
    "I42010le": [("Y", 1, 1), ("U", 2, 2), ("V", 2, 2)],
    "I42210le": [("Y", 1, 1), ("U", 2, 1), ("V", 2, 1)],
    "Y44410le": [("Y", 1, 1), ("U", 1, 1), ("V", 1, 1)],
    "Rgb": [("RGB", 1, 1)],
    "Bgr": [("BGR", 1, 1)],
    "Rgbx": [("RGBx", 1, 1)],
    "Bgrx": [("BGRx", 1, 1)],
    "Xrgb": [("xRGB", 1, 1)],
    "Xbgr": [("xBGR", 1, 1)],
    "Rgba": [("RGBA", 1, 1)],
    "Bgra": [("BGRA", 1, 1)],
    "Argb": [("ARGB", 1, 1)],
    "Abgr": [("ABGR", 1, 1)],
    "Gbr": [("G", 1, 1), ("B", 1, 1), ("R", 1, 1)],
    "Gray8": [("Y", 1, 1)],
    "Gray16Le": [("Y", 1, 1)],
}
# Of formats with more than 8 bits: how many, and what the code is made of two bytes, the low one
# first.
WORDS = {
    "P01010le": (10, lambda word: word / 64),
    "I42010le": (10, lambda word: word % 1024),
    "I42210le": (10, lambda word: word % 1024),
    "Y44410le": (10, lambda word: word % 1024),
    "Gray16Le": (16, lambda word: word),
}


def bits(case):
    return WORDS[case["pixels"]][0] if case["pixels"] in WORDS else 8


def plane_shapes(case):
    """Groups in a row, rows, bytes in a group of every plane."""
    return [
        (
            -(-case["width"] // across),
            -(-case["height"] // down),
            len(order) * (2 if case["pixels"] in WORDS else 1),
        )
        for order, across, down in FORMATS[case["pixels"]]
    ]


def pattern(plane, rows, columns):
    """Bytes of one plane: slow waves with noise on top. Integers only, so that the Rust test makes
    the very same."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.uint64)
    wave = np.abs(((5 * x + 3 * y + 40 * plane) % 512).astype(np.int64) - 256)
    mixed = (plane * 0x9E3779B1 + y * 0x85EBCA77 + x * 0xC2B2AE3D) % 2**32
    mixed ^= mixed >> 15
    mixed = mixed * 0x2C1B3C6D % 2**32
    mixed ^= mixed >> 12
    return ((3 * np.minimum(wave, 255) + (mixed % 256).astype(np.int64)) // 4).astype(np.uint8)


def weights(begin, side, covers, samples, outputs):
    """[outputs, samples]: what each sample of an axis counts in each output, rows summing to 1.

    Everything is in pixels. The picture is the `side` pixels from `begin` on, and sample j covers
    `covers` pixels from j * covers on. Samples that cover no pixel of the picture count nothing.
    The others count by a triangle around the output's centre, as wide to each side as an output or
    a sample, whichever is wider.
    """
    places = (np.arange(samples) + 0.5) * covers
    centers = begin + (np.arange(outputs) + 0.5) * side / outputs
    matrix = np.maximum(0.0, 1.0 - np.abs(places - centers[:, None]) / max(covers, side / outputs))
    matrix[:, (places + covers / 2 <= begin) | (places - covers / 2 >= begin + side)] = 0
    return matrix / matrix.sum(axis=1, keepdims=True)


def resized(plane, part, covers, size):
    """`part` as (x, y, width, height), `covers` and `size` as (across, down); `plane` is a matrix
    of samples."""
    rows, columns = plane.shape
    down = weights(part[1], part[3], covers[1], rows, size[1])
    across = weights(part[0], part[2], covers[0], columns, size[0])
    result = down @ plane.astype(np.float64) @ across.T
    check_pillow(plane, part, covers, size, result)
    check_opencv_upscale(plane, part, covers, size, result)
    return result


def yuv_to_rgb(matrix, limited, bits=8):
    """Gain [3, 3] and offset [3] from Y'CbCr codes to RGB levels, by inverting the standards'
    forward definition."""
    kr, kb = {"Bt601": (0.299, 0.114), "Bt709": (0.2126, 0.0722), "Bt2020": (0.2627, 0.0593)}[
        matrix
    ]
    luma = np.array([kr, 1 - kr - kb, kb])
    forward = np.stack(
        [
            luma,
            (np.array([0, 0, 1]) - luma) / (2 * (1 - kb)),
            (np.array([1, 0, 0]) - luma) / (2 * (1 - kr)),
        ]
    )
    finer = 2 ** (bits - 8)
    spans = np.array([219, 224, 224]) * finer if limited else np.full(3, 2**bits - 1)
    zeros = np.array([16 if limited else 0, 128, 128]) * finer
    gain = np.linalg.inv(np.diag(spans) @ forward / 255)
    return gain, -gain @ zeros


def placement(part, case):
    """Left, top, width, height."""
    input_width, input_height = case["input"]
    if case["resize"] == "stretch":
        return 0, 0, input_width, input_height
    scale = min(input_width / part[2], input_height / part[3])
    width = min(max(int(np.floor(part[2] * scale + 0.5)), 1), input_width)
    height = min(max(int(np.floor(part[3] * scale + 0.5)), 1), input_height)
    return (input_width - width) // 2, (input_height - height) // 2, width, height


def component(case, letter):
    """The samples of one component as a matrix, and the pixels that each covers, across and
    down."""
    for index, (order, across, down) in enumerate(FORMATS[case["pixels"]]):
        places = [place for place, name in enumerate(order) if name == letter]
        if places:
            groups, rows, size = plane_shapes(case)[index]
            plane = pattern(index, rows, groups * size)
            if case["pixels"] in WORDS:
                plane = WORDS[case["pixels"]][1](plane.view("<u2").astype(np.float64))
            plane = plane.reshape(rows, groups, len(order))
            return plane[:, :, places].reshape(rows, groups * len(places)), (
                across // len(places),
                down,
            )


def expected(case):
    """The model input, [3, height, width] float64."""
    part = case.get("part", (0, 0, case["width"], case["height"]))
    left, top, width, height = placement(part, case)
    limited = case["range"] == "Limited"
    letters = "".join(order for order, _, _ in FORMATS[case["pixels"]])
    names = "RGB" if "R" in letters else "YUV" if "U" in letters else "Y"
    components = [component(case, name) for name in names]
    samples = np.stack(
        [resized(plane, part, covers, (width, height)) for plane, covers in components]
    )
    if names == "RGB":
        rgb = samples
    elif names == "Y":
        finer = 2 ** (bits(case) - 8)
        grey = (
            (samples / finer - 16) * 255 / 219 if limited else samples * 255 / (2 ** bits(case) - 1)
        )
        rgb = np.repeat(grey, 3, axis=0)
    else:
        gain, offset = yuv_to_rgb(case["matrix"], limited, bits(case))
        rgb = np.tensordot(gain, samples, 1) + offset[:, None, None]
    result = np.full((3, case["input"][1], case["input"][0]), BORDER)
    result[:, top : top + height, left : left + width] = np.clip(rgb, 0, 255)
    return result


def check_pillow(plane, part, covers, size, result):
    """Pillow in 32-bit floats must agree to 0.01 level; in 8 bits, where it rounds after each of
    its two passes, to 1.5 levels."""
    # Pillow lets samples outside the box count, too.
    first = part[0] // covers[0], part[1] // covers[1]
    touched = plane[
        first[1] : -(-(part[1] + part[3]) // covers[1]),
        first[0] : -(-(part[0] + part[2]) // covers[0]),
    ]
    x, y = part[0] / covers[0] - first[0], part[1] / covers[1] - first[1]
    box = (x, y, x + part[2] / covers[0], y + part[3] / covers[1])
    modes = [("F", np.float32, 0.01 * max(1, plane.max() / 255))]
    if plane.dtype == np.uint8:
        modes.append(("L", np.uint8, 1.5))
    for mode, dtype, tolerance in modes:
        image = Image.fromarray(np.ascontiguousarray(touched).astype(dtype))
        assert image.mode == mode
        worst = np.abs(
            np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box), np.float64) - result
        ).max()
        assert worst <= tolerance, f"Pillow {mode}: {plane.shape} -> {size}: {worst}"


def check_opencv_upscale(plane, part, covers, size, result):
    """OpenCV's INTER_LINEAR has no antialiasing, so it is the same filter only where nothing
    shrinks."""
    whole = part == (0, 0, plane.shape[1], plane.shape[0]) and covers == (1, 1)
    if whole and size[0] >= part[2] and size[1] >= part[3]:
        image = cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        worst = np.abs(image.astype(np.float64) - result).max()
        assert worst <= 0.05 * max(1, plane.max() / 255), (
            f"OpenCV: {plane.shape} -> {size}: {worst}"
        )


def check_opencv_colours():
    """OpenCV's conversions are BT.601 limited; on flat pictures their 8-bit results must agree to
    1.5 levels."""
    gain, offset = yuv_to_rgb("Bt601", True)
    for y, u, v in np.random.default_rng(1).integers(16, 236, (100, 3)):
        for pixels in ("Nv12", "Nv21", "I420", "Yv12", "Yuy2", "Yvyu", "Uyvy"):
            samples = {"Y": y, "U": u, "V": v}
            planes = [
                np.tile([samples[name] for name in order], 16 // (across * down))
                for order, across, down in FORMATS[pixels]
            ]
            flat = np.concatenate(planes).astype(np.uint8)
            flat = flat.reshape((-1, 4) if len(planes) > 1 else (4, 4, 2))
            got = cv2.cvtColor(flat, getattr(cv2, f"COLOR_YUV2RGB_{pixels.upper()}"))[0, 0].astype(
                np.float64
            )
            worst = np.abs(got - np.clip(gain @ [y, u, v] + offset, 0, 255)).max()
            assert worst <= 1.5, f"OpenCV: {pixels}: {y} {u} {v}: {worst}"


def cases():
    """Every format down and up with odd sizes and padded rows; both matrices and ranges; and the
    sizes at the edge of reason."""
    everything = []

    def add(pixels, size, resize, into, matrix="Bt601", range="Limited", padding=0, part=None):
        case = {
            "pixels": pixels,
            "width": size[0],
            "height": size[1],
            "matrix": matrix,
            "range": range,
            "resize": resize,
            "input": into,
        }
        if part:
            case["part"] = part
        case["strides"] = [
            samples * sample + padding * (i + 1)
            for i, (samples, _, sample) in enumerate(plane_shapes(case))
        ]
        everything.append(case)

    for i, pixels in enumerate(FORMATS):
        matrix = ("Bt601", "Bt709", "Bt2020")[i % 3]
        add(pixels, (37, 23), "letterbox", (24, 20), matrix, "Limited", padding=5)
        add(pixels, (9, 7), "stretch", (22, 20), matrix, "Full", padding=3)
        add(pixels, (50, 30), "stretch", (14, 18), matrix, "Full")
    for pixels in ("Nv12", "I420"):
        for matrix in ("Bt601", "Bt709"):
            for range in ("Limited", "Full"):
                add(pixels, (64, 36), "letterbox", (20, 20), matrix, range)
                add(pixels, (31, 47), "letterbox", (20, 20), matrix, range, padding=1)
    for pixels in ("Yuy2", "Y41b", "P01010le", "I42010le", "Y44410le"):
        for matrix in ("Bt601", "Bt709", "Bt2020"):
            for range in ("Limited", "Full"):
                add(pixels, (31, 47), "letterbox", (10, 12), matrix, range, padding=1)
    for range in ("Limited", "Full"):
        for pixels in ("Gray8", "Gray16Le"):
            add(pixels, (40, 40), "letterbox", (24, 16), range=range)
    for pixels in (
        "Nv12",
        "I420",
        "Bgrx",
        "Rgb",
        "Gray8",
        "Yuy2",
        "Uyvy",
        "Y41b",
        "Y42b",
        "P01010le",
        "I42010le",
    ):
        for size in ((1, 1), (1, 9), (3, 200), (500, 2), (2, 2), (16, 12)):
            add(pixels, size, "letterbox", (16, 12), "Bt709")
        add(pixels, (1, 77), "stretch", (16, 12), "Bt709", "Full", padding=7)
        add(pixels, (641, 359), "letterbox", (32, 24), "Bt709")
    for i, pixels in enumerate(FORMATS):
        add(pixels, (41, 33), "letterbox", (20, 16), part=(7, 5, 29, 21), padding=i % 4)
        add(pixels, (24, 18), "stretch", (12, 14), part=(11, 13, 6, 4))
    for pixels in ("Nv12", "I420", "Yv12", "Yuy2", "Uyvy", "Y41b", "Nv16", "P01010le", "I42210le"):
        for part in (
            (1, 0, 1, 1),
            (0, 1, 2, 2),
            (3, 3, 2, 9),
            (29, 16, 1, 1),
            (4, 2, 20, 10),
            (1, 1, 29, 16),
        ):
            add(pixels, (30, 17), "stretch", (8, 6), "Bt709", part=part)
    return everything


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed fixtures, write nothing"
    )
    check = parser.parse_args().check
    check_opencv_colours()
    listed = cases()
    text = "[\n" + ",\n".join(json.dumps(case) for case in listed) + "\n]\n"
    data = b"".join(np.rint(expected(case) * 256).astype("<u2").tobytes() for case in listed)
    names = HERE / "preprocess_reference.json", HERE / "preprocess_reference.bin"
    if check:
        same = names[0].read_text() == text
        # The last place may round differently with another NumPy.
        old, new = (
            np.frombuffer(bytes_, "<u2").astype(int) for bytes_ in (names[1].read_bytes(), data)
        )
        same = same and old.shape == new.shape and np.abs(old - new).max() <= 1
        print(f"{len(listed)} cases: {'as committed' if same else 'NOT as committed'}")
        sys.exit(0 if same else 1)
    names[0].write_text(text)
    names[1].write_bytes(data)
    print(f"{len(listed)} cases, {len(text) + len(data)} bytes")


if __name__ == "__main__":
    main()
