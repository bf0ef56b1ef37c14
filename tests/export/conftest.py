"""Small networks exported, each kind once a session."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from d2csr.core.bundle import Bundle, read_bundle
from d2csr.models.d2csr import D2CSR
from tests.tiny_models import random_network, tiny_bundle


@pytest.fixture(scope="session")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where bundles are kept from test to test."""
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture
def exported(_kept: Path, tmp_path: Path) -> Callable[..., tuple[D2CSR, Bundle]]:
    """Return a function that makes a network and a bundle of it that the test may spoil."""

    def export(**choices: object) -> tuple[D2CSR, Bundle]:
        kept = _kept / ("-".join(f"{name}={choices[name]}" for name in sorted(choices)) or "plain")
        if not kept.exists():
            tiny_bundle(kept, **choices)
        shutil.copytree(kept, tmp_path / "bundle")
        return random_network(**choices), read_bundle(tmp_path / "bundle")

    return export
