"""What every test runs under: checked shapes, fixed seeds, two threads, the data folder."""

import os
import random
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

# Before numpy, torch and OpenVINO are imported: the time limits are meant for two cores, and a
# machine with many would spend more on waking threads than on these small images.
os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from d2csr.core.bundle import Bundle

TYPED_ROOMS = (
    *("core", "images", "align", "simulate", "data", "models", "systems", "losses", "metrics"),
    *(
        "checkpoint",
        "integrations",
        "training",
        "evaluation",
        "export",
        "engine",
        "upscale",
        "speed",
        "figures",
    ),
)

install_import_hook([f"d2csr.{room}" for room in TYPED_ROOMS], "beartype.beartype")

settings.register_profile("d2csr", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("d2csr")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Make what draws from the global generators repeat itself, whatever ran before."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test may draw from it
    if torch := sys.modules.get("torch"):  # not imported for the sake of tests without it
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def system_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], "Bundle"]:
    """Return a function from a compared system to its tiny x3 bundle, written once."""

    @cache
    def write(name: str) -> "Bundle":
        from tests.tiny_systems import tiny_system_bundle  # imports torch

        return tiny_system_bundle(name, tmp_path_factory.mktemp("systems") / name)

    return write


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder that D2CSR_DATA names; unset skips the test, set but missing fails it."""
    value = os.environ.get("D2CSR_DATA")
    if not value:
        pytest.skip("D2CSR_DATA is not set: the photographs this test measures on are not here")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"D2CSR_DATA is set to {folder}, which is not a folder")
    return folder
