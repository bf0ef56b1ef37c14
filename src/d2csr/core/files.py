"""Files written whole or not at all, and the hashes that name their contents.

Folders written whole or not at all.
"""

import hashlib
import os
import platform
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from d2csr.core.errors import UsageError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a fresh sibling of `path`, which takes its place if the block succeeds.

    The sibling keeps the suffix, because image and weight writers choose their format by it. It is
    flushed to the disk before it is renamed, so a kill leaves the old file or the new one, never
    half a one; if the block fails, the sibling is removed.

    Raises:
        UsageError: nothing can be written there.
    """
    check_writable(path, folder=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{_mark()}{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield beside
        flush_to_disk(beside)
        beside.replace(path)
        flush_to_disk(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_atomically(path: Path, contents: bytes) -> None:
    """Write `contents` to `path`, creating its folder; readers see the old file or the new."""
    with atomic_path(path) as beside:
        beside.write_bytes(contents)


def remove_stale_temp_files(folder: Path) -> None:
    """Remove the siblings that killed processes of this machine left in a folder and below it."""
    mark = _mark()
    for path in folder.rglob(f"{mark}*"):
        process_id = path.name.removeprefix(mark).partition("-")[0]
        if process_id.isdigit() and not _is_alive(int(process_id)):
            path.unlink(missing_ok=True)


@cache
def _mark() -> str:
    """Return how siblings begin here: where a process' number means something."""
    numbers = Path("/proc/self/ns/pid")  # containers count processes each for themselves
    space = numbers.readlink() if numbers.is_symlink() else ""
    here = hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()
    return f".d2csr-{here[:8]}-"


def _is_alive(process_id: int) -> bool:
    if os.name != "posix":
        return True  # asking would end it
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def check_writable(path: Path, *, folder: bool) -> None:
    """Refuse a place for a file or folder where nothing can be made; leave nothing behind.

    The system's word on permissions is not enough: /proc and read-only disks give it and refuse.

    Raises:
        UsageError: something is in the way, or the folder, or the nearest that exists, is locked.
    """
    if path.is_dir() and not folder:
        raise UsageError(path, "is a folder", remedy="Give the name of a file.")
    nearest = next(each for each in path.absolute().parents if os.path.lexists(each))
    try:
        with tempfile.NamedTemporaryFile(dir=nearest):
            pass
    except OSError as error:
        problem = f"can't be written: {nearest}: {error.strerror}"
        raise UsageError(path, problem, remedy="Choose a folder you may write to.") from error


def flush_to_disk(path: Path) -> None:
    """Wait until a file's contents, or a folder's list of names, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders, and orders renames itself
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's contents as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return where derived files may lie: `$D2CSR_CACHE`, or `~/.cache/d2csr`."""
    chosen = os.environ.get("D2CSR_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "d2csr"


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty sibling of `folder`, which takes its place if the block succeeds.

    What stood under the name stays until the new folder is whole and on the disk; if the block
    fails, the sibling is removed.

    Raises:
        UsageError: nothing can be written there.
    """
    check_writable(folder, folder=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        for file in sorted(beside.rglob("*")):
            flush_to_disk(file)
        flush_to_disk(beside)
        _replace(folder, beside)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _replace(folder: Path, beside: Path) -> None:
    """Rename `beside` to `folder`; a folder that isn't empty can't be renamed over."""
    retired = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(retired, ignore_errors=True)
    if folder.exists():
        folder.rename(retired)
    beside.rename(folder)
    flush_to_disk(folder.parent)
    shutil.rmtree(retired, ignore_errors=True)
