"""Photographs for the tests of alignment: small captures of the simulated zoom camera."""

from pathlib import Path

import numpy as np
import pytest

from d2csr.core.geometry import Size
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.ground_truth import GroundTruth, read_truth
from d2csr.simulate.scene import Procedural


@pytest.fixture(scope="session")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes at x3, JPEG with EXIF, and their truth."""
    folder = tmp_path_factory.mktemp("captures") / "x3"
    scenes = [Procedural(Size(1200, 800), (11, number)) for number in range(2)]
    simulate(scenes, folder, options=SimulationOptions(scale=3, captures=True, seed=3))
    return folder


@pytest.fixture(scope="session")
def truths(captures: Path) -> tuple[GroundTruth, ...]:
    """Ground truth of the captures."""
    return read_truth(captures)


@pytest.fixture
def rng() -> np.random.Generator:
    """Seeded random numbers."""
    return np.random.default_rng(5)
