"""Measurement of speed: peak throughput of the libraries, then model by model, runs alternating."""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple, final

import numpy as np

from d2csr import __version__
from d2csr.core.bundle import ModelCard
from d2csr.core.config import ModelConfig
from d2csr.core.network_cost import network_cost
from d2csr.core.system_config import SystemConfig
from d2csr.engine.backends.base import PRECISIONS, Precision
from d2csr.speed import peak_flops
from d2csr.speed.accuracy import AccuracyCost, Images, cost, images_for, upscale
from d2csr.speed.candidates import (
    REFERENCE,
    BenchmarkCase,
    Candidate,
    cases,
    select_backends,
    trained_form,
)
from d2csr.speed.speed_results import (
    AccuracyChange,
    BackendResult,
    CeilingResult,
    Form,
    ModelResult,
    PeakMemory,
    RunTimes,
    SpeedResults,
    Throughput,
    read_machine,
)
from d2csr.speed.worker import Worker

_RESAMPLES = 4000
_USUAL_CHANNELS = 64
_WARM_UP_PX = 64  # eager networks need no warm-up at full size


class Ratio(NamedTuple):
    """A ratio of medians, and the middle 95% of its bootstrap distribution."""

    value: float
    interval95: tuple[float, float]

    def times(self, factor: float) -> "Ratio":
        """Return the ratio multiplied by a factor."""
        low, high = self.interval95
        return Ratio(factor * self.value, (factor * low, factor * high))


def ratio_of_medians(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Return the ratio of the medians of two sets of runs, which are resampled independently."""
    generator = np.random.default_rng(0)
    medians = [
        np.median(
            np.array(runs)[generator.integers(len(runs), size=(_RESAMPLES, len(runs)))], axis=1
        )
        for runs in (numerator, denominator)
    ]
    low, high = np.percentile(medians[0] / medians[1], [2.5, 97.5])
    value = float(np.median(numerator) / np.median(denominator))
    return Ratio(value, (float(low), float(high)))


@final
@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of a measurement.

    Attributes:
        height: of the LR image, in pixels.
        width: of the LR image, in pixels.
        rounds: runs of every backend; the backends alternate.
        reference_rounds: number of rounds in which `reference` also runs, spread evenly; None: all.
        threads: number of cores that the measured processes may use.
        backends: those to compare with `reference`; none: all that are installed.
        precisions: those to measure.
        data: pairs to measure the accuracy on; None: the example photograph of a clone.
        allow_outside: allow a manifest whose pairs lie outside its folder.
        on_progress: called with a line of text at the start of each step.
    """

    height: int
    width: int
    rounds: int
    threads: int
    reference_rounds: int | None = None
    backends: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = PRECISIONS
    data: Path | None = None
    allow_outside: bool = False
    on_progress: Callable[[str], None] = lambda _line: None

    def is_reference_round(self, index: int) -> bool:
        """Return whether `reference` runs in a round."""
        count = min(self.rounds, self.reference_rounds or self.rounds)
        return (index + 1) * count // self.rounds > index * count // self.rounds


def measure(
    candidates: Sequence[Candidate],
    options: BenchmarkOptions,
    *,
    ceilings: list[CeilingResult] | None = None,
) -> SpeedResults:
    """Return the speed of models on this machine.

    Args:
        candidates: the models.
        options: of the measurement.
        ceilings: results of `measure_ceilings`; None to measure them.

    Raises:
        D2csrError: a backend, a precision or the data are unavailable; raised before measuring.
    """
    backends = select_backends(options.backends)
    plans = [_plan(candidate, backends, options=options) for candidate in candidates]
    if ceilings is None:
        channels = {channels_of(candidate.bundle.card.config) for candidate in candidates}
        ceilings = measure_ceilings(channels, options)
    models = [_measure_model(plan, options, ceilings=ceilings) for plan in plans]
    return SpeedResults(
        version=__version__,
        date=date.today().isoformat(),
        machine=read_machine(options.threads),
        lr_size=(options.width, options.height),
        rounds=options.rounds,
        data=None if options.data is None else str(options.data),
        ceilings=ceilings,
        models=models,
    )


def measure_ceilings(channels: set[int], options: BenchmarkOptions) -> list[CeilingResult]:
    """Return the peak throughput of every installed library in every precision.

    Args:
        channels: numbers of channels to measure convolutions with.
        options: of the measurement.
    """
    measured: dict[tuple[peak_flops.KernelShape, str, str], float] = {}
    for library in peak_flops.libraries():
        options.on_progress(f"ceilings of {library}")
        with Worker({"job": "ceiling", "library": library}, threads=options.threads) as worker:
            for shape in peak_flops.shapes(channels):
                for precision in PRECISIONS:
                    response = worker.request({**vars(shape), "precision": precision})
                    if response["gflops_per_s"] is not None:
                        measured[shape, precision, library] = response["gflops_per_s"]
    best: dict[tuple[peak_flops.KernelShape, str], float] = {}
    for (shape, precision, _), value in measured.items():
        best[shape, precision] = max(value, best.get((shape, precision), 0.0))
    return [
        CeilingResult(
            **vars(shape),
            precision=precision,
            library=library,
            gflops_per_s=value,
            best=value == best[shape, precision],
        )
        for (shape, precision, library), value in measured.items()
    ]


def run_alternately(
    workers: Sequence[Worker],
    *,
    options: BenchmarkOptions,
    in_round: Callable[[int, int], bool] = lambda _worker, _round: True,
) -> list[list[float]]:
    """Return the seconds of every run of every worker; in each round, each worker runs once.

    Args:
        workers: each with a model.
        options: size of the image, and number of rounds.
        in_round: whether the worker of an index runs in a round.
    """
    seconds: list[list[float]] = [[] for _ in workers]
    request = {"command": "run", "height": options.height, "width": options.width}
    for round_index in range(options.rounds):
        for index, worker in enumerate(workers):
            if in_round(index, round_index):
                seconds[index].append(worker.request(request)["seconds"])
    return seconds


class _Plan(NamedTuple):
    """A candidate with the cases and images to measure it on."""

    candidate: Candidate
    cases: list[BenchmarkCase]
    images: Images


@final
@dataclass(frozen=True)
class _Measured:
    """Measurements of one case."""

    case: BenchmarkCase
    seconds: list[float]
    peak_bytes: int | None
    cost: AccuracyCost | None


def _plan(candidate: Candidate, backends: tuple[str, ...], *, options: BenchmarkOptions) -> _Plan:
    return _Plan(
        candidate,
        cases(candidate, backends, precisions=options.precisions),
        images_for(
            candidate.bundle.card,
            options.data,
            trained=candidate.trained,
            allow_outside=options.allow_outside,
        ),
    )


def _measure_cases(plan: _Plan, options: BenchmarkOptions) -> list[_Measured]:
    """Return the measurements of all cases of a candidate, each in its own process."""
    name = plan.candidate.name
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        workers = []
        for case in plan.cases:
            options.on_progress(f"{name}: {case.backend} {case.precision}")
            job = {"job": "engine", "bundle": str(case.bundle.folder)}
            job |= {"backend": case.backend, "precision": case.precision}
            workers.append(stack.enter_context(Worker(job, threads=options.threads)))
        for case, worker in zip(plan.cases, workers, strict=True):
            limit = _WARM_UP_PX if case.backend == REFERENCE else max(options.height, options.width)
            height, width = min(limit, options.height), min(limit, options.width)
            worker.request({"command": "run", "height": height, "width": width})
        options.on_progress(f"{name}: {options.rounds} rounds")
        seconds = run_alternately(
            workers,
            options=options,
            in_round=lambda index, round_index: (
                plan.cases[index].backend != REFERENCE or options.is_reference_round(round_index)
            ),
        )
        peaks = [worker.request({"command": "memory"})["bytes"] for worker in workers]
        options.on_progress(f"{name}: accuracy")
        costs = _costs(plan, workers, folder=Path(folder))
    return [_Measured(*row) for row in zip(plan.cases, seconds, peaks, costs, strict=True)]


def _costs(plan: _Plan, workers: list[Worker], *, folder: Path) -> list[AccuracyCost | None]:
    """Return the accuracy cost of each case against `reference` for the same model."""
    is_own = [case.backend == REFERENCE and not case.twin for case in plan.cases]
    if not any(is_own):
        return [None] * len(plan.cases)
    card, images = plan.candidate.bundle.card, plan.images
    reference = upscale(workers[is_own.index(True)], images, folder=folder)
    return [
        None
        if case.backend == REFERENCE
        else cost(card, images, sr=upscale(worker, images, folder=folder), reference=reference)
        for case, worker in zip(plan.cases, workers, strict=True)
    ]


def _measure_model(
    plan: _Plan, options: BenchmarkOptions, *, ceilings: list[CeilingResult]
) -> ModelResult:
    """Return the results of one candidate."""
    candidate, measured = plan.candidate, _measure_cases(plan, options)
    card, config = candidate.bundle.card, candidate.bundle.card.config
    form = trained_form(config)
    return ModelResult(
        name=candidate.name,
        scale=card.scale,
        channels=channels_of(config),
        trained=candidate.trained,
        weights_sha256=candidate.bundle.weights_sha256,
        reference_form=form,
        parameters=_parameters(card, form),
        parameters_collapsed=_parameters(card, "collapsed"),
        gflop_per_lr_mp=_gflop_per_lr_mp(config, "expanded"),
        gflop_per_lr_mp_collapsed=_gflop_per_lr_mp(config, "collapsed"),
        backends=[
            BackendResult(
                backend=each.case.backend,
                precision=each.case.precision,
                form=each.case.form,
                twin=each.case.twin,
                times=_run_times(each, measured),
                throughput=_throughput(each, config, options=options, ceilings=ceilings),
                memory=_peak_memory(each, measured),
                accuracy=_accuracy_change(each.cost),
            )
            for each in measured
        ],
    )


def channels_of(config: ModelConfig | SystemConfig) -> int:
    """Return the channels of most maps, which the ceiling is measured with."""
    if not isinstance(config, SystemConfig):
        return config.channels
    features = config.sizes.get("features", _USUAL_CHANNELS)
    return int(features[0] if isinstance(features, list | tuple) else features)


def _parameters(card: ModelCard, form: Form) -> int:
    """Return the number of trained values; of a compared system, those at inference."""
    if isinstance(card.config, SystemConfig):
        return card.parameters
    return network_cost(card.config, collapsed=form == "collapsed").parameters


def _gflop_per_lr_mp(config: ModelConfig | SystemConfig, form: Form) -> float:
    """Return the operations for a million LR pixels, in 1e9."""
    if isinstance(config, SystemConfig):
        return config.gflop_per_lr_mp
    return network_cost(config, collapsed=form == "collapsed").gflop_per_lr_mp


def _references(measured: list[_Measured]) -> tuple[_Measured | None, _Measured | None]:
    """Return the measurements on `reference` of the model itself and of its twin."""
    references = [each for each in measured if each.case.backend == REFERENCE]
    own = next((each for each in references if not each.case.twin), None)
    return own, next((each for each in references if each.case.twin), None)


def _run_times(each: _Measured, measured: list[_Measured]) -> RunTimes:
    over_own, over_twin = (
        other and ratio_of_medians(other.seconds, each.seconds) for other in _references(measured)
    )
    return RunTimes(
        seconds=each.seconds,
        median_s=statistics.median(each.seconds),
        speedup_over_reference=over_own and over_own.value,
        speedup_interval95=over_own and over_own.interval95,
        speedup_over_expanded=over_twin and over_twin.value,
        speedup_over_expanded_interval95=over_twin and over_twin.interval95,
    )


def _throughput(
    each: _Measured,
    config: ModelConfig | SystemConfig,
    *,
    options: BenchmarkOptions,
    ceilings: list[CeilingResult],
) -> Throughput:
    convolutions = (
        row
        for row in ceilings
        if row.operation == "convolution" and row.channels == channels_of(config) and row.best
    )
    best = next((row for row in convolutions if row.precision == each.case.precision), None)
    gflop = _gflop_per_lr_mp(config, each.case.form) * options.height * options.width / 1e6
    gflops_per_s = gflop / statistics.median(each.seconds)
    return Throughput(
        gflops_per_s=gflops_per_s,
        share_of_ceiling=best and gflops_per_s / best.gflops_per_s,
        ceiling_library=best and best.library,
    )


def _peak_memory(each: _Measured, measured: list[_Measured]) -> PeakMemory:
    own, twin = _references(measured)
    reference = twin or own
    reference_bytes = None if reference is None else reference.peak_bytes
    if each.peak_bytes is None or not reference_bytes:
        return PeakMemory(peak_memory_bytes=each.peak_bytes)
    ratio = each.peak_bytes / reference_bytes
    return PeakMemory(peak_memory_bytes=each.peak_bytes, peak_memory_ratio=ratio)


def _accuracy_change(measured: AccuracyCost | None) -> AccuracyChange:
    if measured is None:
        return AccuracyChange()
    return AccuracyChange(
        psnr_change_db=measured.change_db,
        psnr_change_by=measured.by,
        psnr_between_db=measured.between_db,
    )
