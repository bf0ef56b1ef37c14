"""The small pairs of the tests of `evaluate`, on which the cost in accuracy is measured."""

from tests.evaluation.conftest import pairs

__all__ = ["pairs"]
