"""The progress bar: pictures, megapixels of SR a second, and the time left."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

from d2csr.core.log import console

if TYPE_CHECKING:
    from rich.progress import Progress


@final
class Bar:
    """A bar over the bytes of the inputs, which grow as their pixels do; threads may share it."""

    def __init__(self, progress: "Progress | None", *, pictures: int, input_bytes: int) -> None:
        """Start at none; without a progress display nothing is shown."""
        self._progress, self._of = progress, pictures
        self._pictures, self._sr_px = 0, 0
        self._lock = threading.Lock()
        if progress is not None:
            self._task = progress.add_task("", total=input_bytes, pictures=f"0/{pictures}", rate="")

    def begin(self, name: str) -> None:
        """Show what is computed now."""
        if self._progress is not None:
            self._progress.update(self._task, description=name)

    def advance(self, *, input_bytes: int, sr_px: int) -> None:
        """Count a part of a picture: bytes of its file, and pixels of SR made of them."""
        if self._progress is None:
            return
        with self._lock:
            self._sr_px += sr_px
            elapsed = self._progress.tasks[0].elapsed or 0.0
            known = elapsed and self._sr_px
            rate = f"{self._sr_px / elapsed / 1e6:.1f} MP/s" if known else ""
            pictures = f"{self._pictures}/{self._of}"
        self._progress.update(self._task, advance=input_bytes, pictures=pictures, rate=rate)

    def finish(self) -> None:
        """Count a picture."""
        with self._lock:
            self._pictures += 1
        self.advance(input_bytes=0, sr_px=0)


@contextmanager
def progress_bar(*, pictures: int, input_bytes: int) -> Iterator[Bar]:
    """Show a bar on standard error while the block runs, if that is a terminal."""
    if not sys.stderr.isatty():  # and spare the time that rich takes to import
        yield Bar(None, pictures=pictures, input_bytes=input_bytes)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),  # a file may be called [red].png
        BarColumn(),
        TextColumn("{task.fields[pictures]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(), transient=True) as progress:
        yield Bar(progress, pictures=pictures, input_bytes=input_bytes)
