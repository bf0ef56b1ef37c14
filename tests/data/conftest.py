"""Small pairs made on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from d2csr.images.writer import write_rgb8

Pixels = np.ndarray


@pytest.fixture(scope="session")
def noise() -> Callable[..., Pixels]:
    """Return a function that gives a random image of a width and height, the same for a seed."""

    def image(width: int, height: int, seed: int = 0) -> Pixels:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)

    return image


@pytest.fixture(scope="session")
def put(noise) -> Callable[..., Path]:
    """Return a function that writes a random image and returns its path."""

    def write(path: Path, width: int = 12, height: int = 10, seed: int = 0) -> Path:
        write_rgb8(path, noise(width, height, seed))
        return path

    return write


@pytest.fixture
def realsr(tmp_path, put) -> Path:
    """Return a folder of three x2 pairs, flat, in RealSR's names: LR 12x10, 13x10 and 14x10."""
    folder = tmp_path / "pairs"
    for index, name in enumerate("abc"):
        put(folder / f"{name}_LR2.png", 12 + index, 10, seed=index)
        put(folder / f"{name}_HR.png", 24 + 2 * index, 20, seed=10 + index)
    return folder
