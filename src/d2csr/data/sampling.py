"""Training crops: a pure function of seed, step and index, so that a resumed run sees the same.

The loader: crops of the coming steps, prepared while the current one is trained on.
"""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Int, UInt8

from d2csr.core.errors import DataError, UsageError
from d2csr.core.geometry import TURNS, dihedral_transform
from d2csr.data.pixel_cache import PairCache


@dataclass(frozen=True)
class CropBatch:
    """Crops of one training step, and the names of the pairs they come from."""

    lr: UInt8[np.ndarray, "b p p 3"]
    hr: UInt8[np.ndarray, "b sp sp 3"]
    names: tuple[str, ...]


class Crop(NamedTuple):
    """Where one crop lies: pair, top left corner on the LR grid, and flip or turn."""

    pair: int
    row: int
    column: int
    turn: int


@final
class CropSampler:
    """Draws crops, pairs equally often, then positions equally often, then flips and turns."""

    def __init__(
        self,
        cache: PairCache,
        *,
        patch_px: int,
        scale: int,
        batch: int,
        seed: int,
        mask_limit: float = 0.0,
    ) -> None:
        """List the positions each pair allows.

        Args:
            cache: the decoded pairs.
            patch_px: side of the LR crop.
            scale: HR pixels per LR pixel, as the cache has it.
            batch: crops of a step, all processes together.
            seed: another seed gives other crops.
            mask_limit: largest masked share of a crop, 0..1.

        Raises:
            UsageError: the cache is of another scale.
            DataError: a pair allows no position.
        """
        if scale != cache.scale:
            problem = f"pairs of scale {cache.scale} can't train scale {scale}"
            raise UsageError(cache.folder, problem, remedy="Choose other pairs or another scale.")
        self.cache, self.patch_px, self.scale = cache, patch_px, scale
        self.batch_size, self.seed = batch, seed
        self._positions = [
            _positions(cache, pair, patch_px=patch_px, mask_limit=mask_limit)
            for pair in range(len(cache))
        ]

    def crop(self, step: int, index: int) -> Crop:
        """Return where crop `index` of a step lies; depends on seed, step and index alone."""
        # Philox counts through 2^256 blocks: each (step, index) owns 2^64 of them. Raw words, for
        # numpy may change how its Generator turns them into numbers.
        key = np.array([self.seed % 2**64, 0], np.uint64)  # a list of it would pass through floats
        counter = np.array([0, index, step, 0], np.uint64)
        words = np.random.Philox(key=key, counter=counter).random_raw(3).tolist()
        pair = _below(words[0], len(self.cache))
        columns = self.cache.lr_shape(pair)[1] - self.patch_px + 1
        positions = self._positions[pair]
        place = _below(words[1], positions if isinstance(positions, int) else len(positions))
        place = place if isinstance(positions, int) else int(positions[place])
        row, column = divmod(place, columns)
        return Crop(pair, row, column, _below(words[2], TURNS))

    def batch(self, step: int, *, rank: int = 0, world: int = 1) -> CropBatch:
        """Return this process's share of a step's crops: `world` shares in order make the whole.

        Raises:
            UsageError: the batch can't be shared equally.
        """
        if self.batch_size % world:
            problem = f"a batch of {self.batch_size} can't be shared by {world} processes"
            raise UsageError("batch", problem, remedy=f"Choose a multiple of {world}.")
        share = self.batch_size // world
        crops = [self.crop(step, index) for index in range(rank * share, (rank + 1) * share)]
        return self._cut(crops)

    def _cut(self, crops: list[Crop]) -> CropBatch:
        side, scale = self.patch_px, self.scale
        lr_crops = np.empty((len(crops), side, side, 3), np.uint8)
        hr_crops = np.empty((len(crops), side * scale, side * scale, 3), np.uint8)
        for place, crop in enumerate(crops):
            lr, hr, _ = self.cache[crop.pair]
            _put(_window(lr, crop, side=side, scale=1), lr_crops[place], turn=crop.turn)
            _put(_window(hr, crop, side=side, scale=scale), hr_crops[place], turn=crop.turn)
        return CropBatch(lr_crops, hr_crops, tuple(self.cache.names[crop.pair] for crop in crops))


def _window(
    image: UInt8[np.ndarray, "h w 3"], crop: Crop, *, side: int, scale: int
) -> UInt8[np.ndarray, "p p 3"]:
    rows = slice(crop.row * scale, (crop.row + side) * scale)
    return image[rows, crop.column * scale : (crop.column + side) * scale]


def _put(
    image: UInt8[np.ndarray, "p p 3"], place: UInt8[np.ndarray, "p p 3"], *, turn: int
) -> None:
    """Copy a turned image, channel by channel: numpy takes four times as long for all at once."""
    packed = np.ascontiguousarray(image)
    for channel in range(3):
        place[..., channel] = dihedral_transform(packed[..., channel], turn)


def _below(word: int, count: int) -> int:
    """Return a 64-bit random word as a number below `count`; unequal by less than 2^-32."""
    return (word * count) >> 64


def _positions(
    cache: PairCache, pair: int, *, patch_px: int, mask_limit: float
) -> int | Int[np.ndarray, " allowed"]:
    """Return how many positions an unmasked pair has, or the allowed ones of a masked pair."""
    height, width = cache.lr_shape(pair)
    rows, columns = height - patch_px + 1, width - patch_px + 1
    if min(rows, columns) < 1:
        problem = f"LR image of {width}x{height} px is smaller than the {patch_px} px crop"
        raise DataError(cache.names[pair], problem, remedy="Choose smaller crops, or drop it.")
    mask = cache[pair][2]
    if mask is None:
        return rows * columns
    allowed = allowed_positions(mask, patch_px, mask_limit=mask_limit)
    if not len(allowed):
        problem = f"its mask allows no {patch_px} px crop (limit: {mask_limit:g} of it masked)"
        raise DataError(cache.names[pair], problem, remedy="Raise the limit, or drop the pair.")
    return allowed


def allowed_positions(
    mask: UInt8[np.ndarray, "h w"], patch_px: int, *, mask_limit: float
) -> Int[np.ndarray, " allowed"]:
    """Return the places, counted row by row, of the crops with no more than `mask_limit` masked."""
    return np.flatnonzero(masked_counts(mask, patch_px) <= mask_limit * patch_px**2)


def masked_counts(mask: UInt8[np.ndarray, "h w"], patch_px: int) -> Int[np.ndarray, "rows columns"]:
    """Return how many masked pixels (value 0) the crop at each position holds."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    sums[1:, 1:] = (mask == 0).cumsum(0).cumsum(1)
    far, near = slice(patch_px, None), slice(None, -patch_px)  # sums over rectangles from a corner
    return sums[far, far] - sums[far, near] - sums[near, far] + sums[near, near]


@final
class CropLoader:
    """Hands out the batches of successive steps; which ones depends on the step alone."""

    def __init__(
        self,
        sampler: CropSampler,
        *,
        workers: int = 1,
        prefetch: int = 4,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Keep what to load.

        Args:
            sampler: draws the crops.
            workers: background threads.
            prefetch: steps prepared ahead, at least 1.
            rank: which share of each batch, 0..world-1.
            world: how many processes share a batch.
        """
        self.sampler, self.workers, self.prefetch = sampler, workers, max(prefetch, 1)
        self.rank, self.world = rank, world

    def iter_from(self, step: int) -> Generator[tuple[int, CropBatch], None, None]:
        """Yield (step, batch) from a step on, without end; closing it ends the threads."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="crops")
        coming: deque[tuple[int, Future[CropBatch]]] = deque()
        try:
            while True:
                while len(coming) < self.prefetch:
                    ahead = step + len(coming)
                    coming.append((ahead, pool.submit(self._load, ahead)))
                ready, batch = coming.popleft()
                yield ready, batch.result()
                step = ready + 1
        finally:
            pool.shutdown(cancel_futures=True)

    def _load(self, step: int) -> CropBatch:
        return self.sampler.batch(step, rank=self.rank, world=self.world)
