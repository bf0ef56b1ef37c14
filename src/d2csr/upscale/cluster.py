"""A folder spread over a Ray cluster: workers get paths, and fetch and store pixels themselves."""

import logging
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

from d2csr.core.bundle import CARD_NAME, Bundle
from d2csr.core.errors import ImageError, UsageError
from d2csr.upscale.compute import Compute
from d2csr.upscale.errand_list import NotedErrands, plan_errands
from d2csr.upscale.errands import Answer, Errand, Runner
from d2csr.upscale.interruption import sigterm_as_interrupt
from d2csr.upscale.places import is_url
from d2csr.upscale.report import PictureReport, Summary, Teller, say
from d2csr.upscale.run import Manner, settings_of
from d2csr.upscale.wanted import Wanted

_TRIES = 3  # of a picture whose worker dies: it may be the picture that kills it


def upscale_on_cluster(
    inputs: Sequence[str],
    out: str,
    *,
    bundle: Bundle,
    wanted: Wanted,
    compute: Compute,
    manner: Manner,
) -> Summary:
    """Enlarge pictures by workers of a Ray cluster; else as `upscale_files` does, file for file.

    Connects to the cluster that RAY_ADDRESS names, or starts one on this machine for the call. A
    worker that dies is replaced, and its picture done again.

    Args:
        inputs: files and folders, by path or by URL; paths must mean the same on every machine.
        out: folder for the results, by path or by URL.
        bundle: the model; it is sent to the workers.
        wanted: what to write for each picture.
        compute: what each worker computes with.
        manner: how to go about it.

    Raises:
        UsageError: Ray is not installed, no pictures, or names that clash.
    """
    _refuse_without_ray()
    started, began_at = time.monotonic(), time.time()
    out = out if is_url(out) else str(Path(out).resolve())
    settings = settings_of(bundle, wanted, compute=compute)
    with closing(NotedErrands(out)) as noted:
        errands, faults = plan_errands(inputs, out, wanted=wanted, bundle=bundle)
        for fault in faults:
            say(f"error: {fault}")
        if manner.resume:
            errands = [replace(each, known=noted.find(each.place)) for each in errands]
        teller, interrupted = Teller(dict if manner.records else None), False
        try:
            with sigterm_as_interrupt(), _cluster():
                hands = Hands(bundle, out, wanted=wanted, compute=compute, settings=settings)
                for answer in hands.work(errands, workers=manner.workers):
                    if answer.done is not None:
                        noted.note(answer.done)
                    teller.tell(_report(answer))
        except KeyboardInterrupt:
            interrupted = True
    faults += [each.fault for each in teller.pictures if each.fault is not None]
    return Summary(
        bundle.card.name,
        bundle.card.scale,
        pictures=tuple(teller.pictures),
        faults=tuple(faults),
        seconds={"total": time.monotonic() - started},
        began_at=began_at,
        interrupted=interrupted,
    )


@final
class Hands:
    """Workers of a cluster, each with one picture at a time."""

    def __init__(
        self, bundle: Bundle, out: str, *, wanted: Wanted, compute: Compute, settings: str
    ) -> None:
        """Keep what each worker is made with."""
        names = [CARD_NAME, *bundle.card.files]
        files = {name: (bundle.folder / name).read_bytes() for name in names}
        self._made_with = (files, out)
        self._also = {"wanted": wanted, "compute": compute}
        self._settings = settings

    def work(self, errands: Sequence[Errand], *, workers: int | None) -> Iterator[Answer]:
        """Yield answers as they come.

        Raises:
            UsageError: a worker can't open the model as asked.
        """
        import ray
        from ray.exceptions import RayActorError

        machines = [each for each in ray.nodes() if each["Alive"]]
        count = min(workers or len(machines), len(errands))
        waiting, tries = deque(errands), dict.fromkeys(errands, 0)
        busy: dict[Any, tuple[Errand, Any]] = {}
        idle = [self._worker(machines, count) for _ in range(count)]
        while waiting or busy:
            while waiting and idle:
                worker, errand = idle.pop(), waiting.popleft()
                busy[worker.run.remote(errand, self._settings)] = (errand, worker)
            (ready, *_), _ = ray.wait(list(busy), num_returns=1)
            errand, worker = busy.pop(ready)
            try:
                yield ray.get(ready)
            except RayActorError:
                tries[errand] += 1
                if tries[errand] < _TRIES:
                    waiting.appendleft(errand)
                else:
                    yield _given_up(errand)
                worker = self._worker(machines, count)
            idle.append(worker)

    def _worker(self, machines: Sequence[Any], count: int) -> Any:
        """Return a new worker, with its share of the smallest machine's cores."""
        import ray

        cores = min(each["Resources"].get("CPU", 1) for each in machines)
        share = max(1, int(cores * len(machines) / count))
        make = ray.remote(Runner).options(num_cpus=min(share, cores), scheduling_strategy="SPREAD")
        return make.remote(*self._made_with, **self._also)


def _given_up(errand: Errand) -> Answer:
    report = PictureReport(errand.source, errand.place, "failed")
    problem = f"{_TRIES} workers died of it"
    return Answer(report, fault=(errand.source, problem, "Try it on a machine with more memory."))


def _report(answer: Answer) -> PictureReport:
    if answer.fault is None:
        return answer.report
    where, problem, remedy = answer.fault
    return replace(answer.report, fault=ImageError(where, problem, remedy=remedy))


def _refuse_without_ray() -> None:
    missing = [name for name in ("ray", "fsspec") if find_spec(name) is None]
    if missing:
        remedy = "Run `pip install 'd2csr[cluster]'`."
        raise UsageError("--engine ray", f"{missing[0]} isn't installed", remedy=remedy)


@contextmanager
def _cluster() -> Iterator[None]:
    """Connect to the cluster of RAY_ADDRESS, or start one here, and leave it in the end."""
    import ray

    with redirect_stdout(sys.stderr):  # where Ray tells of dead workers
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()
