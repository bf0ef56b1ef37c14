"""Training from a recipe file to an exported model: read, check, fit, finish."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from d2csr.core.manifest import Manifest
from d2csr.train.compilation import compile_network
from d2csr.train.devices import Devices
from d2csr.train.finish import finish
from d2csr.train.fit import fit
from d2csr.train.launch import Order, is_first_process, run_on_devices
from d2csr.train.recipe import Recipe
from d2csr.train.recipe_file import read_recipe
from d2csr.train.setup import (
    check_devices,
    check_place,
    checked_pairs,
    keep_recipe,
    make_loader,
    make_run,
)
from d2csr.train.validate import Validator
from d2csr.train.watch import Watch


@dataclass(frozen=True)
class Job:
    """What every process of a run is told."""

    recipe: Recipe
    folder: Path
    train: Manifest
    validation: Manifest | None
    resume: bool


def train(
    recipe_path: Path,
    *,
    out: Path,
    resume: bool = False,
    devices: int = 1,
    data: str | None = None,
    validate_on: str | None = None,
) -> None:
    """Train a recipe into a run folder, export its bundle and print its figures.

    Args:
        recipe_path: the YAML file.
        out: the run's folder.
        resume: go on with the run that `out` holds.
        devices: processes on this machine, one a device.
        data: training pairs, in place of the recipe's.
        validate_on: validation pairs, in place of the recipe's.

    Raises:
        D2csrError: a fault in recipe, pairs or folder, told before training starts.
    """
    recipe = _placed(read_recipe(recipe_path), data=data, validate_on=validate_on)
    check_devices(recipe, devices)
    if is_first_process():
        check_place(recipe, out, resume=resume)
    scale, validation = recipe.model.scale, None
    pairs = checked_pairs(
        recipe.data.train,
        scale=scale,
        split="train",
        patch_px=recipe.data.patch_px,
        mask_limit=recipe.data.mask_limit,
    )
    if recipe.data.validate_on is not None:
        place = recipe.data.validate_on
        validation = checked_pairs(place, scale=scale, split="val")
    if is_first_process():
        keep_recipe(recipe, out)
    job = Job(recipe, out, pairs, validation, resume)
    run_on_devices(Order(train_here, (job,)), devices)


def train_here(devices: Devices, job: Job) -> None:
    """Do one process's part of a run; the first one writes, talks and finishes."""
    console = Console(stderr=True, quiet=not devices.is_first)
    run = make_run(job.recipe, job.folder, devices=devices)
    if run.step:
        console.print(f"going on at step {run.step} of {job.recipe.steps}")
    elif job.resume:
        problem = f"{job.folder} holds no checkpoint to resume from: a new run begins"
        console.print(problem, soft_wrap=True, markup=False)
    loader = make_loader(job.recipe, job.train, devices=devices)
    if job.recipe.compile:
        compile_network(run.network, device=devices.device, console=console)
    if not devices.is_first:
        fit(run, loader, watch=None)
        return
    validator = None
    if job.validation is not None:
        validator = Validator(job.validation, job.recipe.finished_config(), device=devices.device)
    with Watch(run, validator, console=console) as watch:
        whole = fit(run, loader, watch=watch)
    if whole:
        finish(run, job.train, validation=job.validation)
    else:
        console.print(f"stopped and saved at step {run.step}; --resume goes on")


def _placed(recipe: Recipe, *, data: str | None, validate_on: str | None) -> Recipe:
    """Return the recipe with the folders that the command line names."""
    places = {"train": data, "validate_on": validate_on}
    given = {name: place for name, place in places.items() if place is not None}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=given)})
