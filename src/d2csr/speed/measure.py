"""A speed measurement from models to results: ceilings, then model by model, runs alternating.

Ratios of medians, with the interval that resampling the runs gives.
"""

import platform
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple, final

import numpy as np

from d2csr import __version__
from d2csr.core.config import ModelConfig
from d2csr.core.network_cost import network_cost
from d2csr.engine.backends.base import PRECISIONS, Precision
from d2csr.speed import peak_flops
from d2csr.speed.accuracy import AccuracyCost, Images, cost, enlarged, images_for
from d2csr.speed.candidates import REFERENCE, BenchmarkCase, Candidate, cases, chosen_backends
from d2csr.speed.speed_results import (
    BackendResult,
    CeilingResult,
    Machine,
    ModelResult,
    SpeedResults,
)
from d2csr.speed.worker import Worker

_DRAWS = 4000


class Ratio(NamedTuple):
    """A ratio and the middle 95% of what resampled runs give."""

    value: float
    interval95: tuple[float, float]

    def times(self, factor: float) -> "Ratio":
        """Return the ratio in another unit."""
        low, high = self.interval95
        return Ratio(factor * self.value, (factor * low, factor * high))


def ratio_of_medians(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """Return the median of the one over the median of the other, runs resampled apart."""
    generator = np.random.default_rng(0)
    numerator, denominator = (
        np.median(np.array(runs)[generator.integers(len(runs), size=(_DRAWS, len(runs)))], axis=1)
        for runs in (over, under)
    )
    low, high = np.percentile(numerator / denominator, [2.5, 97.5])
    return Ratio(float(np.median(over) / np.median(under)), (float(low), float(high)))


_WARM_UP_PX = 64  # eager networks need no run at full size before the first that counts
_PACKAGES = ("openvino", "onnxruntime", "torch", "ncnn", "numpy")


@final
@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure, and how.

    Attributes:
        height: of the LR image, in pixels.
        width: of it.
        rounds: runs of every backend; all take turns.
        reference_rounds: in how many of these rounds `reference` runs, spread evenly; None: in all.
        threads: how many cores the measured processes may use.
        backends: which to compare with `reference`; none: all that are installed.
        precisions: which of theirs to measure.
        data: pairs, or LR images, to tell the cost in accuracy on.
        told: called with a line when something begins.
    """

    height: int
    width: int
    rounds: int
    threads: int
    reference_rounds: int | None = None
    backends: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = PRECISIONS
    data: Path | None = None
    on_progress: Callable[[str], None] = lambda _line: None

    def is_reference_round(self, index: int) -> bool:
        """Return whether `reference` runs in a round."""
        count = min(self.rounds, self.reference_rounds or self.rounds)
        return (index + 1) * count // self.rounds > index * count // self.rounds


def measure(
    subjects: Sequence[Candidate],
    wish: BenchmarkOptions,
    *,
    ceilings: list[CeilingResult] | None = None,
) -> SpeedResults:
    """Return the speed of models on this machine.

    Args:
        subjects: the models.
        wish: what to measure, and how.
        ceilings: where they have been measured already.

    Raises:
        D2csrError: a backend, a precision or the data are not to be had; told before any work.
    """
    backends = chosen_backends(wish.backends)
    planned = [
        (
            subject,
            cases(subject, backends, wanted=wish.precisions),
            images_for(subject.bundle.card, wish.data, trained=subject.trained),
        )
        for subject in subjects
    ]
    channels = {subject.bundle.card.config.channels for subject in subjects}
    if ceilings is None:
        ceilings = measure_ceilings(channels, wish)
    models = [
        _model(subject, found, wish=wish, images=images, ceilings=ceilings)
        for subject, found, images in planned
    ]
    return SpeedResults(
        version=__version__,
        date=date.today().isoformat(),
        machine=machine(wish.threads),
        lr_size=(wish.width, wish.height),
        rounds=wish.rounds,
        data=None if wish.data is None else str(wish.data),
        ceilings=ceilings,
        models=models,
    )


def measure_ceilings(channels: set[int], wish: BenchmarkOptions) -> list[CeilingResult]:
    """Return what every installed library reaches, precision by precision."""
    found: dict[tuple[peak_flops.KernelShape, str, str], float] = {}
    for library in peak_flops.libraries():
        wish.on_progress(f"ceilings of {library}")
        with Worker({"job": "ceiling", "library": library}, threads=wish.threads) as worker:
            for shape in peak_flops.shapes(channels):
                for precision in PRECISIONS:
                    answer = worker.request({**vars(shape), "precision": precision})
                    if answer["gflops_per_s"] is not None:
                        found[shape, precision, library] = answer["gflops_per_s"]
    best = {
        key: max(value for (*other, _), value in found.items() if tuple(other) == key)
        for key in {(shape, precision) for shape, precision, _ in found}
    }
    return [
        CeilingResult(
            **vars(shape),
            precision=precision,
            library=library,
            gflops_per_s=value,
            best=value == best[shape, precision],
        )
        for (shape, precision, library), value in found.items()
    ]


def machine(threads: int) -> Machine:
    """Return what is measured on, in words and versions."""
    return Machine(processor=_processor(), threads=threads, versions=_versions())


def run_alternately(
    workers: Sequence[Worker],
    *,
    wish: BenchmarkOptions,
    in_round: Callable[[int, int], bool] = lambda _worker, _round: True,
) -> list[list[float]]:
    """Return the seconds of every run of every worker; each round asks one after the other."""
    seconds: list[list[float]] = [[] for _ in workers]
    for index in range(wish.rounds):
        for place, worker in enumerate(workers):
            if in_round(place, index):
                request = {"ask": "run", "height": wish.height, "width": wish.width}
                seconds[place].append(worker.request(request)["seconds"])
    return seconds


@final
@dataclass(frozen=True)
class _Measured:
    """One case with what its worker said."""

    case: BenchmarkCase
    seconds: list[float]
    bytes: int | None
    cost: AccuracyCost | None


def _model(
    subject: Candidate,
    found: list[BenchmarkCase],
    *,
    wish: BenchmarkOptions,
    images: Images,
    ceilings: list[CeilingResult],
) -> ModelResult:
    """Return one model's measurements."""
    measured = _measured(subject, found, wish=wish, images=images)
    card, config = subject.bundle.card, subject.bundle.card.config
    own, collapsed = (
        network_cost(config, collapsed=form) for form in (config.tail == "collapsed", True)
    )
    return ModelResult(
        name=subject.name,
        scale=card.scale,
        channels=config.channels,
        trained=subject.trained,
        weights_sha256=subject.bundle.weights_sha256,
        reference_form=config.tail,
        parameters=own.parameters,
        parameters_collapsed=collapsed.parameters,
        gflop_per_lr_mp=network_cost(config, collapsed=False).gflop_per_lr_mp,
        gflop_per_lr_mp_collapsed=collapsed.gflop_per_lr_mp,
        backends=[
            _result(each, measured, wish=wish, config=config, ceilings=ceilings)
            for each in measured
        ],
    )


def _measured(
    subject: Candidate, found: list[BenchmarkCase], *, wish: BenchmarkOptions, images: Images
) -> list[_Measured]:
    """Return the runs of all cases, in turns, every one in its own process."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        workers = []
        for case in found:
            wish.on_progress(f"{subject.name}: {case.backend} {case.precision}")
            job = {"job": "engine", "bundle": str(case.bundle.folder)}
            job |= {"backend": case.backend, "precision": case.precision}
            workers.append(stack.enter_context(Worker(job, threads=wish.threads)))
        for case, worker in zip(found, workers, strict=True):
            small = case.backend == REFERENCE
            sides = (
                min(_WARM_UP_PX, side) if small else side for side in (wish.height, wish.width)
            )
            worker.ask({"ask": "run", **dict(zip(("height", "width"), sides, strict=True))})
        wish.on_progress(f"{subject.name}: {wish.rounds} rounds")
        seconds = run_alternately(
            workers,
            wish=wish,
            in_round=lambda place, index: (
                found[place].backend != REFERENCE or wish.is_reference_round(index)
            ),
        )
        held = [worker.ask({"ask": "memory"})["bytes"] for worker in workers]
        wish.on_progress(f"{subject.name}: accuracy")
        costs = _costs(subject, found, workers=workers, images=images, folder=Path(folder))
    return [_Measured(*row) for row in zip(found, seconds, held, costs, strict=True)]


def _costs(
    subject: Candidate,
    found: list[BenchmarkCase],
    *,
    workers: list[Worker],
    images: Images,
    folder: Path,
) -> list[AccuracyCost | None]:
    """Return what each case costs against the model's own `reference`."""
    own = [case.backend == REFERENCE and not case.twin for case in found]
    if not any(own):
        return [None] * len(found)
    reference = enlarged(workers[own.index(True)], images, folder=folder)
    card = subject.bundle.card
    return [
        None
        if case.backend == REFERENCE
        else cost(card, images, sr=enlarged(worker, images, folder=folder), reference=reference)
        for case, worker in zip(found, workers, strict=True)
    ]


def _result(
    each: _Measured,
    measured: list[_Measured],
    *,
    wish: BenchmarkOptions,
    config: ModelConfig,
    ceilings: list[CeilingResult],
) -> BackendResult:
    """Return one case's measurements beside the others'."""
    references = [other for other in measured if other.case.backend == REFERENCE]
    own = next((other for other in references if not other.case.twin), None)
    twin = next((other for other in references if other.case.twin), None)
    over_own, over_twin = (_speedup(other, each) for other in (own, twin))
    heaviest = twin or own
    best = next(
        (
            row
            for row in ceilings
            if row.best
            and (row.operation, row.channels) == ("convolution", config.channels)
            and row.precision == each.case.precision
        ),
        None,
    )
    median_s = statistics.median(each.seconds)
    gflop = network_cost(config, collapsed=each.case.form == "collapsed").gflop_per_lr_mp
    gflops_per_s = gflop * wish.height * wish.width / 1e6 / median_s
    return BackendResult(
        backend=each.case.backend,
        precision=each.case.precision,
        form=each.case.form,
        twin=each.case.twin,
        seconds=each.seconds,
        median_s=median_s,
        speedup_over_reference=over_own and over_own.value,
        speedup_interval95=over_own and over_own.interval95,
        speedup_over_expanded=over_twin and over_twin.value,
        speedup_over_expanded_interval95=over_twin and over_twin.interval95,
        gflops_per_s=gflops_per_s,
        share_of_ceiling=best and gflops_per_s / best.gflops_per_s,
        ceiling_library=best and best.library,
        peak_memory_bytes=each.bytes,
        peak_memory_ratio=_over(each.bytes, heaviest and heaviest.bytes),
        psnr_change_db=each.cost and each.cost.change_db,
        psnr_change_by=each.cost and each.cost.by,
        psnr_between_db=each.cost and each.cost.between_db,
    )


def _speedup(over: _Measured | None, under: _Measured) -> Ratio | None:
    return None if over is None else ratio_of_medians(over.seconds, under.seconds)


def _over(one: int | None, other: int | None) -> float | None:
    return None if one is None or not other else one / other


def _processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.machine())


def _versions() -> dict[str, str]:
    """Return the versions of the libraries that are installed."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
