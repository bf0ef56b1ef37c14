"""Sizes of networks that take the same time as the base, measured on the engine.

Weights are random: they don't change the time. Each network runs in a process of its own on one
core, and the runs of all networks alternate. Processor time is measured, which in one thread is the
elapsed time of an idle machine: the study shares its machine with trainings for hours.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from d2csr.core.config import ModelConfig
from d2csr.core.errors import UsageError
from d2csr.engine.backends.base import load_backend
from d2csr.export.bundle_writer import export_random_bundle
from d2csr.speed.measure import ratio_of_medians
from d2csr.speed.worker import Worker

TOLERANCE = 0.05
SIDE_PX = 256  # of the LR image that is timed
_BACKEND = "openvino"

Time = Callable[[Sequence[ModelConfig]], list[list[float]]]  # networks -> seconds of every run


@dataclass(frozen=True)
class TimedNetwork:
    """A variant's network and its time, of all its networks together.

    Attributes:
        model: its configuration.
        time_ms: processor time for the image that is timed; the median of all runs.
        ratio: to the time of the base.
        interval95: of the ratio, bootstrapped over the runs.
    """

    model: ModelConfig
    time_ms: float
    ratio: float
    interval95: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TimedNetwork":
        """Return the network that `to_dict` wrote."""
        low, high = values["interval95"]
        model = ModelConfig.from_dict(values["model"])
        return cls(model, values["time_ms"], values["ratio"], (low, high))


def engine_seconds(rounds: int, *, threads: int = 1) -> Time:
    """Return the function that times networks on the engine.

    The time is the processor's in one thread, and the elapsed one in several.
    """
    precisions = load_backend(_BACKEND).precisions("CPU")
    precision = "bf16" if "bf16" in precisions else "fp32"
    request = {"command": "run", "height": SIDE_PX, "width": SIDE_PX}
    clock = "cpu_seconds" if threads == 1 else "seconds"

    def seconds(networks: Sequence[ModelConfig]) -> list[list[float]]:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            workers = []
            for index, config in enumerate(networks):
                bundle = export_random_bundle(config, Path(folder) / str(index))
                job = {"job": "engine", "bundle": str(bundle.folder), "backend": _BACKEND}
                worker = Worker({**job, "precision": precision}, threads=threads)
                workers.append(stack.enter_context(worker))
                worker.request(request)  # the first run allocates
            by_round = [
                [worker.request(request)[clock] for worker in workers] for _ in range(rounds)
            ]
            return [list(runs) for runs in zip(*by_round, strict=True)]

    return seconds


def find_equal(
    candidates: Sequence[ModelConfig], base: ModelConfig, *, networks: int, time: Time
) -> ModelConfig:
    """Return the candidate whose time, times the number of networks, is nearest to the base's.

    Args:
        candidates: the one with the fewest operations first; time grows with them.
        base: the network to equal.
        networks: of each candidate that one result takes.
        time: measures networks.
    """
    if len(candidates) == 1:
        return candidates[0]
    ratios: dict[int, float] = {}

    def ratio(index: int) -> float:
        if index not in ratios:
            ours, theirs = (median(each) for each in time([candidates[index], base]))
            ratios[index] = networks * ours / theirs
        return ratios[index]

    low, high = 0, len(candidates) - 1
    while low < high:  # the first that is not faster than the base
        middle = (low + high) // 2
        low, high = (low, middle) if ratio(middle) >= 1 else (middle + 1, high)
    return candidates[min(range(max(0, low - 1), low + 1), key=lambda i: abs(ratio(i) - 1))]


def time_together(
    models: dict[str, ModelConfig], *, base: str, networks: dict[str, int], time: Time
) -> dict[str, TimedNetwork]:
    """Return the networks of all variants with their times, measured together.

    Raises:
        UsageError: the time of one is not that of the base within 5%.
    """
    unique = list(dict.fromkeys([models[base], *models.values()]))
    seconds = dict(zip(unique, time(unique), strict=True))
    timed: dict[str, TimedNetwork] = {}
    for name, config in models.items():
        count = float(networks[name])
        found = ratio_of_medians(seconds[config], seconds[models[base]]).times(count)
        if config == models[base]:
            found = found._replace(value=1.0, interval95=(1.0, 1.0))
        ms = 1e3 * count * median(seconds[config])
        timed[name] = TimedNetwork(config, ms, found.value, found.interval95)
    wrong = [f"{n} {t.ratio:.3f}" for n, t in timed.items() if abs(t.ratio - 1) > TOLERANCE]
    if wrong:
        problem = f"the times are not those of {base} within {TOLERANCE:.0%}: {', '.join(wrong)}"
        remedy = "Run it again, with more --rounds or while the machine has less other work."
        raise UsageError("times", problem, remedy=remedy)
    return timed
