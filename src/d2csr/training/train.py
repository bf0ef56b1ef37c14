"""Training from a recipe file to a bundle: check, launch the processes, fit, export, evaluate."""

import shutil
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from rich.console import Console

from d2csr.checkpoint.io import BEST, BUNDLE
from d2csr.core.bundle import ModelMetadata
from d2csr.core.errors import printable
from d2csr.core.manifest import Manifest
from d2csr.core.results import write_results
from d2csr.data.pairs import load_pair
from d2csr.evaluation.checks import EvaluationOptions
from d2csr.evaluation.evaluate import RESULTS_NAME, evaluate, model_scores
from d2csr.evaluation.tables import print_results
from d2csr.export.bundle_writer import update_scores
from d2csr.training.data_config import DataConfig
from d2csr.training.distributed import DistributedContext, launch
from d2csr.training.loop import fit
from d2csr.training.monitor import PROTOCOL, TrainingMonitor, Validator, read_runs
from d2csr.training.networks import build_network, compile_network, export_network
from d2csr.training.preflight import TrainJob, check_devices, lock_run, make_loader, prepare
from d2csr.training.recipe import Recipe, expand_path, read_recipe
from d2csr.training.trainer import Trainer, describe_device, make_trainer

_VERIFIED_IMAGES = 2  # that bundle and network are compared on


def train(  # noqa: PLR0913 - one keyword per option of the command
    recipe: Path | str,
    *,
    output: Path | str,
    resume: bool = False,
    devices: int = 1,
    data: Path | str | None = None,
    validate_on: Path | str | None = None,
    allow_outside: bool = False,
) -> Path | None:
    """Train a model, export it as a bundle and print its scores; return the bundle's folder.

    SIGTERM or SIGINT stops training after the current step; the run is saved, and `resume`
    continues it as if it had never stopped.

    Args:
        recipe: the YAML file.
        output: the run's folder: recipe, log, checkpoints, best weights, bundle.
        resume: continue the run in that folder from its newest checkpoint.
        devices: processes on this machine, one per device.
        data: training pairs, instead of the recipe's; validation pairs too, if it has both in one
            set and `validate_on` isn't given.
        validate_on: validation pairs, instead of the recipe's.
        allow_outside: allow manifests whose pairs lie outside their folder.

    Returns:
        The bundle's folder; None if a signal stopped training before its last step, and in all
        processes but the first under torchrun.

    Raises:
        D2csrError: an error in recipe, pairs or folder, raised before training starts.
        TrainingError: a loss or a gradient is not finite.
    """
    chosen = replace_paths(read_recipe(Path(recipe)), train=data, validate_on=validate_on)
    check_devices(chosen, devices)
    prepared = partial(prepare, chosen, Path(output), resume=resume, allow_outside=allow_outside)
    return launch(run, prepared, devices=devices)


def run(devices: DistributedContext, job: TrainJob) -> Path | None:
    """Do one process's part of a run; the main one writes files and messages."""
    with lock_run(job.folder) if devices.is_main_process else nullcontext():
        return _run_locked(devices, job)


def _run_locked(devices: DistributedContext, job: TrainJob) -> Path | None:
    console = Console(stderr=True, quiet=not devices.is_main_process)
    trainer = make_trainer(job.recipe, job.folder, devices=devices)
    loader = make_loader(job, devices=devices)
    _print_start(trainer, job, console=console)
    if devices.is_main_process and trainer.step == 0:
        shutil.rmtree(job.folder / BEST, ignore_errors=True)  # of a run without a checkpoint
    if job.recipe.compile:
        compile_network(trainer.network, device=devices.device, console=console)
    monitor = make_monitor(trainer, job, console=console) if devices.is_main_process else None
    with monitor or nullcontext():
        is_finished = fit(trainer, loader, callback=monitor)
    if not is_finished:
        console.print(f"stopped and saved at step {trainer.step}; --resume continues")
        return None
    return finish(trainer, job) if devices.is_main_process else None


def make_monitor(trainer: Trainer, job: TrainJob, *, console: Console) -> TrainingMonitor:
    """Return the monitor of a run, with a validator if there are validation pairs."""
    validator = None
    if job.validation is not None:
        network = build_network(job.recipe.inference_model())
        validator = Validator(job.validation, network, device=trainer.devices.device)
    return TrainingMonitor(trainer, validator, console=console)


def finish(trainer: Trainer, job: TrainJob) -> Path:
    """Export the run's bundle, evaluate it on the validation pairs, and return its folder."""
    folder = trainer.folder / BUNDLE
    pairs = job.validation or job.sources[0].pairs
    export_network(
        trainer.best_network(),
        folder,
        metadata=describe_model(trainer),
        verify_on=[
            load_pair(each, scale=pairs.scale)[0] for each in pairs.pairs[:_VERIFIED_IMAGES]
        ],
    )
    if job.validation is not None and job.recipe.data.validate_on is not None:
        _evaluate(folder, expand_path(job.recipe.data.validate_on), pairs=job.validation)
    return folder


def _evaluate(bundle: Path, data: Path, *, pairs: Manifest) -> None:
    """Score the bundle on the validation pairs; write the results, add them to its card, print."""
    (split,) = pairs.splits
    results = evaluate(
        (str(bundle),),
        data,
        protocols=(PROTOCOL,),
        scale=pairs.scale,
        options=EvaluationOptions(split=split or None, allow_outside=True),  # checked before
    )
    write_results(results, bundle.parent / RESULTS_NAME)
    update_scores(bundle, model_scores(results, model=str(bundle), data="validation pairs"))
    print_results(results)


def describe_model(trainer: Trainer) -> ModelMetadata:
    """Return the run's part of its model's card."""
    best = trainer.best
    steps = trainer.earlier_steps + (best.step if best.step >= 0 else trainer.step)
    machine = describe_device(trainer.devices.device)
    runs = read_runs(trainer.folder)
    return trainer.recipe.describe_model(steps=steps, machine=machine, runs=runs)


def _print_start(trainer: Trainer, job: TrainJob, *, console: Console) -> None:
    """Print the step at which a run resumes, or that it has none to resume at."""
    if trainer.step:
        console.print(f"resuming at step {trainer.step} of {job.recipe.steps}")
    elif job.resume:
        message = f"{job.folder} contains no checkpoint to resume from: a new run begins"
        console.print(printable(message), soft_wrap=True, markup=False)
    omission = job.recipe.loss.adversarial.omission()
    if omission and any(stage.kind == "adversarial" for stage in job.recipe.stages):
        console.print(f"note: {omission}", soft_wrap=True, markup=False)


def replace_paths(recipe: Recipe, **paths: Path | str | None) -> Recipe:
    """Return the recipe with the paths of its data section that are given.

    Where it trains and validates on splits of one set, other training pairs are of one set too.
    """
    given = {name: str(path) for name, path in paths.items() if path is not None}
    sets = {each.path for each in recipe.data.train}
    if "train" in given and sets == {recipe.data.validate_on}:
        given.setdefault("validate_on", given["train"])
    data = DataConfig.model_validate({**recipe.data.model_dump(), **given})
    return recipe.model_copy(update={"data": data})
