"""The plan of a suite: its trials, each with a whole recipe, checked before any work."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from d2csr.core.errors import D2csrError, RecipeError, UsageError, first_line
from d2csr.core.files import read_regular
from d2csr.core.typed_reader import plain_message
from d2csr.core.yaml_config import MAX_BYTES
from d2csr.data.sources import open_pairs
from d2csr.evaluation.systems import find_system
from d2csr.suites.config import SuiteConfig, SystemEntry, merge
from d2csr.suites.records import Trial, read_record, trial_folder
from d2csr.training.recipe import Recipe, expand_path

_REMEDY = "Correct the suite file."


def plan_rate_trials(suite: SuiteConfig, *, file: Path, out: Path) -> list[Trial]:
    """Return the trials that try learning rates, of systems that have several to choose from."""
    return [
        _make_trial(suite, file=file, out=out, system=system, data=data, rate=rate)
        for data in suite.data
        for system, entry in suite.systems.items()
        if len(entry.learning_rates) > 1 and suite.data[data].train is not None
        for rate in entry.learning_rates
    ]


def plan_trials(
    suite: SuiteConfig, systems: Sequence[str], *, file: Path, out: Path
) -> tuple[list[Trial], list[str]]:
    """Return the trials of systems whose scores count, and lines on those without a learning rate.

    The rate of a system that has several is the best of those that were tried so far; before any
    was tried, the first.
    """
    trials: list[Trial] = []
    failed: list[str] = []
    for data, pairs in suite.data.items():
        for system in systems:
            entry = suite.systems[system]
            rate = _choose_rate(entry, out, system=system, data=data)
            if len(entry.learning_rates) > 1 and pairs.train is not None and rate is None:
                failed.append(f"{system} on {data}: none of its learning rates was trained")
                continue
            seeds = suite.seeds if entry.trained is None else suite.seeds[:1]
            trials += [
                _make_trial(
                    suite, file=file, out=out, system=system, data=data, seed=seed, chosen=rate
                )
                for seed in seeds
                if entry.trained is not None or pairs.train is not None
            ]
    return trials, failed


def check_suite(suite: SuiteConfig, *, file: Path, out: Path) -> list[Trial]:
    """Return the trials as they would be with each system's first learning rate.

    Raises:
        UsageError: recipes, models or pairs have errors; all of them are listed.
    """
    problems: list[str] = []
    for data, pairs in suite.data.items():
        for test in pairs.test.values():
            try:
                open_pairs(expand_path(test), scale=pairs.scale)
            except D2csrError as error:
                problems.append(f"data.{data}.test: {error}")
    trials: list[Trial] = []
    for data in suite.data:
        for system, entry in suite.systems.items():
            try:
                if entry.trained is not None:
                    find_system(entry.trained, fit=None)
                rates = entry.learning_rates[:1]
                chosen = rates[0] if rates else None
                for seed in suite.seeds if entry.trained is None else suite.seeds[:1]:
                    trial = _make_trial(
                        suite,
                        file=file,
                        out=out,
                        system=system,
                        data=data,
                        seed=seed,
                        chosen=chosen,
                    )
                    trials += [trial] if trial.recipe or trial.trained else []
            except D2csrError as error:
                problems.append(f"systems.{system}: {error.problem}")
    if problems:
        found = "\n  ".join([f"{len(problems)} errors", *dict.fromkeys(problems)])
        raise UsageError(file, found, _REMEDY)
    return trials


def _choose_rate(entry: SystemEntry, out: Path, *, system: str, data: str) -> float | None:
    """Return the learning rate of the best validation; None if nothing chooses one."""
    if len(entry.learning_rates) <= 1:
        return entry.learning_rates[0] if entry.learning_rates else None
    tried: dict[float, float] = {}
    for rate in entry.learning_rates:
        record = read_record(trial_folder(out, system, data=data, part=f"rate-{rate:g}"))
        if record is not None and record.val_psnr_db is not None:
            tried[rate] = record.val_psnr_db
    return max(tried, key=lambda rate: tried[rate]) if tried else None


def _make_trial(  # noqa: PLR0913 - a trial is chosen by each of them
    suite: SuiteConfig,
    *,
    file: Path,
    out: Path,
    system: str,
    data: str,
    seed: int | None = None,
    rate: float | None = None,
    chosen: float | None = None,
) -> Trial:
    """Return one trial; with `rate`, an attempt of that learning rate."""
    pairs, entry = suite.data[data], suite.systems[system]
    seed = suite.seeds[0] if seed is None else seed
    part = f"seed-{seed}" if rate is None else f"rate-{rate:g}"
    recipe = None
    if entry.trained is None and pairs.train is not None:
        recipe = _make_recipe(suite, file=file, system=system, data=data, seed=seed)
        recipe = _set_rate(recipe, rate if rate is not None else chosen)
        recipe = _set_steps(recipe, suite.steps if rate is None else suite.rate_steps)
        recipe = _validate(recipe, system).to_dict()
    return Trial(
        system=system,
        data=data,
        seed=seed,
        rate=rate,
        folder=trial_folder(out.absolute(), system, data=data, part=part),
        recipe=recipe,
        trained=entry.trained,
        scale=pairs.scale,
        steps=0 if recipe is None else sum(stage["steps"] for stage in recipe["stages"]),
        tests={} if rate is not None else dict(pairs.test),
        split=pairs.split,
        protocols=suite.protocols,
        skip_registration=suite.skip_registration,
    )


def _make_recipe(
    suite: SuiteConfig, *, file: Path, system: str, data: str, seed: int
) -> dict[str, Any]:
    """Return the values of a system's recipe on a data set, before steps and rates."""
    values: dict[str, Any] = {}
    if suite.base is not None:
        values = _read_base(file.parent / suite.base)
    values = merge(merge(values, suite.recipe), suite.systems[system].recipe)
    pairs = suite.data[data]
    paths = {"train": pairs.train, "validate_on": pairs.validate_on}
    values = merge({"name": f"{suite.name}-{system}"}, values)
    values = merge(values, {"seed": seed, "data": paths})
    model = values.get("model", {})
    return {
        **values,
        "model": {**model, "scale": pairs.scale} if isinstance(model, dict) else model,
    }


def _read_base(path: Path) -> dict[str, Any]:
    """Return the values of the recipe that a suite begins with.

    Raises:
        RecipeError: the file can't be read as a recipe.
    """
    try:
        values = yaml.safe_load(read_regular(path, max_bytes=MAX_BYTES))
    except (OSError, ValueError, yaml.YAMLError) as error:
        problem = f"the base recipe can't be read: {first_line(error)}"
        raise RecipeError(path, problem, _REMEDY) from error
    if not isinstance(values, dict):
        raise RecipeError(path, "the base recipe holds no settings", _REMEDY)
    return values


def _validate(values: Mapping[str, Any], system: str) -> Recipe:
    """Return the recipe of these values.

    Raises:
        RecipeError: it has errors; all of them are listed.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as errors:
        found = errors.errors(include_url=False, include_input=False)
        lines = [f"{'.'.join(map(str, each['loc']))}: {plain_message(each)}" for each in found]
        problem = f"the recipe has {len(lines)} errors: {'; '.join(lines)}"
        raise RecipeError(f"systems.{system}", problem, _REMEDY) from errors


def _stages(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the stages of a recipe that may still have errors."""
    stages = values.get("stages")
    return [dict(each) for each in stages if isinstance(each, dict)] if stages else []


def _set_rate(values: dict[str, Any], rate: float | None) -> dict[str, Any]:
    """Return the recipe with the first stage at a rate, and the others changed in proportion."""
    stages = _stages(values)
    if rate is None or not stages:
        return values
    factor = rate / stages[0].get("learning_rate", 1e-4)
    for stage in stages:
        stage["learning_rate"] = stage.get("learning_rate", 1e-4) * factor
    return {**values, "stages": stages}


def _set_steps(values: dict[str, Any], steps: int | None) -> dict[str, Any]:
    """Return the recipe with its stages stretched in proportion to so many steps in all."""
    stages = _stages(values)
    if steps is None or not stages:
        return values
    total = sum(stage.get("steps", 0) for stage in stages)
    begun = done = 0
    for stage in stages:
        begun += stage.get("steps", 0)
        end = round(steps * begun / max(total, 1))
        factor = steps / max(total, 1)
        for key in ("warmup", "halve_every"):
            if stage.get(key):
                stage[key] = max(1, round(stage[key] * factor))
        stage["steps"], done = max(1, end - done), max(done + 1, end)
    return {**values, "stages": stages}
