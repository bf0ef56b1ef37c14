"""Accuracy that a backend or a precision costs, against `reference` on the same images."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

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

_EXAMPLE = Path(__file__).parents[3] / "examples" / "city100_nikon_001_lr3.png"  # of a clone
_PROTOCOL = "y"


class AccuracyCost(NamedTuple):
    """What another way to run a model costs.

    Attributes:
        change_db: PSNR there less PSNR of `reference`.
        by: how that is known.
        between_db: PSNR of the one image against the other, all images together.
    """

    change_db: float
    by: Any
    between_db: float


@final
@dataclass(frozen=True)
class Images:
    """LR images to compare on, with their HR where they have one of the model's scale.

    Attributes:
        paths: of LR images.
        pairs: the same as pairs.
    """

    paths: tuple[Path, ...]
    pairs: Manifest | None = None


def images_for(card: ModelCard, data: Path | None, *, trained: bool) -> Images:
    """Return what to compare a model on: pairs of its scale, else LR images, else the example.

    Raises:
        D2csrError: the data can't be read at all.
    """
    if data is None:
        return Images((_EXAMPLE,) if _EXAMPLE.is_file() else ())
    pairs = _open_pairs(data, card.scale)
    test = pairs.of_split("test")
    pairs = test if test.pairs else pairs
    if trained and pairs.scale == card.scale:
        return Images(tuple(pair.lr for pair in pairs), pairs)
    return Images((pairs.pairs[0].lr,))  # an estimate needs no more, and these can be slow


def enlarged(worker: Worker, images: Images, *, folder: Path) -> list[Float32[np.ndarray, "_ _ 3"]]:
    """Return what a worker makes of the images, unclipped."""
    found = []
    for path in images.paths:
        saved = folder / "sr.raw"
        answer = worker.request({"ask": "enlarge", "picture": str(path), "save": str(saved)})
        found.append(np.fromfile(saved, np.float32).reshape(answer["shape"]))
    return found


def cost(
    card: ModelCard,
    images: Images,
    *,
    sr: list[Float32[np.ndarray, "_ _ 3"]],
    reference: list[Float32[np.ndarray, "_ _ 3"]],
) -> AccuracyCost | None:
    """Return what SR costs against the reference's; None without images."""
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


def _open_pairs(data: Path, scale: int) -> Manifest:
    """Return pairs of this scale, or else of any other."""
    errors: list[D2csrError] = []
    for each in (scale, *(other for other in SCALES if other != scale)):
        try:
            return open_pairs(data, scale=each)
        except D2csrError as error:
            errors.append(error)
    raise errors[0]
