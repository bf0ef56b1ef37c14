"""Packages that the tests import are declared, not installed by accident."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = {"d2csr", "tests", "benchmarks"}


def _name(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def _declared() -> set[str]:
    """Return the packages of the `test` extra, with those of the extras that it includes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    (included,) = re.findall(r"d2csr\[(.*)\]", " ".join(extras["test"]))
    groups = [extras[name] for name in ("test", *included.split(","))]
    return {_name(each) for group in (project["dependencies"], *groups) for each in group}


def _imported() -> set[str]:
    found = set()
    for file in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - OURS - set(sys.stdlib_module_names)


def test_every_package_that_a_test_imports_is_in_the_test_extra():
    distributions = packages_distributions()
    declared = _declared()
    undeclared = {
        module
        for module in _imported()
        if not {_name(each) for each in distributions.get(module, [module])} & declared
    }
    assert undeclared == set()
