"""The pipeline: one thread reads images ahead, this one computes rows, others finish files."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard, TypeVar, final

from d2csr.core.errors import (
    BundleError,
    D2csrError,
    ImageError,
    UsageError,
    is_from_out_of_memory,
)
from d2csr.core.files import sha256_file
from d2csr.engine.engine import Engine
from d2csr.images.formats import DEFAULT_LIMIT_MP
from d2csr.images.reader import DecodedImage, read_image, read_size
from d2csr.upscale.image_upscaler import ImageUpscaler
from d2csr.upscale.jobs import Job
from d2csr.upscale.journal import FolderJournals, Journal
from d2csr.upscale.options import DEFAULT_BATCH, BatchOptions, OutputOptions
from d2csr.upscale.report import ImageReport, ProgressBar, Stopwatch

IMAGE_ERRORS = (D2csrError, MemoryError, OSError)  # end the work on one image, not the run

EXISTS = (
    "exists already",
    "Add --overwrite to replace it, or choose another folder or --suffix.",
)  # problem and remedy of a result that would be overwritten

_ITEMS_AHEAD = 2
_AHEAD_BYTES = 512 << 20  # of decoded images, the current one included, at most
_AHEAD_SHARE = 8  # of the memory allowed: an eighth
_PIXEL_BYTES = 8  # at most: four channels of 16 bit
_FINISHERS = max(1, min(4, (os.cpu_count() or 1) // 2))

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    items: Iterable[Item],
    function: Callable[[Item], Result],
    *,
    cost: Callable[[Item], int],
    limit: int,
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order; a thread computes the next ones meanwhile.

    Args:
        items: the arguments of the calls.
        function: called in the thread; its exceptions are raised here.
        cost: bytes that the result for an item takes.
        limit: bytes that results may take together, the one in the caller's hands included; a
            result that alone takes more is computed when no other is in memory.
    """
    waiting = deque(items)
    started: deque[tuple[int, Future[Result]]] = deque()
    held = 0
    pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
    try:
        while waiting or started:
            while waiting and len(started) < _ITEMS_AHEAD:
                size = cost(waiting[0])
                if held and held + size > limit:
                    break
                started.append((size, pool.submit(function, waiting.popleft())))
                held += size
            size, future = started.popleft()
            yield future.result()
            held -= size
    finally:
        pool.shutdown(cancel_futures=True)


def to_image_error(source: Path, error: BaseException) -> D2csrError:
    """Return one of `IMAGE_ERRORS` as an error that names the image."""
    if is_from_out_of_memory(error) and not _states_memory(error):
        remedy = "Use a smaller image, a part of it, or a lower --memory."
        return ImageError(source, "is too large for this machine's memory", remedy)
    if isinstance(error, OSError):
        problem = f"can't be upscaled: {error.strerror or error}"
        return ImageError(source, problem, "Free some disk space, or choose another folder.")
    if isinstance(error, BundleError) or _states_memory(error):  # these name a graph, or the memory
        return ImageError(source, f"{error.where}: {error.problem}", error.remedy)
    if isinstance(error, D2csrError):
        return error
    raise error


def _states_memory(error: BaseException) -> TypeGuard[UsageError]:
    """Return whether an error of the plan says how much memory an image takes."""
    return isinstance(error, UsageError) and error.where == "memory"


def check_overwriting(
    files: Iterable[Path], *, journal: Journal | FolderJournals | None, batch: BatchOptions
) -> None:
    """Check that no file would be overwritten against the options.

    Args:
        files: the files to write.
        journal: of earlier runs; None if there is none.
        batch: with `overwrite` all may be replaced, with `resume` those of the journal.

    Raises:
        ImageError: a file exists that may not be replaced.
    """
    for file in () if batch.overwrite else files:
        if not (file.is_file() or file.is_symlink()):
            continue
        if not (batch.resume and journal is not None and journal.wrote(file)):
            raise ImageError(file, *EXISTS)


@final
@dataclass(frozen=True)
class Decoded:
    """A job with its decoded image, and the hash of its file if there is a journal."""

    job: Job
    watch: Stopwatch
    input_sha256: str
    image: DecodedImage


@final
@dataclass(frozen=True)
class Pipeline:
    """What all images of a run share.

    Attributes:
        options: which files are made from each image.
        bar: shows the progress.
        leaves: number of predictions of the model.
        journal: list of finished images; None writes none.
        settings: hash of everything that the contents of the results depend on.
        batch: whether finished images are skipped, and files replaced.
        memory: bytes that the process may use; None if not limited.
        limit_mp: largest image accepted, in megapixels.
    """

    options: OutputOptions
    bar: ProgressBar
    leaves: int
    journal: Journal | FolderJournals | None = None
    settings: str = ""
    batch: BatchOptions = DEFAULT_BATCH
    memory: int | None = None
    limit_mp: float = DEFAULT_LIMIT_MP

    def run(self, jobs: Iterable[Job], engine: Callable[[], Engine]) -> Iterator[ImageReport]:
        """Yield the report of each image when its files are complete; errors don't stop the run.

        Few images are in memory at a time: up to 512 MiB of decoded ones, and some strips of rows.

        Args:
            jobs: the images to upscale.
            engine: returns the engine; called when the first image is decoded.

        Raises:
            D2csrError: the engine can't be opened.
        """
        finishing: deque[Future[ImageReport]] = deque()
        pool = ThreadPoolExecutor(_FINISHERS, thread_name_prefix="finish")
        limit = min(_AHEAD_BYTES, (self.memory or 1 << 62) // _AHEAD_SHARE)
        try:
            for decoded in prefetch(jobs, self._decode, cost=self._cost, limit=limit):
                opened = engine()
                if isinstance(decoded, ImageReport):
                    yield self._count(decoded)
                    continue
                outcome = self._upscale(decoded, opened, pool=pool)
                if isinstance(outcome, ImageReport):
                    yield self._count(outcome)
                    continue
                finishing.append(outcome)
                while finishing and (len(finishing) > _FINISHERS or finishing[0].done()):
                    yield self._count(finishing.popleft().result())
            while finishing:
                yield self._count(finishing.popleft().result())
        except KeyboardInterrupt:
            pool.shutdown()  # images that are computed are completed, and reported
            yield from (self._count(each.result()) for each in finishing)
            raise
        finally:
            pool.shutdown()

    def _cost(self, job: Job) -> int:
        """Return the most bytes that an image may take; 0 if its header can't be read."""
        try:
            size = read_size(job.source, limit_mp=self.limit_mp)
        except IMAGE_ERRORS:
            return 0  # decoding reports the error
        return size.width * size.height * _PIXEL_BYTES

    def _decode(self, job: Job) -> Decoded | ImageReport:
        """Return a job with its image, or a report if it is finished or can't be read."""
        watch, sha256 = Stopwatch(), ""
        try:
            with watch.timing("decode"):
                if self.journal is not None and job.source.is_file():
                    sha256 = sha256_file(job.source)  # before the pixels, in case the file changes
                    if self.batch.skips_finished and self.journal.is_complete(
                        job.target, input_sha256=sha256, settings=self.settings
                    ):
                        return ImageReport(str(job.source), str(job.target), "unchanged")
                files = job.files(self.options, self.leaves)
                check_overwriting(files, journal=self.journal, batch=self.batch)
                image = read_image(job.source, limit_mp=self.limit_mp)
                return Decoded(job, watch, sha256, image)
        except IMAGE_ERRORS as error:
            return _failed(job, watch, error=error)

    def _upscale(
        self, decoded: Decoded, engine: Engine, *, pool: ThreadPoolExecutor
    ) -> "Future[ImageReport] | ImageReport":
        """Write the rows of an image's files; return their completion in the pool, or a failure."""
        job, watch = decoded.job, decoded.watch
        upscaler = ImageUpscaler(job, engine, self.options, decoded.image)
        self.bar.begin(job.source.name)
        try:
            upscaler.check_writable()
            with ExitStack() as stack:  # an error removes the incomplete files
                writers = {
                    output.path: stack.enter_context(output.open(upscaler.out_size))
                    for output in upscaler.outputs
                }
                for path, rows in watch.timed("compute", upscaler.iter_rows()):
                    with watch.timing("encode"):
                        writers[path].write(rows)
                    if path == job.target:
                        self._advance(job, rows=len(rows), upscaler=upscaler)
                return pool.submit(self._finish, decoded, upscaler, files=stack.pop_all())
        except IMAGE_ERRORS as error:
            return _failed(job, watch, error=error)

    def _finish(
        self, decoded: Decoded, upscaler: ImageUpscaler, *, files: ExitStack
    ) -> ImageReport:
        """Complete the files, SR last, add them to the journal, and return the report."""
        job, watch = decoded.job, decoded.watch
        paths = [output.path for output in upscaler.outputs]
        try:
            with watch.timing("encode"):
                files.close()
            if self.journal is not None:
                self.journal.add(paths, input_sha256=decoded.input_sha256, settings=self.settings)
        except IMAGE_ERRORS as error:
            return _failed(job, watch, error=error)
        return ImageReport(
            str(job.source),
            str(job.target),
            "done",
            files=tuple(map(str, paths)),
            lr_size=upscaler.lr_size,
            sr_size=upscaler.out_size,
            seconds=watch.seconds,
            warnings=upscaler.warnings,
        )

    def _advance(self, job: Job, *, rows: int, upscaler: ImageUpscaler) -> None:
        share = rows / upscaler.out_size.height
        sr_px = rows * upscaler.out_size.width
        self.bar.advance(input_bytes=round(share * _file_bytes(job.source)), sr_px=sr_px)

    def _count(self, report: ImageReport) -> ImageReport:
        """Return the report after counting its image in the progress bar."""
        if report.status != "done":
            self.bar.advance(input_bytes=_file_bytes(Path(report.source)), sr_px=0)
        self.bar.finish()
        return report


def _failed(job: Job, watch: Stopwatch, *, error: BaseException) -> ImageReport:
    return ImageReport(
        str(job.source),
        str(job.target),
        "failed",
        seconds=watch.seconds,
        error=to_image_error(job.source, error),
    )


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
