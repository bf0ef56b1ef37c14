"""The journal: a line per finished image, so that a run that was killed can be resumed."""

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, final

from pydantic import BaseModel, Field

from d2csr.core.errors import UsageError
from d2csr.core.files import flush_to_disk, read_regular, sha256_file
from d2csr.core.typed_reader import STRICT, parse_json

JOURNAL_NAME = ".d2csr-done.jsonl"
_VERSION = 1
_MAX_BYTES = 256 << 20  # the lines of a million images


@dataclass(frozen=True)
class FileRecord:
    """A file that was written: its path in the folder of results, its size and its hash."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class JournalEntry:
    """A finished image.

    Attributes:
        input_sha256: hash of the image's file.
        settings: hash of everything that the contents of the results depend on.
        files: the files written, SR first.
    """

    input_sha256: str
    settings: str
    files: tuple[FileRecord, ...]


@final
class Journal:
    """Finished images by SR file, read from a folder of results; lines are only appended.

    A line is written and flushed after its files are complete. A line that is incomplete, because
    the process was killed, is ignored, and its image is upscaled again. Of several lines for one
    SR file, the last counts.
    """

    def __init__(self, folder: Path) -> None:
        """Read the journal of a folder, if there is one."""
        self._folder, self._path = folder, folder / JOURNAL_NAME
        self._lock = threading.Lock()
        entries = _read(self._path)
        self._entries = {entry.files[0].path: entry for entry in entries}
        self._files = {file.path: file for entry in entries for file in entry.files}

    def wrote(self, file: Path) -> bool:
        """Return whether a file is one of those listed, and unchanged."""
        record = self._files.get(_relative(file, self._folder))
        return record is not None and _is_unchanged(file, record)

    def find(self, path: str) -> JournalEntry | None:
        """Return the entry of an SR file, given by its path in the folder; files aren't checked."""
        return self._entries.get(path)

    def is_complete(self, target: Path, *, input_sha256: str, settings: str) -> bool:
        """Return whether an image is finished: same input, same settings, all files unchanged.

        Args:
            target: its SR file.
            input_sha256: hash of the input now.
            settings: as in `JournalEntry`.
        """
        entry = self.find(_relative(target, self._folder))
        if entry is None or (entry.input_sha256, entry.settings) != (input_sha256, settings):
            return False
        return all(_is_unchanged(self._folder / file.path, file) for file in entry.files)

    def add(self, files: Iterable[Path], *, input_sha256: str, settings: str) -> None:
        """Append an image whose files are complete, SR first."""
        self.append(JournalEntry(input_sha256, settings, describe_files(files, self._folder)))

    def append(self, entry: JournalEntry) -> None:
        """Append a line; safe to call from several threads."""
        line = json.dumps({"version": _VERSION, **asdict(entry)}) + "\n"
        with self._lock:
            self._append_line(line)
            self._entries[entry.files[0].path] = entry
            self._files |= {file.path: file for file in entry.files}

    def _append_line(self, line: str) -> None:
        is_new = not self._path.exists()
        with self._path.open("a+b") as file:
            if file.tell() and _last_byte(file) != b"\n":
                file.write(b"\n")  # after an incomplete line
            file.write(line.encode())
        flush_to_disk(self._path)
        if is_new:
            flush_to_disk(self._folder)


@final
class FolderJournals:
    """The journals of results beside their originals: each folder has its own, for its files."""

    def __init__(self) -> None:
        """Know no folder yet; each journal is read when it is needed."""
        self._journals: dict[Path, Journal] = {}
        self._lock = threading.Lock()

    def wrote(self, file: Path) -> bool:
        """Return whether a file is listed in its folder's journal, and unchanged."""
        return self._of(file).wrote(file)

    def is_complete(self, target: Path, *, input_sha256: str, settings: str) -> bool:
        """Return whether an image is finished, as `Journal.is_complete`."""
        journal = self._of(target)
        return journal.is_complete(target, input_sha256=input_sha256, settings=settings)

    def add(self, files: Sequence[Path], *, input_sha256: str, settings: str) -> None:
        """Append an image whose files are complete, SR first."""
        self._of(files[0]).add(files, input_sha256=input_sha256, settings=settings)

    def _of(self, file: Path) -> Journal:
        folder = file.parent
        with self._lock:
            if folder not in self._journals:
                self._journals[folder] = Journal(folder)
            return self._journals[folder]


@final
class KnownResults:
    """The results of earlier runs, by the journals in their folders and in all folders above."""

    def __init__(self) -> None:
        """Know no folder yet; each journal is read once, when it is needed."""
        self._journals: dict[Path, Journal | None] = {}

    def __contains__(self, file: str) -> bool:
        """Return whether an earlier run wrote a file, given by its path, and nobody changed it."""
        path = Path(file)
        path = path.parent.resolve() / path.name
        journals = map(self._journal, path.parents)
        return any(journal is not None and journal.wrote(path) for journal in journals)

    def _journal(self, folder: Path) -> Journal | None:
        """Return the journal of a folder; None if there is none, or none that can be read."""
        if folder not in self._journals:
            try:
                is_there = (folder / JOURNAL_NAME).is_file()
                self._journals[folder] = Journal(folder) if is_there else None
            except (OSError, UsageError):
                self._journals[folder] = None
        return self._journals[folder]


def describe_files(files: Iterable[Path], folder: Path) -> tuple[FileRecord, ...]:
    """Return the size and hash of files, and their paths in a folder."""
    return tuple(
        FileRecord(_relative(file, folder), file.stat().st_size, sha256_file(file))
        for file in files
    )


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return a hash of settings that doesn't depend on their order."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _relative(file: Path, folder: Path) -> str:
    return Path(os.path.relpath(file, folder)).as_posix()


def _read(path: Path) -> list[JournalEntry]:
    """Return the entries of all lines that are complete and of this version."""
    try:
        text = read_regular(path, max_bytes=_MAX_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        remedy = "Remove it, or choose another output folder."
        raise UsageError(path, f"can't be read: {error.strerror}", remedy) from error
    return [entry for line in text.splitlines() if (entry := _parse(line)) is not None]


class _Line(BaseModel):
    """A line in JSON."""

    model_config = STRICT

    version: Literal[1]
    input_sha256: str
    settings: str
    files: tuple[FileRecord, ...] = Field(min_length=1)


def _parse(line: str) -> JournalEntry | None:
    try:
        values = parse_json(line, _Line)
    except ValueError:
        return None
    return JournalEntry(values.input_sha256, values.settings, values.files)


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def _is_unchanged(path: Path, file: FileRecord) -> bool:
    try:
        return path.stat().st_size == file.bytes and sha256_file(path) == file.sha256
    except OSError:
        return False
