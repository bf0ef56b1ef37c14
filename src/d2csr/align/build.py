"""Many pairs at once: processes side by side, every outcome kept, so that a killed run goes on.

Distortion of a lens, from all pairs taken with it: what the pairs fitted apart agree on.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, fields, replace
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from d2csr.align.camera_info import facts_of_file
from d2csr.align.dataset import DatasetLayout, locate, remove_stale, write_set
from d2csr.align.html_report import REPORT_NAME, write_report
from d2csr.align.outcome import PairResult, cache_key, outcomes_in, read_outcome
from d2csr.align.pair_worker import PairJob, outcomes_of_cluster, process_pair
from d2csr.align.pairing import PairingResult, PhotoPair, find_pairs
from d2csr.align.photo import is_raw_name
from d2csr.align.registration.lens import Lens, LensSpec
from d2csr.align.steps import Settings
from d2csr.core.console import console
from d2csr.core.errors import D2csrError, UsageError
from d2csr.core.files import check_writable
from d2csr.core.manifest import MANIFEST_NAME, read_manifest
from d2csr.core.parallel import require_packages
from d2csr.images.reader import read_size

Group = tuple[object, ...]


def group_of(outcome: PairResult | None) -> Group:
    """Return what pairs of one lens at one zoom share: camera and both focal lengths."""
    if outcome is None:
        return ()
    return (outcome.camera, *outcome.transform.get("focal_mm", ()))


def estimate_lenses(outcomes: Sequence[PairResult]) -> dict[Group, LensSpec]:
    """Return the lenses of each group: the median of every coefficient over accepted pairs.

    The median, because a pair with little texture or much parallax may be far off. A group without
    an accepted pair gets straight lenses.
    """
    pairs: dict[Group, list[PairResult]] = defaultdict(list)
    for outcome in outcomes:
        pairs[group_of(outcome)].append(outcome)
    return {
        group: LensSpec("given", *(_median(members, end) for end in ("wide_lens", "tele_lens")))
        for group, members in pairs.items()
    }


def _median(outcomes: Sequence[PairResult], end: str) -> Lens:
    found = [each.transform[end] for each in outcomes if each.verdict == "accepted"]
    if not found:
        return Lens()
    names = [each.name for each in fields(Lens)]
    return Lens(**{name: float(np.median([lens[name] for lens in found])) for name in names})


WORK_NAME = ".align"
BYTES_PER_PX = 36  # of both photographs together, at the most; measured (docs/align.md)
RAW_PX = 50_000_000  # assumed of a file whose size isn't read before it is developed

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class Summary:
    """What a run came to."""

    outcomes: tuple[PairResult, ...]
    alone: tuple[tuple[Path, str], ...]
    out: Path

    def count(self, verdict: str) -> int:
        """Return how many pairs met a verdict."""
        return sum(outcome.verdict == verdict for outcome in self.outcomes)

    @property
    def exit_code(self) -> int:
        """Return 0 if every pair was accepted, 1 if some were, 2 if none."""
        accepted = self.count("accepted")
        return 0 if accepted == len(self.outcomes) else 1 if accepted else 2


def align_folder(
    folder: Path,
    out: Path,
    *,
    settings: Settings,
    shape: DatasetLayout,
    jobs: int | None,
    engine: Engine = "local",
) -> Summary:
    """Make a training set of a folder of photographs; see `align_captures`.

    Raises:
        D2csrError: the folder holds no pairs, or the output can't be written; told before work.
    """
    if out.resolve() == folder.resolve() or folder.resolve().is_relative_to(out.resolve()):
        remedy = "Choose a folder outside the photographs'."
        raise UsageError(out, "is, or holds, the folder of the photographs", remedy=remedy)
    found = find_pairs(folder, scale=settings.scale)
    inside = out.resolve()

    def outside(path: Path) -> bool:
        return not path.resolve().is_relative_to(inside)

    captures = PairingResult(
        tuple(pair for pair in found.pairs if outside(pair.wide)),
        tuple((path, why) for path, why in found.unpaired if outside(path)),
    )
    return align_captures(captures, out, settings=settings, shape=shape, jobs=jobs, engine=engine)


def align_pair(
    wide: Path,
    *,
    tele: Path,
    out: Path,
    settings: Settings,
    shape: DatasetLayout,
    engine: Engine = "local",
) -> Summary:
    """Add one pair to the set in a folder, which may be empty; see `align_captures`.

    The pairs of earlier calls stay as they are; the same photographs again replace their own.
    """
    both = [wide.resolve(), tele.resolve()]
    kept = [
        outcome.name
        for outcome in outcomes_in(out / WORK_NAME)
        if [Path(outcome.wide).resolve(), Path(outcome.tele).resolve()] != both
    ]
    pair = PhotoPair(wide.stem, wide.stem, wide, tele)
    captures = PairingResult((pair,), (), tuple(kept))
    return align_captures(captures, out, settings=settings, shape=shape, jobs=1, engine=engine)


def align_captures(
    captures: PairingResult,
    out: Path,
    *,
    settings: Settings,
    shape: DatasetLayout,
    jobs: int | None,
    engine: Engine = "local",
) -> Summary:
    """Make a training set of these pairs; what an earlier run into the folder did is taken over.

    Pairs of an earlier run that are neither among the captures nor kept leave the set, and are
    told.

    Args:
        captures: photographs, in pairs and alone, and names of pairs that stay.
        out: folder of the set.
        settings: how pairs are made.
        shape: how the set is laid out.
        jobs: pairs at once, at most what memory holds; as many as there are cores for None.
        engine: who works: processes of this machine, or workers of a Ray cluster.
    """
    if engine == "ray":
        require_packages("ray")
    _refuse_foreign(out)
    _refuse_other_scale(out, scale=settings.scale)
    check_writable(out, folder=True)
    work = out / WORK_NAME
    work.mkdir(parents=True, exist_ok=True)
    tasks = [
        PairJob(capture, f"{camera}_{number:03}", camera, settings, work)
        for number, capture in zip(_numbers(captures.kept), captures.pairs, strict=False)
        for camera in [camera_name(capture)]
    ]
    earlier = outcomes_in(work)
    kept = [outcome for outcome in earlier if outcome.name in captures.kept]
    names = {*captures.kept, *(task.name for task in tasks)}
    gone = [outcome for outcome in earlier if outcome.name not in names]
    if settings.lens.source == "estimate":
        tasks = _with_estimated_lenses(tasks, jobs, engine=engine)
    done = {task.name: outcome for task in tasks if (outcome := _done(task, out, shape=shape))}
    left = [task for task in tasks if task.name not in done]
    if done:
        console().print(f"{len(done)} of {len(tasks)} pairs were done before")
    for outcome in _shown(left, jobs, engine=engine):
        done[outcome.name] = outcome
    outcomes = (*kept, *(done[task.name] for task in tasks))
    manifest = write_set(outcomes, work, out=out, shape=shape)
    remove_stale([*outcomes, *gone], manifest, work=work, shape=shape)
    for outcome in gone:
        (work / f"{outcome.name}.json").unlink(missing_ok=True)
        told = f"{outcome.name} ({outcome.capture}) left the set: not among the photographs"
        console().print(told, soft_wrap=True, markup=False)
    write_report(
        outcomes, captures.unpaired, work=work, path=out / REPORT_NAME, scale=settings.scale
    )
    return Summary(outcomes, captures.unpaired, out)


def _numbers(kept: Sequence[str]) -> Iterator[int]:
    """Yield the numbers that no pair of these names has, from 1 on."""
    taken = {int(name.rpartition("_")[2]) for name in kept}
    return (number for number in count(1) if number not in taken)


def _with_estimated_lenses(
    tasks: Sequence[PairJob], jobs: int | None, *, engine: Engine
) -> list[PairJob]:
    """Return the tasks with the lenses that the pairs of one camera and zoom agree on.

    Each pair is registered alone first, in a folder that a resumed run finds again.
    """
    alone = [
        replace(
            task,
            settings=replace(task.settings, lens=LensSpec()),
            work=task.work / "alone",
        )
        for task in tasks
    ]
    known = {task.name: read_outcome(task.outcome_path) for task in alone}
    left = [
        task
        for task in alone
        if (outcome := known[task.name]) is None
        or outcome.key != cache_key(task.capture, task.settings)
    ]
    for outcome in _shown(left, jobs, engine=engine, what="Estimating lenses"):
        known[outcome.name] = outcome
    lenses = estimate_lenses([outcome for outcome in known.values() if outcome is not None])
    return [
        replace(task, settings=replace(task.settings, lens=lenses[group_of(known[task.name])]))
        for task in tasks
    ]


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder with somebody else's files in it."""
    if out.exists() and not out.is_dir():
        raise UsageError(out, "is a file", remedy="Give the name of a folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / WORK_NAME).is_dir():
        remedy = "Choose a new folder, or one that an earlier run made."
        raise UsageError(out, "holds other files", remedy=remedy)


def _refuse_other_scale(out: Path, *, scale: int) -> None:
    """Refuse a set whose images an earlier run made at another scale."""
    manifest = out / MANIFEST_NAME
    if manifest.is_file() and (earlier := read_manifest(manifest).scale) != scale:
        problem = f"holds a set at scale {earlier}, and {scale} is asked for"
        remedy = f"Choose a new folder, or repeat with --scale {earlier}."
        raise UsageError(out, problem, remedy=remedy)


def camera_name(capture: PhotoPair) -> str:
    """Return letters and digits of the camera's name, by which files are called."""
    facts = facts_of_file(capture.wide)
    return re.sub(r"[^A-Za-z0-9]", "", facts.model) or "Camera"


def _done(task: PairJob, out: Path, *, shape: DatasetLayout) -> PairResult | None:
    """Return an earlier run's outcome, if files and settings are the same and images there."""
    outcome = read_outcome(task.outcome_path)
    if outcome is None or outcome.key != cache_key(task.capture, task.settings):
        return None
    there = all(
        locate(outcome, kind, work=task.work, out=out, shape=shape) for kind in outcome.hashes
    )
    return outcome if there else None


def worker_count(tasks: Sequence[PairJob], jobs: int | None) -> int:
    """Return how many pairs to work on at once: as asked, at most what free memory holds."""
    jobs = jobs or os.cpu_count() or 1
    if jobs <= 1 or len(tasks) <= 1:
        return 1
    largest = _most_bytes(tasks)
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        free = largest * jobs
    return max(1, min(jobs, len(tasks), int(0.8 * free / largest)))


def _most_bytes(tasks: Sequence[PairJob]) -> int:
    """Return the memory that the largest pair needs."""
    return max((_bytes(task) for task in tasks), default=1)


def _bytes(task: PairJob) -> int:
    pixels = 0
    for path in (task.capture.wide, task.capture.tele):
        try:
            size = (RAW_PX, 1) if is_raw_name(path) else read_size(path)
        except D2csrError:
            continue  # told as this pair's error when its turn comes
        pixels += size[0] * size[1]
    return max(1, pixels * BYTES_PER_PX)


def _shown(
    tasks: Sequence[PairJob], jobs: int | None, *, engine: Engine, what: str = "Aligning"
) -> Iterator[PairResult]:
    """Yield outcomes as they come, with a progress bar."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn  # slow to import

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        shown = bar.add_task(what, total=len(tasks))
        if engine == "ray":
            found = outcomes_of_cluster(tasks, workers=jobs, bytes_each=_most_bytes(tasks))
        else:
            found = _outcomes(process_pair, tasks, jobs=worker_count(tasks, jobs))
        for outcome in found:
            bar.advance(shown)
            yield outcome


def _outcomes(
    work: Callable[[PairJob], PairResult], tasks: Sequence[PairJob], *, jobs: int
) -> Iterator[PairResult]:
    if jobs <= 1:
        yield from map(work, tasks)
        return
    context = get_context("spawn")  # forked copies of libvips' threads would hang
    with ProcessPoolExecutor(jobs, context, cv2.setNumThreads, (1,)) as pool:
        left = {pool.submit(work, task) for task in tasks}
        try:
            while left:
                done, left = wait(left, return_when=FIRST_COMPLETED, timeout=0.5)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def summary_text(summary: Summary) -> str:
    """Return the lines for the screen: counts, then every pair that is not in the set."""
    lines = [
        f"{summary.out}: {summary.count('accepted')} of {len(summary.outcomes)} pairs accepted; "
        f"{MANIFEST_NAME}, {REPORT_NAME}"
    ]
    lines += [
        f"{outcome.verdict}: {outcome.name} ({outcome.capture}): {outcome.reason}"
        for outcome in summary.outcomes
        if outcome.verdict != "accepted"
    ]
    lines += [f"unpaired: {path.name}: {why}" for path, why in summary.alone]
    return "\n".join(lines)
