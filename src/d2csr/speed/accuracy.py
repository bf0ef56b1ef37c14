"""Accuracy of a backend and precision against `reference` on the same images."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, final

import numpy as np
from jaxtyping import Float32

from d2csr.core.bundle import ModelCard
from d2csr.core.config import SCALES
from d2csr.core.errors import D2csrError
from d2csr.core.manifest import Manifest
from d2csr.data.pairs import load_pair
from d2csr.data.sources import open_pairs
from d2csr.engine.backends.base import reached_psnr_db
from d2csr.metrics.protocols import score
from d2csr.speed.worker import Worker

_EXAMPLE = Path(__file__).parents[3] / "examples" / "city100_nikon_001_lr3.png"  # in a clone
_PROTOCOL = "y"


class AccuracyCost(NamedTuple):
    """Cost of running a model in another way.

    Attributes:
        change_db: PSNR in this way minus the PSNR of `reference`.
        by: `pairs` if it was measured on pairs, `estimate` if it was estimated.
        between_db: PSNR of SR against SR of `reference`, all images together.
    """

    change_db: float
    by: Literal["pairs", "estimate"]
    between_db: float


@final
@dataclass(frozen=True)
class Images:
    """LR images to compare on, and their pairs if the scale is that of the model.

    Attributes:
        paths: paths of the LR images.
        pairs: the pairs of these images; None if they have another scale than the model.
    """

    paths: tuple[Path, ...]
    pairs: Manifest | None = None


def images_for(
    card: ModelCard, data: Path | None, *, trained: bool, allow_outside: bool = False
) -> Images:
    """Return the images to compare a model on: pairs of its scale, one LR image, or the example.

    Args:
        card: of the model.
        data: pairs; None for the example photograph of a clone.
        trained: whether the model is trained; for random weights, one LR image is enough.
        allow_outside: allow a manifest whose pairs lie outside its folder.

    Raises:
        D2csrError: the data can't be read.
    """
    if data is None:
        return Images((_EXAMPLE,) if _EXAMPLE.is_file() else ())
    pairs = _open_pairs(data, card.scale, allow_outside=allow_outside)
    test = pairs.of_split("test")
    pairs = test if test.pairs else pairs
    if trained and pairs.scale == card.scale:
        return Images(tuple(pair.lr for pair in pairs), pairs)
    return Images((pairs.pairs[0].lr,))  # one is enough for an estimate, and saves time


def upscale(worker: Worker, images: Images, *, folder: Path) -> list[Float32[np.ndarray, "_ _ 3"]]:
    """Return the worker's SR of each image, in 0..1, unclipped.

    Args:
        worker: runs a model.
        images: to upscale.
        folder: for temporary files.
    """
    raw = folder / "sr.raw"
    sr = []
    for path in images.paths:
        response = worker.request({"command": "upscale", "image": str(path), "save": str(raw)})
        sr.append(np.fromfile(raw, np.float32).reshape(response["shape"]))
    return sr


def cost(
    card: ModelCard,
    images: Images,
    *,
    sr: list[Float32[np.ndarray, "_ _ 3"]],
    reference: list[Float32[np.ndarray, "_ _ 3"]],
) -> AccuracyCost | None:
    """Return the accuracy cost of SR against the SR of `reference`; None without images.

    Without pairs it is estimated: the mean squared difference of the two images is added to the
    squared error that the model has by the scores on its card.
    """
    if not reference:
        return None
    squares = [np.square(np.float64(a) - b) for a, b in zip(sr, reference, strict=True)]
    between = sum(each.sum() for each in squares) / sum(each.size for each in squares)
    between_db = -10 * math.log10(max(between, 1e-20))
    if images.pairs is not None:
        means = [_mean_psnr_db(each, images.pairs) for each in (sr, reference)]
        return AccuracyCost(means[0] - means[1], "pairs", between_db)
    change_db = -10 * math.log10(1 + between / 10 ** (-reached_psnr_db(card) / 10))
    return AccuracyCost(change_db, "estimate", between_db)


def _mean_psnr_db(images: list[Float32[np.ndarray, "_ _ 3"]], pairs: Manifest) -> float:
    scores = []
    for sr, pair in zip(images, pairs, strict=True):
        _, hr = load_pair(pair, scale=pairs.scale)
        scores.append(score(sr, hr, protocol=_PROTOCOL, scale=pairs.scale)[0])
    return float(np.mean(scores))


def _open_pairs(data: Path, scale: int, *, allow_outside: bool) -> Manifest:
    """Return pairs of this scale, or else of any other scale."""
    errors: list[D2csrError] = []
    for candidate in (scale, *(other for other in SCALES if other != scale)):
        try:
            return open_pairs(data, scale=candidate, allow_outside=allow_outside)
        except D2csrError as error:
            errors.append(error)
    raise errors[0]
