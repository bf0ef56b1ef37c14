"""A model as Python code uses it: 8-bit images in, 8-bit images out.

Names of models: those that ship inside the package, and folders that hold one.
"""

from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float32, UInt8

from d2csr.core.bundle import CARD_NAME, Bundle, read_bundle
from d2csr.core.errors import ImageError, ModelNameError
from d2csr.engine.backends.base import PrecisionChoice
from d2csr.engine.engine import Engine, disagreement, open_engine
from d2csr.engine.flat_regions import FlatRegionBlend
from d2csr.images.pixels import to_uint8

_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
_OF_A_RUN = "bundle"


def shipped_names() -> list[str]:
    """Return the names of the models that ship with the package, sorted."""
    return sorted(card.parent.name for card in _WEIGHTS.glob(f"*/{CARD_NAME}"))


def shipped_bundles() -> list[Bundle]:
    """Return the bundles that ship with the package, by name.

    Raises:
        BundleError: one is incomplete or damaged.
    """
    return [read_bundle(_WEIGHTS / name) for name in shipped_names()]


def find_bundle(name: str | Path) -> Path:
    """Return the bundle folder a name stands for.

    Args:
        name: a shipped model, a bundle's folder, or the folder of a run that exported one.

    Raises:
        ModelNameError: neither; the shipped names are listed.
    """
    if str(name) in shipped_names():
        return _WEIGHTS / str(name)
    for folder in (Path(name), Path(name) / _OF_A_RUN):
        if (folder / CARD_NAME).is_file():
            return folder
    if Path(name).is_dir():
        problem = f"holds neither {CARD_NAME} nor {_OF_A_RUN}/{CARD_NAME}"
        raise ModelNameError(name, problem, remedy="Make a bundle of it with `d2csr export`.")
    ships = ", ".join(shipped_names()) or "none"
    remedy = f"Shipped models: {ships}. Or give the folder of a bundle or a run."
    raise ModelNameError(name, "is no model", remedy=remedy)


class Prediction(NamedTuple):
    """All that a model says of one image.

    Attributes:
        sr: the fused image, 8-bit RGB; flat places in LR's own colour (`FlatRegionBlend`).
        predictions: one 8-bit image per leaf.
        weights: their weights, in 0..1, summing to one over the leaves.
        disagreement: standard deviation of the predictions around their plain mean, weights
            left aside, in grey levels.
    """

    sr: UInt8[np.ndarray, "sh sw 3"]
    predictions: UInt8[np.ndarray, "p sh sw 3"]
    weights: Float32[np.ndarray, "p sh sw"]
    disagreement: Float32[np.ndarray, "sh sw"]


@final
class Model:
    """A bundle with its engine, ready to enlarge."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        """Keep both; `load` makes them."""
        self.bundle = bundle
        self.engine = engine

    @property
    def name(self) -> str:
        """Return what people call the model."""
        return self.bundle.card.name

    @property
    def scale(self) -> int:
        """Return how many SR pixels one LR pixel becomes, on each side."""
        return self.bundle.card.scale

    def upscale(self, rgb8: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "sh sw 3"]:
        """Return an 8-bit RGB image enlarged.

        Raises:
            ImageError: the array is no 8-bit RGB image.
        """
        lr = _rgb01(rgb8)
        height, width, _ = lr.shape
        sr = np.empty((height * self.scale, width * self.scale, 3), np.uint8)
        guard = FlatRegionBlend(lr, scale=self.scale)
        for first, part in self.engine.iter_strips(lr):
            rows = guard.blend(part.sr, first_row=first)
            sr[first : first + len(rows)] = to_uint8(rows)
        return sr

    def predict(self, rgb8: UInt8[np.ndarray, "h w 3"]) -> Prediction:
        """Return an 8-bit RGB image enlarged, with predictions, weights and disagreement.

        Raises:
            ImageError: the array is no 8-bit RGB image.
        """
        lr = _rgb01(rgb8)
        output = self.engine.run(lr)
        return Prediction(
            sr=to_uint8(FlatRegionBlend(lr, scale=self.scale).blend(output.sr, first_row=0)),
            predictions=to_uint8(output.predictions),
            weights=output.weights,
            disagreement=disagreement(output),
        )


def load(
    name_or_folder: str | Path,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
) -> Model:
    """Return the model of a shipped name, or of a bundle or run folder, ready to enlarge.

    Args:
        name_or_folder: of a run, its `bundle` counts.
        backend: a name of the backend table; `auto` takes the fastest that is installed.
        device: `auto`, `cpu`, `gpu`, or a GPU's index.
        precision: `auto` takes the fastest that costs the model at most 0.01 dB.

    Raises:
        ModelNameError: neither a shipped model nor a folder that holds one.
        BundleError: its bundle is incomplete or of another version.
        UsageError: there is no such backend, device or precision here.
    """
    bundle = read_bundle(find_bundle(name_or_folder))
    engine = open_engine(bundle, backend=backend, device=device, precision=precision)
    return Model(bundle, engine)


def _rgb01(rgb8: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Return an image as the engine takes it, after checking that it is one."""
    given = np.asarray(rgb8)
    if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3 or given.size == 0:
        problem = f"has shape {given.shape} and type {given.dtype}"
        raise ImageError("array", problem, remedy="Give uint8 of shape (height, width, 3).")
    return given.astype(np.float32) / np.float32(255)
