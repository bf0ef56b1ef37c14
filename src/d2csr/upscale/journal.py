"""The list of what is done: one line a finished image, so that a killed run can go on."""

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from d2csr.core.files import flush_to_disk, sha256_file

LIST_NAME = ".d2csr-done.jsonl"
_VERSION = 1


@dataclass(frozen=True)
class FileRecord:
    """A file that was written: its place in the folder of results, and what is in it."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class JournalEntry:
    """A finished image.

    Attributes:
        input_sha256: of the image's file.
        settings: hash of all that decides what the results look like.
        files: what was written, SR first.
    """

    input_sha256: str
    settings: str
    files: tuple[FileRecord, ...]


@final
class Journal:
    """Finished images by SR file, as read from a folder of results; lines are only added.

    A line is written and flushed after its files are in place. One torn by a kill is passed over,
    and its image done again; of several lines for one SR file the last counts.
    """

    def __init__(self, folder: Path) -> None:
        """Read the list of a folder; it may not be there yet."""
        self._folder, self._path = folder, folder / LIST_NAME
        self._lock = threading.Lock()
        self._done: dict[str, JournalEntry] = {}
        for done in _read(self._path):
            self._done[done.files[0].path] = done

    def find(self, place: str) -> JournalEntry | None:
        """Return what is noted of the SR file at a place in the folder, looked at or not."""
        return self._done.get(place)

    def is_complete(self, target: Path, *, input_sha256: str, settings: str) -> bool:
        """Return whether an image needn't be done again: same input, same settings, files whole.

        Args:
            target: its SR file.
            input_sha256: hash of the input as it is now.
            settings: as in `JournalEntry`.
        """
        done = self.find(self._place(target))
        if done is None or (done.input_sha256, done.settings) != (input_sha256, settings):
            return False
        return all(_is_whole(self._folder / file.path, file) for file in done.files)

    def add(self, files: Iterable[Path], *, input_sha256: str, settings: str) -> None:
        """Note an image whose files are in place, SR first."""
        self.append(JournalEntry(input_sha256, settings, describe_files(files, self._folder)))

    def append(self, done: JournalEntry) -> None:
        """Add a line; threads may call this together."""
        line = json.dumps({"version": _VERSION, **asdict(done)}) + "\n"
        with self._lock:
            self._append(line)
            self._done[done.files[0].path] = done

    def _append(self, line: str) -> None:
        is_new = not self._path.exists()
        with self._path.open("a+b") as file:
            if file.tell() and _last_byte(file) != b"\n":
                file.write(b"\n")  # behind a torn line
            file.write(line.encode())
        flush_to_disk(self._path)
        if is_new:
            flush_to_disk(self._folder)

    def _place(self, file: Path) -> str:
        return _place(file, self._folder)


def describe_files(files: Iterable[Path], folder: Path) -> tuple[FileRecord, ...]:
    """Return what is in files, and their places in a folder."""
    return tuple(
        FileRecord(_place(file, folder), file.stat().st_size, sha256_file(file)) for file in files
    )


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return a hash of settings, whatever their order."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _place(file: Path, folder: Path) -> str:
    return Path(os.path.relpath(file, folder)).as_posix()


def _read(path: Path) -> list[JournalEntry]:
    """Return the lines that are whole and of this version."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [done for line in text.splitlines() if (done := _parsed(line)) is not None]


def _parsed(line: str) -> JournalEntry | None:
    try:
        values = json.loads(line)
        if values["version"] != _VERSION:
            return None
        files = tuple(FileRecord(**file) for file in values["files"])
        return JournalEntry(values["input_sha256"], values["settings"], files) if files else None
    except (ValueError, KeyError, TypeError):
        return None


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def _is_whole(path: Path, file: FileRecord) -> bool:
    try:
        return path.stat().st_size == file.bytes and sha256_file(path) == file.sha256
    except OSError:
        return False
