"""The pixel cache: every pair decoded once, into one memory-mapped file of bytes."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8

from d2csr.core.errors import DataError
from d2csr.core.files import flush_to_disk, sha256_file
from d2csr.core.manifest import Manifest, Pair
from d2csr.data.pairs import load_mask, load_pair

VERSION = 1
PIXELS, INDEX = "pixels.u8", "index.json"

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Entry = tuple[
    UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "sh sw 3"], UInt8[np.ndarray, "h w"] | None
]


class PairCache:
    """The decoded pairs of a manifest, read through one memory map; views, never copies."""

    def __init__(self, folder: Path) -> None:
        """Map a cache folder that `open_cache` built."""
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        self.folder = folder
        self.scale: int = index["scale"]
        self.names: tuple[str, ...] = tuple(entry["name"] for entry in index["pairs"])
        self._places: list[dict[str, Any]] = index["pairs"]
        present = (folder / PIXELS).stat().st_size
        if present != index["bytes"]:
            problem = f"holds {present} bytes of pixels where its index tells {index['bytes']}"
            raise DataError(folder, problem, remedy="Remove this folder; it is built anew.")
        # as a plain array: slicing the subclass costs ten times as much
        self._pixels: Bytes = np.asarray(np.memmap(folder / PIXELS, dtype=np.uint8, mode="r"))

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self._places)

    def __getitem__(self, index: int) -> Entry:
        """Return LR image, HR image (`scale` times as large), and mask or None."""
        place = self._places[index]
        mask = None if place["mask"] is None else self._view(place["mask"])
        return self._view(place["lr"]), self._view(place["hr"]), mask

    def lr_shape(self, index: int) -> tuple[int, int]:
        """Return rows and columns of an LR image, without touching its pixels."""
        rows, columns, _ = self._places[index]["lr"]["shape"]
        return rows, columns

    def _view(self, place: dict[str, Any]) -> Bytes:
        shape, start = tuple(place["shape"]), place["start"]
        return self._pixels[start : start + math.prod(shape)].reshape(shape)


def open_cache(manifest: Manifest, folder: Path) -> PairCache:
    """Return the manifest's pixels, decoding them into a folder below `folder` on first use.

    The folder's name is a hash of the images' contents, so a changed image makes a new cache
    and an old one is never wrong. Several processes may ask at once: one builds, the others wait.

    Raises:
        ImageError: an image can't be read.
        PairError: a pair's sizes don't fit the scale.
        DataError: the cache on the disk is damaged.
    """
    ready = folder / _key(manifest)
    if not (ready / INDEX).is_file():
        with _alone(folder / f"{ready.name}.lock"):
            if not (ready / INDEX).is_file():
                _build(manifest, ready)
    return PairCache(ready)


def is_cached(manifest: Manifest, folder: Path) -> bool:
    """Return whether `open_cache` would find these very pixels decoded below `folder`."""
    try:
        return (folder / _key(manifest) / INDEX).is_file()
    except OSError:
        return False  # an image is missing


def _key(manifest: Manifest) -> str:
    contents = [
        [pair.name, *pair.lr_size, *pair.hr_size, *(_hash(path) for path in _files(pair))]
        for pair in manifest
    ]
    text = json.dumps([VERSION, manifest.scale, contents])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _files(pair: Pair) -> tuple[Path | None, ...]:
    return pair.lr, pair.hr, pair.mask


def _hash(path: Path | None) -> str:
    return "" if path is None else sha256_file(path)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the lock file, then hold it for the block.

    Where the system has no such locks, processes that meet here decode the same pixels twice; the
    rename at the end keeps that harmless.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as file:
        _wait_for(file)
        yield


def _wait_for(file: BinaryIO) -> None:
    try:
        import fcntl  # not on Windows
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX)


def _build(manifest: Manifest, ready: Path) -> None:
    """Decode every pair into a folder beside `ready`, then rename it."""
    beside = ready.with_name(f".{ready.name}.{os.getpid()}")
    for orphan in ready.parent.glob(f".{ready.name}.*"):
        shutil.rmtree(orphan, ignore_errors=True)  # of a build that was killed: we hold the lock
    beside.mkdir()
    try:
        _decode(manifest, beside)
        _put_in_place(beside, ready)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _decode(manifest: Manifest, folder: Path) -> None:
    places: list[dict[str, Any]] = []
    with (folder / PIXELS).open("wb") as file:
        for pair in manifest:
            lr, hr = load_pair(pair, scale=manifest.scale)
            mask = load_mask(pair)
            places.append(
                {
                    "name": pair.name,
                    "lr": _append(file, lr),
                    "hr": _append(file, hr),
                    "mask": None if mask is None else _append(file, mask),
                }
            )
        size = file.tell()
    index = {"version": VERSION, "scale": manifest.scale, "bytes": size, "pairs": places}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    for path in (folder / PIXELS, folder / INDEX, folder):
        flush_to_disk(path)


def _append(file: BinaryIO, pixels: Bytes) -> dict[str, Any]:
    start = file.tell()
    file.write(np.ascontiguousarray(pixels).data)
    return {"start": start, "shape": list(pixels.shape)}


def _put_in_place(beside: Path, ready: Path) -> None:
    try:
        beside.rename(ready)
    except OSError:
        if not (ready / INDEX).is_file():  # else another process was first, with the same pixels
            raise
    flush_to_disk(ready.parent)
