"""A run set up: recipe and pairs checked, network built or resumed, before any training starts."""

import os
import random
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from d2csr.checkpoint.io import load_network, trained_steps
from d2csr.core.config import ModelConfig
from d2csr.core.errors import CheckpointError, D2csrError, DataError, RecipeError, UsageError
from d2csr.core.files import cache_folder, write_atomically
from d2csr.core.manifest import Manifest
from d2csr.data.pixel_cache import is_cached, open_cache
from d2csr.data.sampling import CropLoader, CropSampler
from d2csr.data.sources import open_pairs
from d2csr.data.validation import check_pairs
from d2csr.models.d2csr import D2CSR
from d2csr.training.distributed import DistributedContext, resolve_precision, world_size
from d2csr.training.recipe import Recipe, read_recipe
from d2csr.training.trainer import Trainer

RECIPE = "recipe.yaml"


def check_run_folder(recipe: Recipe, folder: Path, *, resume: bool) -> None:
    """Refuse a folder that another run holds, or a resume with another recipe.

    Raises:
        UsageError: the folder holds a run, and `resume` is off.
        RecipeError: it holds the run of another recipe; the keys that differ are named.
    """
    kept = folder / RECIPE
    if not kept.is_file():
        return
    if not resume:
        remedy = "Give --resume to go on with it, or another --out."
        raise UsageError(folder, "holds a run already", remedy=remedy)
    before = read_recipe(kept).plain()
    now = recipe.plain()
    if differing := [key for key in now if now[key] != before[key]]:
        problem = f"was begun with another recipe; these differ: {', '.join(differing)}"
        raise RecipeError(folder, problem, remedy="Resume with the same, or begin a new run.")


def save_recipe(recipe: Recipe, folder: Path) -> None:
    """Write the recipe, defaults and all, into the run's folder.

    Raises:
        UsageError: the folder can't be written.
    """
    text = yaml.safe_dump(recipe.plain(), sort_keys=False, allow_unicode=True)
    try:
        write_atomically(folder / RECIPE, text.encode())
    except OSError as error:
        raise UsageError(
            folder, f"can't be written ({error})", remedy="Name another --out."
        ) from error


def load_valid_pairs(
    place: str, *, scale: int, split: str, patch_px: int | None = None, mask_limit: float = 0.0
) -> Manifest:
    """Return the pairs at a place, of a split where the place has splits, all of them sound.

    Raises:
        DataError: nothing there, several splits but not this one, or errors; all are named.
    """
    path = expand_path(place)
    manifest = open_pairs(path, scale=scale)
    splits = {pair.split for pair in manifest.pairs}
    if split not in splits and len(splits) > 1:
        # taking all would let test pairs train, or choose among checkpoints
        problem = (
            f"has no split {split}, but {', '.join(sorted(name or 'none' for name in splits))}"
        )
        raise DataError(path, problem, remedy="Name a folder or manifest that holds one split.")
    if split in splits:
        manifest = replace(manifest, pairs=tuple(p for p in manifest.pairs if p.split == split))
    if errors := _errors(manifest, patch_px=patch_px, mask_limit=mask_limit):
        problem = "\n  ".join([f"{len(errors)} errors", *map(str, errors)])
        raise DataError(path, problem, remedy="Mend these files; `d2csr data check` tells again.")
    return manifest


def _errors(manifest: Manifest, *, patch_px: int | None, mask_limit: float) -> list[D2csrError]:
    """Return every error of the pairs; pixels that the cache holds were read before."""
    decode = not is_cached(manifest, cache_folder())
    return check_pairs(manifest, patch_px=patch_px, mask_limit=mask_limit, decode=decode)


def expand_path(place: str) -> Path:
    """Return a recipe's path with `$NAME` and `~` filled in.

    Raises:
        DataError: it names a variable that is not set.
    """
    path = os.path.expandvars(place)
    if "$" in path:
        remedy = "Set it; pairs may also be given with --data and --validate-on."
        raise DataError(place, "names a variable that is not set", remedy=remedy)
    return Path(path).expanduser()


def make_loader(recipe: Recipe, pairs: Manifest, *, devices: DistributedContext) -> CropLoader:
    """Return the crops that this process trains on."""
    sampler = CropSampler(
        open_cache(pairs, cache_folder()),
        patch_px=recipe.data.patch_px,
        scale=recipe.model.scale,
        batch=recipe.data.batch,
        seed=recipe.seed,
        mask_limit=recipe.data.mask_limit,
    )
    return CropLoader(sampler, rank=devices.rank, world=devices.world)


def make_run(recipe: Recipe, folder: Path, *, devices: DistributedContext) -> Trainer:
    """Return the run, where it stands: at its newest checkpoint, or at the start.

    Raises:
        CheckpointError: the checkpoint is damaged, or of another precision.
        UsageError: not all processes find the same checkpoint.
    """
    precision = resolve_precision(recipe.precision, devices.device)
    network = initial_network(recipe).to(devices.device)
    network.to(torch.float64 if precision == "fp64" else torch.float32)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - not stubbed
    run = Trainer(recipe, folder, network=network, devices=devices, precision=precision)
    if recipe.initial is not None:
        run.earlier_steps = trained_steps(expand_path(recipe.initial))
    run.resume()
    steps = devices.all_gather(run.step)
    if len(set(steps)) > 1:
        problem = f"the processes stand at different steps: {', '.join(map(str, steps))}"
        remedy = "--out must be a folder that all machines share."
        raise UsageError(folder, problem, remedy=remedy)
    return run


def initial_network(recipe: Recipe) -> D2CSR:
    """Return the network at step 0: random by the seed, or the weights the recipe names.

    Raises:
        CheckpointError: these weights are of another network.
    """
    config = recipe.model.config()
    random.seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    if recipe.initial is None:
        return D2CSR(config).train()
    path = expand_path(recipe.initial)
    given = load_network(path)
    # the window holds no weights, and a finished model has the one it is used with
    there = replace(given.config, pooling_px=config.pooling_px)
    if there != config:
        problem = f"is another network: {_differences(there, config)}"
        raise CheckpointError(path, problem, remedy="Name the same model in the recipe.")
    network = D2CSR(config)
    network.load_state_dict(given.state_dict())
    return network.train()


def _differences(there: ModelConfig, here: ModelConfig) -> str:
    one, other = there.to_dict(), here.to_dict()
    return ", ".join(f"{k} {one[k]} for {other[k]}" for k in one if one[k] != other[k])


def check_devices(recipe: Recipe, devices: int) -> None:
    """Refuse what several processes can't compute as one does; torchrun's count too.

    Raises:
        UsageError: no device at all.
        RecipeError: statistics over the batch with several devices, or a batch they can't share.
    """
    if devices < 1:
        raise UsageError("--devices", f"is {devices}", remedy="Give 1 or more.")
    world = world_size(devices)
    if world == 1:
        return
    if recipe.loss.triplet.statistics == "batch":
        problem = "statistics: batch spans the whole batch, which several devices never see"
        raise RecipeError("loss.triplet", problem, remedy="Use statistics: image, or one device.")
    if recipe.data.batch % world:
        problem = f"batch {recipe.data.batch} can't be shared by {world} devices"
        raise RecipeError("data.batch", problem, remedy=f"Choose a multiple of {world}.")
