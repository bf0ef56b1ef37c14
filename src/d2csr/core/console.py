"""Printing: lines without control characters, the console on standard error, progress bars.

Separate so that every command shows its progress the same way.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, TextIO, TypeVar

from d2csr.core.errors import D2csrError, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

Item = TypeVar("Item")


def print_line(*lines: object, stream: TextIO | None = None) -> None:
    """Print lines on standard output, or on `stream`, with control characters escaped; flushed."""
    for line in lines:
        print(printable(line), file=stream, flush=True)


def print_error(error: D2csrError) -> None:
    """Print an error on standard error: one line, or with indented lines after it."""
    console().print(f"error: {error}", markup=False, soft_wrap=True)


def print_note(text: str) -> None:
    """Print a line on standard error, above a progress bar, with control characters escaped."""
    console().print(printable(text), markup=False, soft_wrap=True)


@cache
def console() -> "Console":
    """Return the console for progress and notes; standard output is left to results."""
    from rich.console import Console  # 30 ms that `--help` must not pay

    return Console(stderr=True, highlight=False, emoji=False)  # `:smile:.png` is a name


def progress_display(*details: "ProgressColumn") -> "Progress":
    """Return a transient progress display on standard error, to be used as a context manager.

    Args:
        details: columns between the bar and the time remaining.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),  # a file may be called [red].png
        BarColumn(),
        *details,
        TimeRemainingColumn(),
        console=console(),
        transient=True,
    )


def track(items: Iterable[Item], *, description: str, total: int) -> Iterator[Item]:
    """Yield the items, counting them in a progress bar on standard error."""
    from rich.progress import MofNCompleteColumn

    with progress_display(MofNCompleteColumn()) as progress:
        task = progress.add_task(description, total=total)
        for item in items:
            progress.advance(task)
            yield item
