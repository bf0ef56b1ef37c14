"""Reports: the outcome of each image and of a run, for people and for programs; progress."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeVar, final

from d2csr.core.bundle import ModelCard
from d2csr.core.console import console, print_error, print_line, print_note
from d2csr.core.errors import D2csrError, printable
from d2csr.core.geometry import UNKNOWN_SIZE, Size
from d2csr.images.strength import MODEL_STRENGTH
from d2csr.upscale.options import OutputSize

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from d2csr.upscale.jobs import Plan

_NAMED_FILES = 3  # in the last line of a run

Status = Literal["done", "unchanged", "failed", "to do"]


@dataclass(frozen=True)
class ImagePlan:
    """How an image would be computed: the result of a dry run.

    Attributes:
        memory_bytes: estimated peak memory, in addition to the loaded model.
        description: how the engine would compute it.
    """

    memory_bytes: int
    description: str


@dataclass(frozen=True)
class ImageReport:
    """The outcome of one image.

    Attributes:
        source: the image.
        target: its SR file.
        status: `unchanged` if an earlier run had finished it, `to do` in a dry run.
        files: the files written, or to write in a dry run, SR first.
        lr_size: size of the image.
        sr_size: size of SR.
        seconds: by part: decode, compute, encode (waiting for the encoders). Parts of different
            images overlap.
        warnings: sentences on what could not be preserved, or is not exact.
        error: the reason for a failure.
        worker: process id of the cluster's worker.
        engine: model, backend, device and precision; empty if unknown.
        plan: how it would be computed, in a dry run.
        strength: of the blend of SR with the bicubic enlargement; 1 is SR alone.
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
    engine: Mapping[str, Any] = field(default_factory=dict)
    plan: ImagePlan | None = None
    strength: float = MODEL_STRENGTH

    def record(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        is_known = self.sr_size != UNKNOWN_SIZE
        plan = {} if self.plan is None else {
            "memory_bytes": self.plan.memory_bytes, "plan": self.plan.description,
        }  # fmt: skip
        return {
            "event": "plan" if plan else "image",
            "input": self.source,
            "output": self.target,
            "status": self.status,
            "files": list(self.files),
            "lr_size": list(self.lr_size) if is_known else None,
            "sr_size": list(self.sr_size) if is_known else None,
            "seconds": {part: round(value, 4) for part, value in self.seconds.items()},
            "warnings": list(self.warnings),
            "error": None if self.error is None else str(self.error),
            "worker": self.worker,
            "strength": self.strength,
            **self.engine,
            **plan,
        }

    def plan_text(self, plan: ImagePlan) -> str:
        """Return the plan of the image as one line."""
        text = f"{self.source} {self.lr_size} -> {self.target} {self.sr_size}"
        if self.status == "unchanged":
            return f"{text}: done before"
        return f"{text}: {plan.description}, about {plan.memory_bytes / 2**20:.0f} MiB"


@dataclass(frozen=True)
class Summary:
    """The outcome of a run.

    Attributes:
        model: name of the model.
        scale: scale of the model.
        size: size of the results in words, such as `x4` or `to a width of 6000`.
        images: a report per image, in the order in which they were finished.
        errors: inputs that weren't found, and images that failed.
        seconds: by part: load (the engine), total.
        began_at: start of the run, in seconds since 1970.
        interrupted: whether the run was ended early.
    """

    model: str
    scale: int
    size: str
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
        """Return the number of images that an earlier run had finished."""
        return sum(each.status == "unchanged" for each in self.images)

    @property
    def exit_code(self) -> int:
        """Return 0 if all images succeeded, 1 if some did, 2 if none did, 130 if interrupted."""
        if self.interrupted:
            return 130
        if not self.errors:
            return 0
        return 1 if any(each.status != "failed" for each in self.images) else 2

    def record(self) -> dict[str, Any]:
        """Return the summary as JSON values, the images counted."""
        return {
            "model": self.model,
            "scale": self.scale,
            "size": self.size,
            "done": len(self.done),
            "unchanged": self.unchanged,
            "failed": len(self.errors),
            "interrupted": self.interrupted,
            "began_at": self.began_at,
            "seconds": {part: round(value, 4) for part, value in self.seconds.items()},
            "errors": [str(error) for error in self.errors],
        }

    def as_text(self) -> str:
        """Return the summary as one line."""
        images = "1 image" if len(self.done) == 1 else f"{len(self.done)} images"
        seconds = self.seconds["total"]
        text = f"{images} enlarged {self.size} by {self.model} in {seconds:.1f} s"
        text += f", {self.unchanged} done before" if self.unchanged else ""
        return f"{text}, {len(self.errors)} failed" if self.errors else text

    def describe_files(self) -> str:
        """Return the names of the SR files, those of earlier runs included; empty without any.

        Up to three are named, of more the first.
        """
        files = [each.target for each in self.images if each.status in {"done", "unchanged"}]
        if len(files) <= _NAMED_FILES:
            return ", ".join(files)
        return f"{files[0]} and {len(files) - 1} more, each beside its original"


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes:
        image: name of the image that is computed.
        done: share of the bytes of all inputs whose pixels are computed, 0 to 1.
        images_done: images that are finished or have failed.
        images: all images of the run.
    """

    image: str
    done: float
    images_done: int
    images: int


@dataclass(frozen=True)
class Observer:
    """Functions that are called while a run proceeds, for programs that show it themselves.

    An exception of theirs ends the run; KeyboardInterrupt ends it with what is done so far.

    Attributes:
        on_progress: called after each part of an image, often, in the thread that computes.
        on_report: called with the report of each image when its files are complete.
    """

    on_progress: Callable[[Progress], object] = lambda _: None
    on_report: Callable[[ImageReport], object] = lambda _: None


NO_OBSERVER = Observer()


@final
class Reporter:
    """Prints the outcome of each image, and collects the reports."""

    def __init__(self, *, json: bool, observer: Observer = NO_OBSERVER) -> None:
        """Prepare to print.

        Args:
            json: print a line of JSON per image on standard output; errors and warnings go to
                standard error in either case.
            observer: gets each report after it is printed.
        """
        self._json, self._observer = json, observer
        self._stdout = sys.stdout  # as it is now: Ray's messages are redirected later
        self._began_at = time.time()
        self.images: list[ImageReport] = []
        self.errors: list[D2csrError] = []

    def report_plan(self, plan: "Plan") -> None:
        """Print the notes of a plan, and its errors, which are of inputs that have no image."""
        for note in plan.notes:
            print_note(note)
        self.report_errors(plan.errors)

    def report_errors(self, errors: Iterable[D2csrError]) -> None:
        """Print errors of inputs that have no image."""
        for error in errors:
            self.errors.append(error)
            print_error(error)

    def report(self, image: ImageReport) -> None:
        """Print the outcome of an image."""
        self.images.append(image)
        if self._json:
            print_record(image.record(), stream=self._stdout)
        elif image.plan is not None:
            print_line(image.plan_text(image.plan))
        for warning in image.warnings:
            print_note(f"{image.source}: {warning}")
        if image.error is not None:
            self.report_errors([image.error])
        self._observer.on_report(image)

    def summarize(  # noqa: PLR0917 - what the summary is of
        self, card: ModelCard, size: OutputSize, watch: "Stopwatch", *, interrupted: bool
    ) -> Summary:
        """Return the summary of everything reported so far.

        Args:
            card: of the model.
            size: of the results.
            watch: seconds by part, `total` among them.
            interrupted: whether the run was ended early.
        """
        return Summary(
            card.name,
            card.scale,
            size.describe(scale=card.scale),
            images=tuple(self.images),
            errors=tuple(self.errors),
            seconds={"load": 0.0, **watch.seconds},
            began_at=self._began_at,
            interrupted=interrupted,
        )


def print_record(record: Mapping[str, Any], *, stream: TextIO | None = None) -> None:
    """Print a line of JSON, flushed, on standard output by default."""
    print_line(json.dumps(record, ensure_ascii=False), stream=stream)


@final
class ProgressBar:
    """A bar over the bytes of the inputs, advanced as their pixels are computed."""

    def __init__(
        self,
        progress: "RichProgress | None",
        *,
        images: int,
        input_bytes: int,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        """Start at 0; without a progress display only the observer gets the progress."""
        self._progress, self._observer = progress, observer
        self._of, self._total = images, max(1, input_bytes)
        self._image, self._images, self._bytes, self._sr_px = "", 0, 0, 0
        if progress is not None:
            self._task = progress.add_task("", total=input_bytes, images=f"0/{images}", rate="")

    def begin(self, name: str) -> None:
        """Show the name of the image that is computed."""
        self._image = name
        self._observer.on_progress(self._state())
        if self._progress is not None:
            self._progress.update(self._task, description=printable(name))

    def advance(self, *, input_bytes: int, sr_px: int) -> None:
        """Add a part of an image: bytes of its file, and the SR pixels made from them."""
        self._bytes += input_bytes
        self._observer.on_progress(self._state())
        if self._progress is None:
            return
        self._sr_px += sr_px
        elapsed = self._progress.tasks[0].elapsed or 0.0
        rate = f"{self._sr_px / elapsed / 1e6:.1f} MP/s" if elapsed and self._sr_px else ""
        images = f"{self._images}/{self._of}"
        self._progress.update(self._task, advance=input_bytes, images=images, rate=rate)

    def finish(self) -> None:
        """Count an image."""
        self._images += 1
        self.advance(input_bytes=0, sr_px=0)

    def _state(self) -> Progress:
        done = min(1.0, self._bytes / self._total)
        return Progress(self._image, done, self._images, self._of)


@contextmanager
def progress_bar(
    *, images: int, input_bytes: int, observer: Observer = NO_OBSERVER
) -> Iterator[ProgressBar]:
    """Show a bar on standard error while the block runs, if that is a terminal."""
    if not sys.stderr.isatty():  # saves the import of rich
        yield ProgressBar(None, images=images, input_bytes=input_bytes, observer=observer)
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),  # a file may be called [red].png
        BarColumn(),
        TextColumn("{task.fields[images]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console(), transient=True) as progress:
        yield ProgressBar(progress, images=images, input_bytes=input_bytes, observer=observer)


Item = TypeVar("Item")


@final
class Stopwatch:
    """Adds up seconds by part; each part is timed by one thread at a time."""

    def __init__(self) -> None:
        """Start without any part."""
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Add the seconds that the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            with self._lock:
                self.seconds[part] = self.seconds.get(part, 0.0) + spent

    def timed(self, part: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items, and add the seconds that making them takes, without those of their use."""
        iterator = iter(items)
        while True:
            with self.timing(part):
                item = next(iterator, None)
            if item is None:
                return
            yield item
