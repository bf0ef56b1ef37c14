"""Settings files: YAML read into a typed tree, every error told at once with its line."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from d2csr.core.errors import D2csrError

Place = tuple[int | str, ...]
Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(
    path: Path, tree: type[Settings], *, error_type: type[D2csrError], remedy: str
) -> Settings:
    """Return the settings that a YAML file says, the tree's defaults for the rest.

    Args:
        path: the file.
        tree: what may be set.
        error_type: the kind of error to raise.
        remedy: what to do about a file that is no settings file at all.

    Raises:
        D2csrError: of the kind `error_type`: unreadable, no YAML, or errors in it; all of them,
            each with its line and, for an unknown key, the nearest known one.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise error_type(path, f"can't be read ({error})", remedy=remedy) from error
    if not isinstance(values, dict):
        raise error_type(path, "holds no settings", remedy=remedy)
    try:
        return tree.model_validate(values)
    except ValidationError as errors:
        lines = [_told(error, tree, node=node) for error in errors.errors()]
        problem = "\n  ".join([f"{len(lines)} error{'s' * (len(lines) > 1)}", *lines])
        raise error_type(path, problem, remedy="Mend the lines named.") from errors


def _told(error: ErrorDetails, tree: type[BaseModel], *, node: yaml.Node | None) -> str:
    """Return one error as `line N: key: what is wrong`."""
    place, message = error["loc"], error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = _known_keys(tree, place[:-1])
        message = describe_unknown_key(str(place[-1]), known)
    return f"line {_line(place, node)}: {'.'.join(map(str, place))}: {message}"


def describe_unknown_key(key: str, known: Sequence[str]) -> str:
    """Return the message about an unknown key, with the most similar known one."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return f"unknown key; the nearest known one is {near[0]}" if near else "unknown key"


def _known_keys(tree: type[BaseModel], place: Place) -> list[str]:
    """Return the keys that the tree knows at a place."""
    part: Any = tree
    for step in place:
        if isinstance(step, str):
            part = part.model_fields[step].annotation
        part = next((each for each in get_args(part) if _is_part(each)), part)
    return list(part.model_fields) if _is_part(part) else []


def _is_part(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _line(place: Place, node: yaml.Node | None) -> int:
    """Return the line, from 1, of the innermost part of a place that the file has."""
    line = 1
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == step]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = line if node is None else node.start_mark.line + 1
    return line
