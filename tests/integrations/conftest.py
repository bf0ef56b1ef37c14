"""spandrel, imported without torchvision where that isn't installed."""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

import pytest

# Of torchvision, spandrel imports these for LaMa and RestoreFormer, which aren't tested here.
NAMES = ("InterpolationMode", "rotate", "normalize")
MODULES = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")


@pytest.fixture(scope="session")
def spandrel() -> ModuleType:
    """Return the real spandrel; skip the test if it isn't installed."""
    if find_spec("spandrel") is None:
        pytest.skip("spandrel isn't installed: pip install 'd2csr[spandrel]'")
    if find_spec("torchvision") is not None:
        return import_module("spandrel")
    for name in MODULES:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__spec__ = ModuleSpec(name, None)
    for name in NAMES:
        setattr(sys.modules[MODULES[-1]], name, object)
    try:
        return import_module("spandrel")
    finally:
        for name in MODULES:
            del sys.modules[name]
