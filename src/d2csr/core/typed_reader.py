"""JSON files read into the types that describe them, within limits of size, depth and number.

What a file holds is counted before anything is built from it. Depth is limited to 200 levels and
numbers to 4300 digits by pydantic's parser.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from d2csr.core.errors import D2csrError, shorten
from d2csr.core.files import read_regular

# Types are taken as they are (no "3" or 3.0 for 3), and numbers are finite.
STRICT = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

# Of JSON values in a file: a hundred times those of the largest shipped card, and the manifest of
# 10,000 simulated or 50,000 bicubic pairs, if it is valid; tests/core/test_typed_reader.py has the
# cost of those that aren't.
CARD_VALUES, LIST_VALUES = 20_000, 1_000_000
_VALUE_BYTES = 64  # a file may have so many per value
LISTED_ERRORS = 20  # of a file
_MAX_KEYS = 64  # of an object whose keys are all known

Schema = TypeVar("Schema")


def read_json(
    path: Path,
    schema: type[Schema],
    *,
    error_type: type[D2csrError],
    remedy: str,
    max_values: int = CARD_VALUES,
) -> Schema:
    """Return the contents of a JSON file as the type that describes them.

    Args:
        path: the file.
        schema: a pydantic model, a dataclass, or any other type that pydantic can validate.
        error_type: class of the errors raised.
        remedy: advice for a file that can't be read.
        max_values: the most values that it may contain; it may have 64 bytes for each.

    Raises:
        D2csrError: of class `error_type`: the file is unreadable, too large, no JSON, or of
            another schema; the keys that are wrong are named, up to 20 of them.
    """
    try:
        contents = read_regular(path, max_bytes=_VALUE_BYTES * max_values)
        return parse_json(contents, schema, max_values=max_values)
    except OSError as error:
        raise error_type(path, f"can't be read: {error.strerror}", remedy) from error
    except ValueError as error:
        raise error_type(path, describe_error(error), remedy) from error


def parse_json(
    contents: bytes | str, schema: type[Schema], *, max_values: int = CARD_VALUES
) -> Schema:
    """Return JSON text as the type that describes it.

    Raises:
        ValueError: it isn't JSON, doesn't follow the schema, or may have more than `max_values`.
    """
    raw = contents.encode() if isinstance(contents, str) else contents
    if sum(map(raw.count, (b",", b"[", b"{"))) > max_values:  # one of these precedes each value
        raise ValueError(f"has more than {max_values:,} values")
    return _adapter(schema).validate_json(raw)


def describe_error(error: ValueError) -> str:
    """Return the errors of a file's contents in one line, each with its key; at most 20."""
    if not isinstance(error, ValidationError):
        return str(error)
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        return f"is not JSON: {errors[0]['msg'].removeprefix('Invalid JSON: ')}"
    lines = [_describe(each) for each in errors[:LISTED_ERRORS]]
    more = len(errors) - len(lines)
    return "doesn't follow the schema: " + "; ".join(lines + [f"{more} more"] * (more > 0))


def read_rows(
    values: Sequence[object], schema: type[Schema], *, key: str
) -> tuple[list[Schema], list[str]]:
    """Return the rows of a list as the type that describes each, and the errors in them.

    Row by row, so that a list of a million wrong rows costs no more than its first 20 errors.

    Args:
        values: the rows, as JSON has them.
        schema: of a row: a pydantic model, a dataclass, or any other type.
        key: of the list in the file, for the errors.

    Returns:
        The rows, and a line per error with its key; after 20 errors, no more rows are read.
    """
    rows: list[Schema] = []
    errors: list[str] = []
    for index, value in enumerate(values):
        row, found = read_value(value, schema, key=f"{key}.{index}")
        errors += found
        if row is not None:
            rows.append(row)
        if len(errors) >= LISTED_ERRORS:
            return rows, [*errors[:LISTED_ERRORS], "the rest wasn't read"]
    return rows, errors


def read_value(value: object, schema: type[Schema], *, key: str) -> tuple[Schema | None, list[str]]:
    """Return a JSON value as the type that describes it, and a line per error, with its key.

    An object of more than 64 keys is one error, as each unknown key would be another.
    """
    if isinstance(value, dict) and len(value) > _MAX_KEYS:
        problem = f"has {len(value):,} keys, of which at most {_MAX_KEYS} are allowed"
        return None, [f"{key}: {problem}" if key else problem]
    try:
        return _adapter(schema).validate_python(value), []
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        return None, [_describe(each, within=key) for each in errors]


# Messages of pydantic, and what they say in plain words.
_PLAIN = (
    (r"^Value error, ", ""),
    (r"^Field required$", "is missing"),
    (r"^(Input|String|List|Tuple) should (be|have) ", r"must \2 "),
    (r"a valid integer.*", "a whole number"),
    (r"a valid number.*", "a number"),
    (r"a valid string.*", "text"),
    (r"a valid boolean.*", "true or false"),
    (r"a valid (list|tuple).*", "a list"),
    (r"a valid dictionary.*", "keys with values"),
    (r"greater than or equal to", "at least"),
    (r"greater than", "above"),
    (r"less than or equal to", "at most"),
    (r"less than", "below"),
)


def plain_message(error: ErrorDetails) -> str:
    """Return the message of one of pydantic's errors in plain words."""
    message = error["msg"]
    for pattern, words in _PLAIN:
        message = re.sub(pattern, words, message)
    return message


def _describe(error: ErrorDetails, *, within: str = "") -> str:
    steps = (shorten(str(step), 60) for step in error["loc"])
    key = ".".join(filter(None, (within, *steps)))
    message = shorten(plain_message(error), 300)
    return f"{key}: {message}" if key else message


@cache
def _adapter(schema: type) -> Any:  # a TypeAdapter, which beartype can't check
    return TypeAdapter(schema)
