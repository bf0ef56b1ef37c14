"""Subjects: the models to measure, and on what each of them can run."""

from dataclasses import dataclass
from typing import NamedTuple

from d2csr.core.bundle import Bundle
from d2csr.core.errors import UsageError
from d2csr.engine.backends.base import (
    BACKENDS,
    PRECISIONS,
    Precision,
    has_graphs,
    is_installed,
    load_backend,
)
from d2csr.speed.speed_results import Form

REFERENCE = "reference"


@dataclass(frozen=True)
class Candidate:
    """One model.

    Attributes:
        name: as it was asked for.
        bundle: its files.
        trained: whether its weights are; else they are random.
        twin: a network of the same sizes with random weights and expanded tails, where its own were
            trained collapsed: what the literature would run in its place.
    """

    name: str
    bundle: Bundle
    trained: bool = True
    twin: Bundle | None = None


class BenchmarkCase(NamedTuple):
    """One way to run one subject."""

    bundle: Bundle
    backend: str
    precision: Precision
    form: Form
    twin: bool = False


def cases(
    subject: Candidate, backends: tuple[str, ...], *, wanted: tuple[Precision, ...] = PRECISIONS
) -> list[BenchmarkCase]:
    """Return the ways to run a subject: `reference` first, its twin's, then those wanted."""
    own = subject.bundle
    found: list[BenchmarkCase] = []
    if is_installed(REFERENCE):
        found.append(BenchmarkCase(own, REFERENCE, "fp32", own.card.config.tail))
        if subject.twin is not None:
            found.append(BenchmarkCase(subject.twin, REFERENCE, "fp32", "expanded", twin=True))
    for name in backends:
        able = load_backend(name).precisions(load_backend(name).find_device("cpu"))
        found += [
            BenchmarkCase(own, name, precision, "collapsed")
            for precision in wanted
            if precision in able and has_graphs(own.card, precision)
        ]
    return found


def chosen_backends(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the backends to measure beside `reference`: those wanted, else all installed.

    Raises:
        UsageError: one that is wanted isn't there.
    """
    for name in wanted:
        load_backend(name)
    found = wanted or tuple(name for name in BACKENDS if is_installed(name))
    others = tuple(name for name in found if name != REFERENCE)
    if not others:
        remedy = "Name another with --backend."
        raise UsageError("--backend", "nothing is compared with `reference`", remedy=remedy)
    return others
