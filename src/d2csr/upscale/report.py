"""What came of a call: one record a picture, for people or for programs, and a summary."""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO, final

from d2csr.core.errors import D2csrError
from d2csr.core.grid import UNKNOWN_SIZE, Size
from d2csr.core.log import console

Status = Literal["done", "unchanged", "failed"]


@dataclass(frozen=True)
class PictureReport:
    """What came of one picture.

    Attributes:
        source: the picture.
        target: its SR file.
        status: `unchanged`: done by an earlier run already.
        files: what was written, SR first.
        lr_size: of the picture.
        sr_size: of SR.
        seconds: by part: decode; compute; encode, as far as writing took longer than computing.
            They overlap with other pictures' parts.
        warnings: sentences on what of the file couldn't be kept.
        fault: why it failed.
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
    fault: D2csrError | None = None
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
            "error": None if self.fault is None else str(self.fault),
            "worker": self.worker,
        }


@dataclass(frozen=True)
class Summary:
    """What came of a call.

    Attributes:
        model: name of the model.
        scale: what it enlarges by.
        pictures: what came of each, in the order in which they were finished.
        faults: inputs that couldn't be found, and pictures that failed.
        seconds: how long it took, by part: load (of the engine), total.
        began_at: when, in seconds since 1970.
        interrupted: the call was ended before its end.
    """

    model: str
    scale: int
    pictures: tuple[PictureReport, ...]
    faults: tuple[D2csrError, ...]
    seconds: Mapping[str, float]
    began_at: float
    interrupted: bool = False

    @property
    def done(self) -> tuple[str, ...]:
        """Return the SR files written."""
        return tuple(each.target for each in self.pictures if each.status == "done")

    @property
    def unchanged(self) -> int:
        """Return how many pictures were done before."""
        return sum(each.status == "unchanged" for each in self.pictures)

    @property
    def exit_code(self) -> int:
        """Return 0 where all went well, 1 where some did, 2 where none did; 130 if interrupted."""
        if self.interrupted:
            return 130
        if not self.faults:
            return 0
        return 1 if self.done or self.unchanged else 2

    def record(self) -> dict[str, Any]:
        """Return the same for JSON, the pictures counted."""
        return {
            "model": self.model,
            "scale": self.scale,
            "done": len(self.done),
            "unchanged": self.unchanged,
            "failed": len(self.faults),
            "interrupted": self.interrupted,
            "began_at": self.began_at,
            "seconds": {part: round(value, 4) for part, value in self.seconds.items()},
            "errors": [str(fault) for fault in self.faults],
        }

    def as_text(self) -> str:
        """Return one line."""
        pictures = "1 picture" if len(self.done) == 1 else f"{len(self.done)} pictures"
        seconds = self.seconds["total"]
        text = f"{pictures} enlarged x{self.scale} by {self.model} in {seconds:.1f} s"
        text += f", {self.unchanged} done before" if self.unchanged else ""
        return f"{text}, {len(self.faults)} failed" if self.faults else text


@final
class Teller:
    """Tells what becomes of each picture as it happens; threads may use it together."""

    def __init__(
        self, facts: Callable[[], Mapping[str, Any]] | None = None, *, quiet: bool = False
    ) -> None:
        """Begin.

        Args:
            facts: of the call, for each record on standard output; None: no records.
            quiet: keep faults and warnings to itself; else they go to standard error, in words.
        """
        self._facts, self._quiet = facts, quiet
        self._records = sys.stdout  # as it is now: a library's words may be turned elsewhere
        self._lock = threading.Lock()
        self.pictures: list[PictureReport] = []

    def tell(self, report: PictureReport) -> None:
        """Tell what came of a picture."""
        with self._lock:
            self.pictures.append(report)
            if self._facts is not None:
                record = {"event": "picture", **report.record(), **self._facts()}
                print_record(record, stream=self._records)
            if not self._quiet:
                _say_words(report)


def _say_words(report: PictureReport) -> None:
    for warning in report.warnings:
        say(f"{report.source}: {warning}")
    if report.fault is not None:
        say(f"error: {report.fault}")


def print_record(record: Mapping[str, Any], *, stream: TextIO | None = None) -> None:
    """Print a line of JSON at once, on standard output unless told otherwise."""
    print(json.dumps(record, ensure_ascii=False), file=stream, flush=True)


def print_line(text: str) -> None:
    """Print a line on standard output."""
    print(text)  # noqa: T201 - what --dry-run is for


def say(text: str) -> None:
    """Print a line on standard error, as it is."""
    console().print(text, markup=False, soft_wrap=True)
