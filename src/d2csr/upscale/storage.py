"""Places of images: this machine's folders, or object storage by URL, through fsspec."""

import hashlib
import posixpath
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from d2csr.core.errors import ImageError, UsageError
from d2csr.core.files import atomic_path
from d2csr.images.formats import is_image_name

_CHUNK_BYTES = 1 << 20


class Found(NamedTuple):
    """An image, and its path in the tree of the outputs."""

    url: str
    place: str


def is_url(text: str) -> bool:
    """Return whether a place is named by URL, as `s3://bucket/photos` is."""
    return "://" in text


def reject_urls(places: Iterable[str]) -> None:
    """Refuse URLs where only this machine's files are read.

    Raises:
        UsageError: one is a URL.
    """
    for place in filter(is_url, places):
        remedy = "Add --engine ray, without --dry-run, or give a folder."
        raise UsageError(place, "is a URL, which only workers of a cluster read", remedy=remedy)


def list_images(given: str) -> list[Found]:
    """Return the images that a file's or a folder's URL stands for, sorted.

    Raises:
        ImageError: there is nothing.
        UsageError: fsspec doesn't know such URLs, or lacks what it needs for them.
    """
    system, root = _system(given)
    if system.isfile(root):
        return [Found(given, posixpath.basename(root))]
    paths = sorted(system.find(root))
    if not paths:
        raise ImageError(given, "does not exist, or holds nothing", remedy="Check the URL.")
    places = [PurePosixPath(posixpath.relpath(path, root)) for path in paths]
    return [
        Found(system.unstrip_protocol(path), place.as_posix())
        for path, place in zip(paths, places, strict=True)
        if is_image_name(Path(place)) and not any(part[0] == "." for part in place.parts)
    ]


def join_url(folder: str, place: str) -> str:
    """Return the URL or path of a place in a folder."""
    return f"{folder.rstrip('/')}/{place}"


def download(source: str, target: Path) -> None:
    """Copy a file from anywhere to this machine.

    Raises:
        ImageError: it isn't there, or can't be read.
    """
    system, path = _system(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        system.get_file(path, str(target))
    except FileNotFoundError as error:
        raise ImageError(source, "does not exist", remedy="Check the name.") from error


def upload(source: Path, target: str) -> None:
    """Copy a file from this machine to anywhere, where it appears whole or not at all.

    Object storage shows an object when all of it has come; a folder gets a file by renaming.
    """
    system, path = _system(target)
    if "file" in _protocols(system):
        with atomic_path(Path(path)) as beside:
            shutil.copyfile(source, beside)
        return
    system.makedirs(posixpath.dirname(path), exist_ok=True)
    system.put_file(str(source), path)


def file_digest(url: str) -> tuple[int, str] | None:
    """Return a file's bytes and SHA-256; None where there is no such file."""
    system, path = _system(url)
    digest, size = hashlib.sha256(), 0
    try:
        with system.open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except FileNotFoundError:
        return None
    return size, digest.hexdigest()


def _system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it; a plain path is this machine's."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        remedy = "Install fsspec's package for it (s3fs, gcsfs, adlfs), or give a folder."
        raise UsageError(url, f"can't be reached: {error}", remedy=remedy) from error
    return system, path


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)
