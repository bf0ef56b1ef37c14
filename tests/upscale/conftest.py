"""One bundle for all tests of this folder."""

import pytest

from d2csr.core.bundle import Bundle
from tests.tiny_models import tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle of a x2 network with four leaves."""
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny", base="bicubic")
