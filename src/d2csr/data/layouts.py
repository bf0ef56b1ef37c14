"""Layouts of public pair sets: how each names its folders and files.

Layouts of two parallel folders: benchmarks, DRealSR, D2CRealSR, any two of the same names.

The list file of the method's authors: a line a pair, the LR path, a space, the HR path.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2csr.core.errors import DataError, ImageError
from d2csr.images.formats import is_image_name
from d2csr.images.reader import image_size


@dataclass(frozen=True)
class PairCandidate:
    """A pair as its names tell it; either file may be missing, and is then the one expected.

    Attributes:
        name: the part of the file name that both share.
        split: train, val, test, or empty where no folder tells.
        camera: Canon, Nikon, ..., or None.
        scale: the scale the names tell, or None.
        lr: path of the LR file.
        hr: path of the HR file.
        cut: whether the set's HR images are cut to a multiple of the scale before use.
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


def match_suffixed(
    files: Iterable[Path], top: Path, *, scale: int | None = None
) -> Iterator[PairCandidate]:
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


def _found(name: str, scale: int | None, *, top: Path, lr: Path, hr: Path) -> PairCandidate:
    return PairCandidate(name, split_of(lr, top), camera_of(lr, top), scale, lr, hr)


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder and all below it, sorted, hidden folders left out."""
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
    """One folder of images: which set it belongs to, and what its names tell."""

    folder: Path
    files: tuple[Path, ...]
    belongs: tuple[Path, str]
    scale: int | None
    cut: bool = False


def match_hr_lr_folders(files: Iterable[Path], top: Path) -> list[PairCandidate]:
    """Return the pairs of an HR folder and an LR folder beside it, told by the folders' names.

    Images are called alike in both, up to marks of the scale: `baby.png` and `babyx2.png`,
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


def match_equal_names(files: Sequence[Path], top: Path) -> list[PairCandidate]:
    """Return the pairs of two folders whose images are called alike, the smaller ones as LR.

    Empty unless images lie in exactly two folders, side by side.
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
            problem = f"LR images lie in {other.folder.name} and in {side.folder.name}"
            raise DataError(side.folder.parent, problem, remedy="Keep one of them, or give a list.")


def _matched(lr_side: _Side, hr_side: _Side, *, top: Path) -> Iterator[PairCandidate]:
    """Yield a pair for every image of either folder, the missing side by its expected name."""
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
        yield _found_in_parallel(lr_side, scale, top=top, lr=lr, hr=hr)
    for hr in sorted(left):
        lr = lr_side.folder / hr.name
        yield _found_in_parallel(lr_side, lr_side.scale, top=top, lr=lr, hr=hr)


def _found_in_parallel(
    side: _Side, scale: int | None, *, top: Path, lr: Path, hr: Path
) -> PairCandidate:
    name = pair_name(lr, hr)
    return PairCandidate(name, split_of(lr, top), camera_of(lr, top), scale, lr, hr, side.cut)


def _bare(stem: str) -> tuple[str, int | None]:
    """Return a name without its mark of scale or role, and the scale the mark tells."""
    told = _MARK.fullmatch(stem)
    if told is None:
        return stem, None
    scale = told["scale"] or told["lr_scale"]
    return told["name"], int(scale) if scale else None


def _useful(mark: int | None) -> int | None:
    """Return the scale a mark tells; DRealSR marks its LR images `_x1`, which tells none."""
    return mark if mark and mark > 1 else None


def pair_name(lr: Path, hr: Path) -> str:
    """Return the name of a pair: both files' where they agree, else the one without its mark."""
    return lr.stem if lr.stem == hr.stem else _bare(lr.stem)[0]


FORMAT = "Each line holds two paths, LR and HR, with a space or a tab between."


def read_list(path: Path) -> list[PairCandidate]:
    """Return the pairs a list file names; relative paths are relative to the file.

    The authors' code cuts HR images to a multiple of the scale, and so do we.

    Raises:
        DataError: the file is no text, or lines don't hold two paths; all are named.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = "can't be read as a list of pairs"
        raise DataError(path, problem, remedy=FORMAT) from error
    filled = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    split = [(number, _two_paths(line, path.parent)) for number, line in filled]
    if wrong := [str(number) for number, paths in split if paths is None]:
        problem = f"line {', '.join(wrong)}: not two paths"
        raise DataError(path, problem, remedy=FORMAT)
    return [
        _found_in_lists(*paths, folder=path.absolute().parent)
        for _, paths in split
        if paths is not None
    ]


def _two_paths(line: str, folder: Path) -> tuple[Path, Path] | None:
    """Return the two paths of a line; among several cuts, the one at which both files exist."""
    cuts = [line.split("\t")] if "\t" in line else _cuts(line.split(" "))
    paths = [(folder / lr.strip(), folder / hr.strip()) for lr, hr in _pairs_only(cuts)]
    there = [both for both in paths if both[0].is_file() and both[1].is_file()]
    if there:
        return there[0]
    return paths[0] if len(paths) == 1 else None


def _cuts(words: list[str]) -> list[list[str]]:
    return [[" ".join(words[:at]), " ".join(words[at:])] for at in range(1, len(words))]


def _pairs_only(cuts: list[list[str]]) -> list[tuple[str, str]]:
    return [(cut[0], cut[1]) for cut in cuts if len(cut) == 2 and all(part.strip() for part in cut)]


def _found_in_lists(lr: Path, hr: Path, *, folder: Path) -> PairCandidate:
    top = folder if lr.is_relative_to(folder) else lr.parent
    name = pair_name(lr, hr)
    return PairCandidate(name, split_of(lr, top), camera_of(lr, top), None, lr, hr, cut=True)
