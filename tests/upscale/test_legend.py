"""The legend: read like a person would, by its ticks and its colors."""

import itertools

import numpy as np
import pytest

from d2csr.core.geometry import Size
from d2csr.upscale.legend import TICKS, Legend, color_levels, render_text

INK = np.array([255, 255, 255])


@pytest.mark.parametrize("width", [300, 1218])
def test_the_color_above_each_tick_is_that_of_its_gray_level(width: int):
    legend = Legend(Size(width, 50))
    rows = legend.rows()
    unit = max(1, width // 400)
    tick_row = rows[unit * 16 + 1]
    inked = np.flatnonzero((tick_row == INK).all(axis=1))
    centers = [part.mean() for part in np.split(inked, np.flatnonzero(np.diff(inked) > 1) + 1)]
    assert len(centers) == len(TICKS)
    bar = rows[unit * 8]
    for center, level in zip(centers, TICKS, strict=True):
        wanted = color_levels(np.full((1, 1), level, np.float32))[0, 0].astype(int)
        assert np.abs(bar[round(center)].astype(int) - wanted).max() <= 6, level


def test_each_tick_is_twice_the_one_before_and_equally_far_away():
    assert all(after == 2 * before for before, after in itertools.pairwise(TICKS))
    levels = np.array([[0.1, 0.5, 4, 32, 90]], np.float32)
    below, first, middle, last, above = color_levels(levels)[0].tolist()
    assert below == first == [68, 1, 84]  # both ends of viridis
    assert above == last == [253, 231, 37]
    assert middle == [34, 168, 132] or np.abs(np.subtract(middle, [33, 145, 140])).max() < 8


def test_a_narrow_map_gets_a_margin_that_the_legend_fits_in():
    legend = Legend(Size(20, 10))
    colors = legend.color(np.full((10, 20), 4, np.float32))
    assert colors.shape == (10, legend.size.width, 3)
    assert (colors[:, 20:] == colors[0, -1]).all()
    assert legend.size == Size(240, 10 + len(legend.rows()))
    title = legend.rows()[-11:-4]
    assert (title[:, :2] != INK).any(axis=2).all()  # nothing cut off at the sides
    assert (title[:, -2:] != INK).any(axis=2).all()
    assert "upper left 20 x 10 pixels" in legend.note


def test_letters_are_five_by_seven_and_differ():
    letters = [render_text(letter) for letter in "0123456 8ACDEGLOPRSTVXY.,-" if letter != "7"]
    assert {letter.shape for letter in letters} == {(7, 5)}
    assert len({letter.tobytes() for letter in letters}) == len(letters)
    assert render_text("1.5").shape == (7, 17)
