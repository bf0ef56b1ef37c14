"""One bundle for all tests of this folder."""

import pytest

from d2csr.core.bundle import Bundle
from tests.tiny_models import tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle of a x2 network with four leaves."""
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny", base="bicubic")


@pytest.fixture(scope="session")
def local_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return one of the same network with channel means over windows of 5 px."""
    folder = tmp_path_factory.mktemp("models") / "local"
    return tiny_bundle(folder, base="bicubic", pooling_px=5)
