"""Targets, labelled areas, letterbox, GAME: what a count is. Needs numpy and Pillow alone."""

import math

import numpy as np
import pytest
from PIL import Image

from vcount import data, metrics, targets


def sample(boxes, width=100, height=80, **more):
    return data.Sample(
        "none.png", width, height, np.array(boxes, np.float32).reshape(-1, 4), "here", "val", **more
    )


def test_targets_keep_the_sum():
    random = np.random.default_rng(1)
    boxes = np.concatenate(
        [random.uniform(0, 250, (40, 2)), random.uniform(0, 120, (40, 2))], axis=1
    )
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    inside = ((centres >= 0) & (centres < [256, 192])).all(axis=1).sum()
    density = targets.density(boxes, 256, 192)
    assert density.shape == (24, 32)
    assert density.min() >= 0
    # float32 sums of 768 cells.
    assert density.sum() == pytest.approx(inside, abs=1e-3)


def test_vehicle_at_the_border_keeps_its_whole_mass():
    assert targets.density([[-10, -10, 22, 22]], 64, 64).sum() == pytest.approx(1, abs=1e-5)


def test_points_are_vehicles_of_no_size():
    density = targets.density([[20, 20, 0, 0]], 64, 64)
    assert density.sum() == pytest.approx(1, abs=1e-5)
    assert np.unravel_index(density.argmax(), density.shape) == (2, 2)


def test_gaussian_is_the_integral_over_cells():
    share = targets._mass(3.3, 0.8, 8)
    cdf = [0.5 * (1 + math.erf((edge - 3.3) / (0.8 * math.sqrt(2)))) for edge in range(9)]
    wanted = np.diff(cdf) / (cdf[-1] - cdf[0])
    # erf by Abramowitz and Stegun 7.1.26.
    assert np.abs(share - wanted).max() < 1e-6


def test_coverage_is_exact():
    cover = targets.coverage([0.25, 1.5, 3, 2], 4, 3)
    assert cover.sum() == pytest.approx(2.75 * 0.5)
    assert cover[1].tolist() == pytest.approx([0.375, 0.5, 0.5, 0])


def test_roi_counts_boxes_by_centre_and_density_by_coverage():
    one = sample([[0, 0, 10, 10], [40, 30, 20, 20], [45, 38, 10, 4]], roi=(20, 20, 60, 40))
    assert one.truth() == 2
    density = np.ones((10, 13), np.float32)
    # The picture fills 100x80 of a 104x80 input; the area is 60x40 pixels of 8x8 cells.
    assert metrics.count(density, one, (0, 0, 100, 80)) == pytest.approx(60 * 40 / 64)


def test_without_roi_the_border_counts_too():
    density = np.zeros((16, 16), np.float32)
    density[0, 0] = 2
    assert metrics.count(density, sample([]), (0, 13, 128, 102)) == pytest.approx(2)


def test_mask_bounds_truth_and_count():
    mask = np.zeros((80, 100), np.uint8)
    mask[:, :50] = 1
    one = sample([[10, 10, 4, 4], [60, 10, 4, 4]], mask=mask)
    assert one.truth() == 1
    density = np.zeros((10, 13), np.float32)
    density[2, 1] = density[2, 8] = 1
    assert metrics.count(density, one, (0, 0, 100, 80)) == pytest.approx(1)


def test_mask_is_shared_out_by_exact_area():
    # 100x80 in 96x96: 12 columns over 100 pixels. The mask ends in the middle, which lies between
    # two cells, or within one.
    for columns in (50, 56):
        mask = np.zeros((80, 100), np.uint8)
        mask[:, :columns] = 1
        box = data.placement(100, 80, 96, 96)
        counted = metrics.count(np.ones((12, 12), np.float32), sample([], mask=mask), box)
        assert counted == pytest.approx(12 * columns / 100 * box[3] / 8)


def test_game_is_the_sum_over_parts_that_do_not_overlap():
    # Two vehicles top left; the network puts one there and one bottom right.
    one = sample([[10, 10, 4, 4], [20, 10, 4, 4]], width=128, height=128)
    density = np.zeros((16, 16), np.float32)
    density[1, 1] = density[12, 12] = 1
    box = (0, 0, 128, 128)
    assert metrics.game(density, one, box, 0) == pytest.approx(0)
    assert metrics.game(density, one, box, 1) == pytest.approx(2)
    assert (
        metrics.game(density, one, box, 3)
        >= metrics.game(density, one, box, 2)
        >= metrics.game(density, one, box, 1)
    )


def test_game_never_falls_below_the_error_of_the_count():
    random = np.random.default_rng(2)
    for _ in range(20):
        boxes = np.concatenate(
            [random.uniform(0, 90, (7, 2)), random.uniform(0, 20, (7, 2))], axis=1
        )
        one = sample(boxes, roi=(10, 5, 70, 60))
        density = random.uniform(0, 0.2, (12, 16)).astype(np.float32)
        box = data.placement(100, 80, 128, 96)
        error = abs(metrics.count(density, one, box) - one.truth())
        assert metrics.game(density, one, box, 2) >= error - 1e-6
        assert metrics.game(density, one, box, 0) == pytest.approx(error)
        assert metrics.parts(density, one, box, 3).sum() == pytest.approx(
            metrics.count(density, one, box)
        )


def test_letterbox_is_pillows_bilinear_centred_on_grey():
    random = np.random.default_rng(3)
    picture = random.integers(0, 256, (270, 481, 3), np.uint8)
    canvas, (left, top, w, h) = data.letterbox(picture, 384, 384)
    assert (w, h) == (384, round(270 * 384 / 481))
    assert (left, top) == (0, (384 - h) // 2)
    wanted = np.asarray(Image.fromarray(picture).resize((w, h), Image.BILINEAR))
    assert (canvas[top : top + h] == wanted).all()
    assert (canvas[:top] == 114).all() and (canvas[top + h :] == 114).all()


def test_exact_letterbox_is_the_other_one_not_rounded():
    picture = np.random.default_rng(4).integers(0, 256, (270, 481, 3), np.uint8)
    exact, box = data.letterbox_exact(picture, 384, 256)
    rounded, same = data.letterbox(picture, 384, 256)
    assert box == same and exact.dtype == np.float32
    # Pillow rounds between its two passes, too.
    assert np.abs(exact - rounded).max() <= 1.01


def test_letterbox_keeps_at_least_a_pixel():
    assert data.placement(10000, 3, 384, 384)[2:] == (384, 1)


def test_summary_knows_always_answering_the_mean():
    result = metrics.summary([1, 4], [2, 6])
    assert result["mae"] == pytest.approx(1.5)
    assert result["bias"] == pytest.approx(-1.5)
    assert result["rmse"] == pytest.approx(math.sqrt(2.5))
    assert result["mean-baseline-mae"] == pytest.approx(2)


def test_vehicles_cut_by_the_edge_count_when_enough_of_them_shows():
    boxes = [
        [-5, 10, 10, 10],
        [-7, 30, 10, 10],
        [-9, 50, 10, 10],
        [20, 20, 10, 10],
        [99, 5, 0, 0],
        [101, 5, 0, 0],
    ]
    counted, doubtful = targets.cut(boxes, (0, 0, 100, 100))
    # A half shows, a whole one, and a point inside.
    assert counted.tolist() == [[0, 10, 5, 10], [20, 20, 10, 10], [99, 5, 0, 0]]
    assert doubtful.tolist() == [[0, 30, 3, 10]]


def test_density_of_a_near_vehicle_spreads_no_wider_than_wanted():
    wide, held = (
        targets.density([[64, 64, 256, 256]], 384, 384, widest=widest) for widest in (np.inf, 2.5)
    )
    assert wide.sum() == pytest.approx(1, abs=1e-4) and held.sum() == pytest.approx(1, abs=1e-4)
    assert held.max() > 5 * wide.max()


def test_area_is_filled_by_the_even_odd_rule():
    square = [[1, 1], [5, 1], [5, 5], [1, 5], [1, 1]]
    hole = [[2, 2], [3, 2], [3, 3], [2, 3], [2, 2]]
    pixels = data.inside(square + hole, 6, 6)
    assert pixels.sum() == 15 and pixels[1, 1] == 1 and pixels[2, 2] == 0 and pixels[5, 5] == 0


def test_summary_tells_shares_and_of_empty_pictures_the_largest_count():
    some = metrics.summary([1.0, 4.0], [2, 6])
    assert (some["relative"], some["counted"]) == (0.375, 0.625)
    none = metrics.summary([0.25, 1.25], [0, 0])
    assert none["most"] == 1.25 and "relative" not in none


def test_score_weighs_kinds_and_scenes_alike():
    def line(kind, scene, count, truth):
        return {"kind": kind, "scene": scene, "count": count, "truth": truth}

    # Half of 10 missed in one scene, none in the other: 5 of 20. One picture without vehicles
    # counts 2.
    lines = [*[line("road", "a", 5, 10)] * 9, line("road", "b", 10, 10), line("none", "c", 2, 0)]
    assert metrics.score(lines) == pytest.approx((0.25 + 0.2) / 2)
