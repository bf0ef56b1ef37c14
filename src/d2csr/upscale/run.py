"""A call from inputs to summary: what is to be done, the engine, the pipeline.

Ctrl-C and SIGTERM: one way to end a call, after which nothing lies about half written.

The choice of a model: by name, or by scale among those that ship.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from d2csr import __version__
from d2csr.core.bundle import Bundle, read_bundle
from d2csr.core.errors import ModelNameError, UsageError
from d2csr.core.files import remove_stale_temp_files
from d2csr.engine.engine import Engine
from d2csr.engine.model import find_bundle, shipped_bundles
from d2csr.upscale.jobs import is_one_file, plan_jobs
from d2csr.upscale.journal import Journal, settings_hash
from d2csr.upscale.options import (
    DEFAULT_COMPUTE,
    DEFAULT_OUTPUT,
    ComputeOptions,
    Job,
    OutputOptions,
)
from d2csr.upscale.pipeline import Pipeline
from d2csr.upscale.report import (
    ImageReport,
    Reporter,
    Stopwatch,
    Summary,
    print_stderr,
    progress_bar,
)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does, while the block runs.

    Only the main thread may say so; from another thread nothing changes.
    """
    own = os.getpid()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if os.getpid() != own:  # a copy of this process, made by a library
            os._exit(143)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class BatchOptions:
    """How a call goes about its work; what the results hold doesn't depend on it.

    Attributes:
        resume: leave out images that an earlier run has finished: the same input, settings and
            files.
        records: print a JSON line an image on standard output.
        workers: processes of a cluster to share the work; None: one a machine.
    """

    resume: bool = False
    records: bool = False
    workers: int | None = None


DEFAULT_BATCH = BatchOptions()


def upscale_files(
    inputs: Sequence[Path],
    out: Path,
    *,
    bundle: Bundle,
    wanted: OutputOptions = DEFAULT_OUTPUT,
    compute: ComputeOptions = DEFAULT_COMPUTE,
    manner: BatchOptions = DEFAULT_BATCH,
) -> Summary:
    """Enlarge images and write them into one folder; errors are told as they occur.

    A folder of results keeps a list of what is done, which `resume` goes by. Ctrl-C and SIGTERM end
    the call early: what is written is whole, and the summary says so.

    Args:
        inputs: image files, and folders searched recursively.
        out: folder for the results; for a single image also a file.
        bundle: the model.
        wanted: what to write for each image.
        compute: what to compute with.
        manner: how to go about it.

    Raises:
        UsageError: no images, no such device, or names that clash; nothing is written then.
    """
    started, began_at = time.monotonic(), time.time()
    card = bundle.card
    if manner.resume and is_one_file(out):
        remedy = "Leave --resume out, or give a folder."
        raise UsageError(out, "is one file; there is nothing to resume", remedy=remedy)
    if manner.resume:
        remove_stale_temp_files(out)
    jobs, errors = plan_jobs(inputs, out, wanted=wanted, leaves=card.config.leaves)
    for error in errors:
        print_stderr(f"error: {error}")
    watch, interrupted = Stopwatch(), False
    images: list[ImageReport] = []
    if jobs:
        with sigterm_as_interrupt(), ThreadPoolExecutor(1) as opener:
            opening = opener.submit(_opened, bundle, compute=compute, watch=watch)
            teller = Reporter(partial(_facts, opening) if manner.records else None)
            try:
                with progress_bar(images=len(jobs), input_bytes=_bytes(jobs)) as bar:
                    pipeline = Pipeline(
                        wanted,
                        teller,
                        bar,
                        done=None if is_one_file(out) else Journal(out),
                        settings=run_fingerprint(bundle, wanted, compute=compute),
                        resume=manner.resume,
                        memory=compute.memory,
                        limit_mp=compute.limit_mp,
                    )
                    pipeline.run(jobs, opening.result)
            except KeyboardInterrupt:
                interrupted = True
            images = teller.images
    errors += [each.error for each in images if each.error is not None]
    seconds = {"load": watch.seconds.get("load", 0.0), "total": time.monotonic() - started}
    return Summary(
        card.name,
        card.scale,
        images=tuple(images),
        errors=tuple(errors),
        seconds=seconds,
        began_at=began_at,
        interrupted=interrupted,
    )


def run_fingerprint(bundle: Bundle, wanted: OutputOptions, *, compute: ComputeOptions) -> str:
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


def _opened(bundle: Bundle, *, compute: ComputeOptions, watch: Stopwatch) -> Engine:
    with watch.timing("load"):
        return compute.open(bundle)


def _facts(opening: "Future[Engine]") -> dict[str, Any]:
    """Return what every image's record says of the model and what it ran on."""
    runner = opening.result().backend
    card = runner.bundle.card
    return {
        "model": card.name,
        "weights_sha256": runner.bundle.weights_sha256,
        "scale": card.scale,
        "backend": runner.name,
        "device": runner.device,
        "precision": runner.precision,
    }


def _bytes(jobs: Sequence[Job]) -> int:
    return sum(job.source.stat().st_size for job in jobs if job.source.is_file())


def select_bundle(name: str | None, scale: int | None) -> Bundle:
    """Return the bundle to enlarge with.

    Args:
        name: a shipped model, or the folder of a bundle or a run; None: one that ships.
        scale: what it must enlarge by; without a name, the smallest shipped model that does.

    Raises:
        ModelNameError: no model of that name, or none of that scale ships.
        UsageError: name and scale contradict each other, or neither is given.
    """
    if name is not None:
        bundle = read_bundle(find_bundle(name))
        if scale not in {None, bundle.card.scale}:
            problem = f"enlarges {bundle.card.scale} times, not {scale}"
            raise UsageError(name, problem, remedy="Leave -s out, or choose another model.")
        return bundle
    shipped = shipped_bundles()
    ships = ", ".join(f"{each.card.name} (x{each.card.scale})" for each in shipped) or "none"
    if scale is None:
        raise UsageError("model", "none is named", remedy=f"Add -n NAME. Shipped: {ships}.")
    fitting = [each for each in shipped if each.card.scale == scale]
    if not fitting:
        remedy = f"Shipped: {ships}. Or name a bundle with -n."
        raise ModelNameError(f"x{scale}", "no shipped model enlarges so", remedy=remedy)
    return min(fitting, key=lambda each: each.card.parameters)
