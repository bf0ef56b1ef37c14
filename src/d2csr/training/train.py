"""Training from a recipe file to an exported model: read, check, fit, finish.

The end of a run: its best weights exported as a bundle, and their figures printed.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from d2csr.checkpoint.io import BEST, BUNDLE, MODEL_FILE, read_file
from d2csr.core.bundle import ModelMetadata
from d2csr.core.manifest import Manifest
from d2csr.core.results import write_results
from d2csr.data.pairs import load_pair
from d2csr.evaluation.checks import EvaluationOptions
from d2csr.evaluation.evaluate import evaluate, model_scores
from d2csr.evaluation.tables import print_results
from d2csr.export.bundle_writer import export_bundle, update_scores
from d2csr.models.d2csr import D2CSR
from d2csr.training.distributed import DistributedContext, ProcessTask, is_first_process, launch
from d2csr.training.loop import compile_network, fit
from d2csr.training.monitor import PROTOCOL, TrainingMonitor, Validator
from d2csr.training.preflight import (
    check_devices,
    check_run_folder,
    expand_path,
    load_valid_pairs,
    make_loader,
    make_run,
    save_recipe,
)
from d2csr.training.recipe import Recipe, read_recipe
from d2csr.training.trainer import Trainer, machine

RESULTS = "results.json"
_COMPARED = 2  # images that bundle and network are compared on


def finish(run: Trainer, pairs: Manifest, *, validation: Manifest | None) -> None:
    """Export the run's bundle and, where there are validation pairs, print and keep its scores."""
    images = (validation or pairs).pairs[:_COMPARED]
    folder = run.folder / BUNDLE
    export_bundle(
        best_network(run),
        folder,
        metadata=card_facts(run),
        verify_on=[load_pair(pair, scale=pairs.scale)[0] for pair in images],
    )
    if validation is None or run.recipe.data.validate_on is None:
        return
    place = expand_path(run.recipe.data.validate_on)
    splits = {pair.split for pair in validation.pairs}
    options = (
        EvaluationOptions(split=splits.pop() or None) if len(splits) == 1 else EvaluationOptions()
    )
    results = evaluate(
        (str(folder),), place, protocols=(PROTOCOL,), scale=pairs.scale, options=options
    )
    write_results(results, run.folder / RESULTS)
    update_scores(folder, model_scores(results, model=str(folder), data="validation pairs"))
    print_results(results)


def best_network(run: Trainer) -> D2CSR:
    """Return the network with the run's best weights; without validation, the averaged ones."""
    path = run.folder / BEST / MODEL_FILE
    tensors = read_file(path)[0] if path.is_file() else run.average.tensors
    network = D2CSR(run.recipe.finished_config())
    network.load_state_dict(tensors)
    return network.to("cpu", torch.float32).eval()


def card_facts(run: Trainer) -> ModelMetadata:
    """Return what the run knows of its model."""
    recipe = run.recipe
    return ModelMetadata(
        name=recipe.name,
        licence=recipe.licence,
        data=recipe.data_note,
        steps=run.earlier_steps + (run.best.step if run.best.step >= 0 else run.step),
        seed=recipe.seed,
        machine=machine(run.devices.device),
        preset=recipe.model.preset,
        description=recipe.description,
    )


@dataclass(frozen=True)
class TrainJob:
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
        D2csrError: an error in recipe, pairs or folder, told before training starts.
    """
    recipe = _placed(read_recipe(recipe_path), data=data, validate_on=validate_on)
    check_devices(recipe, devices)
    if is_first_process():
        check_run_folder(recipe, out, resume=resume)
    scale, validation = recipe.model.scale, None
    pairs = load_valid_pairs(
        recipe.data.train,
        scale=scale,
        split="train",
        patch_px=recipe.data.patch_px,
        mask_limit=recipe.data.mask_limit,
    )
    if recipe.data.validate_on is not None:
        place = recipe.data.validate_on
        validation = load_valid_pairs(place, scale=scale, split="val")
    if is_first_process():
        save_recipe(recipe, out)
    job = TrainJob(recipe, out, pairs, validation, resume)
    launch(ProcessTask(run_process, (job,)), devices)


def run_process(devices: DistributedContext, job: TrainJob) -> None:
    """Do one process's part of a run; the first one writes, talks and finishes."""
    console = Console(stderr=True, quiet=not devices.is_main_process)
    run = make_run(job.recipe, job.folder, devices=devices)
    if run.step:
        console.print(f"going on at step {run.step} of {job.recipe.steps}")
    elif job.resume:
        problem = f"{job.folder} holds no checkpoint to resume from: a new run begins"
        console.print(problem, soft_wrap=True, markup=False)
    loader = make_loader(job.recipe, job.train, devices=devices)
    if job.recipe.compile:
        compile_network(run.network, device=devices.device, console=console)
    if not devices.is_main_process:
        fit(run, loader, watch=None)
        return
    validator = None
    if job.validation is not None:
        validator = Validator(job.validation, job.recipe.finished_config(), device=devices.device)
    with TrainingMonitor(run, validator, console=console) as watch:
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
