"""What the engine says of an image: SR, predictions and weights, as floats, nothing clipped.

The frame of an image by the expanded tail, where a model pads every stage of its tail.

Engine: a bundle's graphs run on one image, in one piece or in parts, as memory allows.

Disagreement of the predictions: how far apart they are, pixel by pixel, in grey levels.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float32

from d2csr.core.bundle import Bundle, ModelCard
from d2csr.core.errors import OutOfMemoryError
from d2csr.core.geometry import Size
from d2csr.core.hardware import free_bytes, free_disk_bytes, rss_bytes
from d2csr.engine.backends.base import (
    DeviceOptions,
    Graph,
    NchwArray,
    PrecisionChoice,
    ResolvedBackend,
    resolve_backend,
)
from d2csr.engine.feature_store import DiskScratch, FeatureStore, MemoryScratch
from d2csr.engine.planning import (
    Plan,
    Strip,
    estimate_memory,
    min_bytes,
    plan_streamed,
    plan_strips,
    plan_whole,
    plan_windows,
)
from d2csr.engine.streaming import StreamedTrunk, TiledTrunk


class EngineOutput(NamedTuple):
    """RGB in the units of the input, rows first.

    Attributes:
        sr: the fused image.
        predictions: one image per leaf.
        weights: their weights, summing to one over the leaves.
    """

    sr: Float32[np.ndarray, "sh sw 3"]
    predictions: Float32[np.ndarray, "p sh sw 3"]
    weights: Float32[np.ndarray, "p sh sw"]


def recompute_border(
    tail: Graph, tail_border: Graph, *, features: NchwArray, lr: NchwArray, card: ModelCard
) -> NchwArray:
    """Return predictions right up to all four sides of the features.

    Run on a strip, this treats the strip's upper and lower side as frame too; what it writes
    there is halo, or else the image's own frame. Images lower or narrower than a strip run the
    expanded tail whole.
    """
    strip, kept = (
        card.receptive_field.border_strip_lr_px,
        card.receptive_field.border_replaced_lr_px,
    )
    if min(features.shape[2:]) < strip:
        return tail_border([features, lr])[0]
    (predictions,) = tail([features, lr])
    inside = kept * card.scale
    sides = ((slice(None, strip), slice(None, inside)), (slice(-strip, None), slice(-inside, None)))
    for part, outer in sides:
        for index, target in (
            ((..., part, slice(None)), (..., outer, slice(None))),  # rows
            ((..., part), (..., outer)),  # columns
        ):
            pieces = [np.ascontiguousarray(planes[index]) for planes in (features, lr)]
            predictions[target] = tail_border(pieces)[0][target]
    return predictions


_SHARE_OF_FREE = 0.6  # the rest is for whoever else runs, and for estimates that fall short


class StripOutput(NamedTuple):
    """The SR rows of one strip: where they begin in the SR image, and what they are."""

    first_row: int
    output: EngineOutput


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=3)


WHOLE = 1 << 30  # strip rows of backends that run an image in one piece

# Features and LR (1, c, h, w) of a strip -> predictions (1, 3 p, S h, S w), weights, SR.
_Tail = Callable[[NchwArray, NchwArray], tuple[NchwArray, NchwArray, NchwArray]]
_Warned = Callable[[str], object]  # told what the user should know of how an image is computed
# First and last row -> the features in between.
_ReadFeatures = Callable[[int, int], NchwArray]


@final
@dataclass(frozen=True)
class Limits:
    """What an engine may take.

    Attributes:
        memory: bytes that the process may hold, what it holds already included; None: that and a
            share of what is free.
        disk: bytes of scratch on disk; None: what is free there.
        strip_rows: LR rows of a strip at most; None: as many as are fast.
    """

    memory: int | None = None
    disk: int | None = None
    strip_rows: int | None = None


@final
class Engine:
    """Compiled graphs of one bundle.

    Attributes:
        bundle: what is run.
        runner: on what it is run: backend, device and precision.
    """

    def __init__(
        self,
        runner: ResolvedBackend,
        *,
        trunk: Graph,
        tail: _Tail,
        streamed: StreamedTrunk,
        limits: Limits,
    ) -> None:
        """Keep what `open_engine` made."""
        self.bundle, self.runner = runner.bundle, runner
        self._trunk, self._tail, self._streamed, self._limits = trunk, tail, streamed, limits

    def with_limits(self, limits: Limits) -> "Engine":
        """Return an engine on the same compiled graphs with other limits."""
        return Engine(
            self.runner,
            trunk=self._trunk,
            tail=self._tail,
            streamed=self._streamed,
            limits=limits,
        )

    def with_strips(self, strip_rows: int) -> "Engine":
        """Return an engine on the same compiled graphs with strips of so many LR rows at most.

        One that runs images in one piece stays as it is.
        """
        return self.with_limits(replace(self._limits, strip_rows=strip_rows))

    def plan(self, height: int, width: int) -> Plan:
        """Return what would be done with an image of so many LR pixels.

        Raises:
            UsageError: memory and disk are too small for it; says what it takes.
        """
        lr_bytes = height * width * 3 * np.dtype(np.float32).itemsize  # in memory when it begins
        return self._plan(Size(width, height), budget=self._budget() - lr_bytes)

    def run(self, lr01: Float32[np.ndarray, "h w 3"]) -> EngineOutput:
        """Return SR, predictions and weights of an image of any size, RGB in 0..1."""
        scale, leaves = self.bundle.card.scale, self.bundle.card.config.leaves
        height, width = scale * lr01.shape[0], scale * lr01.shape[1]
        whole = EngineOutput(
            sr=np.empty((height, width, 3), np.float32),
            predictions=np.empty((leaves, height, width, 3), np.float32),
            weights=np.empty((leaves, height, width), np.float32),
        )
        for first, part in self.iter_strips(lr01):
            last = first + part.sr.shape[0]
            whole.sr[first:last] = part.sr
            whole.predictions[:, first:last] = part.predictions
            whole.weights[:, first:last] = part.weights
        return whole

    def iter_strips(
        self, lr01: Float32[np.ndarray, "h w 3"], *, warned: _Warned = _warn
    ) -> Iterator[StripOutput]:
        """Yield the same in strips, top to bottom, so that callers keep only what they need.

        An allocation that fails halves what the plan may take, and the image goes on from the
        row that it has come to. Where that, or memory and disk as they are, cost exactness,
        `warned` is told in a sentence; a `UserWarning` says it unless something else is given.

        Raises:
            UsageError: memory and disk are too small for it; says what it takes.
            MemoryError: even the smallest plan takes more than the system gives.
            MemoryShort: the same, said by a graph.
        """
        lr = lr01.transpose(2, 0, 1)[None]
        size, written = Size(lr01.shape[1], lr01.shape[0]), 0
        plan = self._plan(size, budget=self._budget())
        while written < size.height:
            for sentence in plan.warnings:
                warned(sentence)
            try:
                with self._features(lr, plan) as read:
                    for part in self._behind_trunk(read, lr, plan=plan, start=written):
                        yield part
                        written += part.output.sr.shape[0] // self.bundle.card.scale
            except (MemoryError, OutOfMemoryError):
                smaller = self._halved(plan, size)
                if smaller == plan:
                    raise
                plan = smaller

    def _halved(self, plan: Plan, size: Size) -> Plan:
        """Return a plan of half the memory; the smallest, where half of it is too little."""
        if self.runner.whole:
            return plan
        need = estimate_memory(self.bundle.card, size, value_bytes=self._streamed.dtype.itemsize)
        least = min_bytes(need, self._streamed.requirements, height=size.height)
        return self._plan(size, budget=max(plan.peak_bytes // 2, least))

    def _behind_trunk(
        self, read: _ReadFeatures, lr: NchwArray, *, plan: Plan, start: int
    ) -> Iterator[StripOutput]:
        """Yield SR rows from the LR row `start` on."""
        scale, halo_rows = self.bundle.card.scale, self.bundle.card.receptive_field.halo_lr_rows
        strips = plan_strips(
            lr.shape[2], strip_rows=plan.strip_rows, halo_rows=halo_rows, start=start
        )
        for strip in strips:
            rows = np.ascontiguousarray(lr[:, :, strip.top : strip.bottom])
            planes = self._tail(read(strip.top, strip.bottom), rows)
            yield StripOutput(scale * strip.first, _strip_output(planes, strip, scale=scale))

    @contextmanager
    def _features(self, lr: NchwArray, plan: Plan) -> Iterator[_ReadFeatures]:
        """Run the trunk; give what reads rows of the features."""
        if plan.trunk == "whole":
            (features,) = self._trunk([lr if self.runner.whole else np.ascontiguousarray(lr)])
            yield lambda first, last: np.ascontiguousarray(features[:, :, first:last])
            return
        if plan.trunk == "windows":
            reach_rows = self.bundle.card.config.trunk_receptive_field_px
            yield TiledTrunk(self._trunk, lr, rows=plan.window_rows, reach_rows=reach_rows).read
            return
        height, width = lr.shape[2:]
        dtype = self._streamed.dtype
        scratch: FeatureStore = (
            MemoryScratch(height, width, dtype=dtype)
            if plan.trunk == "memory"
            else DiskScratch(height, width, dtype=dtype, folder=_scratch_folder())
        )
        try:
            yield self._streamed.run(lr, scratch=scratch, window_rows=plan.window_rows).read
        finally:
            scratch.close()

    def _budget(self) -> int:
        """Return the bytes that may be taken now, beside what is held."""
        if self._limits.memory is None:
            return int(_SHARE_OF_FREE * free_bytes())
        return self._limits.memory - (rss_bytes() or 0)

    def _plan(self, size: Size, *, budget: int) -> Plan:
        card, streamed, disk = self.bundle.card, self._streamed, self._limits.disk
        need = estimate_memory(card, size, value_bytes=streamed.dtype.itemsize)
        if self.runner.whole:
            return Plan("whole", size.height, WHOLE, need.whole)
        place = {"height": size.height, "scale": card.scale, "budget": budget}
        if disk is None:
            disk = free_disk_bytes(_scratch_folder())
        plan = (
            plan_whole(need, **place)
            or plan_streamed(need, streamed.requirements, **place, disk=disk)
            or plan_windows(
                need,
                **place,
                reach_rows=card.config.trunk_receptive_field_px,
                exact=card.receptive_field.trunk_lr_px is not None,
            )
        )
        rows = self._limits.strip_rows
        return plan if rows is None else replace(plan, strip_rows=min(rows, plan.strip_rows))


def open_engine(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    memory: int | None = None,
) -> Engine:
    """Return an engine with a bundle's graphs compiled.

    Args:
        bundle: as `read_bundle` returns it.
        backend: a name of the backend table; `auto` takes the fastest that is installed.
        device: `auto`, `cpu`, `gpu`, or a GPU's index.
        precision: `auto` takes the fastest that keeps the model's accuracy.
        memory: bytes that the process may hold; None: what it holds, and a share of what is free.

    Raises:
        UsageError: no such backend, device or precision here.
        BundleError: a graph can't be read.
    """
    options = DeviceOptions(device=device, precision=precision)
    runner = resolve_backend(bundle, backend=backend, options=options)
    return Engine(
        runner,
        trunk=_passed if runner.whole else runner.compile("trunk"),
        tail=_whole(runner) if runner.whole else _tail(runner),
        streamed=StreamedTrunk(runner),
        limits=Limits(memory=memory),
    )


def _scratch_folder() -> Path:
    return Path(tempfile.gettempdir())


def _passed(inputs: Sequence[NchwArray]) -> list[NchwArray]:
    """Return the image as the features of a backend that runs everything behind the trunk."""
    return list(inputs)


def _whole(runner: ResolvedBackend) -> _Tail:
    """Return all graphs as one function of the whole image."""
    whole = runner.compile("whole")

    def run(_features: NchwArray, lr: NchwArray) -> tuple[NchwArray, NchwArray, NchwArray]:
        predictions, weights, sr = whole([lr])
        return predictions, weights, sr

    return run


def _tail(runner: ResolvedBackend) -> _Tail:
    """Return everything behind the trunk as one function of a strip."""
    card = runner.bundle.card
    tail = runner.compile("tail")
    if "border_tail" not in card.graphs:

        def plain(features: NchwArray, lr: NchwArray) -> tuple[NchwArray, NchwArray, NchwArray]:
            predictions, weights, sr = tail([features, lr])
            return predictions, weights, sr

        return plain
    tail_border, fusion = runner.compile("border_tail"), runner.compile("fusion")

    def bordered(features: NchwArray, lr: NchwArray) -> tuple[NchwArray, NchwArray, NchwArray]:
        predictions = recompute_border(tail, tail_border, features=features, lr=lr, card=card)
        weights, sr = fusion([predictions])
        return predictions, weights, sr

    return bordered


def _strip_output(
    planes: tuple[NchwArray, NchwArray, NchwArray], strip: Strip, *, scale: int
) -> EngineOutput:
    """Return a strip's own rows, channels last, without the halo."""
    rows = slice(scale * (strip.first - strip.top), scale * (strip.last - strip.top))
    predictions, weights, sr = (each[0, :, rows] for each in planes)
    leaves = weights.shape[0]
    return EngineOutput(
        sr=sr.transpose(1, 2, 0),
        predictions=predictions.reshape(leaves, 3, *weights.shape[1:]).transpose(0, 2, 3, 1),
        weights=weights,
    )


_GREY_LEVELS = np.float32(255)


def disagreement(output: EngineOutput) -> Float32[np.ndarray, "sh sw"]:
    """Return the standard deviation of the predictions, in grey levels.

    Each counts the same, whatever its weight in the fusion: doubt that the fusion resolves is doubt
    all the same, and where it picks one prediction a weighted deviation would be 0. Squares are
    averaged over the three colours: the root of mean_i |p_i - mean_j p_j|^2 / 3, times 255.
    """
    variance = output.predictions.var(axis=0, dtype=np.float32).mean(axis=2)
    return np.sqrt(variance) * _GREY_LEVELS
