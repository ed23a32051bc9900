"""What compression does to a training picture. Needs OpenCV; H.264 needs PyAV."""

import sys

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

from vcount import augment


def picture(width=128, height=96):
    """A grey road with a bright vehicle left of the middle, and noise."""
    image = np.full((height, width, 3), 96, np.uint8)
    image[40:60, 20:56] = (220, 60, 40)
    noise = np.random.default_rng(1).integers(-12, 13, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["jpeg", "h264"])
def test_picture_stays_what_and_where_it_is(name):
    if name == "h264" and augment.video() is None:
        pytest.skip("PyAV is not installed")
    image, rng = picture(), np.random.default_rng(7)
    before = image.copy()
    differences = []
    for _ in range(12):
        out = getattr(augment, name)(image, rng)
        assert out.shape == image.shape and out.dtype == np.uint8
        # The vehicle's middle stays a vehicle, the road beside it road: nothing has moved with the
        # frames before.
        assert np.abs(out[45:55, 26:50].mean((0, 1)) - image[45:55, 26:50].mean((0, 1))).max() < 25
        assert (
            np.abs(out[45:55, 66:110].mean((0, 1)) - image[45:55, 66:110].mean((0, 1))).max() < 15
        )
        differences.append(np.abs(out.astype(int) - image).mean())
    assert (image == before).all()
    # Something is lost each time, and not the same.
    assert min(differences) > 1 and max(differences) > min(differences)


def test_h264_predicts_from_frames_before():
    if augment.video() is None:
        pytest.skip("PyAV is not installed")
    # The same draws give the same picture.
    image = picture()
    one, other = (augment.h264(image, np.random.default_rng(3)) for _ in range(2))
    assert (one == other).all()


def test_without_pyav_it_is_said_once_and_training_goes_on(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    augment.video.cache_clear()
    try:
        assert augment.video() is None and augment.video() is None
        assert capsys.readouterr().err.count("pip install av") == 1
    finally:
        augment.video.cache_clear()
