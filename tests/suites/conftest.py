"""A tiny suite: D2C-SR with two seeds and bicubic enlargement, on generated pairs."""

from pathlib import Path

import pytest
import torch
import yaml

from d2csr.suites.config import SUITE_NAME, SuiteConfig, read_suite
from d2csr.suites.plan import check_suite
from d2csr.suites.run import write_suite_results
from d2csr.suites.trial import run_trial
from tests.training.conftest import SCALE, recipe_values, write_pairs


def suite_values(folder: Path, **changes) -> dict:
    """Return a suite whose two trainings of four steps take a moment."""
    recipe = recipe_values(folder / "pairs")
    for key in ("name", "data"):
        recipe.pop(key)
    values = {
        "name": "tiny",
        "recipe": {**recipe, "data": {"patch_px": 12, "batch_size": 4}},
        "systems": {"d2c": {}, "nearest-to-nothing": {"trained": "lanczos"}},
        "seeds": [1, 2],
        "data": {
            "made": {
                "scale": SCALE,
                "train": str(folder / "pairs"),
                "validate_on": str(folder / "validation"),
                "test": {"held-out": str(folder / "test")},
            }
        },
        "processor": None,
    }
    return {**values, **changes}


def write_suite(folder: Path, **changes) -> Path:
    """Write such a suite and its pairs."""
    for seed, name in enumerate(("pairs", "validation", "test")):
        if not (folder / name).exists():
            write_pairs(folder / name, seed=seed)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(suite_values(folder, **changes)), encoding="utf-8")
    return path


STEPS, SAVE_EVERY = 100_000, 5  # more steps than a test waits for


def long_suite(folder: Path, steps: int) -> Path:
    """Write a suite of one training of so many steps, with a checkpoint after every few."""
    recipe = {
        "stages": [{"kind": "divergence", "steps": steps, "learning_rate": 1e-3}],
        "intervals": {"log": 1, "save": SAVE_EVERY, "validation": STEPS},
    }
    return write_suite(folder, systems={"d2c": {"recipe": recipe}}, seeds=[1])


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SuiteConfig]:
    """Return the folder of a suite whose trials ran one after the other in this process."""
    folder = tmp_path_factory.mktemp("suite")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2CSR_CACHE", str(folder / "cache"))
        file = write_suite(folder)
        suite, out = read_suite(file), folder / "out"
        for trial in check_suite(suite, file=file, out=out):
            assert run_trial(trial)
        (out / SUITE_NAME).write_bytes(file.read_bytes())
        write_suite_results(suite, out)
    return out, suite
