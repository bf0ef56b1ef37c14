"""Layouts of public pair sets: how each names its folders and files."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from d2csr.images.formats import is_image_name


@dataclass(frozen=True)
class Found:
    """A pair as its names tell it; either file may be missing, and is then the one expected.

    Attributes:
        name: the part of the file name that both share.
        split: train, val, test, or empty where no folder tells.
        camera: Canon, Nikon, ..., or None.
        scale: the scale the names tell, or None.
        lr: path of the LR file.
        hr: path of the HR file.
        cut: whether the set's HR pictures are cut to a multiple of the scale before use.
    """

    name: str
    split: str
    camera: str | None
    scale: int | None
    lr: Path
    hr: Path
    cut: bool = False

    @property
    def complete(self) -> bool:
        """Return whether both files are there."""
        return self.lr.is_file() and self.hr.is_file()


_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_CAMERAS = {"canon": "Canon", "nikon": "Nikon", "iphonex": "iPhoneX"}
_SCALE_FOLDER = re.compile(r"(?:.*_)?x(?P<scale>\d)|(?P<bare>\d)", re.IGNORECASE)
_HR_NAME = re.compile(r"(?P<name>.+)_HR", re.IGNORECASE)
_LR_NAME = re.compile(r"(?P<name>.+)_LR(?P<scale>\d)", re.IGNORECASE)


def split_of(path: Path, top: Path) -> str:
    """Return the split that the nearest folder name tells (`Train_x4`, `test_HR`), or nothing."""
    return _first_known(_told(path.parent, top), _SPLITS) or ""


def camera_of(path: Path, top: Path) -> str | None:
    """Return the camera that the file's name, or a folder's, begins with; None where none does."""
    return _first_known(_told(path, top), _CAMERAS)


def folder_scale(folder: Path) -> int | None:
    """Return the scale a folder's name tells: `X4`, `Train_x4`, `4`; None where it tells none."""
    told = _SCALE_FOLDER.fullmatch(folder.name)
    return int(told["scale"] or told["bare"]) if told else None


def named_side_by_side(
    files: Iterable[Path], top: Path, *, scale: int | None = None
) -> Iterator[Found]:
    """Yield the pairs of RealSR V3's names: `NAME_HR.png` beside `NAME_LR3.png`, at any depth.

    One HR file may serve several scales. A file without its partner yields a pair whose missing
    side is the name expected; `scale` fills that name in where nothing else tells it.
    """
    hr_files: dict[tuple[Path, str], Path] = {}
    lr_files: list[tuple[Path, str, int]] = []
    for path in files:
        if told := _LR_NAME.fullmatch(path.stem):
            lr_files.append((path, told["name"], int(told["scale"])))
        elif told := _HR_NAME.fullmatch(path.stem):
            hr_files[path.parent, told["name"]] = path
    partners = dict(hr_files)
    for lr, name, own in lr_files:
        hr = hr_files.get((lr.parent, name), lr.with_name(f"{name}_HR{lr.suffix}"))
        partners.pop((lr.parent, name), None)
        yield _found(name, own, top=top, lr=lr, hr=hr)
    for (folder, name), hr in partners.items():
        beside = {own for lr, _, own in lr_files if lr.parent == folder}
        told = beside.pop() if len(beside) == 1 else folder_scale(folder) or scale
        expected = folder / f"{name}_LR{told or ''}{hr.suffix}"
        yield _found(name, told, top=top, lr=expected, hr=hr)


def _found(name: str, scale: int | None, *, top: Path, lr: Path, hr: Path) -> Found:
    return Found(name, split_of(lr, top), camera_of(lr, top), scale, lr, hr)


def image_files(folder: Path) -> list[Path]:
    """Return the picture files of a folder and all below it, sorted, hidden folders left out."""
    inside = (path for path in sorted(folder.rglob("*")) if is_image_name(path))
    return [path for path in inside if not _is_hidden(path.relative_to(folder)) and path.is_file()]


def _told(path: Path, top: Path) -> list[str]:
    """Return the names from a path up to `top`, nearest first.

    Names above stay out (somebody's home may be called test), save that of `top`'s parent where
    `top` is a mere scale folder: `Canon/Train/3`.
    """
    last = top.parent if folder_scale(top) is not None else top
    return [path.name, *(parent.name for parent in path.parents if parent.is_relative_to(last))]


def _first_known(names: Iterable[str], known: dict[str, str]) -> str | None:
    words = (re.split(r"[_\-. ()]", name.lower())[0] for name in names)
    return next((known[word] for word in words if word in known), None)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
