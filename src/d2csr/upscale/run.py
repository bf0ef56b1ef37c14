"""A call from inputs to summary: what is to be done, the engine, the pipeline."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from d2csr import __version__
from d2csr.core.bundle import Bundle
from d2csr.core.errors import UsageError
from d2csr.core.files import remove_left_behind
from d2csr.engine.engine import Engine
from d2csr.upscale.compute import AUTOMATIC, Compute
from d2csr.upscale.done import DoneList, settings_hash
from d2csr.upscale.interruption import sigterm_as_interrupt
from d2csr.upscale.jobs import is_one_file, plan_jobs
from d2csr.upscale.pipeline import Pipeline
from d2csr.upscale.progress import progress_bar
from d2csr.upscale.report import PictureReport, Summary, Teller, say
from d2csr.upscale.stopwatch import Stopwatch
from d2csr.upscale.wanted import SR_ONLY, Job, Wanted


@dataclass(frozen=True)
class Manner:
    """How a call goes about its work; what the results hold doesn't depend on it.

    Attributes:
        resume: leave out pictures that an earlier run has finished: the same input, settings and
            files.
        records: print a JSON line a picture on standard output.
        workers: processes of a cluster to share the work; None: one a machine.
    """

    resume: bool = False
    records: bool = False
    workers: int | None = None


PLAIN = Manner()


def upscale_files(
    inputs: Sequence[Path],
    out: Path,
    *,
    bundle: Bundle,
    wanted: Wanted = SR_ONLY,
    compute: Compute = AUTOMATIC,
    manner: Manner = PLAIN,
) -> Summary:
    """Enlarge pictures and write them into one folder; faults are told as they occur.

    A folder of results keeps a list of what is done, which `resume` goes by. Ctrl-C and SIGTERM end
    the call early: what is written is whole, and the summary says so.

    Args:
        inputs: picture files, and folders searched recursively.
        out: folder for the results; for a single picture also a file.
        bundle: the model.
        wanted: what to write for each picture.
        compute: what to compute with.
        manner: how to go about it.

    Raises:
        UsageError: no pictures, no such device, or names that clash; nothing is written then.
    """
    started, began_at = time.monotonic(), time.time()
    card = bundle.card
    if manner.resume and is_one_file(out):
        remedy = "Leave --resume out, or give a folder."
        raise UsageError(out, "is one file; there is nothing to resume", remedy=remedy)
    if manner.resume:
        remove_left_behind(out)
    jobs, faults = plan_jobs(inputs, out, wanted=wanted, leaves=card.config.leaves)
    for fault in faults:
        say(f"error: {fault}")
    watch, interrupted = Stopwatch(), False
    pictures: list[PictureReport] = []
    if jobs:
        with sigterm_as_interrupt(), ThreadPoolExecutor(1) as opener:
            opening = opener.submit(_opened, bundle, compute=compute, watch=watch)
            teller = Teller(partial(_facts, opening) if manner.records else None)
            try:
                with progress_bar(pictures=len(jobs), input_bytes=_bytes(jobs)) as bar:
                    pipeline = Pipeline(
                        wanted,
                        teller,
                        bar,
                        done=None if is_one_file(out) else DoneList(out),
                        settings=settings_of(bundle, wanted, compute=compute),
                        resume=manner.resume,
                        memory=compute.memory,
                        limit_mp=compute.limit_mp,
                    )
                    pipeline.run(jobs, opening.result)
            except KeyboardInterrupt:
                interrupted = True
            pictures = teller.pictures
    faults += [each.fault for each in pictures if each.fault is not None]
    seconds = {"load": watch.seconds.get("load", 0.0), "total": time.monotonic() - started}
    return Summary(
        card.name,
        card.scale,
        pictures=tuple(pictures),
        faults=tuple(faults),
        seconds=seconds,
        began_at=began_at,
        interrupted=interrupted,
    )


def settings_of(bundle: Bundle, wanted: Wanted, *, compute: Compute) -> str:
    """Return a hash of all that decides what results hold.

    Backend, device and memory are left out: they change pixels by rounding at most. Precision is
    in it as asked for, so that `auto` means the same on every machine of a cluster.
    """
    settings: dict[str, Any] = {
        "version": __version__,
        "model": dict(bundle.card.files),
        "wanted": wanted.settings(),
        "precision": compute.precision,
    }
    return settings_hash(settings)


def _opened(bundle: Bundle, *, compute: Compute, watch: Stopwatch) -> Engine:
    with watch.timing("load"):
        return compute.open(bundle)


def _facts(opening: "Future[Engine]") -> dict[str, Any]:
    """Return what every picture's record says of the model and what it ran on."""
    runner = opening.result().runner
    card = runner.bundle.card
    return {
        "model": card.name,
        "weights_sha256": runner.bundle.weights_sha256,
        "scale": card.scale,
        "backend": runner.backend,
        "device": runner.device,
        "precision": runner.precision,
    }


def _bytes(jobs: Sequence[Job]) -> int:
    return sum(job.source.stat().st_size for job in jobs if job.source.is_file())
