"""Heatmaps against matplotlib's colors."""

import matplotlib as mpl
import numpy as np

from d2csr.images.colors import heatmap


def test_the_colors_are_viridis():
    values = np.linspace(0, 1, 256, dtype=np.float32)[None]
    wanted = np.rint(mpl.colormaps["viridis"](values[0])[:, :3] * 255)
    assert np.abs(heatmap(values, top=1.0)[0].astype(int) - wanted).max() <= 7


def test_what_lies_beyond_the_top_is_yellow():
    assert heatmap(np.array([[8, 90]], np.float32), top=8.0).tolist() == [[[253, 231, 37]] * 2]
