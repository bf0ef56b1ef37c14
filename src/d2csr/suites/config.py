"""The suite file: systems, seeds and sets of pairs in YAML, typed; errors name their lines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator, model_validator

from d2csr.core.errors import UsageError
from d2csr.core.yaml_config import ConfigBase, Count, read_settings
from d2csr.metrics.protocols import PROTOCOLS

SUITE_NAME = "suite.yaml"  # in the folder of a suite

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Rate = Annotated[float, Field(gt=0)]


class SystemEntry(ConfigBase):
    """One system of a suite: a recipe to train by, or a model that is scored as it is.

    Attributes:
        trained: a baseline of `evaluate`, a shipped model or the folder of a bundle: not trained.
        recipe: keys that replace those of the suite's recipe. `model` and `stages` are replaced
            whole, other sections key by key.
        learning_rates: rates of the first stage to choose from, by PSNR on validation after
            `rate_steps`; the rates of the other stages change by the same factor.
    """

    trained: str | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    learning_rates: tuple[Rate, ...] = ()

    @model_validator(mode="after")
    def _check_trained(self) -> "SystemEntry":
        if self.trained is not None and (self.recipe or self.learning_rates):
            raise ValueError("a system with `trained` isn't trained here: give no recipe or rates")
        return self


class PairSets(ConfigBase):
    """The pairs of one data set.

    Attributes:
        scale: SR pixels per LR pixel.
        train: training pairs, in any form that a recipe takes; None: nothing is trained on it.
        validate_on: validation pairs.
        test: sets of test pairs by name.
        split: the split of the test pairs to score; by default `test` if there is one, else all.
    """

    scale: int = Field(ge=1, le=8)
    train: Any = None
    validate_on: str | None = None
    test: dict[Name, str] = Field(min_length=1)
    split: str | None = None


class SuiteConfig(ConfigBase):
    """A whole suite: every system is trained with every seed on every data set, and scored.

    Attributes:
        name: of the suite.
        title: what is compared, in a line for tables and charts.
        base: path of a recipe that all systems begin with, relative to the suite file.
        recipe: keys that replace those of `base`, or that are the recipe.
        systems: the systems by name, in the order of the tables.
        seeds: one training each.
        data: the data sets by name.
        protocols: of the scores.
        compare_to: the system that differences are taken from; None: bicubic enlargement.
        steps: length of each training: the stages of a recipe are stretched to it in proportion.
        rate_steps: length of a training that tries a learning rate.
        skip_registration: leave out the PSNR after the best shift, gain and offset.
        processor: size of the LR image for time and memory, width and height; None measures none.
    """

    name: Name
    title: str = ""
    base: str | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    systems: dict[Name, SystemEntry] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (1,)
    data: dict[Name, PairSets] = Field(min_length=1)
    protocols: tuple[str, ...] = ("y",)
    compare_to: str | None = None
    steps: Count | None = None
    rate_steps: Count | None = None
    skip_registration: bool = True
    processor: tuple[Count, Count] | None = (256, 192)

    @field_validator("protocols")
    @classmethod
    def _check_protocols(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in PROTOCOLS]
        if unknown or not names:
            raise ValueError(f"choose from {', '.join(PROTOCOLS)}")
        return names

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError("give at least one seed, each once")
        return seeds

    @model_validator(mode="after")
    def _check_names(self) -> "SuiteConfig":
        if self.compare_to not in {None, "bicubic", *self.systems}:
            known = ", ".join(["bicubic", *self.systems])
            raise ValueError(f"compare_to: no system is named {self.compare_to}; choose of {known}")
        several = [name for name, each in self.systems.items() if len(each.learning_rates) > 1]
        if several and self.rate_steps is None:
            raise ValueError(f"rate_steps is needed to choose the learning rate of {several[0]}")
        blind = [name for name, each in self.data.items() if each.validate_on is None]
        if several and blind:
            raise ValueError(f"data.{blind[0]}.validate_on is needed to choose learning rates")
        return self

    @property
    def reference(self) -> str:
        """Return the system that differences are taken from."""
        return self.compare_to or "bicubic"


def read_suite(path: Path) -> SuiteConfig:
    """Return the suite in a YAML file, or in the folder of a suite.

    Raises:
        UsageError: unreadable, no YAML, or errors in it: all of them, each with its line and, for
            an unknown key, the nearest known one.
    """
    remedy = (
        "Give a suite file, or the --out of a suite; experiments/suites/table3.yaml is an example."
    )
    file = path / SUITE_NAME if path.is_dir() else path
    return read_settings(file, SuiteConfig, error_type=UsageError, remedy=remedy)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return recipe values with changes: sections key by key, but `model` and `stages` whole."""
    merged = dict(base)
    for key, value in changes.items():
        before = merged.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and key != "model":
            merged[key] = merge(before, value)
        else:
            merged[key] = value
    return merged
