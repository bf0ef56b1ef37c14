"""Mask: displaced neighborhoods are masked, single patches displaced by aliasing are not."""

import re
from dataclasses import fields

import numpy as np
import pytest

from d2csr.align.registration.lucas_kanade import PatchDisplacements
from d2csr.align.registration.quality import (
    LIMITS,
    ColorScores,
    ContentScores,
    GeometryScores,
    Scores,
    SharpnessScores,
    TrustScores,
    check_quality,
    find_displaced,
)
from d2csr.core.errors import PairRejectedError

SHAPE, STEP_PX = (160, 240), 4


def patches(*, deviation_px: float = 0.03) -> PatchDisplacements:
    """Return patches at every step of the grid, without displacement, all of the same certainty."""
    y, x = np.mgrid[8 : SHAPE[0] - 8 : STEP_PX, 8 : SHAPE[1] - 8 : STEP_PX]
    positions = np.stack([x, y], -1).reshape(-1, 2).astype(float)
    count = len(positions)
    information = np.tile(np.eye(2) / deviation_px**2, (count, 1, 1))
    return PatchDisplacements(
        positions, np.zeros((count, 2)), information, np.full(count, 0.9), np.full(count, 0.1)
    )


def aliased(rng: np.random.Generator, size_px: float = 0.3) -> PatchDisplacements:
    """Return patches of a flat scene with aliasing: each with another displacement."""
    found = patches()
    found.displacements[:] = rng.normal(0, size_px, found.displacements.shape)
    return found


def test_outliers_of_single_patches_mask_nothing(rng):
    assert find_displaced(aliased(rng), SHAPE, step_px=STEP_PX).mean() < 0.01


def test_nearer_plane_is_masked_among_outliers(rng):
    found = aliased(rng)
    near = found.positions[:, 0] > 120
    found.displacements[near] += [0.3, 0.0]
    off = find_displaced(found, SHAPE, step_px=STEP_PX)
    assert off[:, 130:].mean() > 0.95
    assert off[:, :100].mean() < 0.02


def test_small_moved_object_is_masked(rng):
    found = aliased(rng, 0.1)
    inside = np.all(np.abs(found.positions - [100, 60]) < 10, axis=1)
    found.displacements[inside] = [0.0, 0.9]
    off = find_displaced(found, SHAPE, step_px=STEP_PX)
    assert off[55:65, 95:105].all()
    assert off.mean() < 0.05


def test_dissimilar_patches_have_no_influence():
    found = patches()
    found.displacements[:] = [2.0, 0.0]
    unlike = PatchDisplacements(
        found.positions,
        found.displacements,
        found.information,
        np.zeros(len(found)),
        found.contrast,
    )
    assert find_displaced(found, SHAPE, step_px=STEP_PX).all()
    assert not find_displaced(unlike, SHAPE, step_px=STEP_PX).any()


def scores_at_limits(*, scale: int, is_dense: bool) -> Scores:
    """Return scores that all break their limits by a hair."""
    values = {
        name: limit.bound_at(scale, is_dense=is_dense) + (-1e-6 if limit.is_minimum else 1e-6)
        for name, limit in LIMITS.items()
    }
    groups = (GeometryScores, ContentScores, SharpnessScores, ColorScores, TrustScores)
    return Scores(
        *(
            group(**{field.name: values.get(field.name, field.type(99)) for field in fields(group)})
            for group in groups
        ),
        is_dense=is_dense,
    )


@pytest.mark.parametrize("is_dense", [False, True])
def test_no_reason_contradicts_itself_by_rounding(is_dense):
    """Such as "a similarity of 0.60, below 0.60"."""
    with pytest.raises(PairRejectedError) as caught:
        check_quality(scores_at_limits(scale=4, is_dense=is_dense), scale=4)
    reasons = caught.value.reason.split("; ")
    assert len(reasons) == len(
        [each for each in LIMITS.values() if each.applies_to(is_dense=is_dense)]
    )
    for reason in reasons:
        if numbers := re.search(r"(-?[\d.]+%?).*(?:above|below) (-?[\d.]+%?)", reason):
            assert numbers[1] != numbers[2], reason
