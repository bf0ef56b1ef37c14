"""The Ray executor: workers of a cluster download images, upscale them, and upload the results."""

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import final

from d2csr.core.bundle import CARD_NAME, Bundle, read_bundle
from d2csr.core.errors import D2csrError, ImageError, UsageError
from d2csr.core.files import atomic_folder, cache_folder, sha256_file
from d2csr.core.parallel import MAX_ATTEMPTS, ActorPool, ray_session, require_packages
from d2csr.upscale.jobs import Job, PlannedImage, is_one_file
from d2csr.upscale.journal import JOURNAL_NAME, Journal, JournalEntry, describe_files
from d2csr.upscale.options import DEFAULT_BATCH, BatchOptions, ComputeOptions, OutputOptions
from d2csr.upscale.pipeline import EXISTS, IMAGE_ERRORS, Pipeline, to_image_error
from d2csr.upscale.report import ImageReport, ProgressBar
from d2csr.upscale.run import Run
from d2csr.upscale.storage import download, file_digest, file_exists, is_url, join_url, upload

_UPLOAD_EVERY_S = 2.0


@dataclass(frozen=True)
class RemoteJob:
    """An image for a worker.

    Attributes:
        source: its URL or path, which is the same on every machine.
        target: path of its SR file in the folder of results.
        entry: its line in the journal; None if there is none.
    """

    source: str
    target: str
    entry: JournalEntry | None = None


@dataclass(frozen=True)
class RemoteResult:
    """The outcome of a job.

    Attributes:
        report: for the user.
        entry: for the journal, if the image was upscaled.
    """

    report: ImageReport
    entry: JournalEntry | None = None


@final
class UpscaleWorker:
    """Upscales one image after the other with one engine; needs nothing else on its machine."""

    def __init__(
        self,
        files: Mapping[str, bytes],
        output: str,
        *,
        options: OutputOptions,
        compute: ComputeOptions,
        batch: BatchOptions = DEFAULT_BATCH,
    ) -> None:
        """Write the model's files to the cache and open the engine.

        Args:
            files: of the bundle, by name.
            output: URL or path of the folder of results.
            options: which files are made from each image.
            compute: what computes them.
            batch: whether finished images are skipped, and files replaced.
        """
        self._engine = compute.open(read_bundle(_unpack(files)))
        self._output, self._options, self._limit_mp = output, options, compute.limit_mp
        self._batch = batch

    def run(self, job: RemoteJob, settings: str) -> RemoteResult:
        """Upscale one image; its files are copied directly, and only the report is returned.

        Args:
            job: the image.
            settings: hash of everything that the contents of the results depend on.
        """
        target = join_url(self._output, job.target)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "in" / PurePosixPath(job.source).name
            try:
                download(job.source, source)
                sha256 = sha256_file(source)
                if self._is_complete(job, sha256, settings=settings):
                    report = ImageReport(job.source, target, "unchanged", worker=os.getpid())
                    return RemoteResult(report)
                self._check_overwriting(job)
                results = Path(folder) / "out"
                report = self._upscale(Job(source, results / job.target))
                if report.error is not None:
                    raise report.error
                files = describe_files(map(Path, report.files), results)
                for file in reversed(files):  # SR last
                    upload(results / file.path, join_url(self._output, file.path))
            except IMAGE_ERRORS as error:
                known = to_image_error(source, error)
                where = job.source if known.where.startswith(folder) else known.where
                return _failed(job, target, error=ImageError(where, known.problem, known.remedy))
        written = tuple(join_url(self._output, file.path) for file in files)
        report = replace(
            report, source=job.source, target=target, files=written, worker=os.getpid()
        )
        return RemoteResult(report, JournalEntry(sha256, settings, files))

    def _is_complete(self, job: RemoteJob, sha256: str, *, settings: str) -> bool:
        entry = job.entry if self._batch.skips_finished else None
        if entry is None or (entry.input_sha256, entry.settings) != (sha256, settings):
            return False
        return all(
            file_digest(join_url(self._output, file.path)) == (file.bytes, file.sha256)
            for file in entry.files
        )

    def _check_overwriting(self, job: RemoteJob) -> None:
        """Check that no file would be overwritten against the options, as `check_overwriting`.

        Raises:
            ImageError: a file exists that may not be replaced.
        """
        known = job.entry.files if self._batch.resume and job.entry is not None else ()
        own = {file.path: (file.bytes, file.sha256) for file in known}
        files = Job(Path(job.source), Path(job.target)).files(self._options, self._leaves)
        for path in () if self._batch.overwrite else map(Path.as_posix, files):
            url = join_url(self._output, path)
            if file_exists(url) and (path not in own or file_digest(url) != own[path]):
                raise ImageError(url, *EXISTS)

    @property
    def _leaves(self) -> int:
        return self._engine.bundle.card.config.leaves

    def _upscale(self, job: Job) -> ImageReport:
        bar = ProgressBar(None, images=1, input_bytes=0)
        pipeline = Pipeline(self._options, bar, leaves=self._leaves, limit_mp=self._limit_mp)
        (report,) = pipeline.run([job], lambda: self._engine)
        return report


def _unpack(files: Mapping[str, bytes]) -> Path:
    """Return a folder in the cache with a model's files."""
    name = hashlib.sha256(files[CARD_NAME]).hexdigest()  # the card has the hashes of the others
    folder = cache_folder() / "bundles" / name
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            for file, contents in files.items():
                (temporary / file).write_bytes(contents)
    return folder


def _failed(job: RemoteJob, target: str, *, error: D2csrError) -> RemoteResult:
    """Return the result of an image that failed."""
    return RemoteResult(ImageReport(job.source, target, "failed", error=error, worker=os.getpid()))


@final
class RemoteJournal:
    """The journal of a folder, by path or URL.

    Lines can't be appended to an object: behind a URL, a copy of the journal is uploaded every few
    seconds and at the end. After a kill, images missing from that copy are upscaled again.
    """

    def __init__(self, output: str) -> None:
        """Download the journal, if there is one."""
        self._uploaded_at = time.monotonic()
        self._copy = tempfile.TemporaryDirectory() if is_url(output) else None
        self._url = join_url(output, JOURNAL_NAME)
        folder = Path(self._copy.name) if self._copy else Path(output)
        self._path = folder / JOURNAL_NAME
        if self._copy:
            try:
                download(self._url, self._path)
            except ImageError:
                self._path.unlink(missing_ok=True)  # there is none yet
        self._journal = Journal(folder)

    def find(self, path: str) -> JournalEntry | None:
        """Return the entry of an SR file, given by its path in the folder."""
        return self._journal.find(path)

    def append(self, entry: JournalEntry) -> None:
        """Append a finished image."""
        self._journal.append(entry)
        if self._copy and time.monotonic() - self._uploaded_at > _UPLOAD_EVERY_S:
            self._upload()

    def close(self) -> None:
        """Upload the journal if the folder is behind a URL."""
        if self._copy:
            if self._path.exists():
                self._upload()
            self._copy.cleanup()

    def _upload(self) -> None:
        upload(self._path, self._url)
        self._uploaded_at = time.monotonic()


def upscale_on_ray(images: Sequence[PlannedImage], run: Run) -> Iterator[ImageReport]:
    """Yield the report of each image, upscaled by the workers of a Ray cluster.

    Connects to the cluster that RAY_ADDRESS names, or starts one on this machine for the run. A
    worker that dies is replaced, and its image tried again.

    Args:
        images: the images; their paths must be the same on every machine.
        run: the model, which is sent to the workers, and the options.

    Raises:
        UsageError: Ray isn't installed, or the result is a single file.
    """
    require_packages("ray", "fsspec")
    if is_one_file(run.output):
        raise UsageError(run.output, "is the name of one file", "Give a folder.")
    output = run.output if is_url(run.output) else str(Path(run.output).resolve())
    with closing(RemoteJournal(output)) as journal:
        jobs = [
            RemoteJob(
                each.source if is_url(each.source) else str(Path(each.source).resolve()),
                each.target,
                journal.find(each.target),
            )
            for each in images
        ]
        with ray_session():
            workers = _make_workers(run, output)
            for result in workers.map_unordered(jobs, workers=run.batch.workers):
                if result.entry is not None:
                    journal.append(result.entry)
                yield result.report


def _make_workers(run: Run, output: str) -> ActorPool[RemoteJob, RemoteResult]:
    """Return workers that receive the model's files when they start."""
    bundle: Bundle = run.bundle
    files = {name: (bundle.folder / name).read_bytes() for name in (CARD_NAME, *bundle.card.files)}
    return ActorPool(
        UpscaleWorker,
        _crashed,
        actor_args=(files, output),
        actor_kwargs={"options": run.options, "compute": run.compute, "batch": run.batch},
        task_args=(run.settings,),
    )


def _crashed(job: RemoteJob) -> RemoteResult:
    """Return the result of an image that crashed every worker which tried it."""
    problem = f"crashed {MAX_ATTEMPTS} workers"
    error = ImageError(job.source, problem, "Try it on a machine with more memory.")
    return RemoteResult(ImageReport(job.source, job.target, "failed", error=error))
