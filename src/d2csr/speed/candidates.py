"""Candidates: the models of a measurement, and the ways in which each of them can run."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from d2csr.core.bundle import Bundle, read_bundle
from d2csr.core.config import PRESETS, ModelConfig, preset
from d2csr.core.errors import UsageError
from d2csr.core.system_config import SystemConfig
from d2csr.engine.backends.base import (
    BACKENDS,
    PRECISIONS,
    Precision,
    has_graphs,
    is_installed,
    load_backend,
)
from d2csr.engine.model import find_bundle, shipped_names
from d2csr.speed.speed_results import Form

REFERENCE = "reference"

MakeBundle = Callable[[ModelConfig, Path], Bundle]


@dataclass(frozen=True)
class Candidate:
    """One model.

    Attributes:
        name: as the user gave it.
        bundle: the files of the model.
        trained: whether its weights are trained; otherwise they are random.
        twin: for a model that was trained with collapsed tails, a network of the same size with
            random weights and expanded tails, as in the literature.
    """

    name: str
    bundle: Bundle
    trained: bool = True
    twin: Bundle | None = None


class BenchmarkCase(NamedTuple):
    """One way to run one candidate."""

    bundle: Bundle
    backend: str
    precision: Precision
    form: Form
    twin: bool = False


@contextmanager
def open_candidates(
    names: Sequence[str], *, scale: int, make_random: MakeBundle | None
) -> Iterator[list[Candidate]]:
    """Yield the candidates of these names; bundles with random weights are deleted afterwards.

    Args:
        names: shipped models, bundle or run folders, or presets; none: all shipped models.
        scale: of presets.
        make_random: writes a bundle with random weights into a folder; None where PyTorch is
            missing: then there are no twins.

    Raises:
        UsageError: a preset needs PyTorch.
        D2csrError: there is no such model, or its bundle can't be read.
    """
    unique = list(dict.fromkeys(names or shipped_names()))
    bundles = {name: read_bundle(find_bundle(name)) for name in unique if name not in PRESETS}
    with tempfile.TemporaryDirectory() as folder:
        yield [
            _with_twin(name, bundles[name], path=Path(folder) / str(index), make_random=make_random)
            if name in bundles
            else _with_random_weights(
                name, scale, path=Path(folder) / name, make_random=make_random
            )
            for index, name in enumerate(unique)
        ]


def cases(
    candidate: Candidate, backends: Sequence[str], *, precisions: Sequence[Precision] = PRECISIONS
) -> list[BenchmarkCase]:
    """Return the ways to run a candidate: itself and its twin on `reference`, then the others."""
    own = candidate.bundle
    result: list[BenchmarkCase] = []
    if is_installed(REFERENCE):
        result.append(BenchmarkCase(own, REFERENCE, "fp32", trained_form(own.card.config)))
        if candidate.twin is not None:
            result.append(BenchmarkCase(candidate.twin, REFERENCE, "fp32", "expanded", twin=True))
    for name in backends:
        backend = load_backend(name)
        available = backend.precisions(backend.find_device("cpu"))
        result += [
            BenchmarkCase(own, name, precision, "collapsed")
            for precision in precisions
            if precision in available and has_graphs(own.card, precision)
        ]
    return result


def select_backends(names: Sequence[str]) -> tuple[str, ...]:
    """Return the backends to compare with `reference`: those named, or all that are installed.

    Raises:
        UsageError: a named backend isn't installed, or only `reference` is left.
    """
    for name in names:
        load_backend(name)
    backends = names or [name for name in BACKENDS if is_installed(name)]
    others = tuple(name for name in backends if name != REFERENCE)
    if not others:
        remedy = "Name another backend with --backend."
        raise UsageError("--backend", "nothing is compared with `reference`", remedy=remedy)
    return others


def trained_form(config: ModelConfig | SystemConfig) -> Form:
    """Return the form that a network was trained in; of a compared system, its only one."""
    return "collapsed" if isinstance(config, SystemConfig) else config.tail


def _with_random_weights(
    name: str, scale: int, *, path: Path, make_random: MakeBundle | None
) -> Candidate:
    """Return the candidate of a preset."""
    if make_random is None:
        problem = f"the preset {name} needs PyTorch, which isn't installed"
        raise UsageError("--name", problem, remedy="Run `pip install 'd2csr[train]'`.")
    return Candidate(f"{name} x{scale}", make_random(preset(name, scale), path), trained=False)


def _with_twin(
    name: str, bundle: Bundle, *, path: Path, make_random: MakeBundle | None
) -> Candidate:
    """Return the candidate of a bundle, with an expanded twin if it was trained collapsed."""
    config = bundle.card.config
    if make_random is None or isinstance(config, SystemConfig) or config.tail != "collapsed":
        return Candidate(name, bundle)
    return Candidate(name, bundle, twin=make_random(replace(config, tail="expanded"), path))
