"""A folder or a list of pictures enlarged one after the other; a bad one doesn't stop the rest."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from d2csr.core.bundle import Bundle
from d2csr.core.errors import BundleError, D2csrError, ImageError
from d2csr.core.log import console
from d2csr.engine.engine import open_engine
from d2csr.engine.model import Model
from d2csr.images.read import read_rgb8
from d2csr.images.resize import enlarge_bicubic
from d2csr.images.write import write_rgb8
from d2csr.upscale.heatmap import heatmap
from d2csr.upscale.jobs import plan_jobs
from d2csr.upscale.wanted import SR_ONLY, Job, Wanted

if TYPE_CHECKING:
    from rich.progress import Progress

# Shown as yellow, as `Wanted` says: fixed, so that maps of different pictures compare.
_DISAGREEMENT_TOP = 4.0  # grey levels
_WEIGHT_TOP = 2.0  # equal shares


@dataclass(frozen=True)
class Summary:
    """What came of a call.

    Attributes:
        model: name of the model.
        scale: what it enlarged by.
        done: SR files written.
        faults: what couldn't be enlarged, and why.
        seconds: how long it took.
    """

    model: str
    scale: int
    done: tuple[Path, ...]
    faults: tuple[D2csrError, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """Return 0 where all went well, 1 where some did, 2 where none did."""
        if not self.faults:
            return 0
        return 1 if self.done else 2

    def as_text(self) -> str:
        """Return one line."""
        pictures = "1 picture" if len(self.done) == 1 else f"{len(self.done)} pictures"
        text = f"{pictures} enlarged x{self.scale} by {self.model} in {self.seconds:.1f} s"
        return f"{text}, {len(self.faults)} failed" if self.faults else text


def upscale_files(
    inputs: Sequence[Path],
    out: Path,
    *,
    bundle: Bundle,
    wanted: Wanted = SR_ONLY,
    device: str = "auto",
) -> Summary:
    """Enlarge pictures and write them into one folder; faults are told as they occur.

    Args:
        inputs: picture files, and folders searched recursively.
        out: folder for the results; for a single picture also a file.
        bundle: the model.
        wanted: what to write for each picture.
        device: `auto`, `cpu`, `gpu`, or a GPU's index.

    Raises:
        UsageError: no pictures, no such device, or names that clash; nothing is written then.
    """
    started = time.monotonic()
    card = bundle.card
    jobs, faults = plan_jobs(inputs, out, wanted=wanted, leaves=card.config.leaves)
    for fault in faults:
        _tell(fault)
    done: list[Path] = []
    if jobs:
        model = Model(bundle, open_engine(bundle, device=device))
        for job in _with_progress(jobs):
            fault = _try(job, model, wanted=wanted)
            if fault is None:
                done.append(job.target)
            else:
                faults.append(fault)
                _tell(fault)
    seconds = time.monotonic() - started
    return Summary(card.name, card.scale, tuple(done), tuple(faults), seconds)


def _try(job: Job, model: Model, *, wanted: Wanted) -> D2csrError | None:
    """Enlarge one picture; return why it couldn't be, or None."""
    try:
        enlarge(job, model, wanted=wanted)
    except MemoryError:
        remedy = "Give a smaller picture, or a part of it."
        return ImageError(job.source, "is too large for this machine's memory", remedy=remedy)
    except BundleError as fault:  # names a graph; people look for the picture
        return ImageError(job.source, f"{fault.where}: {fault.problem}", remedy=fault.remedy)
    except D2csrError as fault:
        return fault
    return None


def enlarge(job: Job, model: Model, *, wanted: Wanted) -> None:
    """Read one picture and write everything wanted of it, SR last.

    Raises:
        D2csrError: it can't be read, enlarged or written.
    """
    lr = read_rgb8(job.source)
    if wanted.bicubic:
        write_rgb8(job.bicubic(), enlarge_bicubic(lr, model.scale))
    write_rgb8(job.target, _with_extras(job, model, lr=lr, wanted=wanted))


def _with_extras(
    job: Job, model: Model, *, lr: UInt8[np.ndarray, "h w 3"], wanted: Wanted
) -> UInt8[np.ndarray, "sh sw 3"]:
    """Return SR after writing what is wanted of the predictions."""
    if not wanted.needs_predictions:
        return model.upscale(lr)
    answer = model.predict(lr)
    top = _WEIGHT_TOP / len(answer.weights)
    for leaf, (prediction, weights) in enumerate(
        zip(answer.predictions, answer.weights, strict=True)
    ):
        if wanted.predictions:
            write_rgb8(job.prediction(leaf), prediction)
        if wanted.weight_maps:
            write_rgb8(job.weight_map(leaf), heatmap(weights, top=top))
    if wanted.disagreement:
        write_rgb8(job.disagreement(), heatmap(answer.disagreement, top=_DISAGREEMENT_TOP))
    return answer.sr


def _with_progress(jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield the jobs under a progress bar on standard error."""
    with _progress() as progress:
        work = progress.add_task("", total=len(jobs))
        for job in jobs:
            progress.update(work, description=job.source.name)
            yield job
            progress.advance(work)


@contextmanager
def _progress() -> "Iterator[Progress]":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    # markup off: a file may be called [red].png
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    hidden = not console().is_terminal
    with Progress(
        *columns, TimeRemainingColumn(), console=console(), transient=True, disable=hidden
    ) as progress:
        yield progress


def _tell(fault: D2csrError) -> None:
    console().print(f"error: {fault}", markup=False, soft_wrap=True)
