"""Everything checked and prepared before training: run folder, devices, pairs, decoded pixels."""

import fcntl
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
import yaml
from torch import nn

from d2csr.checkpoint.io import BEST, BUNDLE, last_checkpoint, read_state
from d2csr.core.console import console
from d2csr.core.errors import D2csrError, DataError, RecipeError, UsageError
from d2csr.core.files import backup_path, cache_folder, write_atomically
from d2csr.core.manifest import Manifest
from d2csr.data.pixel_cache import PairCache, cache_path, hash_files, is_cached, open_cache
from d2csr.data.sampling import CropLoader, CropSampler, CropSource
from d2csr.data.sources import open_pairs
from d2csr.data.validation import check_pairs
from d2csr.models.networks.base import SystemNetwork
from d2csr.models.systems import SYSTEMS, SystemModel
from d2csr.training.data_config import DataConfig
from d2csr.training.distributed import DistributedContext, get_world_size, is_main_process
from d2csr.training.monitor import runs_before
from d2csr.training.networks import Network, build_network, initial_network, make_adversary
from d2csr.training.optim import iter_rates
from d2csr.training.recipe import (
    RECIPE_NAME,
    Recipe,
    StageConfig,
    StageKind,
    expand_path,
    read_recipe,
)
from d2csr.training.step_memory import check_step_memory

# Keys of a recipe on which the weights don't depend.
_WITHOUT_EFFECT = ("name", "intervals", "licence", "data_note", "description")
_WHOLE_BATCH_STAGES: tuple[StageKind, ...] = ("adversarial", "likelihood")
_FEW_PAIRS = 8  # docs/your-own-camera.md: enough to see that everything works


@dataclass(frozen=True)
class TrainingSource:
    """Pairs to train on.

    Attributes:
        pairs: the pairs.
        pixels: folder of the cache that holds them decoded.
        share: of all crops, 0..1.
    """

    pairs: Manifest
    pixels: Path
    share: float


@dataclass(frozen=True)
class TrainJob:
    """A run that has passed every check, as each of its processes is given it.

    Attributes:
        recipe: the recipe.
        folder: the run's folder.
        sources: the training pairs.
        validation: the validation pairs, or None.
        resume: whether the user asked to continue a run.
    """

    recipe: Recipe
    folder: Path
    sources: tuple[TrainingSource, ...]
    validation: Manifest | None
    resume: bool


def prepare(recipe: Recipe, folder: Path, *, resume: bool, allow_outside: bool = False) -> TrainJob:
    """Check the run and decode its training pairs; write the recipe into its folder.

    Raises:
        UsageError: the folder holds a run and `resume` is off, is in use, or can't be written.
        RecipeError: the folder holds the run of another recipe, crops have sides that the network
            would pad, or need more memory than is free, or the initial weights come from this run.
        CheckpointError: the initial weights, or those of VGG19, are missing or of another network.
        DataError: the pairs have errors, are of another split, or those of validation are trained
            on.
        D2csrError: the pairs can't be opened.
    """
    if is_main_process():
        check_run_folder(recipe, folder, resume=resume)
    _check_crops(recipe, initial_network(recipe))
    check_step_memory(recipe)
    runs_before(recipe, folder)  # which the finished bundle lists
    if any(stage.kind == "adversarial" for stage in recipe.stages):
        make_adversary(recipe, torch.device("cpu"))
    sources = prepare_sources(recipe, allow_outside=allow_outside)
    validation = None
    if recipe.data.validate_on is not None:
        validation = open_split(
            recipe.data.validate_on,
            scale=recipe.model.scale,
            split="val",
            allow_outside=allow_outside,
        )
        _raise_errors(recipe.data.validate_on, check_pairs(validation, patch_px=None))
        _check_disjoint(recipe.data.validate_on, validation, sources=sources)
    _warn_of_few_pairs(sources, validation)
    if is_main_process():
        save_recipe(recipe, folder)
    return TrainJob(recipe, folder, sources, validation, resume)


def _check_crops(recipe: Recipe, network: Network) -> None:
    """Check that the sides of a crop are multiples of what a compared system pads to.

    Raises:
        RecipeError: they aren't; padding would be trained on.
    """
    if not isinstance(network, SystemNetwork):
        return
    multiple = network.side_multiple
    if network.takes == "enlarged":
        multiple //= math.gcd(multiple, network.scale)
    side = recipe.data.patch_px
    if side % multiple:
        nearest = max(multiple, side - side % multiple)
        problem = f"{side} isn't a multiple of {multiple}, to which the network pads images"
        raise RecipeError("data.patch_px", problem, remedy=f"Use {nearest}.")


def _has_batch_norm(recipe: Recipe) -> bool:
    """Return whether a recipe's network has statistics over the batch."""
    with torch.device("meta"):
        network = build_network(recipe.model)
    return any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def check_run_folder(recipe: Recipe, folder: Path, *, resume: bool) -> None:
    """Refuse a folder in which a run is going on, or that holds one that can't be continued so.

    A start that failed, or was killed before its first checkpoint, is no run yet: another may begin
    in its folder.

    Raises:
        UsageError: another process trains in the folder; or it holds a run, and `resume` is off.
        RecipeError: the recipe would have trained the run's weights in another way; the keys that
            differ are named.
    """
    saved, newest = folder / RECIPE_NAME, last_checkpoint(folder)
    if folder.is_dir():
        with lock_run(folder):
            pass
    best = folder / BEST
    kept = [newest, best, backup_path(best), folder / BUNDLE]
    if not saved.is_file() or not any(each and each.exists() for each in kept):
        return
    if not resume:
        remedy = "Give --resume to continue it, or another --output."
        raise UsageError(folder, "already contains a run", remedy=remedy)
    step = 0 if newest is None else read_state(newest)["step"]
    if different := find_changed_past(read_recipe(saved), recipe, step=step):
        problem = f"was started with another recipe; these keys differ: {', '.join(different)}"
        remedy = (
            "Resume with the same, or begin a new run. Steps may be added: to the last stage, "
            "unless its schedule is cosine or its loss changes over it, or as another stage."
        )
        raise RecipeError(folder, problem, remedy=remedy)


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Hold a run's folder while the block runs, so that no other process trains in it.

    Raises:
        UsageError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # of a network file system without locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                problem = "another process is training in this folder"
                remedy = "Wait until it ends, or give another --output."
                raise UsageError(folder, problem, remedy) from None
        yield
    finally:
        os.close(descriptor)


def find_changed_past(before: Recipe, now: Recipe, *, step: int) -> list[str]:
    """Return the keys that differ between two recipes and on which the first steps depend.

    Args:
        before: the recipe that the steps were trained with.
        now: the recipe to continue with.
        step: the number of steps.
    """
    old, new = before.to_dict(), now.to_dict()
    different = [key for key in new if new[key] != old[key] and key not in _WITHOUT_EFFECT]
    same = partial(_have_same_steps, step=step, by_length=_kinds_by_length(now))
    if "stages" in different and same(before.stages, now.stages):
        different.remove("stages")
    return different


def _kinds_by_length(recipe: Recipe) -> tuple[StageKind, ...]:
    """Return the kinds of stages whose steps depend on the length of the stage."""
    model, kinds = recipe.model, []
    if isinstance(model, SystemModel) and recipe.loss.system == "own":
        fades = SYSTEMS[model.system].loss == "recursive-supervision"
        kinds += ["network"] if fades else []
    if 0 < recipe.loss.likelihood.frozen_encoder < 1:
        kinds += ["likelihood"]
    return tuple(kinds)


def _have_same_steps(
    before: Sequence[StageConfig],
    now: Sequence[StageConfig],
    *,
    step: int,
    by_length: tuple[StageKind, ...],
) -> bool:
    """Return whether stages agree in all that the weights before a step depend on.

    If a stage had ended there and another followed, that one has begun: its optimizer is new.
    """
    old, new = (iter_rates(each, by_length=by_length) for each in (before, now))
    if list(islice(old, step)) != list(islice(new, step)):
        return False
    following = next(old, None)
    return following is None or following[0] == next(new, [None])[0]


def save_recipe(recipe: Recipe, folder: Path) -> None:
    """Write the recipe, defaults included, into the run's folder.

    Raises:
        UsageError: the folder can't be written.
    """
    text = yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)
    try:
        write_atomically(folder / RECIPE_NAME, text.encode())
    except OSError as error:
        remedy = "Choose another --output."
        raise UsageError(folder, f"can't be written ({error})", remedy=remedy) from error


def prepare_sources(recipe: Recipe, *, allow_outside: bool = False) -> tuple[TrainingSource, ...]:
    """Return the training pairs, all of them sound, with the caches that hold them decoded.

    Raises:
        DataError: no pairs, several splits but no `train`, or errors; all of them are named.
    """
    data = recipe.data
    manifests = [
        open_split(each.path, scale=recipe.model.scale, split="train", allow_outside=allow_outside)
        for each in data.train
    ]
    shares = data.crop_shares([len(pairs) for pairs in manifests])
    return tuple(
        TrainingSource(pairs, _decode(pairs, data, path=each.path), share)
        for pairs, each, share in zip(manifests, data.train, shares, strict=True)
    )


def _decode(pairs: Manifest, data: DataConfig, *, path: str) -> Path:
    """Return the folder of the pairs' cache, after checking them.

    Each file is hashed once, for its manifest's check and for the name of the cache.
    """
    hashes = hash_files(pairs)
    pixels = cache_path(pairs, cache_folder(), hashes=hashes)
    errors = check_pairs(
        pairs,
        patch_px=data.patch_px,
        mask_limit=data.mask_limit,
        decode=not is_cached(pixels),  # a cache is named by its files' contents: they were read
        hashes=hashes,
    )
    _raise_errors(path, errors)
    return open_cache(pairs, pixels).folder


def open_split(path: str, *, scale: int, split: str, allow_outside: bool = False) -> Manifest:
    """Return the pairs of a split, or all pairs of a set that has no splits.

    Raises:
        DataError: no pairs there, or splits but not this one: test pairs must not train, nor choose
            among checkpoints.
    """
    manifest = open_pairs(expand_path(path), scale=scale, allow_outside=allow_outside)
    if manifest.splits == ("",):
        return manifest
    if split not in manifest.splits:
        names = ", ".join(name or "none" for name in manifest.splits)
        problem = f"has no split {split}, but {names}"
        remedy = f"Give pairs of split {split}, or a set without splits."
        raise DataError(expand_path(path), problem, remedy=remedy)
    return manifest.of_split(split)


def _check_disjoint(path: str, validation: Manifest, *, sources: Sequence[TrainingSource]) -> None:
    """Refuse validation pairs that are trained on: they would choose the weights that overfit most.

    Raises:
        DataError: some are; they are named.
    """
    trained = {pair.hr.resolve() for source in sources for pair in source.pairs}
    both = [pair.name for pair in validation if pair.hr.resolve() in trained]
    if both:
        problem = f"{len(both)} of its {len(validation)} pairs are trained on: {', '.join(both)}"
        remedy = "Give other pairs with --validate-on, or leave validate_on out."
        raise DataError(expand_path(path), problem, remedy=remedy)


def _warn_of_few_pairs(sources: Sequence[TrainingSource], validation: Manifest | None) -> None:
    """Print a warning if there are too few pairs for a model, or no pairs to validate on."""
    pairs = sum(len(source.pairs) for source in sources)
    if is_main_process() and pairs < _FEW_PAIRS:
        text = (
            f"warning: only {pairs} training pairs; a model that is to be kept needs fifty scenes"
        )
        if validation is None:
            text += ", and some others to validate on (--validate-on)"
        console().print(text, soft_wrap=True, markup=False)


def _raise_errors(path: str, errors: Sequence[D2csrError]) -> None:
    """Raise one error that lists them all, if there are any."""
    if errors:
        problem = "\n  ".join([f"{len(errors)} errors", *map(str, errors)])
        remedy = "Fix these files; `d2csr data check` lists their errors again."
        raise DataError(expand_path(path), problem.removesuffix("."), remedy=remedy)


def check_devices(recipe: Recipe, devices: int) -> None:
    """Refuse a recipe that several processes, torchrun's included, can't compute as one does.

    Raises:
        UsageError: no device at all.
        RecipeError: statistics over the batch with several devices, or a batch they can't share.
    """
    if devices < 1:
        raise UsageError("--devices", f"is {devices}", remedy="Give 1 or more.")
    world_size = get_world_size(devices)
    if world_size == 1:
        return
    if any(stage.kind in _WHOLE_BATCH_STAGES for stage in recipe.stages) or _has_batch_norm(recipe):
        problem = "networks and stages with statistics over the batch train on one device"
        raise RecipeError("model.system", problem, remedy="Use one device.")
    if recipe.loss.triplet.statistics == "batch":
        problem = "statistics: batch needs the whole batch on one device"
        raise RecipeError("loss.triplet", problem, remedy="Use statistics: image, or one device.")
    if recipe.data.batch_size % world_size:
        problem = f"batch_size {recipe.data.batch_size} can't be shared by {world_size} devices"
        raise RecipeError("data.batch_size", problem, remedy=f"Use a multiple of {world_size}.")


def make_loader(job: TrainJob, *, devices: DistributedContext) -> CropLoader:
    """Return the loader of the crops that one process trains on."""
    sampler = CropSampler(
        [CropSource(PairCache(each.pixels), each.share) for each in job.sources],
        patch_px=job.recipe.data.patch_px,
        scale=job.recipe.model.scale,
        batch=job.recipe.data.batch_size,
        seed=job.recipe.seed,
        mask_limit=job.recipe.data.mask_limit,
    )
    return CropLoader(sampler, rank=devices.rank, world_size=devices.world_size)
