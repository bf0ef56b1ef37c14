"""Sources of pairs: a manifest, a list, or a folder in a layout recognized by its names."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from d2csr.core.errors import DataError, ImageError
from d2csr.core.geometry import UNKNOWN_SIZE, Size, excess_px
from d2csr.core.manifest import MANIFEST_NAME, Manifest, Pair, read_manifest
from d2csr.data.city100 import find_cameras
from d2csr.data.layouts import (
    PairCandidate,
    image_files,
    match_equal_names,
    match_hr_lr_folders,
    match_suffixed,
    read_list,
)
from d2csr.images.reader import read_size

LAYOUTS = """a manifest.json;
a text file of two columns, LR path and HR path;
NAME_HR.png beside NAME_LR4.png, at any depth (RealSR V3);
folders HR and LR, or HR and LR_bicubic/X4 (benchmarks), or train_HR and train_LR (DRealSR,
D2CRealSR), images of equal names but for marks of the scale;
two folders whose images have equal names""".replace("\n", " ")


def open_pairs(
    path: Path,
    *,
    scale: int | None = None,
    split: str | None = None,
    allow_outside: bool = False,
) -> Manifest:
    """Return the pairs at `path`; nothing is written there.

    Errors of single pairs stay in the manifest, for `check_pairs` to report them all together: a
    missing file has the path that was expected, and a size that can't be read is (0, 0).

    Args:
        path: a manifest, a list file, or a folder.
        scale: the scale to take; needed only where there are several.
        split: the split to take (train, val, test); None takes all.
        allow_outside: allow a manifest whose pairs lie outside its folder.

    Raises:
        DataError: no pairs, none of this scale or split, or names that don't distinguish them.
        ManifestError: the manifest doesn't follow its schema, or names files outside its folder.
    """
    manifest = _open_all(path, scale, allow_outside=allow_outside)
    if scale is not None and manifest.scale != scale:
        problem = f"contains pairs of scale {manifest.scale}, not {scale}"
        raise DataError(path, problem, remedy="Choose other pairs, or another scale.")
    chosen = manifest.of_split(split)
    if not chosen.pairs:
        names = ", ".join(name or "(no name)" for name in manifest.splits) or "none"
        wanted = "pairs" if split is None else f"pairs of split {split!r}"
        raise DataError(path, f"contains no {wanted}", remedy=f"Its splits are: {names}.")
    return chosen


def _open_all(path: Path, scale: int | None, *, allow_outside: bool) -> Manifest:
    """Return all pairs at a path, of the scale if there are several."""
    if path.is_file() and path.suffix.lower() == ".json":
        return read_manifest(path, allow_outside=allow_outside)
    if path.is_file():
        return _make_manifest(read_list(path), path, scale=scale)
    if not path.is_dir():
        raise DataError(path, "does not exist", remedy="Check the path.")
    if (path / MANIFEST_NAME).is_file():
        return read_manifest(path / MANIFEST_NAME, allow_outside=allow_outside)
    if find_cameras(path):
        problem = "is a clone of City100's repository, whose LR images lie on no integer grid"
        remedy = f"Run `d2csr data import city100 {path} -o FOLDER`, and give one of its folders."
        raise DataError(path, problem, remedy=remedy)
    return _make_manifest(_match_files(path.absolute(), scale), path, scale=scale)


def _match_files(folder: Path, scale: int | None) -> list[PairCandidate]:
    """Return the pairs of the first layout with at least one complete pair.

    Else those of the first layout that any name fits, so that missing files can be reported.
    """
    files = image_files(folder)
    matches = [
        list(match_suffixed(files, folder, scale=scale)),
        match_hr_lr_folders(files, folder),
        match_equal_names(files, folder),
    ]
    for candidates in matches:
        if any(candidate.is_complete for candidate in candidates):
            return candidates
    for candidates in matches:
        if candidates:
            return candidates
    raise DataError(
        folder, "contains no pairs in a known layout", remedy=f"Known layouts: {LAYOUTS}."
    )


def _make_manifest(candidates: list[PairCandidate], path: Path, *, scale: int | None) -> Manifest:
    """Return the pairs of one scale, with sizes read and names unique within each split."""
    scales = sorted({each.scale for each in candidates if each.scale is not None})
    if scale is None and len(scales) > 1:
        problem = f"contains pairs of several scales ({', '.join(map(str, scales))})"
        raise DataError(path, problem, remedy="Choose one with --scale.")
    chosen = scale if scale is not None else next(iter(scales), None)
    matching = [each for each in candidates if chosen is None or each.scale in (chosen, None)]
    if not matching:
        problem = f"holds no pairs of scale {chosen}"
        raise DataError(path, problem, remedy=f"Its scales are: {', '.join(map(str, scales))}.")
    matching = _with_unique_names(matching, path)
    pairs = [_make_pair(each) for each in matching]
    if chosen is None:
        chosen = _measure_scale(pairs, path)
    cropped = [
        _crop_hr(pair, chosen) if each.crops_hr else pair
        for each, pair in zip(matching, pairs, strict=True)
    ]
    return Manifest(chosen, "", tuple(cropped), path.absolute())


def _with_unique_names(candidates: list[PairCandidate], path: Path) -> list[PairCandidate]:
    """Return the pairs, with the folder joined to each name that several of one split share."""
    counts = Counter((each.split, each.name) for each in candidates)
    common = os.path.commonpath([each.lr.parent for each in candidates])
    renamed = [
        each
        if counts[each.split, each.name] == 1
        else replace(each, name="-".join([*each.lr.parent.relative_to(common).parts, each.name]))
        for each in candidates
    ]
    counts = Counter((each.split, each.name) for each in renamed)
    if duplicates := sorted({name for (_, name), count in counts.items() if count > 1}):
        problem = f"several pairs of one split are called {', '.join(duplicates)}"
        raise DataError(path, problem, remedy="Name each pair once.")
    return renamed


def _make_pair(candidate: PairCandidate) -> Pair:
    return Pair(
        candidate.name,
        candidate.split,
        candidate.lr,
        candidate.hr,
        _read_size(candidate.lr),
        _read_size(candidate.hr),
        camera=candidate.camera,
    )


def _read_size(path: Path) -> Size:
    try:
        return read_size(path)
    except ImageError:
        return UNKNOWN_SIZE  # check_pairs reports why


def _measure_scale(pairs: list[Pair], path: Path) -> int:
    """Return the most frequent ratio of HR to LR widths, rounded down to an integer."""
    if not any(min(pair.lr_size) and min(pair.hr_size) for pair in pairs):
        problem = f"in no pair can both images be read ({pairs[0].lr.name}, {pairs[0].hr.name})"
        raise DataError(path, problem, remedy="Add the missing images, or give --scale.")
    ratios = [pair.hr_size.width // pair.lr_size.width for pair in pairs if min(pair.lr_size)]
    counts = Counter(ratio for ratio in ratios if ratio >= 1)
    if not counts:
        problem = "in no pair is HR as large as LR or larger"
        raise DataError(path, problem, remedy="Check whether LR and HR are swapped.")
    return counts.most_common(1)[0][0]


def _crop_hr(pair: Pair, scale: int) -> Pair:
    """Return the pair with its HR size cropped to `scale` times LR, if less than an LR pixel."""
    used = pair.lr_size.times(scale)
    unused = excess_px(used, pair.hr_size)
    return replace(pair, hr_size=used) if all(0 <= side < scale for side in unused) else pair
