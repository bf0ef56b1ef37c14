"""Recipe files: YAML read into a recipe."""

from pathlib import Path

from d2csr.core.errors import RecipeError
from d2csr.core.settings_file import read_settings
from d2csr.train.recipe import Recipe


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a YAML file.

    Raises:
        RecipeError: unreadable, no YAML, or faults in it; all of them, each with its line and, for
            an unknown key, the nearest known one.
    """
    remedy = "Give a YAML file; experiments/ has examples."
    return read_settings(path, Recipe, fault=RecipeError, remedy=remedy)
