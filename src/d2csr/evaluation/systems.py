"""Systems that can be evaluated: kernels, the linear filter, trained models, finished images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from d2csr.core.bundle import Bundle, read_bundle, verify_bundle
from d2csr.core.error_model import find_error_model
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
from d2csr.engine.engine import Engine, open_engine
from d2csr.engine.flat_regions import FlatRegionBlend
from d2csr.engine.model import Model, find_bundle
from d2csr.engine.tail import disagreement
from d2csr.engine.uncertainty import uncertainty_map
from d2csr.evaluation.linear_baseline import apply_filters, fit_filters
from d2csr.images.formats import is_image_name
from d2csr.images.reader import read_rgb8, read_size
from d2csr.images.resize import enlarge_bicubic, enlarge_lanczos
from d2csr.metrics.protocols import Image


class Upscaled(NamedTuple):
    """SR of one LR image.

    Attributes:
        sr: RGB, 8-bit, or float in 0..1 and unclipped.
        disagreement: standard deviation of the predictions in gray levels; None if there is only
            one prediction.
        uncertainty: expected absolute error in gray levels; None without an error model.
    """

    sr: Image
    disagreement: Float[np.ndarray, "h w"] | None = None
    uncertainty: Float[np.ndarray, "h w"] | None = None


Upscale = Callable[[Pair, UInt8[np.ndarray, "h w 3"]], Upscaled]


@runtime_checkable  # the shape checks of the tests use isinstance
class System(Protocol):
    """Anything that turns LR images into SR images, or has done so already."""

    @property
    def name(self) -> str:
        """Return the name used in tables and files."""
        ...

    @property
    def weights_sha256(self) -> str | None:
        """Return the hash of the weights; None for a system without weights."""
        ...

    @property
    def fitted_on(self) -> str | None:
        """Return the pairs that the linear filter was fitted on; None for all other systems."""
        ...

    @property
    def predicts_error(self) -> bool:
        """Return whether the system makes several predictions, or has an error model."""
        ...

    def validate(self, manifest: Manifest) -> list[D2csrError]:
        """Return the errors that prevent scoring on these pairs, without upscaling any of them."""
        ...

    def open(self, manifest: Manifest) -> Upscale:
        """Load or fit the system and return its upscaling function."""
        ...


@final
@dataclass(frozen=True)
class Interpolation:
    """Enlargement with a fixed kernel, a row of `INTERPOLATIONS`."""

    name: str
    weights_sha256: str | None = None
    fitted_on: str | None = None
    predicts_error: bool = False

    def validate(self, manifest: Manifest) -> list[D2csrError]:
        """Return no errors: any image can be enlarged."""
        return []

    def open(self, manifest: Manifest) -> Upscale:
        """Return enlargement by the scale of the pairs."""
        enlarge = INTERPOLATIONS[self.name]
        return lambda _, lr: Upscaled(enlarge(lr, manifest.scale))


# Bicubic enlargement is the baseline that every other system is compared with.
INTERPOLATIONS = {"bicubic": enlarge_bicubic, "lanczos": enlarge_lanczos}


@final
@dataclass(frozen=True)
class Linear:
    """The best linear filter: a network must beat it to show that depth helps on real pairs."""

    fit: Path | None
    allow_outside: bool = False  # whether the pairs of its manifest may lie elsewhere
    name: str = "linear"
    weights_sha256: str | None = None
    predicts_error: bool = False

    @property
    def fitted_on(self) -> str | None:
        """Return the folder of the pairs that the filter is fitted on."""
        return None if self.fit is None else str(self.fit)

    def validate(self, manifest: Manifest) -> list[D2csrError]:
        """Return the errors in the pairs that the filter is to be fitted on."""
        if self.fit is None:
            problem = "the linear filter needs pairs to be fitted on"
            return [UsageError("linear", problem, remedy="Give them with --fit DIR.")]
        try:
            return check_pairs(self._open_pairs(self.fit, manifest.scale), patch_px=None)
        except D2csrError as error:
            return [error]

    def open(self, manifest: Manifest) -> Upscale:
        """Fit the filters and return the function that applies them."""
        if self.fit is None:
            raise ValueError("no pairs to fit the filter on: validate() reports this")
        filters = fit_filters(self._open_pairs(self.fit, manifest.scale))
        return lambda _, lr: Upscaled(apply_filters(lr, filters))

    def _open_pairs(self, path: Path, scale: int) -> Manifest:
        """Return the train split of the pairs at `path`, or all pairs if there is no such split."""
        manifest = open_pairs(path, scale=scale, allow_outside=self.allow_outside)
        train = manifest.of_split("train")
        return train if train.pairs else manifest


@final
@dataclass(frozen=True)
class TrainedModel:
    """A bundle on an engine.

    Attributes:
        name: as the user gave it.
        bundle: the files of the model.
        engine: an engine that is already open; None to open the default one.
    """

    name: str
    bundle: Bundle
    engine: Engine | None = None
    fitted_on: str | None = None

    @property
    def predicts_error(self) -> bool:
        """Return whether the tree has more than one leaf, or the bundle an error model."""
        return self._has_leaves or self.bundle.card.uncertainty is not None

    @property
    def _has_leaves(self) -> bool:
        return self.bundle.card.config.leaves > 1

    @property
    def weights_sha256(self) -> str | None:
        """Return the hash of the bundle's weights file."""
        return self.bundle.weights_sha256

    def validate(self, manifest: Manifest) -> list[D2csrError]:
        """Return an error if the bundle is damaged or the pairs have another scale."""
        try:
            verify_bundle(self.bundle)  # the results identify the weights by the card's hash
        except BundleError as error:
            return [error]
        scale = self.bundle.card.scale
        if scale == manifest.scale:
            return []
        problem = f"enlarges {scale} times, the pairs of {manifest.folder} are x{manifest.scale}"
        return [BundleError(self.name, problem, remedy="Choose a model and pairs of one scale.")]

    def open(self, manifest: Manifest) -> Upscale:
        """Open the engine, if it isn't open yet, and return the function that runs it."""
        engine = self.engine or open_engine(self.bundle)
        scale, error_model = self.bundle.card.scale, find_error_model(self.bundle)

        def upscale(pair: Pair, lr: UInt8[np.ndarray, "h w 3"]) -> Upscaled:
            lr01 = lr.astype(np.float32) / np.float32(255)
            output = engine.run(lr01)
            sr = FlatRegionBlend(lr01, scale=scale).blend(output.sr, first_row=0)
            uncertainty = None
            if error_model is not None:
                blended = output._replace(sr=sr)
                uncertainty = uncertainty_map(error_model, lr01, output=blended, scale=scale)
            return Upscaled(sr, disagreement(output) if self._has_leaves else None, uncertainty)

        return upscale


IMAGE_NAMES = (
    "Give the folder one image per pair: NAME.png, NAME_SR.png, NAME_SRx3.png or NAME_LR3.png."
)


@final
@dataclass(frozen=True)
class PrecomputedImages:
    """Finished SR images, matched to the pairs by their names."""

    folder: Path
    name: str
    weights_sha256: str | None = None
    fitted_on: str | None = None
    predicts_error: bool = False

    def validate(self, manifest: Manifest) -> list[D2csrError]:
        """Return one error for all missing images, and one for each image that can't be used."""
        files = _images_by_stem(self.folder)
        matches = {pair.name: _matches(pair, files, scale=manifest.scale) for pair in manifest}
        errors = [error for pair in manifest for error in _image_errors(pair, matches[pair.name])]
        if missing := [name for name, paths in matches.items() if not paths]:
            problem = f"{len(missing)} of {len(matches)} images are missing: {', '.join(missing)}"
            errors.insert(0, DataError(self.folder, problem, remedy=IMAGE_NAMES))
        return errors

    def open(self, manifest: Manifest) -> Upscale:
        """Return the function that reads a pair's image."""
        files = _images_by_stem(self.folder)
        scale = manifest.scale
        return lambda pair, _: Upscaled(read_rgb8(_matches(pair, files, scale=scale)[0]))


def has_images(folder: Path) -> bool:
    """Return whether `folder` directly contains any image."""
    return folder.is_dir() and bool(_images_by_stem(folder))


def _images_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Return the images directly inside `folder`, by their names without suffix."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if is_image_name(path) and path.is_file():
            files.setdefault(path.stem, []).append(path)
    return files


def _matches(pair: Pair, files: dict[str, list[Path]], *, scale: int) -> list[Path]:
    """Return the images whose names match a pair."""
    return [path for stem in _stems(pair, scale) for path in files.get(stem, [])]


def _stems(pair: Pair, scale: int) -> Iterator[str]:
    """Yield the names, without suffix, that an SR image of the pair may have."""
    lr_parts = ("", "_LR", f"_LR{scale}", f"_LRx{scale}", f"x{scale}")
    sr_parts = ("", "_SR", f"_SR{scale}", f"_SRx{scale}", f"_x{scale}", f"_X{scale}")
    stems = dict.fromkeys([*(pair.name + part for part in lr_parts), pair.lr.stem])
    yield from dict.fromkeys(stem + part for stem, part in product(stems, sr_parts))


def _image_errors(pair: Pair, paths: list[Path]) -> Iterator[D2csrError]:
    """Yield the errors in the images that match one pair."""
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        problem = f"{len(paths)} images match the pair {pair.name}: {names}"
        yield DataError(paths[0].parent, problem, remedy="Remove all but one of them.")
    elif paths:
        try:
            size = read_size(paths[0])
        except ImageError as error:
            yield error
            return
        if tuple(size) != tuple(pair.hr_size):
            sizes = "{}x{} px, HR is {}x{} px".format(*size, *pair.hr_size)
            yield DataError(paths[0], f"is {sizes}", remedy="Give an image of the size of HR.")


BASELINES = (*INTERPOLATIONS, "linear")


def find_systems(
    models: Sequence[str | Path | Model], *, fit: Path | None, allow_outside: bool
) -> tuple[list[System], list[D2csrError]]:
    """Return the systems of these models, each once and bicubic among them, and all errors."""
    systems: list[System] = []
    errors: list[D2csrError] = []
    for model in dict.fromkeys([*models, "bicubic"]):
        try:
            systems.append(find_system(model, fit=fit, allow_outside=allow_outside))
        except D2csrError as error:
            errors.append(error)
    return systems, errors


def find_system(
    model: str | Path | Model, *, fit: Path | None, allow_outside: bool = False
) -> System:
    """Return the system of a model; `./bicubic` is a folder, `bicubic` is the baseline.

    Args:
        model: a loaded model, the name of a baseline or a shipped model, or the folder of a
            training run, of a bundle or of images.
        fit: pairs for the linear filter.
        allow_outside: allow a manifest whose pairs for it lie outside its folder.

    Raises:
        ModelNameError: there is no system of this name.
        BundleError: the bundle is incomplete or of another version.
    """
    if isinstance(model, Model):
        return TrainedModel(model.name, model.bundle, model.engine)
    if model in INTERPOLATIONS:
        return Interpolation(str(model))
    if model == "linear":
        return Linear(fit, allow_outside)
    if has_images(folder := Path(model)) and not _has_bundle(folder):
        return PrecomputedImages(folder, str(model))
    try:
        return TrainedModel(str(model), read_bundle(find_bundle(model)))
    except ModelNameError as error:
        remedy = f"{error.remedy} Baselines: {', '.join(BASELINES)}; or a folder of SR images."
        raise ModelNameError(error.where, error.problem, remedy=remedy) from error


def _has_bundle(folder: Path) -> bool:
    """Return whether a folder is a bundle, or a training run that exported one."""
    return any((folder / path).is_file() for path in ("bundle.json", "bundle/bundle.json"))
