"""Errors that the user can fix: one line for people, three parts for programs."""

import pickle
from pathlib import Path

import pytest

from d2csr.core import errors
from d2csr.core.errors import D2csrError, ImageError

CLASSES = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, D2csrError)
]


@pytest.mark.parametrize("error_type", CLASSES)
def test_an_error_survives_pickling(error_type: type[D2csrError]):
    """Worker processes and Ray pickle what they raise."""
    error = error_type(Path("a.png"), "is not an image", remedy="Give an image.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is error_type
    assert (copy.where, copy.problem, copy.remedy) == ("a.png", "is not an image", "Give an image.")


def test_an_error_is_one_line():
    assert (
        str(ImageError("a.png", "is empty", "Copy it again.")) == "a.png: is empty. Copy it again."
    )
