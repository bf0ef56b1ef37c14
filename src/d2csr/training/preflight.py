"""Everything checked and prepared before training: run folder, devices, pairs, decoded pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from d2csr.core.errors import D2csrError, DataError, RecipeError, UsageError
from d2csr.core.files import cache_folder, write_atomically
from d2csr.core.manifest import Manifest
from d2csr.data.pixel_cache import PairCache, cache_path, hash_files, is_cached, open_cache
from d2csr.data.sampling import CropLoader, CropSampler, CropSource
from d2csr.data.sources import open_pairs
from d2csr.data.validation import check_pairs
from d2csr.training.data_config import DataConfig
from d2csr.training.distributed import DistributedContext, get_world_size, is_main_process
from d2csr.training.recipe import RECIPE_NAME, Recipe, expand_path, read_recipe


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


def prepare(recipe: Recipe, folder: Path, *, resume: bool) -> TrainJob:
    """Check the run and decode its training pairs; write the recipe into its folder.

    Raises:
        UsageError: the folder holds a run and `resume` is off, or can't be written.
        RecipeError: the folder holds the run of another recipe.
        DataError: the pairs have errors, or are of another split.
        D2csrError: the pairs can't be opened.
    """
    if is_main_process():
        check_run_folder(recipe, folder, resume=resume)
    sources = prepare_sources(recipe)
    validation = None
    if recipe.data.validate_on is not None:
        validation = open_split(recipe.data.validate_on, scale=recipe.model.scale, split="val")
        _raise_errors(recipe.data.validate_on, check_pairs(validation, patch_px=None))
    if is_main_process():
        save_recipe(recipe, folder)
    return TrainJob(recipe, folder, sources, validation, resume)


def check_run_folder(recipe: Recipe, folder: Path, *, resume: bool) -> None:
    """Refuse a folder that another run holds, or a resume with another recipe.

    Raises:
        UsageError: the folder holds a run, and `resume` is off.
        RecipeError: it holds the run of another recipe; the keys that differ are named.
    """
    saved = folder / RECIPE_NAME
    if not saved.is_file():
        return
    if not resume:
        remedy = "Give --resume to continue it, or another --output."
        raise UsageError(folder, "already contains a run", remedy=remedy)
    before, now = read_recipe(saved).to_dict(), recipe.to_dict()
    if different := [key for key in now if now[key] != before[key]]:
        problem = f"was started with another recipe; these keys differ: {', '.join(different)}"
        raise RecipeError(folder, problem, remedy="Resume with the same, or begin a new run.")


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


def prepare_sources(recipe: Recipe) -> tuple[TrainingSource, ...]:
    """Return the training pairs, all of them sound, with the caches that hold them decoded.

    Raises:
        DataError: no pairs, several splits but no `train`, or errors; all of them are named.
    """
    data = recipe.data
    manifests = [
        open_split(each.path, scale=recipe.model.scale, split="train") for each in data.train
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


def open_split(path: str, *, scale: int, split: str) -> Manifest:
    """Return the pairs of a split, or all pairs of a set that has no splits.

    Raises:
        DataError: no pairs there, or splits but not this one: test pairs must not train, nor choose
            among checkpoints.
    """
    manifest = open_pairs(expand_path(path), scale=scale)
    if manifest.splits == ("",):
        return manifest
    if split not in manifest.splits:
        names = ", ".join(name or "none" for name in manifest.splits)
        problem = f"has no split {split}, but {names}"
        remedy = f"Give pairs of split {split}, or a set without splits."
        raise DataError(expand_path(path), problem, remedy=remedy)
    return manifest.of_split(split)


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
