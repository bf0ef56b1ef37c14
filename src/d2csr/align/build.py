"""Training sets from photographs: many pairs in parallel, resumable, and lenses shared by pairs."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np

from d2csr.align.camera_info import read_camera_info
from d2csr.align.dataset import DatasetLayout, locate, remove_stale, write_set
from d2csr.align.html_report import REPORT_NAME, write_report
from d2csr.align.outcome import PairResult, advise, read_result, read_results
from d2csr.align.pair_worker import PairJob, process_on_cluster, process_pair, use_one_thread
from d2csr.align.pairing import PairingResult, PhotoPair, find_pairs
from d2csr.align.photo import is_raw_name
from d2csr.align.registration.lens import LensSpec
from d2csr.align.steps import Settings
from d2csr.core.console import console, print_note
from d2csr.core.errors import D2csrError, UsageError, printable
from d2csr.core.files import check_writable
from d2csr.core.geometry import NO_DISTORTION, BrownDistortion
from d2csr.core.hardware import free_bytes, usable_cores
from d2csr.core.manifest import MANIFEST_NAME, read_manifest
from d2csr.core.parallel import map_in_processes, require_packages
from d2csr.images.reader import read_size

WORK_NAME = ".align"
BYTES_PER_PX = 36  # peak memory per pixel of both photographs; measured (docs/align.md)
RAW_PX = 50_000_000  # assumed for RAW files, whose size isn't known before they are developed
MEMORY_SHARE = 0.8  # of the free memory

Executor = Literal["local", "ray"]
LensGroup = tuple[object, ...]


@dataclass(frozen=True)
class Workers:
    """Number and kind of the processes that align pairs.

    Attributes:
        count: pairs processed in parallel; None uses all cores. Free memory limits it.
        executor: local processes, or workers of a Ray cluster.
    """

    count: int | None = None
    executor: Executor = "local"


@dataclass(frozen=True)
class BuildSummary:
    """Results of a run.

    Attributes:
        results: of every pair, those of earlier runs included.
        unpaired: photographs without a partner, with the reason.
        output: folder of the set.
    """

    results: tuple[PairResult, ...]
    unpaired: tuple[tuple[Path, str], ...]
    output: Path

    def count(self, status: str) -> int:
        """Return the number of pairs with a status."""
        return sum(result.verdict.status == status for result in self.results)

    @property
    def exit_code(self) -> int:
        """Return 0 if every pair was accepted, 1 if some were, 2 if none."""
        accepted = self.count("accepted")
        return 0 if accepted == len(self.results) else 1 if accepted else 2

    def as_text(self) -> str:
        """Return the lines for the terminal: counts, pairs that aren't in the set, and advice.

        Control characters in names are escaped.
        """
        lines = [
            f"{self.output}: {self.count('accepted')} of {len(self.results)} pairs accepted; "
            f"{MANIFEST_NAME}, {REPORT_NAME}"
        ]
        lines += [
            f"{result.verdict.status}: {result.name} ({result.photos.name}): "
            f"{result.verdict.reason}"
            for result in self.results
            if not result.is_accepted
        ]
        lines += [f"unpaired: {path.name}: {reason}" for path, reason in self.unpaired]
        lines += advise(self.results)
        return "\n".join(map(printable, lines))


def align_folder(
    folder: Path,
    output: Path,
    *,
    settings: Settings,
    layout: DatasetLayout,
    workers: Workers = Workers(),
) -> BuildSummary:
    """Make a training set of a folder of photographs; see `build_dataset`.

    Raises:
        D2csrError: the folder has no pairs, or the output can't be written.
    """
    if output.resolve() == folder.resolve() or folder.resolve().is_relative_to(output.resolve()):
        remedy = "Choose a folder outside that of the photographs."
        raise UsageError(output, "is, or contains, the folder of the photographs", remedy)
    found = find_pairs(folder, scale=settings.scale)

    def is_outside(path: Path) -> bool:
        return not path.resolve().is_relative_to(output.resolve())

    pairing = PairingResult(
        tuple(pair for pair in found.pairs if is_outside(pair.wide)),
        tuple((path, reason) for path, reason in found.unpaired if is_outside(path)),
    )
    return build_dataset(pairing, output, settings=settings, layout=layout, workers=workers)


def align_pair(
    wide: Path,
    tele: Path,
    *,
    output: Path,
    settings: Settings,
    layout: DatasetLayout,
    workers: Workers = Workers(),
) -> BuildSummary:
    """Add one pair to the set in a folder, which may be empty; see `build_dataset`.

    Pairs of earlier calls stay unchanged; a pair of the same photographs is replaced.
    """
    both = (wide.resolve(), tele.resolve())
    existing = [
        result.name
        for result in read_results(output / WORK_NAME)
        if (result.photos.wide.resolve(), result.photos.tele.resolve()) != both
    ]
    pairing = PairingResult((PhotoPair(wide.stem, wide.stem, wide, tele),), (), tuple(existing))
    return build_dataset(pairing, output, settings=settings, layout=layout, workers=workers)


def build_dataset(
    pairing: PairingResult,
    output: Path,
    *,
    settings: Settings,
    layout: DatasetLayout,
    workers: Workers = Workers(),
) -> BuildSummary:
    """Make a training set of pairs of photographs, or resume an earlier run.

    Pairs of an earlier run that are neither in the pairing nor existing leave it, with a message.

    Args:
        pairing: pairs and unpaired photographs, and names of existing pairs that stay.
        output: folder of the set.
        settings: parameters of the alignment.
        layout: folders and splits of the set.
        workers: number and kind of processes.

    Raises:
        D2csrError: the folder can't be written, has other files, or has a set of another scale.
    """
    if workers.executor == "ray":
        require_packages("ray")
    _check_output(output, scale=settings.scale)
    work = output / WORK_NAME
    work.mkdir(parents=True, exist_ok=True)
    earlier = read_results(work)
    jobs = _make_jobs(pairing, settings, work=work)
    if settings.lens.source == "estimate":
        jobs = _with_estimated_lenses(jobs, workers)
    results = [result for result in earlier if result.name in pairing.existing]
    results += _resume(jobs, workers, output=output, layout=layout)
    manifest = write_set(results, work, output=output, layout=layout)
    removed = _removed(earlier, results)
    remove_stale([*results, *removed], manifest, work=work, layout=layout)
    _forget(removed, work)
    report = output / REPORT_NAME
    write_report(results, pairing.unpaired, work=work, path=report, scale=settings.scale)
    return BuildSummary(tuple(results), pairing.unpaired, output)


def _removed(earlier: Sequence[PairResult], results: Sequence[PairResult]) -> list[PairResult]:
    names = {result.name for result in results}
    return [result for result in earlier if result.name not in names]


def _forget(removed: Sequence[PairResult], work: Path) -> None:
    """Delete the stored results of pairs that left the set, with a message for each."""
    for result in removed:
        (work / f"{result.name}.json").unlink(missing_ok=True)
        message = f"{result.name} ({result.photos.name}) left the set: not among the photographs"
        print_note(message)


def _check_output(output: Path, *, scale: int) -> None:
    """Check that the output is a new folder, or the set of an earlier run at the same scale.

    Raises:
        UsageError: it isn't, or it can't be written.
    """
    if output.exists() and not output.is_dir():
        raise UsageError(output, "is a file", "Give the name of a folder.")
    if output.is_dir() and any(output.iterdir()) and not (output / WORK_NAME).is_dir():
        remedy = "Choose a new folder, or the output of an earlier run."
        raise UsageError(output, "contains other files", remedy)
    manifest = output / MANIFEST_NAME
    earlier = read_manifest(manifest, allow_outside=True).scale if manifest.is_file() else scale
    if earlier != scale:
        problem = f"contains a set of scale {earlier}, not {scale}"
        raise UsageError(output, problem, f"Choose a new folder, or use --scale {earlier}.")
    check_writable(output, folder=True)


def _make_jobs(pairing: PairingResult, settings: Settings, *, work: Path) -> list[PairJob]:
    """Return a job for each pair, named by its camera and the first unused numbers."""
    used = {int(name.rpartition("_")[2]) for name in pairing.existing}
    unused = (number for number in count(1) if number not in used)
    jobs = []
    for number, photos in zip(unused, pairing.pairs, strict=False):
        camera = camera_name(photos)
        jobs.append(PairJob(photos, f"{camera}_{number:03}", camera, settings, work))
    return jobs


def camera_name(photos: PhotoPair) -> str:
    """Return letters and digits of the camera's model, for file names."""
    try:
        model = read_camera_info(photos.wide).model
    except D2csrError:  # the error is reported when the pair is processed
        model = ""
    return re.sub(r"[^A-Za-z0-9]", "", model) or "Camera"


def _resume(
    jobs: Sequence[PairJob], workers: Workers, *, output: Path, layout: DatasetLayout
) -> list[PairResult]:
    """Return the results of all jobs, of which those that are up to date aren't run again."""
    results = {}
    for job in jobs:
        result = _read_current(job)
        if result and all(
            locate(result, kind, work=job.work, output=output, layout=layout)
            for kind in result.images.hashes
        ):
            results[job.name] = result
    if results:
        console().print(f"{len(results)} of {len(jobs)} pairs were done before")
    remaining = [job for job in jobs if job.name not in results]
    for result in _run(remaining, workers, title="Aligning"):
        results[result.name] = result
    return [results[job.name] for job in jobs]


def _read_current(job: PairJob) -> PairResult | None:
    """Return the stored result of a job, or None if it is missing or out of date."""
    result = read_result(job.result_path)
    return result if result and result.key == job.key else None


def _with_estimated_lenses(jobs: Sequence[PairJob], workers: Workers) -> list[PairJob]:
    """Return the jobs with lenses estimated from all pairs of a camera and zoom.

    Each pair is first registered with unknown lenses, in a folder that a resumed run reuses.
    """
    first = [
        replace(job, settings=replace(job.settings, lens=LensSpec()), work=job.work / "first_pass")
        for job in jobs
    ]
    results = {job.name: result for job in first if (result := _read_current(job))}
    remaining = [job for job in first if job.name not in results]
    for result in _run(remaining, workers, title="Estimating lenses"):
        results[result.name] = result
    lenses = estimate_lenses(list(results.values()))
    return [
        replace(job, settings=replace(job.settings, lens=lenses[lens_group(results[job.name])]))
        for job in jobs
    ]


def lens_group(result: PairResult) -> LensGroup:
    """Return the key of pairs that share lens and zoom: camera and both focal lengths."""
    return (result.camera, *result.registration.transform.get("focal_mm", ()))


def estimate_lenses(results: Sequence[PairResult]) -> dict[LensGroup, LensSpec]:
    """Return the lenses of each group: the median of every coefficient over accepted pairs.

    The median is robust against pairs with little texture or much parallax. A group without an
    accepted pair gets lenses without distortion.
    """
    groups: dict[LensGroup, list[PairResult]] = defaultdict(list)
    for result in results:
        groups[lens_group(result)].append(result)
    return {
        group: LensSpec(
            "given", *(_median_lens(members, end) for end in ("wide_lens", "tele_lens"))
        )
        for group, members in groups.items()
    }


def _median_lens(results: Sequence[PairResult], end: str) -> BrownDistortion:
    lenses = [each.registration.transform[end] for each in results if each.is_accepted]
    if not lenses:
        return NO_DISTORTION
    names = [each.name for each in fields(BrownDistortion)]
    return BrownDistortion(
        **{name: float(np.median([lens[name] for lens in lenses])) for name in names}
    )


def _run(jobs: Sequence[PairJob], workers: Workers, *, title: str) -> Iterator[PairResult]:
    """Yield results as they finish, with a progress bar."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn  # slow to import

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as progress:
        bar = progress.add_task(title, total=len(jobs))
        for result in _process(jobs, workers):
            progress.advance(bar)
            yield result


def _process(jobs: Sequence[PairJob], workers: Workers) -> Iterator[PairResult]:
    if workers.executor == "ray":
        bytes_each = _bytes_needed(jobs)
        yield from process_on_cluster(jobs, workers=workers.count, bytes_each=bytes_each)
        return
    number = worker_count(jobs, workers.count)
    for _, result in map_in_processes(
        process_pair, jobs, workers=number, initializer=use_one_thread
    ):
        yield result


def worker_count(jobs: Sequence[PairJob], requested: int | None) -> int:
    """Return the number of pairs to process in parallel, limited by the free memory.

    Args:
        jobs: the pairs.
        requested: upper limit; None for the number of cores.
    """
    number = min(requested or usable_cores(), len(jobs))
    if number <= 1:
        return 1
    fitting = int(MEMORY_SHARE * free_bytes() / _bytes_needed(jobs))
    return max(1, min(number, fitting))


def _bytes_needed(jobs: Sequence[PairJob]) -> int:
    """Return the memory that the largest pair needs."""
    return max((_pixel_count(job.photos) * BYTES_PER_PX for job in jobs), default=1) or 1


def _pixel_count(photos: PhotoPair) -> int:
    pixels = 0
    for path in (photos.wide, photos.tele):
        if is_raw_name(path):
            pixels += RAW_PX
            continue
        try:
            width, height = read_size(path)
        except D2csrError:  # the error is reported when the pair is processed
            continue
        pixels += width * height
    return pixels
