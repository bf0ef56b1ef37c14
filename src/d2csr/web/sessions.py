"""Sessions: the photos that each tab has uploaded, which are removed when it is closed."""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, final

from d2csr.core.errors import UsageError
from d2csr.web.jobs import JobQueue

_LONGEST_NAME = 200  # bytes, so that a suffix can be appended


@dataclass(frozen=True)
class Photo:
    """An uploaded file.

    Attributes:
        path: the file, with the contents as they were uploaded.
        name: its name on the user's disk.
    """

    path: Path
    name: str


@final
class Sessions:
    """The photos of all sessions, and the folders in which they and the results lie."""

    def __init__(self, folder: Path, queue: JobQueue) -> None:
        """Hold the folder for everything, and the jobs, which belong to sessions as well."""
        self.uploads = folder / "uploads"
        self._jobs = folder / "jobs"
        self._queue = queue
        self._owners: dict[Path, set[str]] = {}  # equal files of two sessions are one file
        self._lock = threading.Lock()
        for each in (self.uploads, self._jobs):
            each.mkdir()

    def keep(self, owner: str, files: Iterable[Mapping[str, Any]]) -> list[Photo]:
        """Return the photos that a session has uploaded; earlier ones not among them are removed.

        Args:
            owner: the session.
            files: Gradio's records of the files, as the browser sent them: `path`, `orig_name`.

        Raises:
            UsageError: a path is not that of an uploaded file.
        """
        photos = [self._photo(each) for each in files]
        with self._lock:
            for photo in photos:
                self._owners.setdefault(photo.path, set()).add(owner)
            self._release(owner, keep={photo.path for photo in photos})
        return photos

    def new_folder(self, photos: Sequence[Photo]) -> Path:
        """Return a new folder for a job, with the photos by their own names in `photos`."""
        folder = self._jobs / os.urandom(8).hex()
        inputs = folder / "photos"
        inputs.mkdir(parents=True)
        for photo in photos:
            (inputs / _free_name(inputs, photo.name)).hardlink_to(photo.path)
        return folder

    def forget(self, owner: str) -> None:
        """Cancel the jobs of a session, and remove its photos and results."""
        self._queue.forget(owner)
        with self._lock:
            self._release(owner, keep=set())

    def _photo(self, file: Mapping[str, Any]) -> Photo:
        path = Path(str(file.get("path", "")))
        name = PurePosixPath(str(file.get("orig_name") or path.name)).name
        inside = path.resolve().is_relative_to(self.uploads.resolve())
        if not inside or not path.is_file():
            raise UsageError(
                name, "is no longer here", "Remove it from the list and drop it again."
            )
        return Photo(path, name)

    def _release(self, owner: str, *, keep: set[Path]) -> None:
        """Remove the uploaded files of a session that it doesn't keep and no other session has."""
        for path in [each for each, owners in self._owners.items() if owner in owners]:
            if path not in keep:
                self._owners[path].discard(owner)
            if not self._owners[path]:
                del self._owners[path]
                path.unlink(missing_ok=True)


def _free_name(folder: Path, name: str) -> str:
    """Return a file's name, shortened if it is long, with a number if the folder has it already."""
    path = PurePosixPath(name.replace("\\", "_").replace("\0", "_").lstrip(".") or "photo")
    suffix = path.suffix[:20]
    stem = path.stem.encode()[:_LONGEST_NAME].decode(errors="ignore")
    names = [f"{stem}{suffix}", *(f"{stem} ({number}){suffix}" for number in range(2, 10_000))]
    return next(each for each in names if not os.path.lexists(folder / each))
