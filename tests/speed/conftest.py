"""The small pairs of the tests of `evaluate`, which speed's figures of accuracy are taken on."""

from tests.evaluation.conftest import pairs

__all__ = ["pairs"]
