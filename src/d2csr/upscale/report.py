"""What came of a call: one record an image, for people or for programs, and a summary.

The progress bar: images, megapixels of SR a second, and the time left.

Seconds by part of the work.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeVar, final

from d2csr.core.console import console
from d2csr.core.errors import D2csrError
from d2csr.core.geometry import UNKNOWN_SIZE, Size

Status = Literal["done", "unchanged", "failed"]


@dataclass(frozen=True)
class ImageReport:
    """What came of one image.

    Attributes:
        source: the image.
        target: its SR file.
        status: `unchanged`: done by an earlier run already.
        files: what was written, SR first.
        lr_size: of the image.
        sr_size: of SR.
        seconds: by part: decode; compute; encode, as far as writing took longer than computing.
            They overlap with other images' parts.
        warnings: sentences on what of the file couldn't be kept.
        error: why it failed.
        worker: the process of a cluster that did it.
    """

    source: str
    target: str
    status: Status
    files: tuple[str, ...] = ()
    lr_size: Size = UNKNOWN_SIZE
    sr_size: Size = UNKNOWN_SIZE
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: D2csrError | None = None
    worker: int | None = None

    def record(self) -> dict[str, Any]:
        """Return the same for JSON."""
        known = self.sr_size != UNKNOWN_SIZE
        return {
            "input": self.source,
            "output": self.target,
            "status": self.status,
            "files": list(self.files),
            "lr_size": list(self.lr_size) if known else None,
            "sr_size": list(self.sr_size) if known else None,
            "seconds": {part: round(value, 4) for part, value in self.seconds.items()},
            "warnings": list(self.warnings),
            "error": None if self.error is None else str(self.error),
            "worker": self.worker,
        }


@dataclass(frozen=True)
class Summary:
    """What came of a call.

    Attributes:
        model: name of the model.
        scale: what it enlarges by.
        images: what came of each, in the order in which they were finished.
        errors: inputs that couldn't be found, and images that failed.
        seconds: how long it took, by part: load (of the engine), total.
        began_at: when, in seconds since 1970.
        interrupted: the call was ended before its end.
    """

    model: str
    scale: int
    images: tuple[ImageReport, ...]
    errors: tuple[D2csrError, ...]
    seconds: Mapping[str, float]
    began_at: float
    interrupted: bool = False

    @property
    def done(self) -> tuple[str, ...]:
        """Return the SR files written."""
        return tuple(each.target for each in self.images if each.status == "done")

    @property
    def unchanged(self) -> int:
        """Return how many images were done before."""
        return sum(each.status == "unchanged" for each in self.images)

    @property
    def exit_code(self) -> int:
        """Return 0 where all went well, 1 where some did, 2 where none did; 130 if interrupted."""
        if self.interrupted:
            return 130
        if not self.errors:
            return 0
        return 1 if self.done or self.unchanged else 2

    def record(self) -> dict[str, Any]:
        """Return the same for JSON, the images counted."""
        return {
            "model": self.model,
            "scale": self.scale,
            "done": len(self.done),
            "unchanged": self.unchanged,
            "failed": len(self.errors),
            "interrupted": self.interrupted,
            "began_at": self.began_at,
            "seconds": {part: round(value, 4) for part, value in self.seconds.items()},
            "errors": [str(error) for error in self.errors],
        }

    def as_text(self) -> str:
        """Return one line."""
        images = "1 image" if len(self.done) == 1 else f"{len(self.done)} images"
        seconds = self.seconds["total"]
        text = f"{images} enlarged x{self.scale} by {self.model} in {seconds:.1f} s"
        text += f", {self.unchanged} done before" if self.unchanged else ""
        return f"{text}, {len(self.errors)} failed" if self.errors else text


@final
class Reporter:
    """Tells what becomes of each image as it happens; threads may use it together."""

    def __init__(
        self, facts: Callable[[], Mapping[str, Any]] | None = None, *, quiet: bool = False
    ) -> None:
        """Begin.

        Args:
            facts: of the call, for each record on standard output; None: no records.
            quiet: keep errors and warnings to itself; else they go to standard error, in words.
        """
        self._facts, self._quiet = facts, quiet
        self._records = sys.stdout  # as it is now: a library's words may be turned elsewhere
        self._lock = threading.Lock()
        self.images: list[ImageReport] = []

    def report(self, report: ImageReport) -> None:
        """Tell what came of an image."""
        with self._lock:
            self.images.append(report)
            if self._facts is not None:
                record = {"event": "picture", **report.record(), **self._facts()}
                print_record(record, stream=self._records)
            if not self._quiet:
                _say_words(report)


def _say_words(report: ImageReport) -> None:
    for warning in report.warnings:
        print_stderr(f"{report.source}: {warning}")
    if report.error is not None:
        print_stderr(f"error: {report.error}")


def print_record(record: Mapping[str, Any], *, stream: TextIO | None = None) -> None:
    """Print a line of JSON at once, on standard output unless told otherwise."""
    print(json.dumps(record, ensure_ascii=False), file=stream, flush=True)


def print_line(text: str) -> None:
    """Print a line on standard output."""
    print(text)  # noqa: T201 - what --dry-run is for


def print_stderr(text: str) -> None:
    """Print a line on standard error, as it is."""
    console().print(text, markup=False, soft_wrap=True)


if TYPE_CHECKING:
    from rich.progress import Progress


@final
class ProgressBar:
    """A bar over the bytes of the inputs, which grow as their pixels do; threads may share it."""

    def __init__(self, progress: "Progress | None", *, images: int, input_bytes: int) -> None:
        """Start at none; without a progress display nothing is shown."""
        self._progress, self._of = progress, images
        self._images, self._sr_px = 0, 0
        self._lock = threading.Lock()
        if progress is not None:
            self._task = progress.add_task("", total=input_bytes, images=f"0/{images}", rate="")

    def begin(self, name: str) -> None:
        """Show what is computed now."""
        if self._progress is not None:
            self._progress.update(self._task, description=name)

    def advance(self, *, input_bytes: int, sr_px: int) -> None:
        """Count a part of an image: bytes of its file, and pixels of SR made of them."""
        if self._progress is None:
            return
        with self._lock:
            self._sr_px += sr_px
            elapsed = self._progress.tasks[0].elapsed or 0.0
            known = elapsed and self._sr_px
            rate = f"{self._sr_px / elapsed / 1e6:.1f} MP/s" if known else ""
            images = f"{self._images}/{self._of}"
        self._progress.update(self._task, advance=input_bytes, images=images, rate=rate)

    def finish(self) -> None:
        """Count an image."""
        with self._lock:
            self._images += 1
        self.advance(input_bytes=0, sr_px=0)


@contextmanager
def progress_bar(*, images: int, input_bytes: int) -> Iterator[ProgressBar]:
    """Show a bar on standard error while the block runs, if that is a terminal."""
    if not sys.stderr.isatty():  # and spare the time that rich takes to import
        yield ProgressBar(None, images=images, input_bytes=input_bytes)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),  # a file may be called [red].png
        BarColumn(),
        TextColumn("{task.fields[images]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(), transient=True) as progress:
        yield ProgressBar(progress, images=images, input_bytes=input_bytes)


Piece = TypeVar("Piece")


@final
class Stopwatch:
    """Sums seconds by part; each part belongs to one thread at a time."""

    def __init__(self) -> None:
        """Start at none."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Add the seconds that the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[part] = self.seconds.get(part, 0.0) + spent

    def timed(self, part: str, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Yield pieces and add the seconds that making them takes, not those of their use."""
        source = iter(pieces)
        while True:
            with self.timing(part):
                piece = next(source, None)
            if piece is None:
                return
            yield piece
