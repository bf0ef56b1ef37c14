"""Small networks exported."""

from collections.abc import Callable
from pathlib import Path

import pytest

from d2csr.core.bundle import Bundle
from d2csr.models.d2csr import D2CSR
from tests.tiny_models import random_network, tiny_bundle


@pytest.fixture
def exported(tmp_path: Path) -> Callable[..., tuple[D2CSR, Bundle]]:
    """Return a function that makes a network and exports it."""

    def export(**choices: object) -> tuple[D2CSR, Bundle]:
        return random_network(**choices), tiny_bundle(tmp_path / "bundle", **choices)

    return export
