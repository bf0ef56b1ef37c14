"""The reference of recipe keys: current, complete, and without gaps."""

import importlib.util
import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from d2csr.training.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "recipe-keys.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| `")]


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("maker", ROOT / "docs" / "recipe_keys.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_make_docs_writes(maker):
    assert maker.render(PAGE) == PAGE


def test_every_key_that_a_recipe_takes_has_a_row():
    """The keys of a whole recipe, as training stores it, against those of the page."""
    values = {"name": "a", "model": {"scale": 2}, "data": {"train": "b"},
              "stages": [{"kind": "joint", "steps": 1}]}  # fmt: skip
    stored = Recipe.model_validate(values).to_dict()

    def keys(value):
        inside = value if isinstance(value, list) else [value]
        for each in (each for each in inside if isinstance(each, dict)):
            yield from each
            for inner in each.values():
                yield from keys(inner)

    named = {re.match(r"\| `(\w+)`", row)[1] for row in ROWS}
    assert set(keys(stored)) <= named


def test_every_row_has_a_meaning_and_a_default():
    for row in ROWS:
        cells = re.split(r"(?<!\\)\|", row)[1:-1]
        assert len(cells) == 4, row
        assert all(cell.strip() for cell in cells), row


class Shades(BaseModel):
    """Shades.

    Attributes:
        tone: the tone, None for
            none.
        depth: levels.
    """

    tone: Literal["dark", "light"] | None = None
    depth: Annotated[int, Field(ge=1, lt=9)]


def test_a_section_is_a_table_of_types_bounds_and_meanings(maker):
    assert list(maker.describe_section(Shades, path=()))[2:] == [
        "| `tone` | `dark`, `light` or null | null | the tone, null for none |",
        "| `depth` | whole number, at least 1, below 9 | **required** | levels |",
    ]
