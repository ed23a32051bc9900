"""Pictures with vehicles in them, as the chain knows them.

The chain's own form is one JSON object a line in `annotations.jsonl`: `file`, `width`, `height`,
`boxes` [[x, y, w, h]] in pixels or `points` [[x, y]], `scene`, `split`, optionally `kind` (of
view), `bikes` (two-wheelers, as boxes: they do not count), and where labels are complete: `roi` [x,
y, w, h], `mask`, the file of a picture that is white there, or `area`, a polygon [[x, y]]. A mask
is taken before an area. `prepare.py` makes the file from COCO, YOLO and TRANCOS data.
"""

import collections
import dataclasses
import json
import pathlib

import numpy as np
from PIL import Image, ImageOps

BORDER = 114
"""Grey level around a letterboxed picture; the run time uses the same."""


@dataclasses.dataclass
class Sample:
    """One picture: its file and its vehicles, boxes as x, y, w, h in pixels of the original
    picture."""

    file: pathlib.Path
    width: int
    height: int
    boxes: np.ndarray
    scene: str
    split: str
    roi: tuple | None = None
    name: str = ""
    mask: np.ndarray | None = None
    bikes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 4), np.float32))
    weight: float = 1.0
    """How often training draws it, relative to others."""
    kind: str = ""
    """What kind of view it is; errors are told by it."""

    def centres(self):
        """Centres [[x, y]] of the vehicles that are inside the labelled area."""
        centres = self.boxes[:, :2] + self.boxes[:, 2:] / 2
        inside = np.ones(len(centres), bool)
        if self.roi is not None:
            x, y, w, h = self.roi
            inside &= ((centres >= [x, y]) & (centres < [x + w, y + h])).all(axis=1)
        if self.mask is not None:
            columns, rows = np.clip(centres, 0, [self.width - 1, self.height - 1]).astype(int).T
            inside &= self.mask[rows, columns] > 0
        return centres[inside]

    def truth(self):
        """Vehicles whose centre lies inside the labelled area."""
        return len(self.centres())


def load(folder, split=None, required=True):
    """Reads `annotations.jsonl` in `folder`. Points become boxes of no size. A split without
    pictures ends the program, if it is `required`."""
    folder = pathlib.Path(folder)
    path = folder / "annotations.jsonl"
    samples = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            entry = json.loads(line)
            own = sample(
                entry, folder / entry["file"], folder / entry["mask"] if entry.get("mask") else None
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SystemExit(
                f"{path}:{number}: {error!r}: each line needs file, width, height and boxes or points"
            ) from error
        # What is in training twice, mirrored or not, adds nothing to mirroring.
        copy = split == "train" and "copy-of" in entry
        if not copy and (split is None or own.split == split):
            samples.append(own)
    if not samples and required:
        raise SystemExit(f"{path}: no picture of split {split!r}")
    return samples


def sample(entry, file, mask=None):
    """The picture that a line of `annotations.jsonl` describes. `file` and `mask` are where it and
    its mask lie."""
    boxes = entry.get("boxes")
    if boxes is None:
        boxes = [[x, y, 0, 0] for x, y in entry["points"]]
    width, height = entry["width"], entry["height"]
    scene = entry.get("scene", "all")
    if mask is not None:
        mask = _mask(mask, width, height)
    elif entry.get("area") and not entry.get("roi"):
        mask = inside(entry["area"], width, height)
    return Sample(
        file,
        width,
        height,
        np.array(boxes, np.float32).reshape(-1, 4),
        scene,
        entry.get("split", "train"),
        tuple(entry["roi"]) if entry.get("roi") else None,
        entry.get("file", ""),
        mask,
        np.array(entry.get("bikes", []), np.float32).reshape(-1, 4),
        kind=entry.get("kind", scene.split("_")[0]),
    )


def inside(area, width, height):
    """The polygon `area` [[x, y]] in pixels as 0 and 1, the picture's size: a pixel is inside where
    its centre is, by the even-odd rule."""
    columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
    crossings = np.zeros((height, width), np.int32)
    for (x0, y0), (x1, y1) in zip(area, [*area[1:], area[0]]):
        if y0 == y1:
            continue
        # Of each row that the edge crosses, the pixels to the right of it.
        crossed = (rows >= min(y0, y1)) & (rows < max(y0, y1))
        at = x0 + (rows - y0) * ((x1 - x0) / (y1 - y0))
        crossings += crossed[:, None] & (columns[None] > at[:, None])
    return (crossings % 2).astype(np.uint8)


def weigh(folders, shares=None, kinds=None):
    """Sets how often training draws each picture. A scene of many pictures counts more than one of
    few, but not as much as their number: its pictures are alike. `shares` then says how much of all
    each folder gets, however many scenes it has, and `kinds` how much pictures of some kinds of
    view get, the others in their proportion sharing the rest: a kind of few scenes is otherwise
    hardly seen. A kind of which there is no picture gets nothing."""
    scenes = collections.Counter(sample.scene for samples in folders for sample in samples)
    for index, samples in enumerate(folders):
        for sample in samples:
            sample.weight = scenes[sample.scene] ** -0.5
        if shares:
            total = sum(sample.weight for sample in samples)
            for sample in samples:
                sample.weight *= shares[index] / total
    if not kinds:
        return
    if min(kinds.values()) <= 0 or sum(kinds.values()) >= 1:
        raise SystemExit("train.kinds: shares above 0, and less than 1 in all")
    drawn = collections.defaultdict(list)
    for sample in (sample for samples in folders for sample in samples):
        drawn[sample.kind if sample.kind in kinds else None].append(sample)
    rest = 1 - sum(share for kind, share in kinds.items() if kind in drawn)
    for kind, samples in drawn.items():
        total = sum(sample.weight for sample in samples)
        for sample in samples:
            sample.weight *= (rest if kind is None else kinds[kind]) / total


def _mask(path, width, height):
    """The labelled area as 0 and 1, the picture's size."""
    mask = np.asarray(Image.open(path).convert("L"))
    if mask.shape != (height, width):
        raise SystemExit(f"{path}: not as large as its picture")
    return (mask > 127).astype(np.uint8)


def read(sample):
    """The picture as RGB, uint8, upright by its EXIF orientation, of the size that its labels are
    for."""
    try:
        picture = Image.open(sample.file)
        upright = ImageOps.exif_transpose(picture)
        # Some tools label the pixels as they are stored.
        chosen = upright if upright.size == (sample.width, sample.height) else picture
        pixels = np.asarray(chosen.convert("RGB"))
    except OSError as error:
        raise SystemExit(f"{sample.file}: cannot be read as a picture: {error}") from error
    if pixels.shape[:2] != (sample.height, sample.width):
        raise SystemExit(
            f"{sample.file}: is {pixels.shape[1]}x{pixels.shape[0]}, and labelled as {sample.width}x{sample.height}"
        )
    return pixels


def placement(width, height, input_width, input_height):
    """Where a letterboxed picture lies in the input: left, top, width, height. The run time
    computes the same."""
    scale = min(input_width / width, input_height / height)
    w = min(max(int(np.floor(width * scale + 0.5)), 1), input_width)
    h = min(max(int(np.floor(height * scale + 0.5)), 1), input_height)
    return (input_width - w) // 2, (input_height - h) // 2, w, h


def letterbox(picture, input_width, input_height):
    """The picture inside the input, RGB uint8, resized by Pillow's antialiased bilinear filter, and
    where it lies."""
    height, width = picture.shape[:2]
    left, top, w, h = placement(width, height, input_width, input_height)
    canvas = np.full((input_height, input_width, 3), BORDER, np.uint8)
    canvas[top : top + h, left : left + w] = np.asarray(
        Image.fromarray(picture).resize((w, h), Image.BILINEAR)
    )
    return canvas, (left, top, w, h)


FITS = ("letterbox", "black", "corner", "stretch")
"""Ways to fit a picture in: our own, and those of DeepStream's nvinfer: `symmetric-padding=1`,
`symmetric-padding=0`, `maintain-aspect-ratio=0`."""


def letterbox_exact(picture, input_width, input_height, fit="letterbox"):
    """As `letterbox`, with levels in float32 that are not rounded in between: what the run time
    gives the network. A quantized network counts single pictures differently by up to a tenth after
    rounding. `fit` is one of `FITS`."""
    height, width = picture.shape[:2]
    left, top, w, h = (
        (0, 0, input_width, input_height)
        if fit == "stretch"
        else placement(width, height, input_width, input_height)
    )
    if fit == "corner":
        left = top = 0
    border = BORDER if fit == "letterbox" else 0
    canvas = np.full((input_height, input_width, 3), border, np.float32)
    for channel in range(3):
        plane = Image.fromarray(picture[:, :, channel].astype(np.float32))
        canvas[top : top + h, left : left + w, channel] = np.asarray(
            plane.resize((w, h), Image.BILINEAR)
        )
    return canvas, (left, top, w, h)
