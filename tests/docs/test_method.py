"""The method page: the functions and tests it names exist, its sizes are those of the code."""

import ast
import importlib
import inspect
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from d2csr.checkpoint.io import expected_shapes
from d2csr.core.config import PRESETS, SCALES, preset

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
ROOMS = {path.name for path in (ROOT / "src" / "d2csr").iterdir() if path.is_dir()}


def cells():
    """Return all code spans of the page."""
    return sorted(set(re.findall(r"`([^`]+)`", PAGE)))


def named_functions():
    return [cell for cell in cells() if re.fullmatch(r"[a-z]\w*(\.\w+)+", cell) and room(cell)]


def room(cell):
    return cell.split(".")[0] in ROOMS


def named_tests():
    return [cell for cell in cells() if cell.startswith("test_")]


def existing_tests():
    """Return the names of all test functions."""
    names = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return names


def test_the_page_names_functions_and_tests():
    assert len(named_functions()) >= 20
    assert len(named_tests()) >= 15


@pytest.mark.parametrize("name", named_functions())
def test_a_function_on_the_page_exists(name):
    value, parts = None, f"d2csr.{name}".split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            value = getattr(value, part)
        break
    assert callable(value), name
    assert inspect.getdoc(value), name


def test_every_test_on_the_page_exists():
    assert set(named_tests()) - existing_tests() == set()


def test_every_equation_has_a_row_with_function_and_oracle():
    rows = re.findall(r"^\| (\d) \|(.*)$", PAGE, flags=re.MULTILINE)
    assert sorted({int(number) for number, _ in rows}) == list(range(1, 10))
    for number, row in rows:
        _, function, oracle, *departures = (cell.strip() for cell in row.strip(" |").split(" | "))
        assert function.strip("`") in named_functions(), number
        assert "`test_" in oracle, number
        assert len(departures) == 2, number
        assert all(departures), number


def size(config):
    return f"{sum(math.prod(shape) for shape in expected_shapes(config).values()):,}"


@pytest.mark.parametrize("name", PRESETS)
def test_the_row_of_a_preset_matches_the_code(name):
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
    config = preset(name, 4)
    built = [config.channels, config.groups, config.blocks, config.convergence_channels]
    sizes = [size(preset(name, scale)) for scale in SCALES]
    expected = [*map(str, built), *sizes, size(replace(config, tail="collapsed"))]
    assert [cell.strip() for cell in row.strip(" |").split("|")][2:] == expected


def test_presets_have_no_other_rows():
    names = re.findall(r"^\| `((?:paper|photo)[^`]*)` \|", PAGE, flags=re.MULTILINE)
    assert set(names) == set(PRESETS)
