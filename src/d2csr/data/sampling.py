"""Training crops: a pure function of seed, step and index, so that a resumed run sees the same.

A loader cuts the crops of the next steps while the current one is trained on.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Int, UInt8

from d2csr.core.errors import DataError, UsageError
from d2csr.core.geometry import TURNS, dihedral_transform
from d2csr.data.pixel_cache import PairCache

_PREFETCHED_STEPS = 4


@dataclass(frozen=True)
class CropBatch:
    """Crops of one training step, and the names of the pairs they come from."""

    lr: UInt8[np.ndarray, "b p p 3"]
    hr: UInt8[np.ndarray, "b sp sp 3"]
    names: tuple[str, ...]


@dataclass(frozen=True)
class CropSource:
    """Pairs to cut crops from.

    Attributes:
        cache: the decoded pairs.
        share: of all crops, relative to the shares of the other sources.
    """

    cache: PairCache
    share: float = 1.0


class Crop(NamedTuple):
    """One crop: its source, its pair there, top left corner on the LR grid, flip or rotation."""

    source: int
    pair: int
    row: int
    column: int
    turn: int


@final
class CropSampler:
    """Draws a source by its share, then a pair, a position, and a flip or rotation uniformly."""

    def __init__(
        self,
        sources: Sequence[CropSource],
        *,
        patch_px: int,
        scale: int,
        batch: int,
        seed: int,
        mask_limit: float = 0.0,
    ) -> None:
        """List the positions that each pair allows.

        Args:
            sources: the decoded pairs, at least one source.
            patch_px: side of the LR crop.
            scale: HR pixels per LR pixel, as the caches have it.
            batch: crops of a step, all processes together.
            seed: of the crops.
            mask_limit: largest masked share of a crop, 0..1.

        Raises:
            UsageError: a cache is of another scale.
            DataError: a pair allows no position.
        """
        for each in sources:
            if scale != each.cache.scale:
                problem = f"pairs of scale {each.cache.scale} can't train scale {scale}"
                remedy = "Choose other pairs or another scale."
                raise UsageError(each.cache.folder, problem, remedy=remedy)
        self.caches, self.patch_px, self.scale = [each.cache for each in sources], patch_px, scale
        self.batch_size, self.seed = batch, seed
        self._bounds = _bounds([each.share for each in sources])
        self._positions = [
            [
                _positions(cache, pair, patch_px=patch_px, mask_limit=mask_limit)
                for pair in range(len(cache))
            ]
            for cache in self.caches
        ]

    def crop(self, step: int, index: int) -> Crop:
        """Return crop `index` of a step; it depends on seed, step and index alone."""
        # Philox counts through 2^256 blocks: each (step, index) owns 2^64 of them. Raw words,
        # because numpy may change the numbers that its Generator makes of them.
        key = np.array([self.seed % 2**64, 0], np.uint64)  # a list of it would pass through floats
        counter = np.array([0, index, step, 0], np.uint64)
        words = np.random.Philox(key=key, counter=counter).random_raw(3).tolist()
        source = bisect_right(self._bounds, words[0]) - 1
        first, last = self._bounds[source : source + 2]
        cache = self.caches[source]
        pair = (words[0] - first) * len(cache) // (last - first)
        columns = cache.lr_shape(pair)[1] - self.patch_px + 1
        positions = self._positions[source][pair]
        number = _below(words[1], positions if isinstance(positions, int) else len(positions))
        position = number if isinstance(positions, int) else int(positions[number])
        row, column = divmod(position, columns)
        return Crop(source, pair, row, column, _below(words[2], TURNS))

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> CropBatch:
        """Return a process's share of a step's crops; the shares in order of rank are the batch.

        Raises:
            UsageError: the batch can't be shared equally.
        """
        if self.batch_size % world_size:
            problem = f"a batch of {self.batch_size} can't be shared by {world_size} processes"
            raise UsageError("batch_size", problem, remedy=f"Use a multiple of {world_size}.")
        share = self.batch_size // world_size
        crops = [self.crop(step, index) for index in range(rank * share, (rank + 1) * share)]
        return self._cut(crops)

    def _cut(self, crops: list[Crop]) -> CropBatch:
        side, scale = self.patch_px, self.scale
        lr_crops = np.empty((len(crops), side, side, 3), np.uint8)
        hr_crops = np.empty((len(crops), side * scale, side * scale, 3), np.uint8)
        for index, crop in enumerate(crops):
            lr, hr, _ = self.caches[crop.source][crop.pair]
            _copy(_window(lr, crop, side=side, scale=1), lr_crops[index], turn=crop.turn)
            _copy(_window(hr, crop, side=side, scale=scale), hr_crops[index], turn=crop.turn)
        names = tuple(self.caches[crop.source].names[crop.pair] for crop in crops)
        return CropBatch(lr_crops, hr_crops, names)


def _window(
    image: UInt8[np.ndarray, "h w 3"], crop: Crop, *, side: int, scale: int
) -> UInt8[np.ndarray, "p p 3"]:
    rows = slice(crop.row * scale, (crop.row + side) * scale)
    return image[rows, crop.column * scale : (crop.column + side) * scale]


def _copy(
    image: UInt8[np.ndarray, "p p 3"], target: UInt8[np.ndarray, "p p 3"], *, turn: int
) -> None:
    """Copy a turned image channel by channel: numpy needs four times as long for all together."""
    packed = np.ascontiguousarray(image)
    for channel in range(3):
        target[..., channel] = dihedral_transform(packed[..., channel], turn)


def _bounds(shares: Sequence[float]) -> list[int]:
    """Return the 64-bit words at which each source begins, and 2^64."""
    sums = np.cumsum(shares)
    return [0, *(int(2**64 * float(part)) for part in sums[:-1] / sums[-1]), 2**64]


def _below(word: int, limit: int) -> int:
    """Return a 64-bit random word scaled to 0..limit-1; probabilities differ by less than 2^-32."""
    return (word * limit) >> 64


def _positions(
    cache: PairCache, pair: int, *, patch_px: int, mask_limit: float
) -> int | Int[np.ndarray, " allowed"]:
    """Return the number of positions of an unmasked pair, or the positions a mask allows."""
    height, width = cache.lr_shape(pair)
    rows, columns = height - patch_px + 1, width - patch_px + 1
    if min(rows, columns) < 1:
        problem = f"LR image of {width}x{height} px is smaller than the {patch_px} px crop"
        raise DataError(cache.names[pair], problem, remedy="Use smaller crops, or remove the pair.")
    mask = cache[pair][2]
    if mask is None:
        return rows * columns
    allowed = allowed_positions(mask, patch_px, mask_limit=mask_limit)
    if not len(allowed):
        problem = f"its mask allows no {patch_px} px crop (limit: {mask_limit:g} of it masked)"
        raise DataError(cache.names[pair], problem, remedy="Raise mask_limit, or remove the pair.")
    return allowed


def allowed_positions(
    mask: UInt8[np.ndarray, "h w"], patch_px: int, *, mask_limit: float
) -> Int[np.ndarray, " allowed"]:
    """Return the positions, counted row by row, of crops masked by at most `mask_limit`."""
    return np.flatnonzero(masked_counts(mask, patch_px) <= mask_limit * patch_px**2)


def masked_counts(mask: UInt8[np.ndarray, "h w"], patch_px: int) -> Int[np.ndarray, "rows columns"]:
    """Return the number of masked pixels (value 0) of the crop at each position."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    sums[1:, 1:] = (mask == 0).cumsum(0).cumsum(1)
    far, near = slice(patch_px, None), slice(None, -patch_px)  # sums over rectangles from a corner
    return sums[far, far] - sums[far, near] - sums[near, far] + sums[near, near]


@final
class CropLoader:
    """Loads the batches of successive steps in a background thread."""

    def __init__(self, sampler: CropSampler, *, rank: int = 0, world_size: int = 1) -> None:
        """Load one process's share of each batch.

        Args:
            sampler: chooses the crops, by the step alone.
            rank: this process, 0..world_size-1.
            world_size: processes that share a batch.
        """
        self.sampler, self.rank, self.world_size = sampler, rank, world_size

    def iter_from(
        self, step: int, *, until: int | None = None
    ) -> Generator[tuple[int, CropBatch], None, None]:
        """Yield (step, batch) for the steps from `step` to before `until`, by default endlessly.

        Closing the generator ends its thread.
        """
        steps = count(step) if until is None else iter(range(step, until))
        with ThreadPoolExecutor(1, thread_name_prefix="crops") as pool:
            queue: deque[tuple[int, Future[CropBatch]]] = deque()
            try:
                while True:
                    for ahead in islice(steps, _PREFETCHED_STEPS - len(queue)):
                        queue.append((ahead, pool.submit(self._load, ahead)))
                    if not queue:
                        return
                    ready, batch = queue.popleft()
                    yield ready, batch.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _load(self, step: int) -> CropBatch:
        return self.sampler.batch(step, rank=self.rank, world_size=self.world_size)
