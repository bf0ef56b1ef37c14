"""A folder spread over a Ray cluster: workers get paths, and fetch and store pixels themselves.

Errands: images fetched from anywhere, enlarged here, and their files brought to a folder.

Errands planned from a call's inputs, and the list of those that are done, wherever it lies.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import final

from d2csr.core.bundle import CARD_NAME, Bundle, read_bundle
from d2csr.core.errors import D2csrError, ImageError, UsageError
from d2csr.core.files import atomic_folder, cache_folder, sha256_file
from d2csr.core.parallel import MAX_ATTEMPTS, ActorPool, ray_session, require_packages
from d2csr.upscale.jobs import is_one_file, output_path, plan_jobs
from d2csr.upscale.journal import LIST_NAME, Journal, JournalEntry, describe_files
from d2csr.upscale.options import ComputeOptions, Job, OutputOptions
from d2csr.upscale.pipeline import IMAGE_ERRORS, Pipeline, to_image_error
from d2csr.upscale.report import ImageReport, ProgressBar, Reporter, Summary, print_stderr
from d2csr.upscale.run import BatchOptions, run_fingerprint, sigterm_as_interrupt
from d2csr.upscale.storage import download, file_digest, is_url, join_url, list_images, upload


@dataclass(frozen=True)
class RemoteJob:
    """An image to be enlarged.

    Attributes:
        source: its URL or path.
        place: of its SR file, in the folder of results.
        known: what an earlier run noted of it; None: do it in any case.
    """

    source: str
    place: str
    known: JournalEntry | None = None


@dataclass(frozen=True)
class RemoteResult:
    """What came of an errand; an error is told apart, as exceptions of ours don't travel.

    Attributes:
        report: without the error.
        done: to be noted, if it was done.
        error: where, problem, remedy.
    """

    report: ImageReport
    done: JournalEntry | None = None
    error: tuple[str, str, str] | None = None


@final
class UpscaleWorker:
    """Enlarges one image after the other with one engine; runs anywhere, alone."""

    def __init__(
        self,
        files: Mapping[str, bytes],
        out: str,
        *,
        wanted: OutputOptions,
        compute: ComputeOptions,
    ) -> None:
        """Unpack the model and open its engine.

        Args:
            files: of the bundle.
            out: URL or path of the folder of results.
            wanted: what is made of each image.
            compute: what to compute with.
        """
        self._engine = compute.open(read_bundle(_unpacked(files)))
        self._out, self._wanted, self._limit_mp = out, wanted, compute.limit_mp

    def run(self, errand: RemoteJob, settings: str) -> RemoteResult:
        """Do one errand; pixels go from place to place by files, never by the answer.

        Args:
            errand: what to do.
            settings: hash of all that decides what the results hold.
        """
        target = join_url(self._out, errand.place)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "in" / PurePosixPath(errand.source).name
            try:
                download(errand.source, source)
                sha256 = sha256_file(source)
                if self._is_done(errand, sha256, settings=settings):
                    return RemoteResult(
                        ImageReport(errand.source, target, "unchanged", worker=os.getpid())
                    )
                results = Path(folder) / "out"
                report = self._enlarged(Job(source, results / errand.place))
                if report.error is not None:
                    raise report.error
                files = describe_files(map(Path, report.files), results)
                for file in reversed(files):  # SR last
                    upload(results / file.path, join_url(self._out, file.path))
            except IMAGE_ERRORS as error:
                return _failed(errand, target, error=to_image_error(source, error))
        places = tuple(join_url(self._out, file.path) for file in files)
        report = replace(
            report, source=errand.source, target=target, files=places, worker=os.getpid()
        )
        return RemoteResult(report, done=JournalEntry(sha256, settings, files))

    def _is_done(self, errand: RemoteJob, sha256: str, *, settings: str) -> bool:
        known = errand.known
        if known is None or (known.input_sha256, known.settings) != (sha256, settings):
            return False
        return all(
            file_digest(join_url(self._out, file.path)) == (file.bytes, file.sha256)
            for file in known.files
        )

    def _enlarged(self, job: Job) -> ImageReport:
        teller = Reporter(quiet=True)
        bar = ProgressBar(None, images=1, input_bytes=0)
        pipeline = Pipeline(self._wanted, teller, bar, limit_mp=self._limit_mp)
        pipeline.run([job], lambda: self._engine)
        return teller.images[0]


def _unpacked(files: Mapping[str, bytes]) -> Path:
    """Return a folder with a model's files, among what is kept from run to run."""
    name = hashlib.sha256(files[CARD_NAME]).hexdigest()  # it has the hashes of the others
    folder = cache_folder() / "bundles" / name
    if not folder.is_dir():
        with atomic_folder(folder) as beside:
            for file, contents in files.items():
                (beside / file).write_bytes(contents)
    return folder


def _failed(errand: RemoteJob, target: str, *, error: D2csrError) -> RemoteResult:
    """Return an answer that names the image where it comes from, not its copy."""
    where = (
        errand.source if error.where.endswith(PurePosixPath(errand.source).name) else error.where
    )
    report = ImageReport(errand.source, target, "failed", worker=os.getpid())
    return RemoteResult(report, error=(where, error.problem, error.remedy))


_STORE_EVERY_S = 2.0


def plan_remote_jobs(
    inputs: Sequence[str], out: str, *, wanted: OutputOptions, bundle: Bundle
) -> tuple[list[RemoteJob], list[D2csrError]]:
    """Return what to enlarge, in order, and which inputs can't be.

    Raises:
        UsageError: as `plan_jobs`; or the results are to go to one file.
    """
    if is_one_file(Path(out)):
        raise UsageError(out, "is the name of one file", remedy="Give a folder.")
    if not any(map(is_url, (*inputs, out))):
        leaves = bundle.card.config.leaves
        jobs, errors = plan_jobs(
            [Path(each) for each in inputs], Path(out), wanted=wanted, leaves=leaves
        )
        places = [job.target.relative_to(out).as_posix() for job in jobs]
        sources = [str(job.source.resolve()) for job in jobs]
    else:
        images, errors = [], []
        for each in inputs:
            try:
                images += list_images(each)
            except ImageError as error:
                errors.append(error)
        places = [output_path(Path(each.place), wanted).as_posix() for each in images]
        sources = [each.url for each in images]
    if len(set(places)) < len(places):
        remedy = "Rename one, keep the formats with --ext same, or enlarge them apart."
        raise UsageError(out, "two images would become one file", remedy=remedy)
    return [RemoteJob(*each) for each in zip(sources, places, strict=True)], errors


@final
class RemoteJournal:
    """The list of what is done, in a folder by path or URL.

    Object storage can't add lines: there the list is kept here and stored whole every few seconds,
    and at the end. What a kill loses of it is done again.
    """

    def __init__(self, out: str) -> None:
        """Fetch the list, if there is one."""
        self._stored_at = time.monotonic()
        self._copy = tempfile.TemporaryDirectory() if is_url(out) else None
        self._url = join_url(out, LIST_NAME)
        folder = Path(self._copy.name) if self._copy else Path(out)
        self._path = folder / LIST_NAME
        if self._copy:
            try:
                download(self._url, self._path)
            except ImageError:
                self._path.unlink(missing_ok=True)  # there is none yet
        self._done = Journal(folder)

    def find(self, place: str) -> JournalEntry | None:
        """Return what is noted of an SR file."""
        return self._done.find(place)

    def append(self, done: JournalEntry) -> None:
        """Note an errand that is done."""
        self._done.append(done)
        if self._copy and time.monotonic() - self._stored_at > _STORE_EVERY_S:
            self._store()

    def close(self) -> None:
        """Store the list if it lies elsewhere."""
        if self._copy:
            if self._path.exists():
                self._store()
            self._copy.cleanup()

    def _store(self) -> None:
        upload(self._path, self._url)
        self._stored_at = time.monotonic()


def upscale_on_cluster(
    inputs: Sequence[str],
    out: str,
    *,
    bundle: Bundle,
    wanted: OutputOptions,
    compute: ComputeOptions,
    manner: BatchOptions,
) -> Summary:
    """Enlarge images by workers of a Ray cluster; else as `upscale_files` does, file for file.

    Connects to the cluster that RAY_ADDRESS names, or starts one on this machine for the call. A
    worker that dies is replaced, and its image done again.

    Args:
        inputs: files and folders, by path or by URL; paths must mean the same on every machine.
        out: folder for the results, by path or by URL.
        bundle: the model; it is sent to the workers.
        wanted: what to write for each image.
        compute: what each worker computes with.
        manner: how to go about it.

    Raises:
        UsageError: Ray is not installed, no images, or names that clash.
    """
    require_packages("ray", "fsspec")
    started, began_at = time.monotonic(), time.time()
    out = out if is_url(out) else str(Path(out).resolve())
    settings = run_fingerprint(bundle, wanted, compute=compute)
    with closing(RemoteJournal(out)) as noted:
        errands, errors = plan_remote_jobs(inputs, out, wanted=wanted, bundle=bundle)
        for error in errors:
            print_stderr(f"error: {error}")
        if manner.resume:
            errands = [replace(each, known=noted.find(each.place)) for each in errands]
        teller, interrupted = Reporter(dict if manner.records else None), False
        try:
            with sigterm_as_interrupt(), ray_session():
                hands = _hands(bundle, out, wanted=wanted, compute=compute, settings=settings)
                for answer in hands.map_unordered(errands, workers=manner.workers):
                    if answer.done is not None:
                        noted.append(answer.done)
                    teller.report(_report(answer))
        except KeyboardInterrupt:
            interrupted = True
    errors += [each.error for each in teller.images if each.error is not None]
    return Summary(
        bundle.card.name,
        bundle.card.scale,
        images=tuple(teller.images),
        errors=tuple(errors),
        seconds={"total": time.monotonic() - started},
        began_at=began_at,
        interrupted=interrupted,
    )


def _hands(
    bundle: Bundle, out: str, *, wanted: OutputOptions, compute: ComputeOptions, settings: str
) -> ActorPool[RemoteJob, RemoteResult]:
    """Return workers that get the model's files with what they are made of."""
    files = {name: (bundle.folder / name).read_bytes() for name in (CARD_NAME, *bundle.card.files)}
    named = {"wanted": wanted, "compute": compute}
    return ActorPool(
        UpscaleWorker, _given_up, actor_args=(files, out), actor_kwargs=named, task_args=(settings,)
    )


def _given_up(errand: RemoteJob) -> RemoteResult:
    report = ImageReport(errand.source, errand.place, "failed")
    problem = f"{MAX_ATTEMPTS} workers died of it"
    return RemoteResult(
        report, error=(errand.source, problem, "Try it on a machine with more memory.")
    )


def _report(answer: RemoteResult) -> ImageReport:
    if answer.error is None:
        return answer.report
    where, problem, remedy = answer.error
    return replace(answer.report, error=ImageError(where, problem, remedy=remedy))
