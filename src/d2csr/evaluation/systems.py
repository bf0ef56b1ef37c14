"""The questions evaluation asks of anything that enlarges.

The two systems that need no weights file: bicubic enlargement and the best linear filter.

A trained model as a system: a shipped name, a run, or a bundle, on the engine.

A folder of finished images as a system: whatever made them, by the pairs' names.

Names a system can have: two baselines, a shipped model, a run, a bundle, finished images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from d2csr.core.bundle import Bundle, read_bundle, verify_bundle
from d2csr.core.errors import (
    BundleError,
    D2csrError,
    DataError,
    ImageError,
    ModelNameError,
    UsageError,
)
from d2csr.core.manifest import Manifest, Pair
from d2csr.data.sources import open_pairs
from d2csr.data.validation import check_pairs
from d2csr.engine import open_engine
from d2csr.engine.engine import disagreement
from d2csr.engine.flat_regions import FlatRegionBlend
from d2csr.engine.model import find_bundle
from d2csr.evaluation.linear_baseline import apply_filters, fit_filters
from d2csr.images.formats import is_image_name
from d2csr.images.reader import image_size, read_rgb8
from d2csr.images.resize import enlarge_bicubic
from d2csr.metrics.protocols import Image


class Upscaled(NamedTuple):
    """What a system made of one LR image.

    Attributes:
        sr: RGB in 0..255, or float in 0..1, unclipped.
        disagreement: spread of its predictions in grey levels; None where it makes but one.
    """

    sr: Image
    disagreement: Float[np.ndarray, "h w"] | None = None


Upscale = Callable[[Pair, UInt8[np.ndarray, "h w 3"]], Upscaled]


@runtime_checkable  # the shape checks of the tests ask isinstance
class System(Protocol):
    """Something that turns LR into SR, or has done so before."""

    @property
    def name(self) -> str:
        """Return what tables and files call it."""
        ...

    @property
    def weights_sha256(self) -> str | None:
        """Return the hash of its weights; None where it has none."""
        ...

    @property
    def fitted_on(self) -> str | None:
        """Return the pairs it was fitted on just now; None for all but the linear filter."""
        ...

    @property
    def has_predictions(self) -> bool:
        """Return whether it makes several predictions, which can disagree."""
        ...

    def validate(self, manifest: Manifest) -> list[D2csrError]:
        """Return why it can't do these pairs, without doing any work."""
        ...

    def open(self, manifest: Manifest) -> Upscale:
        """Load, or fit, what it needs, and return the function that enlarges."""
        ...


@final
@dataclass(frozen=True)
class Bicubic:
    """Bicubic enlargement: the line below which nothing is worth running."""

    name: str = "bicubic"
    weights_sha256: str | None = None
    fitted_on: str | None = None
    has_predictions: bool = False

    def validate(self, manifest: Manifest) -> list[D2csrError]:
        """Return none: it enlarges everything."""
        return []

    def open(self, manifest: Manifest) -> Upscale:
        """Return the enlargement by the pairs' scale."""
        return lambda _, lr: Upscaled(enlarge_bicubic(lr, manifest.scale))


@final
@dataclass(frozen=True)
class Linear:
    """Best linear filter: what a real-pair result must beat to show that depth is of use."""

    fit: Path | None
    name: str = "linear"
    weights_sha256: str | None = None
    has_predictions: bool = False

    @property
    def fitted_on(self) -> str | None:
        """Return the folder of the pairs it is fitted on."""
        return None if self.fit is None else str(self.fit)

    def validate(self, manifest: Manifest) -> list[D2csrError]:
        """Return what is wrong with the pairs it is to be fitted on."""
        if self.fit is None:
            problem = "the linear filter needs pairs to be fitted on"
            return [UsageError("linear", problem, remedy="Give them with --fit DIR.")]
        try:
            return check_pairs(_training_pairs(self.fit, scale=manifest.scale), patch_px=None)
        except D2csrError as error:
            return [error]

    def open(self, manifest: Manifest) -> Upscale:
        """Fit the filters and return their application."""
        if self.fit is None:
            raise ValueError("errors() was not asked")
        filters = fit_filters(_training_pairs(self.fit, scale=manifest.scale))
        return lambda _, lr: Upscaled(apply_filters(lr, filters))


def _training_pairs(path: Path, *, scale: int) -> Manifest:
    """Return the train split of what lies at `path`, or all of it where no split is called so."""
    manifest = open_pairs(path, scale=scale)
    train = manifest.of_split("train")
    return train if train.pairs else manifest


@final
@dataclass(frozen=True)
class Model:
    """One bundle, whatever name or folder led to it."""

    name: str
    bundle: Bundle
    fitted_on: str | None = None
    has_predictions: bool = True

    @property
    def weights_sha256(self) -> str | None:
        """Return the hash of the bundle's weights file."""
        return self.bundle.weights_sha256

    def validate(self, manifest: Manifest) -> list[D2csrError]:
        """Return an error where the bundle is damaged, or the pairs are of another scale."""
        try:
            verify_bundle(self.bundle)  # the results name its weights by the card's hash
        except BundleError as error:
            return [error]
        scale = self.bundle.card.scale
        if scale == manifest.scale:
            return []
        problem = f"enlarges {scale} times, the pairs of {manifest.folder} are x{manifest.scale}"
        return [BundleError(self.name, problem, remedy="Choose a model or pairs of one scale.")]

    def open(self, manifest: Manifest) -> Upscale:
        """Start the engine and return its application."""
        engine = open_engine(self.bundle)

        def enlarge(pair: Pair, lr: UInt8[np.ndarray, "h w 3"]) -> Upscaled:
            lr01 = lr.astype(np.float32) / np.float32(255)
            output = engine.run(lr01)
            guard = FlatRegionBlend(lr01, scale=self.bundle.card.scale)
            return Upscaled(guard.blend(output.sr, first_row=0), disagreement(output))

        return enlarge


def named_model(name: str) -> Model:
    """Return the model of a shipped name, or of a run or bundle folder.

    Raises:
        ModelNameError: there is none.
        BundleError: its bundle is incomplete or of another version.
    """
    return Model(name, read_bundle(find_bundle(name)))


REMEDY = "Put one image a pair there, named NAME.png, NAME_SR.png, NAME_SRx3.png or NAME_LR3.png."


@final
@dataclass(frozen=True)
class PrecomputedImages:
    """Finished SR images, found by name."""

    folder: Path
    name: str
    weights_sha256: str | None = None
    fitted_on: str | None = None
    has_predictions: bool = False

    def validate(self, manifest: Manifest) -> list[D2csrError]:
        """Return the missing images in one error, and one each for those that can't be used."""
        files = _images_by_stem(self.folder)
        found = {pair.name: _candidates(pair, files, scale=manifest.scale) for pair in manifest}
        errors = [error for pair in manifest for error in _image_errors(pair, found[pair.name])]
        if missing := [name for name, paths in found.items() if not paths]:
            problem = f"{len(missing)} of {len(found)} images are missing: {', '.join(missing)}"
            errors.insert(0, DataError(self.folder, problem, remedy=REMEDY))
        return errors

    def open(self, manifest: Manifest) -> Upscale:
        """Return the function that reads a pair's image."""
        files = _images_by_stem(self.folder)
        scale = manifest.scale
        return lambda pair, _: Upscaled(read_rgb8(_candidates(pair, files, scale=scale)[0]))


def holds_images(folder: Path) -> bool:
    """Return whether any image lies directly in `folder`."""
    return folder.is_dir() and bool(_images_by_stem(folder))


def _images_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Return the images that lie directly in `folder`."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if is_image_name(path) and path.is_file():
            files.setdefault(path.stem, []).append(path)
    return files


def _candidates(pair: Pair, files: dict[str, list[Path]], *, scale: int) -> list[Path]:
    """Return the images that answer to a pair's name."""
    return [path for stem in _stems(pair, scale) for path in files.get(stem, [])]


def _stems(pair: Pair, scale: int) -> Iterator[str]:
    """Return the file names, without ending, that an SR image of the pair may have."""
    lr_parts = ("", "_LR", f"_LR{scale}", f"_LRx{scale}", f"x{scale}")
    sr_parts = ("", "_SR", f"_SR{scale}", f"_SRx{scale}", f"_x{scale}", f"_X{scale}")
    stems = dict.fromkeys([*(pair.name + part for part in lr_parts), pair.lr.stem])
    yield from dict.fromkeys(stem + part for stem, part in product(stems, sr_parts))


def _image_errors(pair: Pair, paths: list[Path]) -> Iterator[D2csrError]:
    """Return what is wrong with the images that answer to one pair."""
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        problem = f"{len(paths)} images answer to {pair.name}: {names}"
        yield DataError(paths[0].parent, problem, remedy="Keep one of them.")
    elif paths:
        try:
            size = image_size(paths[0])
        except ImageError as error:
            yield error
            return
        if tuple(size) != tuple(pair.hr_size):
            told = "{}x{} px, HR is {}x{} px".format(*size, *pair.hr_size)
            yield DataError(paths[0], f"is {told}", remedy="Give an image of the HR's size.")


BASELINES = ("bicubic", "linear")


def find_systems(
    names: tuple[str, ...], *, fit: Path | None
) -> tuple[list[System], list[D2csrError]]:
    """Return the systems of these names, each once, bicubic among them, and the names' errors."""
    systems: list[System] = []
    errors: list[D2csrError] = []
    for name in dict.fromkeys([*names, "bicubic"]):
        try:
            systems.append(find_system(name, fit=fit))
        except D2csrError as error:
            errors.append(error)
    return systems, errors


def find_system(name: str, *, fit: Path | None) -> System:
    """Return the system a name stands for; `./bicubic` is a folder, `bicubic` is not.

    Args:
        name: `bicubic`, `linear`, a shipped model, a run, a bundle, or a folder of images.
        fit: pairs for the linear filter.

    Raises:
        ModelNameError: nothing answers to the name.
        BundleError: the bundle is incomplete or of another version.
    """
    if name == "bicubic":
        return Bicubic()
    if name == "linear":
        return Linear(fit)
    if holds_images(folder := Path(name)) and not _holds_model(folder):
        return PrecomputedImages(folder, name)
    try:
        return named_model(name)
    except ModelNameError as error:
        remedy = f"{error.remedy} Baselines: {', '.join(BASELINES)}; or a folder of SR images."
        raise ModelNameError(error.where, error.problem, remedy=remedy) from error


def _holds_model(folder: Path) -> bool:
    """Return whether a folder is a bundle, or a run that has one."""
    return any((folder / path).is_file() for path in ("bundle.json", "bundle/bundle.json"))
