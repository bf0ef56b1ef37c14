"""Small generated pairs: a smooth scene and its LR, x2, a train and a test folder."""

from pathlib import Path

import numpy as np
import pytest

from d2csr.images.writer import write_rgb8

SCALE = 2


def scene(seed: int, *, side_px: int = 48) -> np.ndarray:
    """Return a blurred random image, 8 bit."""
    generator = np.random.default_rng(seed)
    spectrum = np.fft.fft2(generator.normal(size=(3, side_px, side_px)))
    radius = np.hypot(np.fft.fftfreq(side_px)[:, None], np.fft.fftfreq(side_px))
    smooth = np.fft.ifft2(spectrum * np.exp(-((radius / 0.15) ** 2))).real
    levels = 128 + 45 * np.moveaxis(smooth / smooth.std(), 0, 2)
    return np.clip(levels, 0, 255).round().astype(np.uint8)


def make_pairs(folder: Path, seeds: range) -> Path:
    """Write pairs `scene_N_HR.png`, `scene_N_LR2.png`; LR is every second pixel."""
    for seed in seeds:
        hr = scene(seed)
        write_rgb8(folder / f"scene_{seed}_HR.png", hr)
        write_rgb8(folder / f"scene_{seed}_LR2.png", np.ascontiguousarray(hr[::2, ::2]))
    return folder


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that has a train split of four and a test split of three."""
    root = tmp_path_factory.mktemp("pairs")
    make_pairs(root / "train", range(10, 14))
    make_pairs(root / "test", range(3))
    return root
