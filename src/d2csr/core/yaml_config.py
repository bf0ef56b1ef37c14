"""Typed settings read from YAML files; all errors are reported together, each with its line."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from d2csr.core.errors import D2csrError, first_line
from d2csr.core.typed_reader import plain_message

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Location = tuple[int | str, ...]
_SIMILAR = 0.65  # of difflib's ratio: `alfa` is near `alpha` (0.67), `width` not near `depth` (0.6)
Settings = TypeVar("Settings", bound=BaseModel)


class ConfigBase(BaseModel):
    """A section of settings: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
        path: the file.
        model: the settings, their types and defaults.
        error_type: class of the errors raised.
        remedy: advice for a file that can't be read as settings at all.
        renamed: former names of keys, and their present names, for the error message.

    Raises:
        D2csrError: of class `error_type`: the file is unreadable, no YAML, or has errors. Each one
            is listed with its line; an unknown key, with its new name or the nearest known key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise error_type(path, _describe_unreadable(error), remedy) from error
    if not isinstance(values, dict):
        raise error_type(path, "holds no settings", remedy)
    try:
        return model.model_validate(values)
    except ValidationError as errors:
        lines = [
            _describe(error, model, node=node, renamed=renamed or {}) for error in errors.errors()
        ]
        problem = "\n  ".join([f"{len(lines)} error{'s' * (len(lines) > 1)}", *lines])
        raise error_type(path, problem, "Correct the lines listed.") from errors


def _describe_unreadable(error: Exception) -> str:
    """Return the problem of a file that can't be read as YAML, with the line where there is one."""
    if isinstance(error, OSError):
        return f"can't be read: {error.strerror}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"is not YAML: line {error.problem_mark.line + 1}: {error.problem}"
    return f"is not YAML: {first_line(error)}"


def _describe(
    error: ErrorDetails,
    model: type[BaseModel],
    *,
    node: yaml.Node | None,
    renamed: Mapping[str, str],
) -> str:
    """Return one error as `line N: key: problem`."""
    location, message = error["loc"], plain_message(error)
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        message = describe_unknown_key(str(location[-1]), known, renamed=renamed)
    return f"line {_line(location, node)}: {'.'.join(map(str, location))}: {message}"


def describe_unknown_key(
    key: str, known: Sequence[str], *, renamed: Mapping[str, str] | None = None
) -> str:
    """Return the message about an unknown key: its new name, or the nearest known key."""
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
        if isinstance(step, str):
            part = part.model_fields[step].annotation
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
