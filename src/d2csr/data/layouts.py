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


SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_CAMERAS = {"canon": "Canon", "nikon": "Nikon"}
_HR_NAME = re.compile(r"(?P<name>.+)_HR$", re.IGNORECASE)
_LR_NAME = re.compile(r"(?P<name>.+)_LR(?P<scale>\d+)$", re.IGNORECASE)


def split_of(folder: Path) -> str:
    """Return the split that the nearest folder name tells (`Train_x4`, `test_HR`), or nothing."""
    for part in reversed(folder.parts):
        word = re.split(r"[_\-. ]", part.lower())[0]
        if word in SPLITS:
            return SPLITS[word]
    return ""


def camera_of(path: Path) -> str | None:
    """Return the camera that a file or folder name begins with, or None."""
    for part in reversed(path.parts):
        word = re.split(r"[_\-. ]", part.lower())[0]
        if word in _CAMERAS:
            return _CAMERAS[word]
    return None


def named_side_by_side(files: Iterable[Path]) -> Iterator[Found]:
    """Yield the pairs of RealSR V3's names: `NAME_HR.png` beside `NAME_LR3.png`, at any depth.

    One HR file may serve several scales. A file without its partner yields a pair whose missing
    side is the name expected.
    """
    hr_files: dict[tuple[Path, str], Path] = {}
    lr_files: list[tuple[Path, str, int]] = []
    for path in files:
        if told := _LR_NAME.match(path.stem):
            lr_files.append((path, told["name"], int(told["scale"])))
        elif told := _HR_NAME.match(path.stem):
            hr_files[path.parent, told["name"]] = path
    used: set[Path] = set()
    scales = {scale for _, _, scale in lr_files}
    for lr, name, scale in lr_files:
        hr = hr_files.get((lr.parent, name), lr.with_name(f"{name}_HR{lr.suffix}"))
        used.add(hr)
        yield _side_by_side(name, scale, lr=lr, hr=hr)
    for (folder, name), hr in hr_files.items():
        if hr not in used:
            scale = min(scales) if len(scales) == 1 else None
            expected = folder / f"{name}_LR{'' if scale is None else scale}{hr.suffix}"
            yield _side_by_side(name, scale, lr=expected, hr=hr)


def _side_by_side(name: str, scale: int | None, *, lr: Path, hr: Path) -> Found:
    return Found(name, split_of(lr.parent), camera_of(lr), scale, lr, hr)


def image_files(folder: Path) -> list[Path]:
    """Return the picture files of a folder and all below it, sorted, hidden folders left out."""
    inside = (path for path in sorted(folder.rglob("*")) if is_image_name(path))
    return [path for path in inside if not _is_hidden(path.relative_to(folder)) and path.is_file()]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
