"""Brightness shift against its definition in loops over single pixels."""

import numpy as np
import pytest

from d2csr.metrics.brightness import block_shifts, brightness_shift

GENERATOR = np.random.default_rng(0)
SR = GENERATOR.integers(0, 256, (70, 101, 3), dtype=np.uint8)  # 2x3 blocks, and borders
BICUBIC = np.clip(SR + GENERATOR.integers(-9, 30, SR.shape), 0, 255).astype(np.uint8)


def light(level: float) -> float:
    """Return the linear light of a level, by IEC 61966-2-1."""
    value = level / 255
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def level(light: float) -> float:
    """Return the level of linear light, by IEC 61966-2-1."""
    return 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)


def looped(sr: np.ndarray, bicubic: np.ndarray) -> list[float]:
    """Return the shift of each block, pixel by pixel."""
    shifts = []
    for top in range(0, sr.shape[0] - 31, 32):
        for left in range(0, sr.shape[1] - 31, 32):
            total = 0.0
            for channel in range(3):
                levels = []
                for image in (sr, bicubic):
                    block = image[top : top + 32, left : left + 32, channel]
                    mean = sum(light(float(value)) for value in block.flat) / 1024
                    levels.append(level(mean))
                total += abs(levels[0] - levels[1]) / 3
            shifts.append(total)
    return shifts


def test_shifts_are_those_of_the_loop():
    expected = looped(SR, BICUBIC)
    assert len(expected) == 6
    assert block_shifts(SR, BICUBIC) == pytest.approx(expected, abs=1e-9)
    found = brightness_shift(SR, BICUBIC)
    low, high = sorted(expected)[2:4]
    assert found is not None
    assert found.p50 == pytest.approx((low + high) / 2, abs=1e-9)
    *_, fifth, sixth = sorted(expected)
    assert found.p95 == pytest.approx(fifth + 0.75 * (sixth - fifth), abs=1e-9)  # rank 4.75


def test_the_bicubic_enlargement_itself_has_no_shift():
    assert brightness_shift(BICUBIC, BICUBIC) == (0, 0)


def test_incomplete_blocks_at_the_edges_do_not_count():
    changed = BICUBIC.copy()
    changed[64:], changed[:, 96:] = 0, 255
    assert brightness_shift(changed, BICUBIC) == (0, 0)


@pytest.mark.parametrize("shape", [(31, 200, 3), (200, 31, 3), (1, 1, 3)])
def test_an_image_smaller_than_a_block_has_none(shape):
    image = np.zeros(shape, np.uint8)
    assert brightness_shift(image, image) is None


def test_no_block_is_an_error_where_a_block_is_needed():
    with pytest.raises(ValueError, match="holds no block"):
        block_shifts(BICUBIC[:31], BICUBIC[:31])


def test_one_level_more_everywhere_is_a_shift_of_one():
    flat = np.full((32, 64, 3), 100, np.uint8)
    assert brightness_shift(flat + np.uint8(1), flat) == pytest.approx((1, 1), abs=1e-9)


def test_a_change_of_color_does_not_cancel_out():
    flat = np.full((32, 32, 3), 100, np.uint8)
    assert block_shifts(flat + np.array([6, 0, 250], np.uint8), flat) == pytest.approx([4])


def test_texture_that_blur_averages_in_light_has_no_shift():
    """Stripes of two levels, and the level of their mean light: the encoded means differ by 12."""
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[::2], stripes[1::2] = 40, 160
    mean = round(level((light(40) + light(160)) / 2))
    blurred = np.full((32, 32, 3), mean, np.uint8)
    assert mean - stripes.mean() > 12
    assert block_shifts(stripes, blurred)[0] < 0.5
