"""The manifest: a versioned list of image pairs and their splits, read and written as JSON."""

import json
import os
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from d2csr.core.errors import ManifestError, quote
from d2csr.core.files import sha256_file, write_atomically
from d2csr.core.geometry import Size
from d2csr.core.typed_reader import LIST_VALUES, STRICT, read_json, read_rows, read_value

MANIFEST_NAME = "manifest.json"
VERSION = 1

_REMEDY = "Give the manifest.json that `d2csr data` wrote, or the folder of the images."
_NAMED_OUTSIDE = 3  # files outside the folder

Scene = TypeVar("Scene", bound=Hashable)


@dataclass(frozen=True)
class Pair:
    """One LR image and the HR image of the same scene.

    Attributes:
        name: its name in results; unique within its split.
        split: train, val, test, or empty if the source has no splits.
        lr: path of the LR image.
        hr: path of the HR image.
        lr_size: width and height; (0, 0) if the file can't be read.
        hr_size: the part used, from the top left corner on: `scale` times `lr_size`. Benchmarks
            were made from HR images cropped to a multiple of the scale, and publish them uncropped.
        sha256_lr: hash of the LR file; empty until it is needed (`with_hashes`).
        sha256_hr: hash of the HR file; likewise.
        mask: 8-bit PNG on the LR grid, 0 = avoid; None if every pixel may be used.
        scores: measures of quality from the pair's alignment.
        transform: the pair's registration.
        camera: make and model, or any other name, of the camera.
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
    """Pairs of one scale, and the folder or file that lists them."""

    scale: int
    licence: str
    pairs: tuple[Pair, ...]
    folder: Path

    def __iter__(self) -> Iterator[Pair]:
        """Return an iterator over the pairs."""
        return iter(self.pairs)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits, sorted; "" for pairs without one."""
        return tuple(sorted({pair.split for pair in self.pairs}))

    def of_split(self, split: str | None) -> "Manifest":
        """Return the pairs of one split; all of them for None."""
        if split is None:
            return self
        return replace(self, pairs=tuple(pair for pair in self.pairs if pair.split == split))


_Side = Annotated[int, Field(ge=0, lt=1 << 31)]  # of an image, in pixels; 0: unreadable


class _Row(BaseModel):
    """One pair in JSON: paths as text, relative to the manifest."""

    model_config = STRICT | ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    split: str
    lr: str = Field(min_length=1)
    hr: str = Field(min_length=1)
    lr_size: tuple[_Side, _Side] = Field(strict=False)
    hr_size: tuple[_Side, _Side] = Field(strict=False)
    sha256_lr: str = Field(pattern=r"^[0-9a-f]{64}$")
    sha256_hr: str = Field(pattern=r"^[0-9a-f]{64}$")
    mask: str | None = None
    scores: dict[str, Any] | None = None
    transform: dict[str, Any] | None = None
    camera: str | None = None


class _Version(BaseModel):
    """The version alone, as any other may have another schema."""

    version: Any = None


class _Head(BaseModel):
    """All of a manifest but the pairs themselves."""

    model_config = STRICT | ConfigDict(extra="forbid")

    version: int
    scale: int = Field(ge=1, le=64)
    licence: str
    pairs: list[Any]


def read_manifest(path: Path, *, allow_outside: bool = False) -> Manifest:
    """Return the pairs that a manifest lists; their images aren't looked for.

    Args:
        path: the JSON file.
        allow_outside: allow files outside the manifest's folder. By default, a manifest from a
            stranger can't have other files of this machine read. Symbolic links aren't followed:
            whoever made the folder made them.

    Raises:
        ManifestError: the file is missing, no JSON, or not of this schema and version, or names
            files outside its folder; up to 20 entries that are wrong are named.
    """
    head, rows = _read(path)
    folder = path.parent
    if not allow_outside:
        _check_inside(path, rows)
    pairs = tuple(_pair(row, folder) for row in rows)
    _check_unique_names(path, pairs)
    return Manifest(head.scale, head.licence, pairs, folder)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest atomically, with all hashes, and with paths relative to it in POSIX form."""
    rows = [_row(pair, path.parent).model_dump() for pair in with_hashes(manifest)]
    head = {"version": VERSION, "scale": manifest.scale, "licence": manifest.licence}
    text = json.dumps({**head, "pairs": rows}, indent=1, ensure_ascii=False)
    write_atomically(path, f"{text}\n".encode())


def with_hashes(manifest: Manifest) -> Manifest:
    """Return the manifest with each missing hash computed."""
    return replace(manifest, pairs=tuple(_hashed(pair) for pair in manifest))


def _hashed(pair: Pair) -> Pair:
    return replace(
        pair,
        sha256_lr=pair.sha256_lr or sha256_file(pair.lr),
        sha256_hr=pair.sha256_hr or sha256_file(pair.hr),
    )


def _read(path: Path) -> tuple[_Head, list[_Row]]:
    """Return a manifest's head and its rows; one error names all that is wrong in them."""
    limits = {"error_type": ManifestError, "remedy": _REMEDY, "max_values": LIST_VALUES}
    version = read_json(path, _Version, **limits).version
    if version != VERSION:
        problem = f"has version {quote(version)}; this release reads version {VERSION}"
        raise ManifestError(path, problem, remedy=_REMEDY)
    values = read_json(path, dict, **limits)
    rows = values.get("pairs")
    has_rows = isinstance(rows, list)
    head, errors = read_value({**values, "pairs": []} if has_rows else values, _Head, key="")
    pairs, row_errors = read_rows(rows if has_rows else (), _Row, key="pairs")
    if head is None or row_errors:
        problem = f"doesn't follow the schema: {'; '.join([*errors, *row_errors])}"
        raise ManifestError(path, problem, remedy=_REMEDY)
    return head, pairs


def _check_inside(path: Path, rows: Sequence[_Row]) -> None:
    """Raise an error that lists the files outside the manifest's folder, if there are any."""
    named = [name for row in rows for name in (row.lr, row.hr, row.mask) if name is not None]
    outside = [name for name in named if _is_outside(name)]
    if outside:
        names = ", ".join(quote(name) for name in outside[:_NAMED_OUTSIDE])
        more = f" and {len(outside) - _NAMED_OUTSIDE} more" * (len(outside) > _NAMED_OUTSIDE)
        problem = f"names files outside its folder: {names}{more}"
        remedy = "Add --allow-outside (in Python: allow_outside=True) if you trust it."
        raise ManifestError(path, problem, remedy=remedy)


def _is_outside(name: str) -> bool:
    path = Path(os.path.normpath(name))
    return path.is_absolute() or path.parts[:1] == (os.pardir,)


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


def _check_unique_names(path: Path, pairs: tuple[Pair, ...]) -> None:
    """Raise an error that lists the names of several pairs of one split, if there are any."""
    counts = Counter((pair.split, pair.name) for pair in pairs)
    if duplicates := sorted({name for (_, name), count in counts.items() if count > 1}):
        problem = f"several pairs of one split are called {duplicates}"
        raise ManifestError(path, problem, remedy="Give each pair of a split its own name.")


def assign_splits(
    scenes: Sequence[Scene], *, val: float, test: float, fill_splits: bool = False
) -> dict[Scene, str]:
    """Return the split of each scene: the first go to test, the next to val, the rest to train.

    Args:
        scenes: in random order; scenes that belong together are one.
        val: share of the scenes for validation, 0..1; rounded to whole scenes.
        test: share of the scenes for testing, likewise.
        fill_splits: of three scenes or more, give at least one to each split whose share isn't 0.
    """
    counts = [int(len(scenes) * share + 0.5) for share in (test, val)]
    if fill_splits and len(scenes) >= 3:
        counts = [max(n, int(share > 0)) for n, share in zip(counts, (test, val), strict=True)]
    names = ["test"] * counts[0] + ["val"] * counts[1]
    names += ["train"] * (len(scenes) - len(names))
    return dict(zip(scenes, names, strict=False))
