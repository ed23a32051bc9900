"""What a person looks at: contact sheets, and counts against the truth."""

import cv2
import numpy as np

from . import heat, metrics, targets


def draw(image, density, box, sample, line):
    """The input with density as heat, dark where labels are not complete, and true centres as
    dots."""
    height, width = image.shape[:2]
    smooth = cv2.resize(density.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    hot = heat.of_density(smooth)
    colour = heat.colour(hot) * 255
    alpha = np.minimum(hot * 1.8, 0.62)[..., None]
    picture = image * (1 - alpha) + colour * alpha
    known = np.ones(density.shape, np.float32)
    if sample.mask is not None:
        known = metrics.masked(sample, box, *density.shape[::-1])
    elif sample.roi is not None:
        known = targets.coverage(metrics.area(sample, box), *density.shape[::-1])
    picture *= (
        0.35 + 0.65 * np.clip(np.kron(known, np.ones((targets.STRIDE,) * 2)), 0, 1)[..., None]
    )
    picture = np.ascontiguousarray(picture.astype(np.uint8))
    scale = np.array([box[2] / sample.width, box[3] / sample.height])
    for x, y in sample.centres():
        cx, cy = np.round(np.array([x, y]) * scale + box[:2]).astype(int)
        cv2.circle(picture, (int(cx), int(cy)), 2, (255, 255, 255), -1)
        cv2.circle(picture, (int(cx), int(cy)), 1, (0, 0, 0), -1)
    caption = np.zeros((20, width, 3), np.uint8)
    text = f"{line['scene']}  counted {line['count']:.1f}  true {line['truth']}"
    cv2.putText(
        caption, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA
    )
    return np.vstack([picture, caption])


def write(path, pictures, limit, columns=6):
    """The pictures of the largest errors first, by the error as a share of the true count, where
    small counts weigh less."""
    ordered = sorted(
        pictures,
        key=lambda pair: -abs(pair[0]["count"] - pair[0]["truth"]) / np.sqrt(pair[0]["truth"] + 1),
    )
    chosen = [picture for _, picture in ordered[: limit or None]]
    columns = min(columns, len(chosen))
    while len(chosen) % columns:
        chosen.append(np.zeros_like(chosen[0]))
    rows = [np.hstack(chosen[i : i + columns]) for i in range(0, len(chosen), columns)]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


COLOURS = [
    (214, 39, 40),
    (31, 119, 180),
    (44, 160, 44),
    (255, 127, 14),
    (148, 103, 189),
    (140, 86, 75),
    (23, 190, 207),
]


def scatter(path, lines, title, side=480, margin=46):
    """True counts to the right, counts upwards, both as square roots, so that few vehicles and many
    can be seen; a colour for each kind of view."""
    most = max(max(line["count"] for line in lines), max(line["truth"] for line in lines), 1)

    def place(value):
        return np.sqrt(max(value, 0) / most) * (side - margin - 40)

    canvas = np.full((side, side, 3), 255, np.uint8)
    grey, black, font = (150, 150, 150), (40, 40, 40), cv2.FONT_HERSHEY_SIMPLEX
    for tick in [0, 1, 2, 5, 10, 20, 40, 80, 160, 320]:
        if tick <= most:
            x, y = int(margin + place(tick)), int(side - margin - place(tick))
            cv2.line(canvas, (x, side - margin), (x, 40), (235, 235, 235), 1)
            cv2.line(canvas, (margin, y), (side - 40, y), (235, 235, 235), 1)
            cv2.putText(
                canvas, str(tick), (x - 6, side - margin + 16), font, 0.38, black, 1, cv2.LINE_AA
            )
            cv2.putText(canvas, str(tick), (margin - 26, y + 4), font, 0.38, black, 1, cv2.LINE_AA)
    end = place(most)
    cv2.line(
        canvas,
        (margin, side - margin),
        (int(margin + end), int(side - margin - end)),
        grey,
        1,
        cv2.LINE_AA,
    )
    for number, kind in enumerate(sorted({line["kind"] for line in lines})):
        colour = COLOURS[number % len(COLOURS)]
        for line in lines:
            if line["kind"] == kind:
                at = (int(margin + place(line["truth"])), int(side - margin - place(line["count"])))
                cv2.circle(canvas, at, 3, colour, -1, cv2.LINE_AA)
        cv2.circle(canvas, (margin + 10, 52 + 15 * number), 4, colour, -1, cv2.LINE_AA)
        cv2.putText(canvas, kind, (margin + 20, 56 + 15 * number), font, 0.4, black, 1, cv2.LINE_AA)
    cv2.putText(canvas, title, (margin, 24), font, 0.45, black, 1, cv2.LINE_AA)
    cv2.putText(
        canvas,
        "vehicles inside the area, counted by eye",
        (margin, side - 8),
        font,
        0.4,
        black,
        1,
        cv2.LINE_AA,
    )
    cv2.putText(canvas, "count", (4, 36), font, 0.4, black, 1, cv2.LINE_AA)
    cv2.imwrite(str(path), cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
