"""Pictures with vehicles in them, as the chain knows them.

The chain's own form is one JSON object a line in `annotations.jsonl`: `file`, `width`, `height`, `boxes` [[x, y, w, h]] in pixels or
`points` [[x, y]], `scene`, `split`, and optionally `roi` [x, y, w, h], where labels are complete only inside it. `prepare.py` makes it
from COCO, YOLO and TRANCOS data.
"""

import dataclasses
import json
import pathlib

import cv2
import numpy as np

BORDER = 114
"""Grey level around a letterboxed picture; the run time uses the same."""


@dataclasses.dataclass
class Sample:
    """One picture: its file and its vehicles, boxes as x, y, w, h in pixels of the original picture."""

    file: pathlib.Path
    width: int
    height: int
    boxes: np.ndarray
    scene: str
    split: str
    roi: tuple | None = None

    def truth(self):
        """Vehicles whose centre lies inside the labelled area."""
        if self.roi is None:
            return len(self.boxes)
        x, y, w, h = self.roi
        cx, cy = self.boxes[:, 0] + self.boxes[:, 2] / 2, self.boxes[:, 1] + self.boxes[:, 3] / 2
        return int(((cx >= x) & (cx < x + w) & (cy >= y) & (cy < y + h)).sum())


def load(folder, split=None):
    """Reads `annotations.jsonl` in `folder`. Points become boxes of no size."""
    folder = pathlib.Path(folder)
    path = folder / "annotations.jsonl"
    samples = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            entry = json.loads(line)
            boxes = entry.get("boxes")
            if boxes is None:
                boxes = [[x, y, 0, 0] for x, y in entry["points"]]
            sample = Sample(
                folder / entry["file"], entry["width"], entry["height"], np.array(boxes, np.float32).reshape(-1, 4),
                entry.get("scene", "all"), entry.get("split", "train"), tuple(entry["roi"]) if entry.get("roi") else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SystemExit(f"{path}:{number}: {error!r}: each line needs file, width, height and boxes or points") from error
        if split is None or sample.split == split:
            samples.append(sample)
    if not samples:
        raise SystemExit(f"{path}: no picture of split {split!r}")
    return samples


def read(sample):
    """The picture as RGB, uint8."""
    picture = cv2.imread(str(sample.file), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{sample.file}: cannot be read as a picture")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def placement(width, height, input_width, input_height):
    """Where a letterboxed picture lies in the input: left, top, width, height. The run time computes the same."""
    scale = min(input_width / width, input_height / height)
    w = min(max(int(np.floor(width * scale + 0.5)), 1), input_width)
    h = min(max(int(np.floor(height * scale + 0.5)), 1), input_height)
    return (input_width - w) // 2, (input_height - h) // 2, w, h


def letterbox(picture, input_width, input_height):
    """The picture inside the input, RGB uint8, resized by Pillow's antialiased bilinear filter, and where it lies."""
    from PIL import Image

    height, width = picture.shape[:2]
    left, top, w, h = placement(width, height, input_width, input_height)
    canvas = np.full((input_height, input_width, 3), BORDER, np.uint8)
    canvas[top : top + h, left : left + w] = np.asarray(Image.fromarray(picture).resize((w, h), Image.BILINEAR))
    return canvas, (left, top, w, h)
