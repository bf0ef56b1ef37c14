"""Recipe files: YAML read into a recipe, every fault told at once with its line."""

import difflib
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from d2csr.core.errors import RecipeError
from d2csr.train.recipe import Recipe

Place = tuple[int | str, ...]


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a YAML file.

    Raises:
        RecipeError: unreadable, no YAML, or faults in it; all of them, each with its line and, for
            an unknown key, the nearest known one.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        remedy = "Give a YAML file; experiments/ has examples."
        raise RecipeError(path, f"can't be read ({fault})", remedy=remedy) from fault
    if not isinstance(values, dict):
        remedy = "Give a YAML file; experiments/ has examples."
        raise RecipeError(path, "holds no settings", remedy=remedy)
    try:
        return Recipe.model_validate(values)
    except ValidationError as faults:
        lines = [_told(fault, node) for fault in faults.errors()]
        problem = "\n  ".join([f"{len(lines)} faults", *lines])
        raise RecipeError(path, problem, remedy="Mend the lines named.") from faults


def _told(fault: ErrorDetails, node: yaml.Node | None) -> str:
    """Return one fault as `line N: key: what is wrong`."""
    place, message = fault["loc"], fault["msg"]
    key = ".".join(map(str, place))
    if fault["type"] == "extra_forbidden":
        known = _known_keys(place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.0)
        message = f"unknown key; the nearest known one is {near[0]}" if near else "unknown key"
    return f"line {_line(place, node)}: {key}: {message}"


def _known_keys(place: Place) -> list[str]:
    """Return the keys that the recipe knows at a place."""
    model: Any = Recipe
    for step in place:
        if isinstance(step, str):
            model = model.model_fields[step].annotation
        model = next((arg for arg in get_args(model) if _is_part(arg)), model)
    return list(model.model_fields) if _is_part(model) else []


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
