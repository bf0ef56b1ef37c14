"""Weighting by alpha and back."""

import numpy as np
import pytest

from d2csr.images.alpha import premultiplied, straight

RNG = np.random.default_rng(0)
COLOURS = RNG.random((6, 9, 3), np.float32)
ALPHA = RNG.random((6, 9), np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("levels", [255, 65535])
def test_colours_come_back_wherever_they_are_seen(channels, levels):
    colours = COLOURS[..., :channels]
    back = straight(premultiplied(colours, ALPHA), ALPHA, levels=levels)
    seen = 0.5 / levels <= ALPHA
    assert back[seen] == pytest.approx(colours[seen], abs=1e-6)


def test_what_is_not_seen_is_black_and_no_division_fails():
    alpha = np.array([[0.0, 1e-30, 0.001, -0.2]], np.float32)
    with np.errstate(all="raise"):
        assert not straight(np.full((1, 4, 3), 0.3, np.float32), alpha).any()


def test_overshoot_is_clipped():
    alpha = np.full((1, 2), 0.5, np.float32)
    weighted = np.array([[[0.6, -0.1, 0.25]] * 2], np.float32)
    assert straight(weighted, alpha)[0, 0].tolist() == [1.0, 0.0, 0.5]


def test_an_edge_enlarged_by_weight_has_no_fringe():
    """Red seen beside hidden green: averaged as it is, the edge is brown; by weight it is red."""
    colours = np.zeros((1, 2, 3), np.float32)
    colours[0, 0, 0] = colours[0, 1, 1] = 1.0
    alpha = np.array([[1.0, 0.0]], np.float32)
    mean = premultiplied(colours, alpha).mean(axis=1, keepdims=True)
    edge = straight(mean, alpha.mean(axis=1, keepdims=True))
    assert edge[0, 0].tolist() == [1.0, 0.0, 0.0]
    assert colours.mean(axis=1)[0].tolist() == [0.5, 0.5, 0.0]
