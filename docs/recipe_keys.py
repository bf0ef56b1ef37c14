"""The reference of all keys of a recipe, from the types that recipes are checked by."""

import dataclasses
import json
import re
import types
from collections.abc import Iterator
from inspect import getdoc, isclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from docstring_parser import parse
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from d2csr.core.config import PRESETS
from d2csr.training.model_config import DEFAULT_PRESET
from d2csr.training.recipe import Recipe

PAGE = Path(__file__).resolve().parent / "recipe-keys.md"
BEGIN = "<!-- recipe keys: made by `make docs` from the recipe's types; do not edit -->"
END = "<!-- recipe keys: end -->"
HEAD = ("key", "value", "default", "meaning")
NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


class Key(NamedTuple):
    """A key of a section.

    Attributes:
        name: the key.
        annotation: type of its values.
        default: as the recipe has it; `PydanticUndefined` if it must be given.
        bounds: of its values, in words.
        meaning: from the docstring of the section.
    """

    name: str
    annotation: Any
    default: Any
    bounds: tuple[str, ...]
    meaning: str


def render(page: str) -> str:
    """Return `page` with the tables of all sections between the markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END, 1)
    text = "\n".join(describe_section(Recipe, path=()))
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def describe_section(section: type[Any], *, path: tuple[str, ...]) -> Iterator[str]:
    """Yield a section as Markdown, then the sections in it."""
    if path:
        yield from ("", f"{'#' * (1 + min(len(path), 3))} `{'.'.join(path)}`", "")
        yield from (f"{parse(getdoc(section) or '').short_description}", "")
    yield _row(HEAD)
    yield _row(["---"] * len(HEAD))
    keys = list(keys_of(section))
    if path == ("model",):
        yield from _network_rows()
    for key in keys:
        inner = find_section(key.annotation)
        value = describe_type(key.annotation) if inner is None else "section"
        if inner is not None and get_origin(_plain(key.annotation)) is tuple:
            value = "list of sections"
        default = _default(key.default) if inner is None else "see below"
        if key.default is PydanticUndefined:
            default = "**required**"
        meaning = key.meaning or f"see `{'.'.join((*path, key.name))}`"
        yield _row([f"`{key.name}`", ", ".join((value, *key.bounds)), default, meaning])
    for key in keys:
        if (inner := find_section(key.annotation)) is not None:
            yield from describe_section(inner, path=(*path, key.name))


def _network_rows() -> Iterator[str]:
    """Yield the keys of `model` that aren't settings of D2C-SR's network."""
    names = ", ".join(f"`{name}`" for name in PRESETS)
    sizes = "sizes to start from; other keys replace them"
    yield _row(["`preset`", names, f"`{DEFAULT_PRESET}`", sizes])
    other = (
        "a [system to compare with](systems.md), which has `scale`, `size` (`paper`, `small`) and "
    )
    yield _row(
        ["`system`", "text", "`d2csr`", f"{other}sizes of its own instead of the keys below"]
    )


def keys_of(section: type[Any]) -> Iterator[Key]:
    """Yield the keys of a section, a pydantic model or a dataclass, in order."""
    meanings = {
        each.arg_name: each.description or "" for each in parse(getdoc(section) or "").params
    }
    if issubclass(section, BaseModel):
        for name, field in section.model_fields.items():
            default = field.get_default(call_default_factory=True)
            yield Key(name, field.annotation, default, _bounds(field), _one_line(meanings, name))
        return
    for field in dataclasses.fields(section):
        default = PydanticUndefined if field.default is dataclasses.MISSING else field.default
        yield Key(field.name, field.type, default, (), _one_line(meanings, field.name))


def find_section(annotation: Any) -> type[Any] | None:
    """Return the section of a type, alone or in a list; None for plain values."""
    annotation = _plain(annotation)
    if isclass(annotation) and (
        issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)
    ):
        return annotation
    if get_origin(annotation) not in {tuple, Union, types.UnionType}:
        return None
    return find_section(get_args(annotation)[0])  # `model` may also be a compared system


def describe_type(annotation: Any) -> str:
    """Return a type of plain values in words."""
    annotation = _plain(annotation)
    if annotation in NAMES:
        return NAMES[annotation]
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Literal:
        return ", ".join(f"`{each}`" for each in parts)
    if kind in {Union, types.UnionType}:
        return " or ".join("null" if each is type(None) else describe_type(each) for each in parts)
    if kind is tuple:
        return f"list of {describe_type(parts[0])}s"
    raise TypeError(f"{annotation}: no words for this type")


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _bounds(field: FieldInfo) -> tuple[str, ...]:
    """Return the bounds of a field in words."""
    known = (each for each in field.metadata if isinstance(each, Ge | Gt | Le | Lt))
    return tuple(
        f"{BOUNDS[name]} {value:g}" for each in known for name, value in vars_of(each).items()
    )


def vars_of(bound: Ge | Gt | Le | Lt) -> dict[str, float]:
    """Return the bound by its name: ge, gt, le or lt."""
    return {name: getattr(bound, name) for name in BOUNDS if hasattr(bound, name)}


def _one_line(meanings: dict[str, str], name: str) -> str:
    meaning = " ".join(meanings.get(name, "").split()).rstrip(".")
    return re.sub(r"\bNone\b", "null", meaning).replace("|", "\\|")


def _default(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return "null"
    return f"`{json.dumps(value)}`"


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
