"""Layouts of two parallel folders: benchmarks, DRealSR, D2CRealSR, any two of the same names."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2csr.core.errors import DataError, ImageError
from d2csr.data.layouts import Found, camera_of, folder_scale, split_of
from d2csr.images.read import image_size

# `HR`, `train_HR`, `DIV2K_train_HR`, `GTmod12`; `LR`, `test_LR`, `LR_bicubic`, `LRbicx4`, each
# perhaps over a folder of the scale: `LR_bicubic/X4`.
_HR_FOLDER = re.compile(r"(?P<set>.*?)_?(?:HR|GT)(?:mod\d+)?(?:_?x(?P<scale>\d))?", re.IGNORECASE)
_LR_FOLDER = re.compile(
    r"(?P<set>.*?)_?(?:LR|LQ)_?(?P<kind>bicubic|bic|mild|unknown|wild|difficult)?(?:_?x(?P<scale>\d))?",
    re.IGNORECASE,
)
_MARK = re.compile(r"(?P<name>.+?)(?:_?x(?P<scale>\d)|_LR(?P<lr_scale>\d?)|_HR)", re.IGNORECASE)


@dataclass(frozen=True)
class _Side:
    """One folder of pictures: which set it belongs to, and what its names tell."""

    folder: Path
    files: tuple[Path, ...]
    belongs: tuple[Path, str]
    scale: int | None
    cut: bool = False


def named_in_parallel(files: Iterable[Path], top: Path) -> list[Found]:
    """Return the pairs of an HR folder and an LR folder beside it, told by the folders' names.

    Pictures are called alike in both, up to marks of the scale: `baby.png` and `babyx2.png`,
    `P_1_x4.png` and `P_1_x1.png`.
    """
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        by_folder[path.parent].append(path)
    lr_sides, hr_sides = [], []
    for folder, inside in by_folder.items():
        if side := _side(folder, inside, pattern=_LR_FOLDER, top=top):
            lr_sides.append(side)
        elif side := _side(folder, inside, pattern=_HR_FOLDER, top=top):
            hr_sides.append(side)
    _refuse_two_kinds(lr_sides)
    return [
        found
        for lr in lr_sides
        for hr in hr_sides
        if lr.belongs == hr.belongs and hr.scale in (None, lr.scale)
        for found in _matched(lr, hr, top=top)
    ]


def alike_in_parallel(files: Sequence[Path], top: Path) -> list[Found]:
    """Return the pairs of two folders whose pictures are called alike, the smaller ones as LR.

    Empty unless pictures lie in exactly two folders, side by side.
    """
    folders = sorted({path.parent for path in files})
    if len(folders) != 2 or folders[0].parent != folders[1].parent:
        return []
    sides = [_unnamed(folder, files) for folder in folders]
    lr, hr = sorted(sides, key=_typical_width)
    matched = list(_matched(lr, hr, top=top))
    return matched if any(found.complete for found in matched) else []


def _unnamed(folder: Path, files: Iterable[Path]) -> _Side:
    inside = tuple(path for path in files if path.parent == folder)
    return _Side(folder, inside, (folder.parent, ""), folder_scale(folder))


def _typical_width(side: _Side) -> int:
    for path in side.files:
        try:
            return image_size(path).width
        except ImageError:
            continue  # check_pairs tells
    return 0


def _side(folder: Path, files: list[Path], *, pattern: re.Pattern[str], top: Path) -> _Side | None:
    """Return what a folder is, by its own name or, for a folder of one scale, its parent's."""
    scale = folder_scale(folder)
    for named in (folder, folder.parent):
        told = pattern.fullmatch(named.name)
        if told and named.is_relative_to(top):
            inner = scale if named != folder else None
            scale = inner or int(told["scale"] or 0) or folder_scale(named.parent)
            kind = told.groupdict().get("kind") or ""
            belongs = (named.parent, told["set"].lower())
            return _Side(folder, tuple(files), belongs, scale, cut=kind.startswith("bic"))
        if scale is None:
            return None
    return None


def _refuse_two_kinds(sides: list[_Side]) -> None:
    """Refuse LR_bicubic beside LR_unknown: which one is meant can't be told."""
    seen: dict[tuple[tuple[Path, str], int | None], _Side] = {}
    for side in sides:
        other = seen.setdefault((side.belongs, side.scale), side)
        if other is not side:
            problem = f"LR pictures lie in {other.folder.name} and in {side.folder.name}"
            raise DataError(side.folder.parent, problem, remedy="Keep one of them, or give a list.")


def _matched(lr_side: _Side, hr_side: _Side, *, top: Path) -> Iterator[Found]:
    """Yield a pair for every picture of either folder, the missing side by its expected name."""
    exact = {path.stem: path for path in hr_side.files}
    bare = {_bare(path.stem)[0]: path for path in hr_side.files}
    left = set(hr_side.files)
    for lr in lr_side.files:
        name, mark = _bare(lr.stem)
        hr = exact.get(lr.stem) or exact.get(name) or bare.get(name)
        hr_mark = _bare(hr.stem)[1] if hr else None
        left.discard(hr or lr)
        scale = lr_side.scale or _useful(mark) or _useful(hr_mark)
        hr = hr or hr_side.folder / f"{name}{lr.suffix}"
        yield _found(lr_side, scale, top=top, lr=lr, hr=hr)
    for hr in sorted(left):
        lr = lr_side.folder / hr.name
        yield _found(lr_side, lr_side.scale, top=top, lr=lr, hr=hr)


def _found(side: _Side, scale: int | None, *, top: Path, lr: Path, hr: Path) -> Found:
    name = shared_name(lr, hr)
    return Found(name, split_of(lr, top), camera_of(lr, top), scale, lr, hr, side.cut)


def _bare(stem: str) -> tuple[str, int | None]:
    """Return a name without its mark of scale or role, and the scale the mark tells."""
    told = _MARK.fullmatch(stem)
    if told is None:
        return stem, None
    scale = told["scale"] or told["lr_scale"]
    return told["name"], int(scale) if scale else None


def _useful(mark: int | None) -> int | None:
    """Return the scale a mark tells; DRealSR marks its LR pictures `_x1`, which tells none."""
    return mark if mark and mark > 1 else None


def shared_name(lr: Path, hr: Path) -> str:
    """Return the name of a pair: both files' where they agree, else the one without its mark."""
    return lr.stem if lr.stem == hr.stem else _bare(lr.stem)[0]
