"""The manifest: a versioned list of image pairs, read and written as JSON."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from d2csr.core.errors import ManifestError
from d2csr.core.files import sha256_file, write_atomically
from d2csr.core.geometry import Size

MANIFEST_NAME = "manifest.json"
VERSION = 1


@dataclass(frozen=True)
class Pair:
    """One LR image and the HR image of the same scene.

    Attributes:
        name: what results call it; unique within its split.
        split: train, val, test, or empty where the source tells none.
        lr: path of the LR image.
        hr: path of the HR image.
        lr_size: width and height; (0, 0) where the file could not be read.
        hr_size: the part used, from the top left corner on: `scale` times `lr_size`. Benchmarks
            were made from HR images cut to a multiple of the scale, and publish the whole ones.
        sha256_lr: hash of the LR file; empty until it is needed (`with_hashes`).
        sha256_hr: hash of the HR file; likewise.
        mask: 8-bit PNG on the LR grid, 0 = avoid; None where every pixel may be used.
        scores: figures the pair was judged by, when it was made.
        transform: how the pair was aligned.
        camera: what took the images.
    """

    name: str
    split: str
    lr: Path
    hr: Path
    lr_size: Size
    hr_size: Size
    sha256_lr: str = ""
    sha256_hr: str = ""
    mask: Path | None = None
    scores: dict[str, Any] | None = None
    transform: dict[str, Any] | None = None
    camera: str | None = None


@dataclass(frozen=True)
class Manifest:
    """Pairs of one scale, and the folder (or file) they were found in."""

    scale: int
    licence: str
    pairs: tuple[Pair, ...]
    folder: Path

    def __iter__(self) -> Iterator[Pair]:
        """Return the pairs one after the other."""
        return iter(self.pairs)

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self.pairs)

    def of_split(self, split: str | None) -> "Manifest":
        """Return the pairs of one split; all of them for None."""
        if split is None:
            return self
        return replace(self, pairs=tuple(pair for pair in self.pairs if pair.split == split))


class _Row(BaseModel):
    """One pair as JSON has it: paths as text, relative to the manifest."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(min_length=1)
    split: str
    lr: str = Field(min_length=1)
    hr: str = Field(min_length=1)
    lr_size: tuple[int, int] = Field(strict=False)
    hr_size: tuple[int, int] = Field(strict=False)
    sha256_lr: str = Field(pattern=r"^[0-9a-f]{64}$")
    sha256_hr: str = Field(pattern=r"^[0-9a-f]{64}$")
    mask: str | None = None
    scores: dict[str, Any] | None = None
    transform: dict[str, Any] | None = None
    camera: str | None = None


class _File(BaseModel):
    """The whole manifest as JSON has it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int
    scale: int = Field(ge=1)
    licence: str
    pairs: list[_Row]


def read_manifest(path: Path) -> Manifest:
    """Return the pairs a manifest lists; whether the images are there is not looked at.

    Raises:
        ManifestError: the file is missing, no JSON, or not of this schema and version; it names
            every entry that is wrong.
    """
    file = _parsed(path)
    folder = path.parent
    pairs = tuple(_pair(row, folder) for row in file.pairs)
    _refuse_double_names(path, pairs)
    return Manifest(file.scale, file.licence, pairs, folder)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest atomically, hashes filled in, paths relative to it, `/` between folders."""
    rows = [_row(pair, path.parent).model_dump() for pair in with_hashes(manifest)]
    head = {"version": VERSION, "scale": manifest.scale, "licence": manifest.licence}
    text = json.dumps({**head, "pairs": rows}, indent=1, ensure_ascii=False)
    write_atomically(path, f"{text}\n".encode())


def with_hashes(manifest: Manifest) -> Manifest:
    """Return the manifest with each missing hash computed from its file."""
    return replace(manifest, pairs=tuple(_hashed(pair) for pair in manifest))


def _hashed(pair: Pair) -> Pair:
    return replace(
        pair,
        sha256_lr=pair.sha256_lr or sha256_file(pair.lr),
        sha256_hr=pair.sha256_hr or sha256_file(pair.hr),
    )


def _parsed(path: Path) -> _File:
    remedy = "Give the manifest.json that `d2csr data` wrote, or the folder of the images."
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(path, f"can't be read: {error.strerror}", remedy=remedy) from error
    except ValueError as error:
        raise ManifestError(path, f"is not JSON: {error}", remedy=remedy) from error
    version = values.get("version") if isinstance(values, dict) else None
    if version != VERSION:
        problem = f"has version {version!r}; this release reads version {VERSION}"
        raise ManifestError(path, problem, remedy=remedy)
    try:
        return _File.model_validate(values)
    except ValidationError as error:
        places = [
            ".".join(map(str, entry["loc"])) + ": " + entry["msg"] for entry in error.errors()
        ]
        problem = f"doesn't follow the schema: {'; '.join(places)}"
        raise ManifestError(path, problem, remedy="Mend these entries.") from error


def _pair(row: _Row, folder: Path) -> Pair:
    return Pair(
        name=row.name,
        split=row.split,
        lr=folder / row.lr,
        hr=folder / row.hr,
        lr_size=Size(*row.lr_size),
        hr_size=Size(*row.hr_size),
        sha256_lr=row.sha256_lr,
        sha256_hr=row.sha256_hr,
        mask=None if row.mask is None else folder / row.mask,
        scores=row.scores,
        transform=row.transform,
        camera=row.camera,
    )


def _row(pair: Pair, folder: Path) -> _Row:
    return _Row(
        name=pair.name,
        split=pair.split,
        lr=_relative(pair.lr, folder),
        hr=_relative(pair.hr, folder),
        lr_size=pair.lr_size,
        hr_size=pair.hr_size,
        sha256_lr=pair.sha256_lr,
        sha256_hr=pair.sha256_hr,
        mask=None if pair.mask is None else _relative(pair.mask, folder),
        scores=pair.scores,
        transform=pair.transform,
        camera=pair.camera,
    )


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _refuse_double_names(path: Path, pairs: tuple[Pair, ...]) -> None:
    seen: set[tuple[str, str]] = set()
    double = [
        pair.name for pair in pairs if (key := (pair.split, pair.name)) in seen or seen.add(key)
    ]
    if double:
        problem = f"several pairs of one split are called {sorted(set(double))}"
        raise ManifestError(path, problem, remedy="Give each pair of a split its own name.")
