"""A run from inputs to summary: which model, which images, and the executor that upscales them."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from d2csr import __version__
from d2csr.core.bundle import Bundle
from d2csr.core.errors import UsageError
from d2csr.core.files import remove_stale_temp_files
from d2csr.core.hardware import fit_address_space
from d2csr.engine.engine import MIN_ADDRESS_SPACE, Engine
from d2csr.engine.model import Model
from d2csr.engine.tail import require_predictions
from d2csr.engine.uncertainty import require_error_model
from d2csr.upscale.jobs import Job, Plan, PlannedImage, is_one_file, output_folder, plan_images
from d2csr.upscale.journal import FolderJournals, Journal, settings_hash
from d2csr.upscale.model_selection import select_bundle
from d2csr.upscale.options import (
    DEFAULT_BATCH,
    DEFAULT_COMPUTE,
    DEFAULT_OUTPUT,
    BatchOptions,
    ComputeOptions,
    OutputOptions,
)
from d2csr.upscale.pipeline import Pipeline
from d2csr.upscale.report import (
    NO_OBSERVER,
    ImageReport,
    Observer,
    Reporter,
    Stopwatch,
    Summary,
    progress_bar,
)
from d2csr.upscale.storage import is_url


@dataclass(frozen=True)
class Run:
    """Everything that an executor needs besides the images.

    Attributes:
        bundle: the model.
        output: folder or file of the results, by path or URL; empty for results beside their
            originals.
        options: which files are made.
        compute: what computes them.
        batch: how the run proceeds.
        observer: gets the progress.
    """

    bundle: Bundle
    output: str
    options: OutputOptions
    compute: ComputeOptions
    batch: BatchOptions
    observer: Observer = NO_OBSERVER

    @property
    def settings(self) -> str:
        """Return a hash of everything that the contents of the results depend on.

        Backend, device and memory change pixels by rounding at most, so they aren't included. The
        precision is included as given: `auto` is the same on every machine of a cluster.
        """
        settings: dict[str, Any] = {
            "version": __version__,
            "model": dict(self.bundle.card.files),
            "options": self.options.content_settings(),
            "precision": self.compute.precision,
        }
        return settings_hash(settings)


def upscale_files(  # noqa: PLR0913 - one keyword per concern
    inputs: Sequence[str | Path],
    output: str | Path = "",
    *,
    model: "str | Path | Bundle | Model | None" = None,
    scale: int | None = None,
    options: OutputOptions = DEFAULT_OUTPUT,
    compute: ComputeOptions = DEFAULT_COMPUTE,
    batch: BatchOptions = DEFAULT_BATCH,
    observer: Observer = NO_OBSERVER,
) -> Summary:
    """Upscale image files and return a summary with a report per image.

    Errors are printed, and don't stop the other images; folders of results have a journal.

    Args:
        inputs: image files, and folders that are searched recursively.
        output: folder, or file for a single image; empty: each result lies beside its original.
        model: name, folder or loaded model, opened again; None takes that for photographs.
        scale: of the model; None takes the smallest that reaches the size of the results, or 2.
        options: which files are made from each image.
        compute: what computes them.
        batch: whether existing files are replaced, resuming, JSON output, and the executor.
        observer: gets the reports, and of the local executor the progress.

    Raises:
        ModelNameError: there is no such model.
        UsageError: there are no images, no result can be written, or there is no such device.
        OutOfMemoryError: the process may not allocate what the libraries take.
    """
    fit_address_space(MIN_ADDRESS_SPACE)  # before threads begin
    reporter, watch = Reporter(json=batch.json, observer=observer), Stopwatch()
    with watch.timing("total"):
        names, size, out = [str(each) for each in inputs], options.size, str(output)
        bundle = select_bundle(model, scale, size=size, inputs=names, output=out)
        run = Run(_check_maps(bundle, options), out, options, compute, batch, observer)
        plan = plan_run(inputs, run)
        reporter.report_plan(plan)
        interrupted = _report_images(plan.images, run, reporter=reporter, watch=watch)
    return reporter.summarize(bundle.card, size, watch, interrupted=interrupted)


def _check_maps(bundle: Bundle, options: OutputOptions) -> Bundle:
    """Return the bundle; maps are refused of a model that has nothing to make them from."""
    if options.needs_predictions:
        require_predictions(bundle)
    if options.uncertainty:
        require_error_model(bundle)
    return bundle


def _report_images(
    images: Sequence[PlannedImage], run: Run, *, reporter: Reporter, watch: Stopwatch
) -> bool:
    """Execute a run, report each image, and return whether the run was interrupted."""
    try:
        with sigterm_as_interrupt():
            for report in _execute(images, run, watch=watch):
                reporter.report(replace(report, strength=run.options.strength))
    except KeyboardInterrupt:
        return True
    return False


def plan_run(inputs: Sequence[str | Path], run: Run) -> Plan:
    """Return the images of a run and an error for each input that can't be used.

    Raises:
        UsageError: there are no images, no result can be written, or URLs are given to the local
            executor.
    """
    names = [str(each) for each in inputs]
    if run.batch.executor == "local" or run.batch.dry_run:
        for name in filter(is_url, (*names, run.output)):
            problem = "is a URL, which only --executor ray reads and writes, without --dry-run"
            raise UsageError(name, problem, "Use --executor ray, or give a folder.")
    if run.batch.executor == "ray" and not run.output and not run.batch.dry_run:
        remedy = "Give a folder with -o, or remove --executor ray."
        raise UsageError("--output", "is needed on a cluster", remedy)
    if run.batch.resume and is_one_file(run.output):
        problem = "is one file, which can't be resumed"
        raise UsageError(run.output, problem, "Remove --resume, or give a folder.")
    config = run.bundle.card.config
    return plan_images(
        names, run.output, options=run.options, leaves=config.leaves, scale=config.scale
    )


def open_journal(run: Run) -> Journal | FolderJournals | None:
    """Return the journal of a run on this machine; None for a result that is one file."""
    if not run.output:
        return FolderJournals()
    return None if is_one_file(run.output) else Journal(Path(output_folder(run.output)))


def _execute(
    images: Sequence[PlannedImage], run: Run, *, watch: Stopwatch
) -> Iterator[ImageReport]:
    """Yield the report of each image from the executor of the run."""
    if run.batch.dry_run:
        from d2csr.upscale.dry_run import plan_locally

        return plan_locally(images, run)
    if run.batch.executor == "ray":
        from d2csr.upscale.ray_executor import upscale_on_ray

        return upscale_on_ray(images, run)
    return upscale_locally(images, run, watch=watch)


def upscale_locally(
    images: Sequence[PlannedImage], run: Run, *, watch: Stopwatch
) -> Iterator[ImageReport]:
    """Yield the report of each image, upscaled in this process.

    Args:
        images: the images.
        run: model and options.
        watch: gets the seconds of loading the engine, which happens while the first image is read.
    """
    if not images:
        return
    folder = Path(output_folder(run.output))
    jobs = [Job(Path(each.source), folder / each.target) for each in images]
    if run.batch.resume and run.output:
        remove_stale_temp_files(folder)
    elif run.batch.resume:
        for beside in {job.target.parent for job in jobs}:
            remove_stale_temp_files(beside, recursive=False)
    input_bytes = sum(job.source.stat().st_size for job in jobs if job.source.is_file())
    with (
        ThreadPoolExecutor(1) as opener,
        progress_bar(images=len(jobs), input_bytes=input_bytes, observer=run.observer) as bar,
    ):
        opening = opener.submit(_open, run, watch=watch)
        pipeline = Pipeline(
            run.options,
            bar,
            leaves=run.bundle.card.config.leaves,
            journal=open_journal(run),
            settings=run.settings,
            batch=run.batch,
            memory=run.compute.memory,
            limit_mp=run.compute.limit_mp,
        )
        for report in pipeline.run(jobs, opening.result):
            yield replace(report, engine=describe_engine(opening.result()))


def _open(run: Run, *, watch: Stopwatch) -> Engine:
    with watch.timing("load"):
        return run.compute.open(run.bundle)


def describe_engine(engine: Engine) -> dict[str, Any]:
    """Return the model and the backend as JSON values, for records of images."""
    backend = engine.backend
    return {
        "model": engine.bundle.card.name,
        "weights_sha256": engine.bundle.weights_sha256,
        "scale": engine.bundle.card.scale,
        "backend": backend.name,
        "device": backend.device,
        "precision": backend.precision,
    }


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGTERM, as for Ctrl-C, while the block runs.

    Signal handlers can only be set in the main thread; in another thread nothing changes.
    """
    own = os.getpid()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if os.getpid() != own:  # a fork of this process, made by a library
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
