"""Layouts of public pair sets: pairs recognized by the names of their folders and files.

Either LR and HR lie side by side under suffixed names (RealSR), or in two parallel folders
(benchmarks, DRealSR, D2CRealSR, any two with equal names), or a list file names them, one pair per
line: the LR path, a space, the HR path, as the method's authors do.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2csr.core.errors import DataError, ImageError
from d2csr.images.formats import is_image_name
from d2csr.images.reader import read_size


@dataclass(frozen=True)
class PairCandidate:
    """A pair recognized by its names; of a missing file, the path that was expected.

    Attributes:
        name: the part of the file name that both share.
        split: train, val, test, or empty if no folder is named so.
        camera: Canon, Nikon, ..., or None.
        scale: the scale in the names, or None.
        lr: path of the LR file.
        hr: path of the HR file.
        crops_hr: whether the set's HR images are cropped to a multiple of the scale before use.
    """

    name: str
    split: str
    camera: str | None
    scale: int | None
    lr: Path
    hr: Path
    crops_hr: bool = False

    @property
    def is_complete(self) -> bool:
        """Return whether both files exist."""
        return self.lr.is_file() and self.hr.is_file()


_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_CAMERAS = {"canon": "Canon", "nikon": "Nikon", "iphonex": "iPhoneX"}
_SCALE_FOLDER = re.compile(r"(?:.*_)?x(?P<scale>\d)|(?P<bare>\d)", re.IGNORECASE)
_HR_NAME = re.compile(r"(?P<name>.+)_HR", re.IGNORECASE)
_LR_NAME = re.compile(r"(?P<name>.+)_LR(?P<scale>\d)", re.IGNORECASE)


def split_of(path: Path, top: Path) -> str:
    """Return the split that the nearest folder is named by (`Train_x4`, `test_HR`), or ""."""
    return _first_known(_names_up_to(path.parent, top), _SPLITS) or ""


def camera_of(path: Path, top: Path) -> str | None:
    """Return the camera that the file's name, or a folder's, begins with, or None."""
    return _first_known(_names_up_to(path, top), _CAMERAS)


def folder_scale(folder: Path) -> int | None:
    """Return the scale in a folder's name (`X4`, `Train_x4`, `4`), or None."""
    match = _SCALE_FOLDER.fullmatch(folder.name)
    return int(match["scale"] or match["bare"]) if match else None


def match_suffixed(
    files: Iterable[Path], top: Path, *, scale: int | None = None
) -> Iterator[PairCandidate]:
    """Yield the pairs of RealSR V3's names: `NAME_HR.png` beside `NAME_LR3.png`, at any depth.

    One HR file may serve several scales. A file without its partner yields a pair with the
    partner's expected name, made with `scale` if no name holds one.
    """
    hr_files: dict[tuple[Path, str], Path] = {}
    lr_files: list[tuple[Path, str, int]] = []
    for path in files:
        if match := _LR_NAME.fullmatch(path.stem):
            lr_files.append((path, match["name"], int(match["scale"])))
        elif match := _HR_NAME.fullmatch(path.stem):
            hr_files[path.parent, match["name"]] = path
    unpaired = dict(hr_files)
    for lr, name, own in lr_files:
        hr = hr_files.get((lr.parent, name), lr.with_name(f"{name}_HR{lr.suffix}"))
        unpaired.pop((lr.parent, name), None)
        yield PairCandidate(name, split_of(lr, top), camera_of(lr, top), own, lr, hr)
    for (folder, name), hr in unpaired.items():
        scales = {own for lr, _, own in lr_files if lr.parent == folder}
        likely = scales.pop() if len(scales) == 1 else folder_scale(folder) or scale
        lr = folder / f"{name}_LR{likely or ''}{hr.suffix}"
        yield PairCandidate(name, split_of(lr, top), camera_of(lr, top), likely, lr, hr)


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder and all below it, sorted, hidden folders left out."""
    inside = (path for path in sorted(folder.rglob("*")) if is_image_name(path))
    return [path for path in inside if not _is_hidden(path.relative_to(folder)) and path.is_file()]


def _names_up_to(path: Path, top: Path) -> list[str]:
    """Return the names from a path up to `top`, nearest first.

    Names above are left out (somebody's home may be called test), except that of `top`'s parent if
    `top` is a scale folder: `Canon/Train/3`.
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
    """One folder of LR or HR images: the set it belongs to, and the scale in its name."""

    folder: Path
    files: tuple[Path, ...]
    set_key: tuple[Path, str]
    scale: int | None
    crops_hr: bool = False


def match_hr_lr_folders(files: Iterable[Path], top: Path) -> list[PairCandidate]:
    """Return the pairs of each HR folder and the LR folder beside it, by the folders' names.

    Images have equal names in both, but for marks of the scale: `baby.png` and `babyx2.png`,
    `P_1_x4.png` and `P_1_x1.png`.
    """
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        by_folder[path.parent].append(path)
    lr_sides, hr_sides = [], []
    for folder, inside in by_folder.items():
        if side := _recognize_side(folder, inside, pattern=_LR_FOLDER, top=top):
            lr_sides.append(side)
        elif side := _recognize_side(folder, inside, pattern=_HR_FOLDER, top=top):
            hr_sides.append(side)
    _check_one_kind(lr_sides)
    return [
        candidate
        for lr in lr_sides
        for hr in hr_sides
        if lr.set_key == hr.set_key and hr.scale in (None, lr.scale)
        for candidate in _match_sides(lr, hr, top=top)
    ]


def match_equal_names(files: Sequence[Path], top: Path) -> list[PairCandidate]:
    """Return the pairs of two folders whose images have equal names, the smaller ones as LR.

    Empty unless images lie in exactly two folders, side by side.
    """
    folders = sorted({path.parent for path in files})
    if len(folders) != 2 or folders[0].parent != folders[1].parent:
        return []
    sides = [_make_side(folder, files) for folder in folders]
    lr, hr = sorted(sides, key=_typical_width)
    candidates = list(_match_sides(lr, hr, top=top))
    return candidates if any(each.is_complete for each in candidates) else []


def _make_side(folder: Path, files: Iterable[Path]) -> _Side:
    inside = tuple(path for path in files if path.parent == folder)
    return _Side(folder, inside, (folder.parent, ""), folder_scale(folder))


def _typical_width(side: _Side) -> int:
    for path in side.files:
        try:
            return read_size(path).width
        except ImageError:
            continue  # check_pairs reports it
    return 0


def _recognize_side(
    folder: Path, files: list[Path], *, pattern: re.Pattern[str], top: Path
) -> _Side | None:
    """Return the side that a folder's name, or a scale folder's parent's, describes, or None."""
    scale = folder_scale(folder)
    for named in (folder, folder.parent):
        match = pattern.fullmatch(named.name)
        if match and named.is_relative_to(top):
            inner = scale if named != folder else None
            scale = inner or int(match["scale"] or 0) or folder_scale(named.parent)
            kind = match.groupdict().get("kind") or ""
            set_key = (named.parent, match["set"].lower())
            return _Side(folder, tuple(files), set_key, scale, crops_hr=kind.startswith("bic"))
        if scale is None:
            return None
    return None


def _check_one_kind(sides: list[_Side]) -> None:
    """Raise a DataError if LR_bicubic lies beside LR_unknown: either may be meant."""
    seen: dict[tuple[tuple[Path, str], int | None], _Side] = {}
    for side in sides:
        other = seen.setdefault((side.set_key, side.scale), side)
        if other is not side:
            problem = f"LR images lie in {other.folder.name} and in {side.folder.name}"
            raise DataError(side.folder.parent, problem, remedy="Keep one of them, or give a list.")


def _match_sides(lr_side: _Side, hr_side: _Side, *, top: Path) -> Iterator[PairCandidate]:
    """Yield a pair for each image of either folder; a missing file has its expected name."""
    exact = {path.stem: path for path in hr_side.files}
    unmarked = {_split_mark(path.stem)[0]: path for path in hr_side.files}
    unpaired = set(hr_side.files)
    for lr in lr_side.files:
        name, mark = _split_mark(lr.stem)
        hr = exact.get(lr.stem) or exact.get(name) or unmarked.get(name)
        hr_mark = _split_mark(hr.stem)[1] if hr else None
        unpaired.discard(hr or lr)
        # DRealSR marks its LR images `_x1`, which is no scale
        scale = lr_side.scale or next((m for m in (mark, hr_mark) if m and m > 1), None)
        yield _pair_sides(
            lr_side, scale, top=top, lr=lr, hr=hr or hr_side.folder / f"{name}{lr.suffix}"
        )
    for hr in sorted(unpaired):
        lr = lr_side.folder / hr.name
        yield _pair_sides(lr_side, lr_side.scale, top=top, lr=lr, hr=hr)


def _pair_sides(side: _Side, scale: int | None, *, top: Path, lr: Path, hr: Path) -> PairCandidate:
    split, camera = split_of(lr, top), camera_of(lr, top)
    return PairCandidate(pair_name(lr, hr), split, camera, scale, lr, hr, side.crops_hr)


def _split_mark(stem: str) -> tuple[str, int | None]:
    """Return a name without its mark of scale or role, and the scale in the mark, if any."""
    match = _MARK.fullmatch(stem)
    if match is None:
        return stem, None
    scale = match["scale"] or match["lr_scale"]
    return match["name"], int(scale) if scale else None


def pair_name(lr: Path, hr: Path) -> str:
    """Return the name of a pair: both files' if they are equal, else LR's without its mark."""
    return lr.stem if lr.stem == hr.stem else _split_mark(lr.stem)[0]


_LIST_FORMAT = "Each line contains two paths, LR and HR, separated by a space or a tab."


def read_list(path: Path) -> list[PairCandidate]:
    """Return the pairs that a list file names; relative paths are relative to the file.

    HR images are cropped to a multiple of the scale, as in the authors' code.

    Raises:
        DataError: the file is no text, lists no pairs, or has lines that don't hold two paths; all
            of these are named.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = "can't be read as a list of pairs"
        raise DataError(path, problem, remedy=_LIST_FORMAT) from error
    filled = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    split = [(number, _two_paths(line, path.parent)) for number, line in filled]
    if wrong := [str(number) for number, paths in split if paths is None]:
        problem = f"line {', '.join(wrong)}: not two paths"
        raise DataError(path, problem, remedy=_LIST_FORMAT)
    if not split:
        raise DataError(path, "lists no pairs", remedy=_LIST_FORMAT)
    return [
        _make_listed_pair(*paths, folder=path.absolute().parent)
        for _, paths in split
        if paths is not None
    ]


def _two_paths(line: str, folder: Path) -> tuple[Path, Path] | None:
    """Return the two paths of a line, separated at the space where both files exist, or None."""
    words = line.split(" ")
    splits = [[" ".join(words[:at]), " ".join(words[at:])] for at in range(1, len(words))]
    if "\t" in line:
        splits = [line.split("\t")]
    names = [[part.strip() for part in parts] for parts in splits if len(parts) == 2]
    paths = [(folder / lr, folder / hr) for lr, hr in names if lr and hr]
    existing = [both for both in paths if both[0].is_file() and both[1].is_file()]
    if existing:
        return existing[0]
    return paths[0] if len(paths) == 1 else None


def _make_listed_pair(lr: Path, hr: Path, *, folder: Path) -> PairCandidate:
    top = folder if lr.is_relative_to(folder) else lr.parent
    name = pair_name(lr, hr)
    return PairCandidate(name, split_of(lr, top), camera_of(lr, top), None, lr, hr, crops_hr=True)
