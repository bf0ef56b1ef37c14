"""Costs of a suite's models: parameters, operations, and time and memory on the fastest backend."""

import statistics
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from d2csr.core.bundle import Bundle, read_bundle
from d2csr.core.config import ModelConfig
from d2csr.core.errors import D2csrError, DataError
from d2csr.core.files import write_atomically
from d2csr.core.hardware import usable_cores
from d2csr.core.network_cost import network_cost
from d2csr.core.typed_reader import read_json
from d2csr.engine.backends.base import (
    BACKENDS,
    PRECISIONS,
    has_graphs,
    is_installed,
    load_backend,
    meets_accuracy_target,
)
from d2csr.engine.model import find_bundle
from d2csr.evaluation.systems import BASELINES
from d2csr.speed.worker import Worker
from d2csr.suites.config import SuiteConfig
from d2csr.suites.records import RUN_NAME, Trial, final_records

COST_NAME = "cost.json"  # in a trial's folder
_RUNS = 3


class ModelCost(BaseModel):
    """The cost of one model.

    Attributes:
        weights_sha256: of the model.
        parameters: trained values at inference.
        gflop_per_lr_mp: operations for a million LR pixels, in 1e9; a multiply-add counts as 2.
        backend: the fastest, with its precision; None if time wasn't measured.
        time_ms: median time of an LR image of `lr_size`.
        memory_bytes: peak above the loaded, idle process.
        lr_size: width and height of that image.
        threads: cores that were used.
    """

    model_config = ConfigDict(frozen=True)

    weights_sha256: str
    parameters: int
    gflop_per_lr_mp: float
    backend: str | None = None
    time_ms: float | None = None
    memory_bytes: int | None = None
    lr_size: tuple[int, int] | None = None
    threads: int | None = None


def find_trial_bundle(trial: Trial) -> Bundle | None:
    """Return the bundle of a trial that is done; None for a baseline without weights.

    Raises:
        D2csrError: it is missing or damaged.
    """
    if trial.trained in BASELINES:
        return None
    return read_bundle(find_bundle(trial.trained or str(trial.folder / RUN_NAME)))


def measure_costs(suite: SuiteConfig, out: Path) -> list[str]:
    """Measure the models of a suite, the first seed of each, where that isn't done yet.

    Returns:
        A line for each model that couldn't be measured.
    """
    failures: list[str] = []
    for data in suite.data:
        for records in final_records(out, suite, data=data).values():
            for record in records[:1]:
                try:
                    _update_cost(record.trial, lr_size=suite.processor)
                except (D2csrError, RuntimeError) as error:
                    failures.append(f"{record.trial.label}: time and memory: {error}")
    return failures


def read_cost(folder: Path) -> ModelCost | None:
    """Return the cost in a trial's folder; None if there is none.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / COST_NAME
    if not path.is_file():
        return None
    remedy = "Remove it; `suite run` then measures again."
    return read_json(path, ModelCost, error_type=DataError, remedy=remedy)


def _update_cost(trial: Trial, *, lr_size: tuple[int, int] | None) -> None:
    """Measure a trial's model, unless its cost is there."""
    bundle = find_trial_bundle(trial)
    if bundle is None:
        return
    known = read_cost(trial.folder)
    if known and known.weights_sha256 == bundle.weights_sha256 and known.lr_size == lr_size:
        return
    config = bundle.card.config
    gflop = (
        network_cost(config, collapsed=True).gflop_per_lr_mp
        if isinstance(config, ModelConfig)
        else config.gflop_per_lr_mp
    )
    cost = ModelCost(
        weights_sha256=bundle.weights_sha256,
        parameters=bundle.card.parameters,
        gflop_per_lr_mp=round(gflop, 2),
    )
    if lr_size is not None:
        threads = usable_cores()
        measured = [
            _measure(bundle, backend=name, precision=precision, lr_size=lr_size, threads=threads)
            for name, precision in _ways(bundle)
        ]
        backend, time_ms, memory = min(measured, key=lambda each: each[1])
        facts = {"backend": backend, "time_ms": time_ms, "memory_bytes": memory}
        cost = cost.model_copy(update={**facts, "lr_size": lr_size, "threads": threads})
    write_atomically(trial.folder / COST_NAME, (cost.model_dump_json(indent=1) + "\n").encode())


def _ways(bundle: Bundle) -> list[tuple[str, str]]:
    """Return the installed backends with each precision that is as accurate as the engine asks."""
    ways = []
    for name in BACKENDS:
        if is_installed(name) and name != "reference":
            backend = load_backend(name)
            available = backend.precisions(backend.find_device("cpu"))
            precisions = [
                each
                for each in PRECISIONS
                if each in available
                and has_graphs(bundle.card, each)
                and (each == "fp32" or meets_accuracy_target(bundle.card, each))
            ]
            ways += [(name, each) for each in precisions]
    return ways


def _measure(
    bundle: Bundle, *, backend: str, precision: str, lr_size: tuple[int, int], threads: int
) -> tuple[str, float, int | None]:
    """Return name, median time in ms and peak memory of a backend, in a process of its own."""
    width, height = lr_size
    request = {"command": "run", "width": width, "height": height}
    job = {"job": "engine", "bundle": str(bundle.folder)}
    job |= {"backend": backend, "precision": precision}
    with Worker(job, threads=threads) as worker:
        seconds = [worker.request(dict(request))["seconds"] for _ in range(_RUNS + 1)]
        memory = worker.request({"command": "memory"})["bytes"]
    return f"{backend} {precision}", round(1000 * statistics.median(seconds[1:]), 2), memory
