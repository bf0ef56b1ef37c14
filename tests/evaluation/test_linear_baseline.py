"""The linear baseline: against one large least-squares system, and on photographs."""

import numpy as np
import pytest

from d2csr.data.sources import open_pairs
from d2csr.evaluation.linear_baseline import (
    SIDE_PX,
    apply_filters,
    fit_filters,
    gram_matrix,
    moments,
)
from d2csr.images.reader import read_rgb8
from d2csr.metrics.protocols import score
from tests.oracles import metrics as oracle


def test_filters_solve_the_least_squares_of_all_windows(pairs):
    manifest = open_pairs(pairs / "train")
    filters = fit_filters(manifest)
    arrays = [(read_rgb8(pair.lr), read_rgb8(pair.hr)) for pair in manifest]
    for column, phase in ((0, (0, 0)), (1, (0, 1)), (2, (1, 0))):
        expected = oracle.linear_normal_least_squares(arrays, scale=2, phase=phase)
        assert np.allclose(filters[:, column], expected, atol=1e-6)


def test_sums_over_windows_are_those_of_materialized_windows():
    generator = np.random.default_rng(0)
    padded, phases = generator.random((3, 20, 23)), generator.random((3, 8, 11, 4))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SIDE_PX, SIDE_PX), axis=(1, 2))
    rows = np.hstack([windows.reshape(-1, SIDE_PX**2), np.ones((3 * 8 * 11, 1))])
    assert np.allclose(gram_matrix(padded), rows.T @ rows)
    assert np.allclose(moments(padded, phases), rows.T @ phases.reshape(-1, 4))


@pytest.mark.parametrize("scale", [2, 3])
def test_an_identity_filter_repeats_each_pixel(scale):
    lr = np.random.default_rng(1).integers(0, 256, (14, 15, 3), dtype=np.uint8)
    filters = np.zeros((SIDE_PX**2 + 1, scale**2))
    filters[SIDE_PX**2 // 2] = 1
    expected = lr.repeat(scale, axis=0).repeat(scale, axis=1) / 255
    assert np.allclose(apply_filters(lr, filters), expected)


def test_phases_and_constants_are_at_their_positions():
    lr = np.zeros((9, 8, 3), dtype=np.uint8)
    filters = np.zeros((SIDE_PX**2 + 1, 4))
    filters[-1] = [0.1, 0.2, 0.3, 0.4]
    sr = apply_filters(lr, filters)
    assert np.allclose(sr[:2, :2, 0], [[0.1, 0.2], [0.3, 0.4]])
    assert np.allclose(sr, np.tile(sr[:2, :2], (9, 8, 1)))


def test_fitted_on_a_few_photographs_it_beats_bicubic_clearly(data_folder):
    """All 60 train scenes give 28.60 dB on the test scenes; six come close to that."""
    folder = data_folder / "city100" / "nikon_d5500_x3"
    manifest = open_pairs(folder / "train")
    filters = fit_filters(type(manifest)(3, "", manifest.pairs[:6], folder))
    pair = open_pairs(folder / "test").pairs[0]
    sr = apply_filters(read_rgb8(pair.lr), filters)
    assert score(sr, read_rgb8(pair.hr), protocol="y", scale=3).psnr_db > 28.29 + 0.5
