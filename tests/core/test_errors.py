"""Errors that the user can fix: one line for people, three parts for programs."""

import json
import math
import pickle
from pathlib import Path

import pytest

from d2csr.core import errors
from d2csr.core.errors import (
    BundleError,
    D2csrError,
    ImageError,
    OutOfMemoryError,
    first_line,
    format_beyond,
    is_out_of_memory,
    printable,
)

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


def test_an_error_escapes_control_characters_and_keeps_its_indented_lines():
    problem = "2 errors\n  a.png: is empty\n  b\x1b[2J.png: is empty\nerror: forged"
    shown = (
        r"x\u000ay: 2 errors"
        "\n  a.png: is empty\n  "
        r"b\u001b[2J.png: is empty\u000aerror: forged. Remove it."
    )
    assert str(ImageError("x\ny", problem, "Remove it.")) == shown
    assert str(ImageError(shown, "is", "")) == shown.replace("\n  ", r"\u000a  ") + ": is. "


@pytest.mark.parametrize("name", ["Größe 写.png", "a b.png", "[red]:smile:.png", r"C:\u001b", ""])
def test_usual_names_are_printed_as_they_are(name):
    assert printable(name) == name


def test_every_control_character_is_escaped_and_json_reads_it_back():
    text = "".join(map(chr, range(0xA0))) + "\u2028\u202e\u2066\udce9"
    escaped = printable(json.dumps(text, ensure_ascii=False))
    assert escaped.isprintable()
    assert json.loads(escaped) == text


@pytest.mark.parametrize(
    ("message", "line"),
    [("", "MemoryError"), (" \n", "MemoryError"), ("\n  first\nsecond", "first")],
)
def test_the_first_line_of_any_error_is_a_word(message, line):
    """An empty MemoryError has no line 0; reading it raised IndexError instead."""
    assert first_line(MemoryError(message) if message else MemoryError()) == line


def test_running_out_of_memory_is_not_a_bundle_error():
    assert not issubclass(OutOfMemoryError, BundleError)
    assert is_out_of_memory(OutOfMemoryError("trunk", "can't be run", "Free some memory."))


@pytest.mark.parametrize(
    ("value", "bound", "spec", "text"),
    [
        (0.598, 0.60, ".2f", "0.598"),
        (0.59999, 0.60, ".2f", "0.59999"),
        (0.5, 0.60, ".2f", "0.50"),
        (0.1996, 0.20, ".0%", "19.96%"),
        (0.19, 0.20, ".0%", "19%"),
        (256.4, 256.0, ".0f", "256.4"),
        (math.inf, 2.0, ".1f", "inf"),
    ],
)
def test_a_number_beyond_its_bound_never_looks_like_it(value, bound, spec, text):
    assert format_beyond(value, bound, spec=spec) == text


def test_the_first_line_is_the_reason_not_a_place_in_a_librarys_sources():
    message = "Exception from src/core.cpp:93:\nCheck 'a' failed at src/a.hpp:5:\nNo such device."
    assert first_line(RuntimeError(message)) == "No such device."
    assert first_line(RuntimeError("Exception from src/core.cpp:93:")) == (
        "Exception from src/core.cpp:93:"
    )
