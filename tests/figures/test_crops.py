"""Crops are chosen by rules: the tile with the most of a quantity, and always the same one."""

from pathlib import Path

import numpy as np

from d2csr.core.geometry import Size
from d2csr.core.manifest import Pair
from d2csr.figures.crops import Crop, Scene, choose_crops
from d2csr.images.resize import resize_bicubic


def scene(name, hr):
    """Return a scene whose LR differs from the bicubic one in one LR block, if it is marked."""
    lr = resize_bicubic(hr, scale=0.5)
    pair = Pair(name, "", Path("lr.png"), Path("hr.png"), Size(64, 48), Size(128, 96))
    return Scene(pair, lr, hr, 2, {})


def marked(name, top, left, level):
    found = scene(name, np.full((96, 128, 3), 100, np.uint8))
    found.lr[top : top + 4, left : left + 4] += np.uint8(level)
    return found


def test_the_tile_with_the_largest_difference_is_found_in_each_image_best_image_first():
    scenes = [marked("weak", 4, 40, 20), marked("strong", 36, 8, 60), marked("none", 0, 0, 0)]
    first, second = choose_crops(scenes, "loss", side=32, count=2)
    assert (first.image, second.image) == ("strong", "weak")
    for crop, (top, left) in ((first, (72, 16)), (second, (8, 80))):
        assert crop.top <= top
        assert crop.left <= left
        assert crop.top + 32 >= top + 8
        assert crop.left + 32 >= left + 8
    assert choose_crops(scenes, "loss", side=32, count=2) == [first, second]


def test_a_crop_is_no_larger_than_its_image():
    (crop,) = choose_crops([marked("only", 0, 0, 50)], "loss", side=500, count=3)
    assert crop == Crop("only", 0, 0, 96)
    assert crop.of(np.zeros((96, 128, 3))).shape == (96, 96, 3)
