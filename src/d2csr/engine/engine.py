"""The engine: a bundle's compiled graphs, run on one image as its plan says.

The trunk runs on the whole image, in segments or in tiles, as memory allows; the tail runs in
strips. An allocation that fails halves the memory of the plan.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float32

from d2csr.core.bundle import Bundle, verify_bundle
from d2csr.core.errors import BundleError, OutOfMemoryError
from d2csr.core.geometry import Size
from d2csr.core.hardware import (
    MIB,
    fit_address_space,
    free_bytes,
    free_disk_bytes,
    rss_bytes,
)
from d2csr.core.system_config import SystemConfig
from d2csr.engine.backends.base import (
    DeviceOptions,
    Graph,
    NchwArray,
    PrecisionChoice,
    ResolvedBackend,
    resolve_backend,
)
from d2csr.engine.feature_store import DiskFeatureStore, FeatureStore, MemoryFeatureStore
from d2csr.engine.planning import (
    MemoryEstimate,
    Plan,
    estimate_memory,
    min_bytes,
    min_system_bytes,
    min_tile_bytes,
    plan_segments,
    plan_strips,
    plan_system,
    plan_tiles,
    plan_whole,
    system_halo_rows,
)
from d2csr.engine.streaming import StreamedTrunk, TiledTrunk
from d2csr.engine.tail import (
    EngineOutput,
    StripOutput,
    Tail,
    compile_system,
    compile_tail,
    compile_whole,
    run_strip,
)

WHOLE = 1 << 30  # strip rows of backends that run an image in one piece
# To load OpenVINO, libvips and a small graph on two cores: 520 MB suffice, 300 don't.
MIN_ADDRESS_SPACE = 512 * MIB
_MEMORY_SHARE = 0.6  # of free memory; the rest is for other processes and for underestimates

_OnWarning = Callable[[str], object]
_ReadFeatures = Callable[[int, int], NchwArray]  # first and last row -> the features in between


@final
@dataclass(frozen=True)
class Limits:
    """Limits of the resources that an engine takes for one image.

    Attributes:
        memory: resident memory of the process in bytes, with what it held before; None: what it
            holds and a share of what is free.
        disk: bytes of temporary files; None: what is free.
        strip_rows: maximum of LR rows of a strip; None: as many as are fast.
    """

    memory: int | None = None
    disk: int | None = None
    strip_rows: int | None = None


@final
class Engine:
    """The compiled graphs of one bundle. Several threads may use one engine.

    Attributes:
        bundle: the bundle that it runs.
        backend: the backend, device and precision that it runs on.
    """

    def __init__(
        self,
        backend: ResolvedBackend,
        *,
        trunk: Graph,
        tail: Tail,
        streamed: StreamedTrunk,
        limits: Limits,
    ) -> None:
        """Hold compiled graphs; `open_engine` compiles them."""
        self.bundle, self.backend = backend.bundle, backend
        self._trunk, self._tail, self._streamed, self._limits = trunk, tail, streamed, limits

    def with_limits(self, limits: Limits) -> "Engine":
        """Return an engine with the same compiled graphs and other limits."""
        return Engine(
            self.backend,
            trunk=self._trunk,
            tail=self._tail,
            streamed=self._streamed,
            limits=limits,
        )

    def with_strips(self, strip_rows: int) -> "Engine":
        """Return an engine with the same compiled graphs and strips of at most so many LR rows.

        Backends that run images in one piece ignore this.
        """
        return self.with_limits(replace(self._limits, strip_rows=strip_rows))

    def plan(self, height: int, width: int) -> Plan:
        """Return the plan for an image of this size in LR pixels.

        Raises:
            UsageError: memory and disk are too small; the error says how much is missing.
        """
        lr_bytes = height * width * 3 * np.dtype(np.float32).itemsize  # loaded before it runs
        return self._plan(Size(width, height), budget=self._budget() - lr_bytes)

    def run(self, lr01: Float32[np.ndarray, "h w 3"]) -> EngineOutput:
        """Return SR, predictions and weights of an RGB image of any size, range 0 to 1.

        Raises:
            UsageError: memory and disk are too small.
            BundleError: the network computes pixels that are infinite or not numbers.
            OutOfMemoryError, MemoryError: the system has less memory than it reported.
        """
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
        self, lr01: Float32[np.ndarray, "h w 3"], *, on_warning: _OnWarning | None = None
    ) -> Iterator[StripOutput]:
        """Yield the outputs of `run` in strips, top to bottom.

        After a failed allocation, the image continues from the same row with a plan of half the
        memory.

        Args:
            lr01: an RGB image, range 0 to 1.
            on_warning: called with a sentence if a plan isn't exact; None issues a `UserWarning`.

        Raises:
            UsageError: memory and disk are too small; the error says how much is missing.
            BundleError: the network computes pixels that are infinite or not numbers.
            OutOfMemoryError, MemoryError: even the smallest plan takes more than the system has.
        """
        lr = lr01.transpose(2, 0, 1)[None]
        size, written = Size(lr01.shape[1], lr01.shape[0]), 0
        plan = self._plan(size, budget=self._budget())
        while written < size.height:
            for sentence in plan.warnings:
                (on_warning or _warn)(sentence)
            try:
                with self._open_features(lr, plan) as read:
                    for part in self._run_tail(read, lr, plan=plan, start=written):
                        yield part
                        written += part.output.sr.shape[0] // self.bundle.card.scale
            except (MemoryError, OutOfMemoryError):
                smaller = self._halve(plan, size)
                if smaller == plan:
                    raise
                plan = smaller

    def _halve(self, plan: Plan, size: Size) -> Plan:
        """Return a plan of half the memory, or the smallest plan if half of it is too little."""
        if self.backend.whole:
            return plan
        config = self.bundle.card.config
        if isinstance(config, SystemConfig):
            smallest = min_system_bytes(config, size)
            return self._plan(size, budget=max(plan.peak_bytes // 2, smallest))
        need = estimate_memory(self.bundle.card, size, value_bytes=self._streamed.dtype.itemsize)
        if config.attention:
            smallest = min_bytes(need, self._streamed.requirements, height=size.height)
        else:
            halo_rows = config.trunk_receptive_field_px
            smallest = min_tile_bytes(need, trunk_halo_rows=halo_rows, height=size.height)
        return self._plan(size, budget=max(plan.peak_bytes // 2, smallest))

    def _run_tail(
        self, read: _ReadFeatures, lr: NchwArray, *, plan: Plan, start: int
    ) -> Iterator[StripOutput]:
        """Yield strips from the LR row `start` on."""
        card = self.bundle.card
        scale, halo_rows = card.scale, card.receptive_field.halo_lr_rows
        if isinstance(card.config, SystemConfig):
            halo_rows = system_halo_rows(card.config)
        strips = plan_strips(
            lr.shape[2], strip_rows=plan.strip_rows, halo_rows=halo_rows, start=start
        )
        for strip in strips:
            rows = np.ascontiguousarray(lr[:, :, strip.top : strip.bottom])
            features = read(strip.top, strip.bottom)
            part = run_strip(self._tail, strip, features=features, lr=rows, scale=scale)
            self._check_finite(part.output)
            yield part

    def _check_finite(self, output: EngineOutput) -> None:
        """Raise BundleError for SR with values that are infinite or not numbers.

        Their sum shows it, in 4 ms per megapixel: it is finite only if all of them are. SR is the
        weighted sum of the predictions, so it shows theirs, too.
        """
        with np.errstate(all="ignore"):
            is_finite = np.isfinite(output.sr.sum())
        if not is_finite:
            problem = "computes pixels that are infinite or not numbers"
            remedy = "Copy the model again, or use another one or `--precision fp32`."
            raise BundleError(self.bundle.folder, problem, remedy)

    @contextmanager
    def _open_features(self, lr: NchwArray, plan: Plan) -> Iterator[_ReadFeatures]:
        """Run the trunk; yield a function that reads rows of the features."""
        if plan.trunk in ("whole", "none"):
            (features,) = self._trunk([lr if self.backend.whole else np.ascontiguousarray(lr)])
            yield lambda first, last: np.ascontiguousarray(features[:, :, first:last])
            return
        config = self.bundle.card.config
        if plan.trunk == "tiles" and not isinstance(config, SystemConfig):
            halo_rows = config.trunk_receptive_field_px
            yield TiledTrunk(self._trunk, lr, rows=plan.window_rows, halo_rows=halo_rows).read
            return
        height, width = lr.shape[2:]
        dtype = self._streamed.dtype
        store: FeatureStore = (
            MemoryFeatureStore(height, width, dtype=dtype)
            if plan.trunk == "memory"
            else DiskFeatureStore(height, width, dtype=dtype, folder=_temp_folder())
        )
        try:
            yield self._streamed.run(lr, store=store, window_rows=plan.window_rows).read
        finally:
            store.close()

    def _budget(self) -> int:
        """Return the bytes that may be allocated now, in addition to those that are held."""
        if self._limits.memory is None:
            return int(_MEMORY_SHARE * free_bytes())
        return self._limits.memory - (rss_bytes() or 0)

    def _plan(self, size: Size, *, budget: int) -> Plan:
        card, config = self.bundle.card, self.bundle.card.config
        if isinstance(config, SystemConfig):
            if self.backend.whole:
                return Plan("none", size.height, WHOLE, 0)
            return plan_system(config, size, budget=budget, strip_rows=self._limits.strip_rows)
        need = estimate_memory(card, size, value_bytes=self._streamed.dtype.itemsize)
        if self.backend.whole:
            return Plan("whole", size.height, WHOLE, need.whole)
        image = {"height": size.height, "scale": card.scale, "budget": budget}
        plan = plan_whole(need, **image)
        if plan is None and config.attention:
            plan = self._plan_segments(need, image)
        if plan is None:  # without attention the halo of a tile is small, and nothing is stored
            plan = plan_tiles(
                need,
                **image,
                trunk_halo_rows=config.trunk_receptive_field_px,
                exact=card.receptive_field.trunk_lr_px is not None,
            )
        rows = self._limits.strip_rows
        return plan if rows is None else replace(plan, strip_rows=min(rows, plan.strip_rows))

    def _plan_segments(self, need: MemoryEstimate, image: dict[str, int]) -> Plan | None:
        disk = self._limits.disk
        if disk is None:
            disk = free_disk_bytes(_temp_folder())
        return plan_segments(need, self._streamed.requirements, **image, disk=disk)


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
        device: `auto`, `cpu`, `gpu`, or an index: -1 for the processor, from 0 on for GPUs; `auto`
            takes an NVIDIA GPU if the backend can use one, and the processor otherwise.
        precision: `auto` takes the fastest that keeps the model's accuracy.
        memory: limit of the process's resident memory, in bytes; None: what it holds and a share of
            what is free.

    Raises:
        UsageError: there is no such backend, device or precision.
        BundleError: a graph can't be read, or a file isn't the one that the card has the hash of.
        OutOfMemoryError: the process may not allocate what the libraries take.
    """
    fit_address_space(MIN_ADDRESS_SPACE)
    verify_bundle(bundle)
    options = DeviceOptions(device=device, precision=precision)
    resolved = resolve_backend(bundle, backend=backend, options=options)
    if isinstance(bundle.card.config, SystemConfig):
        trunk, tail = compile_system(resolved)
    elif resolved.whole:
        trunk, tail = compile_whole(resolved)
    else:
        trunk, tail = resolved.compile("trunk"), compile_tail(resolved)
    limits = Limits(memory=memory)
    return Engine(resolved, trunk=trunk, tail=tail, streamed=StreamedTrunk(resolved), limits=limits)


def _temp_folder() -> Path:
    return Path(tempfile.gettempdir())


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=3)
