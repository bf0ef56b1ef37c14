"""Pairs made by workers of a Ray cluster, which read and write the same folders by their paths."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import final

import cv2

from d2csr.align.outcome import Outcome
from d2csr.align.task import Task, do_task, given_up
from d2csr.core.cluster import TRIES, Hands, cluster


def outcomes_of_cluster(
    tasks: Sequence[Task], *, workers: int | None, bytes_each: int
) -> Iterator[Outcome]:
    """Yield outcomes as they come from the cluster that RAY_ADDRESS names, or one started here.

    A worker that dies is replaced, and its pair done again.

    Args:
        tasks: the pairs; their paths must mean the same on every machine.
        workers: how many at once; as many as cores and memory bear for None.
        bytes_each: memory that a worker needs.
    """
    if not tasks:
        return
    hands = Hands(AlignWorker, _died, bytes_each=bytes_each)
    with cluster():
        yield from hands.work([_anywhere(task) for task in tasks], workers=workers)


@final
class AlignWorker:
    """Makes one pair after the other, each on one core."""

    def __init__(self) -> None:
        """Leave the other cores to the other workers."""
        cv2.setNumThreads(1)

    def run(self, task: Task) -> Outcome:
        """Return what became of a pair; its files are written."""
        return do_task(task)


def _anywhere(task: Task) -> Task:
    """Return a task whose paths hold in any folder."""
    capture = task.capture
    ends = {"wide": capture.wide.resolve(), "tele": capture.tele.resolve()}
    return replace(task, capture=replace(capture, **ends), work=task.work.resolve())


def _died(task: Task) -> Outcome:
    return given_up(task, f"{TRIES} workers died of it")
