"""Crops for figures: the tiles of test images where a rule's quantity is largest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8

from d2csr.core.manifest import Manifest, Pair
from d2csr.data.pairs import load_pair
from d2csr.engine.model import Model
from d2csr.figures.catalog import Rule
from d2csr.images.resize import enlarge_bicubic, resize_bicubic

Rgb8 = UInt8[np.ndarray, "h w 3"]
_STEP_SHARE = 4  # tiles begin at quarters of their side


class Crop(NamedTuple):
    """A square of an HR image, in HR pixels."""

    image: str
    top: int
    left: int
    side: int

    def of(self, image: np.ndarray) -> np.ndarray:
        """Return the crop of an image whose first two axes are rows and columns."""
        return image[self.top : self.top + self.side, self.left : self.left + self.side]


@dataclass(frozen=True)
class Scene:
    """One pair, and what each model makes of its LR image.

    Attributes:
        pair: the pair.
        lr: the LR image.
        hr: the HR image.
        scale: SR pixels per LR pixel.
        models: by the names that figures show.
    """

    pair: Pair
    lr: UInt8[np.ndarray, "h w 3"]
    hr: UInt8[np.ndarray, "sh sw 3"]
    scale: int
    models: dict[str, Model]

    @property
    def bicubic(self) -> Rgb8:
        """Return the bicubic enlargement of LR."""
        return enlarge_bicubic(self.lr, self.scale)

    @property
    def bicubic_lr(self) -> Rgb8:
        """Return the bicubic reduction of HR, which is what LR would be without a camera."""
        return resize_bicubic(self.hr, scale=self.lr.shape[:2])

    def sr(self, name: str) -> Rgb8:
        """Return the SR image of a model."""
        return np.asarray(self.models[name].upscale(self.lr))


def open_scenes(pairs: Manifest, models: dict[str, Model], *, images: int) -> list[Scene]:
    """Return the first so many pairs, in the order of their names."""
    chosen = sorted(pairs.pairs, key=lambda pair: pair.name)[:images]
    loaded = [(pair, *load_pair(pair, scale=pairs.scale)) for pair in chosen]
    return [Scene(pair, lr, hr, pairs.scale, models) for pair, lr, hr in loaded]


def choose_crops(scenes: Sequence[Scene], rule: Rule, *, side: int, count: int) -> list[Crop]:
    """Return the best tile of each of the images with the best tiles, best first.

    Of equal tiles, the first one counts, so that the same images give the same crops.

    Args:
        scenes: the images.
        rule: the quantity that the tiles are compared by, summed over each.
        side: of a tile, in HR pixels; less in smaller images.
        count: number of crops, at most one an image.
    """
    found = [_best_tile(scene, _RULES[rule](scene), side=side) for scene in scenes]
    ordered = sorted(found, key=lambda each: -each[0])
    return [crop for _, crop in ordered[:count]]


def _best_tile(
    scene: Scene, quantity: Float[np.ndarray, "h w"], *, side: int
) -> tuple[float, Crop]:
    """Return the largest mean of the quantity over a tile, and the tile."""
    height, width = quantity.shape
    side = min(side, height, width)
    step = max(1, side // _STEP_SHARE)
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = quantity.cumsum(0, dtype=np.float64).cumsum(1)
    tops, lefts = np.arange(0, height - side + 1, step), np.arange(0, width - side + 1, step)
    corners = [
        sums[np.ix_(tops + down, lefts + right)] for down in (0, side) for right in (0, side)
    ]
    tiles = corners[3] - corners[1] - corners[2] + corners[0]
    row, column = np.unravel_index(int(tiles.argmax()), tiles.shape)
    crop = Crop(scene.pair.name, int(tops[row]), int(lefts[column]), side)
    return float(tiles.max()) / side**2, crop


def _squared_error(first: Rgb8, second: Rgb8) -> Float32[np.ndarray, "h w"]:
    return np.square(first.astype(np.float32) - second).mean(axis=2)


def _gain(scene: Scene) -> Float32[np.ndarray, "h w"]:
    """Return by how much the first model's squared error is below that of bicubic."""
    sr = scene.sr(next(iter(scene.models)))
    return _squared_error(scene.bicubic, scene.hr) - _squared_error(sr, scene.hr)


def _variance(scene: Scene) -> Float32[np.ndarray, "h w"]:
    """Return the variance of the first model's predictions."""
    return np.square(next(iter(scene.models.values())).predict(scene.lr).disagreement)


def _difference(scene: Scene) -> Float32[np.ndarray, "h w"]:
    """Return the squared difference between the first two models' SR; of one model, to HR."""
    first, *others = scene.models
    return _squared_error(scene.sr(first), scene.sr(others[0]) if others else scene.hr)


def _loss(scene: Scene) -> Float32[np.ndarray, "h w"]:
    """Return the squared difference between real and bicubic LR, both enlarged."""
    return _squared_error(scene.bicubic, enlarge_bicubic(scene.bicubic_lr, scene.scale))


_RULES: dict[Rule, Callable[[Scene], Float32[np.ndarray, "h w"]]] = {
    "gain": _gain,
    "variance": _variance,
    "difference": _difference,
    "loss": _loss,
}
