"""Self-ensemble against the mean written out, and against its own symmetry."""

import numpy as np
import pytest

from d2csr.core.bundle import Bundle
from d2csr.core.geometry import TURNS, dihedral_transform
from d2csr.engine.engine import open_engine
from d2csr.upscale.image_upscaler import self_ensemble

LR01 = np.random.default_rng(0).random((9, 14, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def engine(bundle: Bundle):
    """Return an engine that runs images in strips of four rows."""
    return open_engine(bundle, precision="fp32").with_strips(4)


def test_it_is_the_mean_over_flips_and_quarter_turns(engine):
    """Turned by numpy's rot90 and flip, not by the code under test; summed in float64."""
    total = np.zeros((18, 28, 3))
    for quarter in range(4):
        for flip in (False, True):
            seen = np.rot90(LR01[:, ::-1] if flip else LR01, quarter)
            sr = np.rot90(engine.run(np.ascontiguousarray(seen)).sr, -quarter)
            total += sr[:, ::-1] if flip else sr
    assert np.abs(self_ensemble(engine, LR01, on_warning=pytest.fail) - total / 8).max() < 2e-6


@pytest.mark.parametrize("turn", range(TURNS))
def test_a_turned_image_gives_the_turned_result(engine, turn: int):
    expected = dihedral_transform(self_ensemble(engine, LR01, on_warning=pytest.fail), turn)
    found = self_ensemble(
        engine, np.ascontiguousarray(dihedral_transform(LR01, turn)), on_warning=pytest.fail
    )
    assert np.abs(found - expected).max() < 2e-6
