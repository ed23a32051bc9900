"""Training crops: what cameras see, at every distance, in every weather."""

import fractions
import functools
import sys

import cv2
import numpy as np

from . import targets


@functools.cache
def video():
    """PyAV with x264 inside, or None, which is said once: training goes on with JPEG's artefacts
    alone."""
    try:
        import av
    except ImportError:
        print(
            "PyAV is not installed: no H.264 artefacts in training (pip install av)",
            file=sys.stderr,
        )
        return None
    if "libx264" not in av.codecs_available:
        print(
            "PyAV was built without x264: no H.264 artefacts in training (pip install av has it)",
            file=sys.stderr,
        )
        return None
    return av


def h264(image, rng):
    """The picture as a camera's H.264 shows it: the last of some frames in which the whole moves by
    a few pixels, predicted from the ones before it and coarsely quantized. Blocks of 4 to 16,
    smeared texture and ghosts of where things were: an intra picture, such as a JPEG, has none of
    the latter. Both sides must be even."""
    av = video()
    height, width = image.shape[:2]
    frames, step = int(rng.integers(1, 4)), rng.uniform(-6, 6, 2)
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = (
        width,
        height,
        "yuv420p",
        fractions.Fraction(1, 25),
    )
    encoder.thread_count = 1
    encoder.options = {
        "preset": "ultrafast" if rng.random() < 0.5 else "veryfast",
        "tune": "zerolatency",
        "crf": str(int(rng.integers(24, 42))),
    }
    packets = []
    for number in range(frames):
        # The last one lies where the labels are.
        shift = step * (frames - 1 - number)
        moved = cv2.warpAffine(
            image,
            np.float32([[1, 0, shift[0]], [0, 1, shift[1]]]),
            (width, height),
            borderMode=cv2.BORDER_REPLICATE,
        )
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(moved), format="rgb24")
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    decoded = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(
        None
    )
    return decoded[-1].to_ndarray(format="rgb24")


def jpeg(image, rng):
    """The picture after JPEG: blocks of 8x8, lost chroma."""
    quality = int(rng.integers(18, 85))
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


class Crops:
    """Draws training crops from pictures held in memory, as the recipe says, or `larger` by a
    factor."""

    def __init__(self, samples, pictures, recipe, seed, larger=1):
        self.samples, self.pictures = samples, pictures
        train = recipe["train"]
        # What batches are made of: crops at any scale, or whole pictures as the run time
        # letterboxes them. Squeeze-and-excitation looks at all of its input: a network that saw
        # nothing but crops counts wrongly on whole pictures.
        self.views = [{**view, "side": round(view["side"] * larger)} for view in train["views"]]
        self.crop = self.views[0]["side"]
        self.sides = [side * larger for side in train["longest-side"]]
        # Scenes seen straight from above, by the start of their name: they have no upright.
        self.above = tuple(train.get("above", ()))
        # Most that a vehicle's density spreads, cells: that of a near vehicle would be too thin to
        # tell from nothing.
        self.widest = train.get("widest-spread", np.inf)
        self.random = np.random.default_rng(seed)
        weight = np.array([sample.weight for sample in samples])
        self.weight = weight / weight.sum()
        # Vehicles to paste, with some of what surrounds them. Points give none.
        self.stickers = [
            (index, box)
            for index, sample in enumerate(samples)
            for box in sample.boxes
            if min(box[2], box[3]) >= 14 and box[2] * box[3] >= 400
        ]
        # Two-wheelers to paste, which do not count.
        self.bikes = [
            (index, box)
            for index, sample in enumerate(samples)
            for box in sample.bikes
            if min(box[2], box[3]) >= 12
        ]

    def batch(self):
        """One view's batch."""
        share = np.array([view["share"] for view in self.views])
        view = self.views[self.random.choice(len(self.views), p=share / share.sum())]
        if view.get("mosaic"):
            return [self.mosaic(view["side"]) for _ in range(view["batch"])]
        self.crop = view["side"]
        return [self.draw(view["whole"]) for _ in range(view["batch"])]

    def mosaic(self, side):
        """Four far views in one input: vehicles as small as those of a camera that sees a wide
        road, and many of them."""
        self.crop, near = side // 2, self.sides
        self.sides = [self.crop * 0.8, self.crop * 2.2]
        tiles = [self.draw() for _ in range(4)]
        self.sides = near
        return [
            np.concatenate([np.concatenate(row, axis=1) for row in (part[:2], part[2:])])
            for part in zip(*tiles)
        ]

    def draw(self, whole=False):
        """A crop as uint8 RGB [crop, crop, 3], its density target and the share of each cell that
        is labelled."""
        rng, crop = self.random, self.crop
        index = rng.choice(len(self.samples), p=self.weight)
        sample, picture = self.samples[index], self.pictures[index]
        height, width = picture.shape[:2]
        if whole:
            side, stretch = crop * np.exp(rng.uniform(-0.2, 0.06)), np.exp(rng.uniform(-0.04, 0.04))
        else:
            side, stretch = (
                np.exp(rng.uniform(np.log(self.sides[0]), np.log(self.sides[1]))),
                np.exp(rng.uniform(-0.12, 0.12)),
            )
        # Part of the picture, as another camera would frame it: else the share of grey border gives
        # the scene away, and its count.
        part = np.array([0, 0, width, height], np.float32)
        if whole and rng.random() < 0.6:
            part[2:] *= rng.uniform(0.45, 1.0, 2)
            part[:2] = rng.uniform(0, 1, 2) * ([width, height] - part[2:])
        scale = side / max(part[2], part[3])
        sx, sy = scale * stretch, scale / stretch
        # The crop in the picture's own pixels; where the scaled picture is smaller than the crop,
        # it lies anywhere inside.
        span_x, span_y = crop / sx, crop / sy
        focus = sample.roi or (0, 0, width, height)
        x0 = self._start(focus[0], focus[2], span_x)
        y0 = self._start(focus[1], focus[3], span_y)
        if whole:
            x0 = part[0] + (part[2] - span_x) / 2 + rng.uniform(-0.04, 0.04) * span_x
            y0 = part[1] + (part[3] - span_y) / 2 + rng.uniform(-0.04, 0.04) * span_y
        transform = np.float32([[sx, 0, -x0 * sx], [0, sy, -y0 * sy]])
        source = picture
        if scale < 0.7:
            # warpAffine does not average: shrink by whole areas first.
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            fx, fy = small.shape[1] / width, small.shape[0] / height
            transform = np.float32([[sx / fx, 0, -x0 * sx], [0, sy / fy, -y0 * sy]])
            source = small
        border = 114 if whole else int(rng.choice([114, 114, rng.integers(0, 256)]))
        image = cv2.warpAffine(
            source,
            transform,
            (crop, crop),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(border,) * 3,
        )
        # What is seen of the picture, in its own pixels: x0, y0, x1, y1.
        seen = np.array([x0, y0, x0 + span_x, y0 + span_y])
        if whole:
            seen = np.array(
                [*np.maximum(seen[:2], part[:2]), *np.minimum(seen[2:], part[:2] + part[2:])]
            )
            left, top = np.round((part[:2] - [x0, y0]) * [sx, sy]).astype(int).clip(0, crop)
            right, bottom = (
                np.round((part[:2] + part[2:] - [x0, y0]) * [sx, sy]).astype(int).clip(0, crop)
            )
            image[:top] = image[bottom:] = border
            image[:, :left] = image[:, right:] = border
        boxes, doubtful = targets.cut(sample.boxes, seen)
        boxes, doubtful = ((some - [x0, y0, 0, 0]) * [sx, sy, sx, sy] for some in (boxes, doubtful))
        labelled = np.ones((crop // targets.STRIDE,) * 2, np.float32)
        if sample.roi:
            x, y, w, h = sample.roi
            rect = (
                np.array([(x - x0) * sx, (y - y0) * sy, (x + w - x0) * sx, (y + h - y0) * sy])
                / targets.STRIDE
            )
            labelled = targets.coverage(rect, *labelled.shape[::-1])
        if sample.mask is not None:
            whole = np.float32([[sx, 0, -x0 * sx], [0, sy, -y0 * sy]])
            mask = cv2.warpAffine(
                sample.mask * 255,
                whole,
                (crop, crop),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=255,
            )
            labelled = labelled * cv2.resize(
                mask.astype(np.float32) / 255, labelled.shape[::-1], interpolation=cv2.INTER_AREA
            )
        for x, y, w, h in doubtful:
            labelled = labelled * (
                1
                - targets.coverage(
                    np.array([x, y, x + w, y + h]) / targets.STRIDE, *labelled.shape[::-1]
                )
            )
        if rng.random() < 0.12:
            image = self._clutter(image, boxes)
        if self.stickers and rng.random() < 0.35:
            image, boxes = self._paste(image, boxes, self.stickers)
        if self.bikes and rng.random() < 0.25:
            # Small, a two-wheeler looks like a car from afar.
            image, _ = self._paste(image, boxes, self.bikes, share=0.55, smallest=18)
        if rng.random() < 0.2:
            image = self._shade(image)
        if rng.random() < 0.5:
            image = image[:, ::-1]
            labelled = labelled[:, ::-1]
            boxes = np.stack([crop - boxes[:, 0] - boxes[:, 2], *boxes.T[1:]], axis=1)
        if sample.scene.startswith(self.above):
            image, boxes, labelled = self._turn(image, boxes, labelled)
        target = targets.density(boxes, crop, crop, widest=self.widest)
        return self._weather(np.ascontiguousarray(image)), target, np.ascontiguousarray(labelled)

    def _start(self, focus, length, span):
        slack = length - span
        low, high = (focus, focus + slack) if slack > 0 else (focus + slack, focus)
        return self.random.uniform(low, high)

    def _turn(self, image, boxes, labelled):
        """Upside down or not, then mirrored across the diagonal or not; with the mirroring before,
        all eight ways to lay a picture."""
        if self.random.random() < 0.5:
            image, labelled = image[::-1], labelled[::-1]
            boxes = np.stack(
                [boxes[:, 0], self.crop - boxes[:, 1] - boxes[:, 3], *boxes.T[2:]], axis=1
            )
        if self.random.random() < 0.5:
            image, labelled, boxes = image.transpose(1, 0, 2), labelled.T, boxes[:, [1, 0, 3, 2]]
        return image, boxes, labelled

    def _shade(self, image):
        """The shadow of a building or of trees: half of the picture, or a band, darker and a little
        bluer, with an edge that is soft at will."""
        rng, crop = self.random, self.crop
        turn, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.9) * crop
        rows, columns = np.mgrid[:crop, :crop].astype(np.float32)
        across = (columns - rng.uniform(0, crop)) * np.float32(np.cos(turn)) + (
            rows - rng.uniform(0, crop)
        ) * np.float32(np.sin(turn))
        soft = rng.uniform(0.5, 8)
        inside = np.clip(across / soft + 0.5, 0, 1) * np.clip((width - across) / soft + 0.5, 0, 1)
        dark = rng.uniform(0.25, 0.65) * np.array([1.0, 1.03, 1.1])
        return (image * (1 - inside[..., None] * (1 - dark))).astype(np.uint8)

    def _paste(self, image, boxes, stickers, share=1.0, smallest=0):
        """Some of `stickers` from other pictures, at a size that fits the vehicles around times
        `share`, or not at all below `smallest` pixels, with soft edges."""
        rng, crop = self.random, self.crop
        image, boxes = image.copy(), list(boxes)
        usual = np.median([max(box[2], box[3]) for box in boxes]) if boxes else rng.uniform(16, 120)
        for _ in range(rng.integers(1, 6)):
            index, (x, y, w, h) = stickers[rng.integers(len(stickers))]
            size = np.clip(usual * share * np.exp(rng.normal(0, 0.35)), 8, crop * 0.8)
            factor = size / max(w, h)
            pad = 0.12
            x0, y0 = int(max(x - pad * w, 0)), int(max(y - pad * h, 0))
            patch = self.pictures[index][y0 : int(y + h * (1 + pad)), x0 : int(x + w * (1 + pad))]
            patch = cv2.resize(
                patch,
                None,
                fx=factor,
                fy=factor,
                interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR,
            )
            ph, pw = patch.shape[:2]
            if min(ph, pw) < 4 or ph >= crop or pw >= crop or size < smallest:
                continue
            left, top = rng.integers(0, crop - pw), rng.integers(0, crop - ph)
            centre = np.array([left + pw / 2, top + ph / 2])
            near = [
                b
                for b in boxes
                if abs(b[0] + b[2] / 2 - centre[0]) < (b[2] + pw) / 2.2
                and abs(b[1] + b[3] / 2 - centre[1]) < (b[3] + ph) / 2.2
            ]
            if near:
                continue
            mask = np.zeros((ph, pw), np.float32)
            cv2.ellipse(
                mask, (pw // 2, ph // 2), (int(pw * 0.46), int(ph * 0.46)), 0, 0, 360, 1, -1
            )
            mask = cv2.GaussianBlur(mask, (0, 0), max(min(pw, ph) * 0.06, 0.5))[..., None]
            region = image[top : top + ph, left : left + pw]
            image[top : top + ph, left : left + pw] = (region * (1 - mask) + patch * mask).astype(
                np.uint8
            )
            boxes.append(
                np.array([left + pw * pad / 1.24, top + ph * pad / 1.24, pw / 1.24, ph / 1.24])
            )
        return image, np.array(boxes, np.float32).reshape(-1, 4)

    def _clutter(self, image, boxes):
        """Rows of plain rectangles where no vehicle is: roof windows, panels, markings and facades,
        which look like queues from afar."""
        rng, crop = self.random, self.crop
        image = image.copy()
        length, side = rng.uniform(5, 26), rng.uniform(0.35, 1.0)
        number, pitch = int(rng.integers(2, 14)), length * side * rng.uniform(1.3, 2.6)
        rows, turn = int(rng.integers(1, 4)), rng.uniform(0, np.pi)
        across = np.array([np.cos(turn), np.sin(turn)])
        along = np.array([-across[1], across[0]])
        begin = rng.uniform(0, crop, 2)
        colour = rng.choice([rng.integers(150, 256), rng.integers(20, 120)]) + rng.integers(
            -25, 26, 3
        )
        quads = []
        for row in range(rows):
            for column in range(number):
                centre = begin + across * pitch * column + along * length * 1.6 * row
                corner = [
                    a * across * length * side / 2 + b * along * length / 2
                    for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
                ]
                quads.append(np.array(corner) + centre)
        everything = np.concatenate(quads)
        low, high = everything.min(0) - 4, everything.max(0) + 4
        if (
            len(boxes)
            and ((boxes[:, :2] < high) & (boxes[:, :2] + boxes[:, 2:] > low)).all(axis=1).any()
        ):
            return image
        if rng.random() < 0.7:
            ground = rng.choice(
                [[150, 85, 65], [120, 110, 105], [90, 90, 95], [170, 150, 130]]
            ) + rng.integers(-30, 31, 3)
            cv2.fillConvexPoly(
                image,
                cv2.convexHull(everything.astype(np.int32)),
                np.clip(ground, 0, 255).tolist(),
                cv2.LINE_AA,
            )
        for quad in quads:
            shade = np.clip(colour + rng.integers(-15, 16), 0, 255).tolist()
            cv2.fillConvexPoly(image, np.round(quad * 16).astype(np.int32), shade, cv2.LINE_AA, 4)
        return image

    def _weather(self, image):
        """Light, colour, blur, noise and compression."""
        rng = self.random
        if rng.random() < 0.8:
            gain = np.exp(rng.normal(0, 0.22))
            gamma = np.exp(rng.normal(0, 0.25)) if rng.random() < 0.85 else rng.uniform(1.6, 2.8)
            tint = np.exp(rng.normal(0, 0.07, 3))
            ramp = (np.arange(256) / 255.0) ** gamma * 255.0
            table = (
                np.clip((ramp[:, None] - 128) * np.exp(rng.normal(0, 0.15)) + 128, 0, 255)
                * gain
                * tint
            )
            table = np.clip(table, 0, 255).astype(np.uint8)
            image = cv2.LUT(image, table[None])
        if rng.random() < 0.15:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if rng.random() < 0.25:
            if rng.random() < 0.5:
                image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
            else:
                length = int(rng.integers(2, 7))
                kernel = np.zeros((length, length), np.float32)
                kernel[length // 2] = 1.0 / length
                image = cv2.filter2D(image, -1, kernel if rng.random() < 0.7 else kernel.T)
        if rng.random() < 0.3:
            noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(2, 14)
            image = np.clip(image + noise, 0, 255).astype(np.uint8)
        if rng.random() < 0.04:
            spots = rng.random(image.shape[:2])
            share = rng.uniform(0.005, 0.05)
            image = image.copy()
            image[spots < share / 2] = 0
            image[spots > 1 - share / 2] = 255
        if rng.random() < 0.4:
            image = h264(image, rng) if rng.random() < 0.5 and video() else jpeg(image, rng)
        return image
