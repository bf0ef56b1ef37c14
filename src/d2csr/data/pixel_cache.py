"""The pixel cache: every pair decoded once, into one memory-mapped file of bytes."""

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8

from d2csr.core.errors import DataError
from d2csr.core.files import atomic_folder, sha256_file
from d2csr.core.manifest import Manifest
from d2csr.core.typed_reader import LIST_VALUES, read_json
from d2csr.data.pairs import load_mask, load_pair

VERSION = 1
PIXELS_NAME, INDEX_NAME = "pixels.u8", "index.json"

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
DecodedPair = tuple[
    UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "sh sw 3"], UInt8[np.ndarray, "h w"] | None
]
Hashes = Mapping[Path, str]


class PairCache:
    """The decoded pairs of a manifest, read through one memory map; views, never copies."""

    def __init__(self, folder: Path) -> None:
        """Map a cache folder that `open_cache` built.

        Raises:
            DataError: the cache is cut short.
        """
        remedy = "Remove this folder; it will be built again."
        index = read_json(
            folder / INDEX_NAME, dict, error_type=DataError, remedy=remedy, max_values=LIST_VALUES
        )
        self.folder = folder
        self.scale: int = index["scale"]
        self.names: tuple[str, ...] = tuple(entry["name"] for entry in index["pairs"])
        self._entries: list[dict[str, Any]] = index["pairs"]
        size = (folder / PIXELS_NAME).stat().st_size
        if size != index["bytes"]:
            problem = f"holds {size} bytes of pixels, but its index lists {index['bytes']}"
            raise DataError(folder, problem, remedy)
        # as a plain array: slicing the subclass costs ten times as much
        self._pixels: Bytes = np.asarray(np.memmap(folder / PIXELS_NAME, dtype=np.uint8, mode="r"))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._entries)

    def __getitem__(self, index: int) -> DecodedPair:
        """Return LR image, HR image (`scale` times as large), and mask or None."""
        entry = self._entries[index]
        mask = None if entry["mask"] is None else self._view(entry["mask"])
        return self._view(entry["lr"]), self._view(entry["hr"]), mask

    def lr_shape(self, index: int) -> tuple[int, int]:
        """Return rows and columns of an LR image, without touching its pixels."""
        rows, columns, _ = self._entries[index]["lr"]["shape"]
        return rows, columns

    def _view(self, extent: dict[str, Any]) -> Bytes:
        shape, start = tuple(extent["shape"]), extent["start"]
        return self._pixels[start : start + math.prod(shape)].reshape(shape)


def hash_files(manifest: Manifest) -> dict[Path, str]:
    """Return the SHA-256 of every file of the pairs; files that can't be read are left out."""
    paths = list(
        dict.fromkeys(
            path for pair in manifest for path in (pair.lr, pair.hr, pair.mask) if path is not None
        )
    )
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        hashes = pool.map(_hash_if_readable, paths)
        return {path: sha for path, sha in zip(paths, hashes, strict=True) if sha is not None}


def _hash_if_readable(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


def cache_path(manifest: Manifest, folder: Path, *, hashes: Hashes | None = None) -> Path:
    """Return the folder, inside `folder`, where the cache of a manifest's pixels belongs.

    It is named by the contents of the images, so a changed image makes another cache, and no cache
    is ever out of date.

    Args:
        manifest: the pairs.
        folder: the folder of all caches.
        hashes: as from `hash_files`, which is called if there are none.
    """
    hashes = hash_files(manifest) if hashes is None else hashes
    contents = [
        [
            pair.name,
            *pair.lr_size,
            *pair.hr_size,
            *("" if path is None else hashes.get(path) for path in (pair.lr, pair.hr, pair.mask)),
        ]
        for pair in manifest
    ]
    text = json.dumps([VERSION, manifest.scale, contents])
    return folder / hashlib.sha256(text.encode()).hexdigest()[:32]


def is_cached(path: Path) -> bool:
    """Return whether the cache with a path from `cache_path` is built."""
    return (path / INDEX_NAME).is_file()


def open_cache(manifest: Manifest, path: Path) -> PairCache:
    """Return the manifest's pixels, decoding them into `path` on first use.

    Several processes may call it together: one builds, the others wait.

    Args:
        manifest: the pairs.
        path: as from `cache_path`.

    Raises:
        ImageError: an image can't be read.
        PairError: a pair's sizes don't fit the scale.
        DataError: the cache on the disk is damaged.
    """
    if not is_cached(path):
        with _lock(path.with_name(f"{path.name}.lock")):
            if not is_cached(path):
                with atomic_folder(path) as folder:
                    _decode(manifest, folder)
    return PairCache(path)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock file, then hold it for the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _decode(manifest: Manifest, folder: Path) -> None:
    """Write pixels and index of every pair into a folder."""
    entries: list[dict[str, Any]] = []
    with (folder / PIXELS_NAME).open("wb") as file:
        for pair in manifest:
            lr, hr = load_pair(pair, scale=manifest.scale)
            mask = load_mask(pair)
            entries.append(
                {
                    "name": pair.name,
                    "lr": _append(file, lr),
                    "hr": _append(file, hr),
                    "mask": None if mask is None else _append(file, mask),
                }
            )
        size = file.tell()
    index = {"version": VERSION, "scale": manifest.scale, "bytes": size, "pairs": entries}
    (folder / INDEX_NAME).write_text(json.dumps(index), encoding="utf-8")


def _append(file: BinaryIO, pixels: Bytes) -> dict[str, Any]:
    """Write pixels at the end of a file; return their start and shape."""
    start = file.tell()
    file.write(np.ascontiguousarray(pixels).data)
    return {"start": start, "shape": list(pixels.shape)}
