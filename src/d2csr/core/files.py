"""Files and folders that are written completely or not at all, and the hashes of their contents."""

import atexit
import errno
import hashlib
import os
import platform
import secrets
import shutil
import stat
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from io import BufferedReader
from pathlib import Path

from d2csr.core.errors import UsageError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed to `path` if the block succeeds.

    The temporary file keeps the suffix, because image and weight writers choose their format by it.
    It is flushed to disk before it is renamed, so a killed process leaves either the old file or
    the new one, never half of one; if the block fails, the temporary file is removed. The first
    file in a folder also removes the temporary files that killed processes left there.

    Raises:
        UsageError: the file can't be written there.
    """
    check_writable(path, folder=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clean_once(path.parent.absolute())
    temporary = _temporary_path(path)
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
        flush_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, contents: bytes) -> None:
    """Write `contents` to `path`, creating its folder; readers see the old file or the new one."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(contents)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`, renamed to `folder` if the block succeeds.

    The previous folder stays until the new one is complete and on disk. Linux can't rename over a
    folder that isn't empty, so the previous one is moved to `backup_path(folder)` for an instant; a
    process killed in that instant leaves it there. If the block fails, the temporary folder is
    removed; so are those left behind by killed processes.

    Raises:
        UsageError: the folder can't be written there.
    """
    check_writable(folder, folder=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder.parent.glob(f"{_mark()}*"))
    temporary = _temporary_path(folder)
    temporary.mkdir()
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            flush_to_disk(path)
        flush_to_disk(temporary)
        _replace_folder(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def backup_path(folder: Path) -> Path:
    """Return the path of the previous folder while `atomic_folder` renames the new one."""
    return folder.with_name(f".{folder.name}.old")


def _replace_folder(folder: Path, temporary: Path) -> None:
    backup = backup_path(folder)
    if folder.exists():
        shutil.rmtree(backup, ignore_errors=True)
        folder.rename(backup)
    temporary.rename(folder)
    flush_to_disk(folder.parent)
    shutil.rmtree(backup, ignore_errors=True)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder that only this user can read, removed with its contents at the end.

    It lies in the system's temporary folder, which TMPDIR names. Those that killed processes of
    this machine left there are removed first.
    """
    parent = Path(tempfile.gettempdir())
    _remove_stale(parent.glob(f"{_mark()}*"))
    folder = _temporary_path(parent / "scratch")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale_temp_files(folder: Path, *, recursive: bool = True) -> None:
    """Remove what killed processes of this machine left half-written in a folder."""
    _remove_stale((folder.rglob if recursive else folder.glob)(f"{_mark()}*"))


@lru_cache(maxsize=1024)
def _clean_once(folder: Path) -> None:
    """Remove what killed processes left in a folder; again only after many other folders."""
    _remove_stale(folder.glob(f"{_mark()}*"))


def _remove_stale(paths: Iterator[Path]) -> None:
    for path in list(paths):
        process_id = path.name.removeprefix(_mark()).partition("-")[0]
        if not process_id.isdigit() or _is_alive(int(process_id)):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _temporary_path(path: Path) -> Path:
    return path.with_name(f"{_mark()}{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")


@cache
def _mark() -> str:
    """Return the prefix of temporary names, unique to this machine and its process numbers."""
    namespace = Path("/proc/self/ns/pid")  # each container numbers its processes separately
    space = namespace.readlink() if namespace.is_symlink() else ""
    here = hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()
    return f".d2csr-{here[:8]}-"


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def check_writable(path: Path, *, folder: bool) -> None:
    """Check that a file or folder can be created at `path`, leaving nothing behind.

    Permission bits alone are not enough: /proc and read-only disks look writable and are not.

    Raises:
        UsageError: a folder has the file's name, or the nearest existing parent isn't writable.
    """
    if path.is_dir() and not folder:
        raise UsageError(path, "is a folder", "Give the name of a file.")
    nearest = next(each for each in path.absolute().parents if os.path.lexists(each))
    try:
        with tempfile.NamedTemporaryFile(dir=nearest):
            pass
    except OSError as error:
        problem = f"can't be written: {nearest}: {error.strerror}"
        raise UsageError(path, problem, "Choose a folder you may write to.") from error


def flush_to_disk(path: Path) -> None:
    """Wait until a file's contents, or a folder's list of names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """Yield a regular file, open for reading.

    A pipe would block until something is written into it, and a device may never end.

    Raises:
        OSError: the file can't be opened, or is a folder, pipe, socket or device.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        yield file


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def read_regular(path: Path, *, max_bytes: int) -> bytes:
    """Return the contents of a regular file, of which nothing is read if it is too large.

    Raises:
        OSError: the file can't be read, isn't a regular file, or has more than `max_bytes`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        contents = b"" if size > max_bytes else file.read(size + 1)  # it allocates that much
        if len(contents) > size:  # another process appends to it
            contents += file.read(max_bytes + 1 - len(contents))
    if max(size, len(contents)) > max_bytes:
        raise OSError(errno.EFBIG, f"has more than {max_bytes:,} bytes", str(path))
    return contents


def is_file(path: Path) -> bool:
    """Return whether a file exists at a path, which may be any text that a user typed.

    `Path.is_file` raises OSError for a name of more than 255 bytes.
    """
    return os.path.isfile(path)  # noqa: PTH113 - `Path` raises for long names


def is_folder(path: Path) -> bool:
    """Return whether a folder exists at a path, which may be any text that a user typed."""
    return os.path.isdir(path)  # noqa: PTH112 - `Path` raises for long names


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a regular file's contents as 64 hexadecimal digits.

    Raises:
        OSError: the file can't be read, or isn't a regular file.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return the folder of derived files: `$D2CSR_CACHE`, or `~/.cache/d2csr`.

    If it can't be created or written, or the user has no home folder, a temporary folder is used
    until the process ends, with one `UserWarning`.

    Raises:
        OSError: no temporary folder can be written either.
    """
    return _usable_cache(os.environ.get("D2CSR_CACHE"), os.environ.get("HOME"))


@cache
def _usable_cache(chosen: str | None, home: str | None) -> Path:
    """Return the cache folder for the values of both environment variables."""
    del home  # `Path.home` reads it
    try:
        folder = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "d2csr"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        problem = f"{chosen or '~/.cache/d2csr'}: {reason}"
    temporary = Path(tempfile.mkdtemp(prefix="d2csr-cache-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    remedy = "Set D2CSR_CACHE to a folder that can be written, and the next start is faster"
    warnings.warn(f"no cache is kept ({problem}). {remedy}.", stacklevel=3)
    return temporary
