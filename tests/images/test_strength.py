"""The blend of SR and the bicubic enlargement against its formula in doubles."""

import numpy as np
import pytest

from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.images.pixels import to_uint8
from d2csr.images.resize import ResizedImage, enlarge_bicubic
from d2csr.images.strength import StrengthBlend, check_strength

LR8 = np.random.default_rng(0).integers(0, 256, (40, 11, 3), dtype=np.uint8)
SR01 = np.random.default_rng(1).normal(0.5, 0.4, (80, 22, 3)).astype(np.float32)
BICUBIC = ResizedImage(LR8, target=Size(22, 80))


def test_strength_1_is_the_models_sr_itself():
    assert StrengthBlend(BICUBIC, strength=1.0).blend(SR01, first_row=0) is SR01


def test_strength_0_is_the_baseline():
    blended = StrengthBlend(BICUBIC, strength=0.0).blend(SR01, first_row=0)
    assert np.array_equal(to_uint8(blended), enlarge_bicubic(LR8, 2))


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.5])
def test_between_and_beyond_it_is_the_formula_unclipped(strength: float):
    bicubic = BICUBIC.rows01(0, 80).astype(np.float64)
    expected = bicubic + strength * (SR01.astype(np.float64) - bicubic)
    assert expected.min() < 0
    blended = StrengthBlend(BICUBIC, strength=strength).blend(SR01, first_row=0)
    assert np.abs(blended - expected).max() < 1e-6


@pytest.mark.parametrize("strip_rows", [1, 3, 79])
def test_strips_are_rows_of_the_whole(strip_rows: int):
    blend = StrengthBlend(BICUBIC, strength=0.7).blend
    starts = range(0, 80, strip_rows)
    strips = [blend(SR01[first : first + strip_rows], first_row=first) for first in starts]
    assert np.array_equal(np.concatenate(strips), blend(SR01, first_row=0))


@pytest.mark.parametrize("strength", [-0.1, 1.51, float("nan"), float("inf")])
def test_other_numbers_are_refused(strength: float):
    with pytest.raises(UsageError, match=r"--strength: can't be .* Give a number from 0"):
        check_strength(strength)
