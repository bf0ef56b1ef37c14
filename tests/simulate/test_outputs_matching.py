"""Color matching of HR to LR: exact where the two differ by a line."""

import numpy as np

from d2csr.simulate.outputs import match_color


def scene(side=96):
    rng = np.random.default_rng(0)
    coarse = rng.uniform(40, 200, (side // 24, side // 24, 3))
    return np.rint(np.kron(coarse, np.ones((24, 24, 1)))).astype(np.uint8)


def test_a_gain_and_an_offset_of_each_channel_are_undone():
    hr = scene()
    lr = hr[1::3, 1::3]
    darker = np.rint(hr * [0.9, 1.1, 0.8] + [3, -5, 20]).astype(np.uint8)
    assert np.abs(match_color(darker, lr).astype(int) - hr).max() <= 1


def test_what_agrees_already_stays():
    hr = scene()
    np.testing.assert_array_equal(match_color(hr, hr[1::3, 1::3]), hr)


def test_one_tone_is_moved_not_stretched():
    hr = np.full((48, 48, 3), 100, np.uint8)
    hr[::2] = 102
    lr = np.full((16, 16, 3), 111, np.uint8)
    matched = match_color(hr, lr)
    assert (np.unique(matched) == [110, 112]).all()


def test_nothing_between_black_and_white_changes_nothing():
    hr = np.zeros((48, 48, 3), np.uint8)
    hr[24:] = 255
    np.testing.assert_array_equal(match_color(hr, hr[1::3, 1::3]), hr)


def test_images_smaller_than_a_block():
    hr = np.full((12, 12, 3), 50, np.uint8)
    assert (match_color(hr, np.full((4, 4, 3), 60, np.uint8)) == 60).all()
