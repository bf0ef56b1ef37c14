"""Typed settings read from YAML files; all errors are reported together, each with its line."""

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from d2csr.core.errors import D2csrError, first_line, quote, shorten
from d2csr.core.files import read_regular
from d2csr.core.typed_reader import plain_message

MAX_BYTES = 1 << 16  # ten times the longest recipe; read in 0.2 s
_MAX_DEPTH = 20
_MAX_VALUES = 20_000
# Errors of PyYAML's constructors at text that their tag doesn't allow, such as `!!int ""`.
_NO_VALUE = (ValueError, ArithmeticError, LookupError, AttributeError, TypeError)
_LISTED_ERRORS = 50  # of a file
# libyaml's parser is seven times as fast as the one in Python.
_FastLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Location = tuple[int | str, ...]
_SIMILAR = 0.65  # of difflib's ratio: `alfa` is near `alpha` (0.67), `width` not near `depth` (0.6)
Settings = TypeVar("Settings", bound=BaseModel)


class ConfigBase(BaseModel):
    """A section of settings: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def read_settings(
    path: Path,
    model: type[Settings],
    *,
    error_type: type[D2csrError],
    remedy: str,
    renamed: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings in a YAML file; what the file leaves out keeps its default.

    Args:
        path: the file, of at most 64 KiB, 20 levels, and 20,000 values with its aliases expanded.
        model: the settings, their types and defaults.
        error_type: class of the errors raised.
        remedy: advice for a file that can't be read as settings at all.
        renamed: former names of keys, and their present names, for the error message.

    Raises:
        D2csrError: of class `error_type`: the file is unreadable, no YAML, or has errors. Each one
            is listed with its line; an unknown key, with its new name or the nearest known key.
    """
    try:
        node = _compose(read_regular(path, max_bytes=MAX_BYTES).decode())
        values = _construct(node)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise error_type(path, _describe_unreadable(error), remedy) from error
    if not isinstance(values, dict):
        raise error_type(path, "holds no settings", remedy)
    try:
        return model.model_validate(values)
    except ValidationError as errors:
        found = errors.errors(include_url=False, include_input=False)
        lines = [
            _describe(error, model, node=node, renamed=renamed or {})
            for error in found[:_LISTED_ERRORS]
        ]
        problem = "\n  ".join([f"{len(found)} error{'s' * (len(found) > 1)}", *lines])
        raise error_type(path, problem, "Correct the lines listed.") from errors


def _describe_unreadable(error: Exception) -> str:
    """Return the problem of a file that can't be read as YAML, with the line where there is one."""
    if isinstance(error, OSError):
        return f"can't be read: {error.strerror}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"is not YAML: line {error.problem_mark.line + 1}: {error.problem}"
    return f"is not YAML: {shorten(first_line(error), 300)}"


class _Loader(_FastLoader):
    """Builds plain values: errors name their line, numbers are finite and of 64 bits."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node.

        Raises:
            yaml.YAMLError: it has none, as a date that doesn't exist, or is too large.
        """
        try:
            value = super().construct_object(node, deep)
        except _NO_VALUE as error:
            raise _error_at_node(node, "isn't a value") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise _error_at_node(node, "isn't a finite number")
        if isinstance(value, int) and abs(value) >= 1 << 63:
            raise _error_at_node(node, "has more than 64 bits")
        return value


def _error_at_node(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(
        None, None, f"{quote(node.value)} {problem}", node.start_mark
    )


def _compose(text: str) -> yaml.Node | None:
    """Return the nodes of a YAML document, in which an alias is the node that it names.

    Raises:
        yaml.YAMLError: it is no YAML, too deep, or stands for too many values: aliases of aliases
            multiply, and merge keys copy what they name.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"more than {_MAX_DEPTH} levels")
    node = yaml.compose(text, Loader=_Loader)
    if node is not None and _count_values(node, {}) > _MAX_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {_MAX_VALUES} values")
    return node


def _count_values(node: yaml.Node, known: dict[int, float]) -> float:
    """Return the number of values that a node stands for; infinity if it contains itself.

    Args:
        node: of a composed document.
        known: the numbers of nodes that were counted; each is counted once.
    """
    if id(node) not in known:
        known[id(node)] = math.inf  # until its parts are counted
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            parts = [each for pair in parts for each in pair]
        known[id(node)] = 1.0 + sum(_count_values(each, known) for each in parts)
    return known[id(node)]


def _construct(node: yaml.Node | None) -> Any:
    """Return the plain values of a composed document."""
    loader = _Loader("")
    try:
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _describe(
    error: ErrorDetails,
    model: type[BaseModel],
    *,
    node: yaml.Node | None,
    renamed: Mapping[str, str],
) -> str:
    """Return one error as `line N: key: problem`."""
    location, message = error["loc"], shorten(plain_message(error), 300)
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        message = describe_unknown_key(str(location[-1]), known, renamed=renamed)
    key = ".".join(shorten(str(step), 60) for step in location)
    return f"line {_line(location, node)}: {key}: {message}"


def describe_unknown_key(
    key: str, known: Sequence[str], *, renamed: Mapping[str, str] | None = None
) -> str:
    """Return the message about an unknown key: its new name, or the nearest known key."""
    key = shorten(key, 60)  # the comparison takes the square of its length
    if renamed and renamed.get(key) in known:
        return f"unknown key; it is now called {renamed[key]}"
    if (nearest := _nearest_key(key, known)) is not None:
        return f"unknown key; the nearest known one is {nearest}"
    return f"unknown key; known ones are {', '.join(known)}" if known else "unknown key"


def _nearest_key(key: str, known: Sequence[str]) -> str | None:
    """Return the known key that a key is short for or misspells; None if none is near.

    Short are initials (lr of learning_rate) and words of a key (patch of patch_px).
    """
    words = {name: name.split("_") for name in known}
    short = [
        name
        for name in known
        if key == "".join(word[0] for word in words[name])
        or set(key.split("_")) & set(words[name])
        or name.startswith(key)
    ]
    similar = difflib.get_close_matches(key, short, n=1, cutoff=0.0)
    similar = similar or difflib.get_close_matches(key, known, n=1, cutoff=_SIMILAR)
    return similar[0] if similar else None


def _known_keys(model: type[BaseModel], location: Location) -> list[str]:
    """Return the keys that the settings have at a location."""
    part: Any = model
    for step in location:
        if get_origin(part) is dict:  # of names to settings
            part = get_args(part)[1]
        elif isinstance(step, str):
            part = part.model_fields[step].annotation
        if get_origin(part) is not dict:
            part = next((each for each in get_args(part) if _is_model(each)), part)
    return list(part.model_fields) if _is_model(part) else []


def _is_model(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _line(location: Location, node: yaml.Node | None) -> int:
    """Return the line, from 1, of the innermost part of a location that the file has."""
    line = 1
    for step in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == step]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = line if node is None else node.start_mark.line + 1
    return line
