"""Small generated pairs and recipes that train in a moment."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from d2csr.images.writer import write_rgb8
from d2csr.training.recipe import Recipe

SCALE = 2


def write_pairs(
    folder: Path, count: int = 3, *, size_px: int = 24, seed: int = 0, scale: int = SCALE
) -> Path:
    """Write pairs of soft stripes and blocks, an LR pixel the mean of scale x scale HR pixels."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size_px * scale, 0 : size_px * scale]
    for number in range(count):
        angle, period = generator.uniform(0, np.pi), generator.uniform(5, 12)
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
        blocks = generator.uniform(60, 190, (4, 4, 3)).repeat(size_px * scale // 4, 0)
        hr = blocks.repeat(size_px * scale // 4, 1) + 50 * wave[..., None]
        lr = hr.reshape(size_px, scale, size_px, scale, 3).mean((1, 3))
        for name, image in ((f"s{number}_HR", hr), (f"s{number}_LR{scale}", lr)):
            write_rgb8(folder / f"{name}.png", image.clip(0, 255).round().astype(np.uint8))
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs")


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "validation", seed=1)


@pytest.fixture(autouse=True)
def _cache_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D2CSR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe_values(pairs: Path, **changes) -> dict:
    """Return a recipe of two stages of two steps over `pairs`, with top-level changes."""
    values = {
        "name": "tiny",
        "model": {
            "scale": SCALE,
            "channels": 4,
            "groups": 1,
            "blocks": 1,
            "convergence_channels": 4,
            "base": "bicubic",
        },
        "data": {"train": str(pairs), "patch_px": 12, "batch_size": 4},
        "loss": {
            "reconstruction": "l1",
            "alpha": {"alpha": 0.1},
            "triplet": {"margins": [0.5, 0.3]},
        },
        "stages": [
            {"kind": "divergence", "steps": 2, "learning_rate": 1e-3},
            {"kind": "convergence", "steps": 2, "learning_rate": 1e-3, "schedule": "cosine"},
        ],
        "intervals": {"log": 1, "save": 1000, "validation": 1000},
        "precision": "fp32",
    }
    return {**values, **changes}


def tiny_recipe(pairs: Path, **changes) -> Recipe:
    return Recipe.model_validate(recipe_values(pairs, **changes))


def write_recipe(path: Path, values: dict) -> Path:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path
