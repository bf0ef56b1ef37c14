"""Errands planned from a call's inputs, and the list of those that are done, wherever it lies."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import final

from d2csr.core.bundle import Bundle
from d2csr.core.errors import D2csrError, ImageError, UsageError
from d2csr.upscale.done import LIST_NAME, Done, DoneList
from d2csr.upscale.errands import Errand
from d2csr.upscale.jobs import is_one_file, plan_jobs, target_place
from d2csr.upscale.places import fetch, found, is_url, joined, store
from d2csr.upscale.wanted import Wanted

_STORE_EVERY_S = 2.0


def plan_errands(
    inputs: Sequence[str], out: str, *, wanted: Wanted, bundle: Bundle
) -> tuple[list[Errand], list[D2csrError]]:
    """Return what to enlarge, in order, and which inputs can't be.

    Raises:
        UsageError: as `plan_jobs`; or the results are to go to one file.
    """
    if is_one_file(Path(out)):
        raise UsageError(out, "is the name of one file", remedy="Give a folder.")
    if not any(map(is_url, (*inputs, out))):
        leaves = bundle.card.config.leaves
        jobs, faults = plan_jobs(
            [Path(each) for each in inputs], Path(out), wanted=wanted, leaves=leaves
        )
        places = [job.target.relative_to(out).as_posix() for job in jobs]
        sources = [str(job.source.resolve()) for job in jobs]
    else:
        pictures, faults = [], []
        for each in inputs:
            try:
                pictures += found(each)
            except ImageError as fault:
                faults.append(fault)
        places = [target_place(Path(each.place), wanted).as_posix() for each in pictures]
        sources = [each.url for each in pictures]
    if len(set(places)) < len(places):
        remedy = "Rename one, keep the formats with --ext same, or enlarge them apart."
        raise UsageError(out, "two pictures would become one file", remedy=remedy)
    return [Errand(*each) for each in zip(sources, places, strict=True)], faults


@final
class NotedErrands:
    """The list of what is done, in a folder by path or URL.

    Object storage can't add lines: there the list is kept here and stored whole every few seconds,
    and at the end. What a kill loses of it is done again.
    """

    def __init__(self, out: str) -> None:
        """Fetch the list, if there is one."""
        self._stored_at = time.monotonic()
        self._copy = tempfile.TemporaryDirectory() if is_url(out) else None
        self._url = joined(out, LIST_NAME)
        folder = Path(self._copy.name) if self._copy else Path(out)
        self._path = folder / LIST_NAME
        if self._copy:
            try:
                fetch(self._url, self._path)
            except ImageError:
                self._path.unlink(missing_ok=True)  # there is none yet
        self._done = DoneList(folder)

    def find(self, place: str) -> Done | None:
        """Return what is noted of an SR file."""
        return self._done.find(place)

    def note(self, done: Done) -> None:
        """Note an errand that is done."""
        self._done.note(done)
        if self._copy and time.monotonic() - self._stored_at > _STORE_EVERY_S:
            self._store()

    def close(self) -> None:
        """Store the list if it lies elsewhere."""
        if self._copy:
            if self._path.exists():
                self._store()
            self._copy.cleanup()

    def _store(self) -> None:
        store(self._path, self._url)
        self._stored_at = time.monotonic()
