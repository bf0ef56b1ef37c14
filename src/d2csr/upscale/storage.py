"""Storage: files on this machine, and objects in object storage by URL, through fsspec."""

import hashlib
import os
import posixpath
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from d2csr.core.errors import ImageError, UsageError
from d2csr.core.files import atomic_path
from d2csr.images.formats import is_image_name

_CHUNK_BYTES = 1 << 20


def is_url(text: str) -> bool:
    """Return whether a name is a URL, such as `s3://bucket/photos`."""
    return "://" in text


def join_url(folder: str, path: str) -> str:
    """Return the URL or path of a file in a folder; without a folder, the path."""
    return f"{folder.rstrip('/')}/{path}" if folder else path


def identity(name: str) -> str:
    """Return a text that is the same for all names of one file."""
    if not is_url(name):
        return os.path.realpath(name)  # `Path.resolve` raises an error for links in a circle
    protocol, _, path = name.partition("://")
    return f"{protocol}://{posixpath.normpath(path.lstrip('/'))}"


def list_images(url: str) -> list[tuple[str, str]]:
    """Return the URLs of the images in a folder, sorted, each with its path in the folder.

    The URL of one file gives that file, with its name as the path.

    Raises:
        ImageError: there is nothing.
        UsageError: fsspec doesn't support the URL, or needs another package for it.
    """
    system, root = _open_file_system(url)
    if system.isfile(root):
        return [(url, posixpath.basename(root))]
    files = sorted(system.find(root))
    if not files:
        raise ImageError(url, "does not exist, or is empty", "Check the URL.")
    paths = [PurePosixPath(posixpath.relpath(file, root)) for file in files]
    return [
        (system.unstrip_protocol(file), path.as_posix())
        for file, path in zip(files, paths, strict=True)
        if is_image_name(Path(path)) and not any(part[0] == "." for part in path.parts)
    ]


def download(source: str, target: Path) -> None:
    """Copy a file, by path or URL, to this machine.

    Raises:
        ImageError: it doesn't exist, or can't be read.
    """
    system, path = _open_file_system(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        system.get_file(path, str(target))
    except FileNotFoundError as error:
        raise ImageError(source, "does not exist", "Check the name.") from error


def upload(source: Path, target: str) -> None:
    """Copy a file of this machine to a path or URL, where it appears completely or not at all.

    Object storage makes an object visible when all of it has arrived; in a folder, the file is
    written beside its destination and renamed.
    """
    system, path = _open_file_system(target)
    if "file" in _protocols(system):
        with atomic_path(Path(path)) as temporary:
            shutil.copyfile(source, temporary)
        return
    system.makedirs(posixpath.dirname(path), exist_ok=True)
    system.put_file(str(source), path)


def file_exists(url: str) -> bool:
    """Return whether there is a file of this path or URL."""
    system, path = _open_file_system(url)
    return bool(system.isfile(path))


def file_digest(url: str) -> tuple[int, str] | None:
    """Return the size in bytes and the SHA-256 of a file; None if it doesn't exist."""
    system, path = _open_file_system(url)
    digest, size = hashlib.sha256(), 0
    try:
        with system.open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except FileNotFoundError:
        return None
    return size, digest.hexdigest()


def _open_file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL or path, and the path in it."""
    import fsspec  # installed by the extra `cluster`

    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        remedy = "Install fsspec's package for it (s3fs, gcsfs, adlfs), or give a folder."
        raise UsageError(url, f"can't be opened: {error}", remedy) from error
    return system, path


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)
