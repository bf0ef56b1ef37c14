"""Sources of pairs: a manifest, a list, or a folder in any known layout, told by its names."""

import hashlib
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from d2csr.core.errors import DataError, ImageError
from d2csr.core.files import cache_folder, sha256_file
from d2csr.core.geometry import UNKNOWN_SIZE, Size, excess_px
from d2csr.core.manifest import MANIFEST_NAME, Manifest, Pair, read_manifest
from d2csr.data.city100 import cameras_in, import_city100
from d2csr.data.layouts import (
    PairCandidate,
    image_files,
    match_equal_names,
    match_hr_lr_folders,
    match_suffixed,
    read_list,
)
from d2csr.images.reader import image_size

LAYOUTS = """a manifest.json;
a text file of two columns, LR path and HR path;
NAME_HR.png beside NAME_LR4.png, at any depth (RealSR V3);
folders HR and LR, or HR and LR_bicubic/X4 (benchmarks), or train_HR and train_LR (DRealSR,
D2CRealSR), images called alike but for marks of the scale;
two folders whose images are called alike;
a clone of City100's repository""".replace("\n", " ")


def open_pairs(path: Path, *, scale: int | None = None, split: str | None = None) -> Manifest:
    """Return the pairs that lie at `path`, and never write there.

    Errors of single pairs stay in the manifest, for `check_pairs` to tell them all at once: a
    missing file is the path expected, and a size that can't be read is (0, 0).

    Args:
        path: a manifest, a list file, or a folder.
        scale: which scale to take; needed only where several lie there.
        split: which split to take (train, val, test); None takes all.

    Raises:
        DataError: nothing is there, nothing of this scale or split, or names that don't tell pairs
            apart.
        ManifestError: the manifest doesn't follow its schema.
    """
    manifest = _opened(path, scale)
    if scale is not None and manifest.scale != scale:
        problem = f"holds pairs of scale {manifest.scale}, not {scale}"
        raise DataError(path, problem, remedy="Choose other pairs, or another scale.")
    chosen = manifest.of_split(split)
    if not chosen.pairs:
        there = ", ".join(sorted({pair.split or "(none told)" for pair in manifest})) or "none"
        wanted = "pairs" if split is None else f"pairs of split {split!r}"
        raise DataError(path, f"holds no {wanted}", remedy=f"Splits that are there: {there}.")
    return chosen


def _opened(path: Path, scale: int | None) -> Manifest:
    if path.is_dir() and (path / MANIFEST_NAME).is_file():
        return read_manifest(path / MANIFEST_NAME)
    if path.is_dir() and cameras_in(path):
        return _city100(path, scale)
    if path.is_dir():
        return _manifest(_found_in(path.absolute(), scale), path, scale=scale)
    if not path.is_file():
        raise DataError(path, "does not exist", remedy="Check the path.")
    return read_manifest(path) if path.suffix.lower() == ".json" else _listed(path, scale)


def _listed(path: Path, scale: int | None) -> Manifest:
    found = read_list(path)
    if not found:
        raise DataError(path, "lists no pairs", remedy="Give a list with a pair a line.")
    return _manifest(found, path, scale=scale)


def _found_in(folder: Path, scale: int | None) -> list[PairCandidate]:
    """Return the pairs of the first layout that makes at least one whole pair.

    Else those of the first that any name fits, so that what is missing can be told.
    """
    files = image_files(folder)
    fitting = [
        list(match_suffixed(files, folder, scale=scale)),
        match_hr_lr_folders(files, folder),
        match_equal_names(files, folder),
    ]
    for found in fitting:
        if any(one.complete for one in found):
            return found
    for found in fitting:
        if found:
            return found
    raise DataError(folder, "holds pairs in no known layout", remedy=f"Known are: {LAYOUTS}.")


def _manifest(found: list[PairCandidate], path: Path, *, scale: int | None) -> Manifest:
    """Return the pairs of one scale, sizes read, each name once in its split."""
    told = sorted({one.scale for one in found if one.scale is not None})
    if scale is None and len(told) > 1:
        problem = f"holds pairs of several scales ({', '.join(map(str, told))})"
        raise DataError(path, problem, remedy="Say which scale to take.")
    wanted = scale if scale is not None else next(iter(told), None)
    kept = [one for one in found if wanted is None or one.scale in (wanted, None)]
    if not kept:
        problem = f"holds no pairs of scale {wanted}"
        raise DataError(path, problem, remedy=f"There are: {', '.join(map(str, told))}.")
    pairs = [_pair(one) for one in _apart(kept, path)]
    wanted = _measured_scale(pairs, path) if wanted is None else wanted
    return Manifest(wanted, "", tuple(_cut(kept, pairs, scale=wanted)), path.absolute())


def _apart(found: list[PairCandidate], path: Path) -> list[PairCandidate]:
    """Return the pairs with the folder joined to every name that several of one split share."""
    counts = Counter((one.split, one.name) for one in found)
    common = os.path.commonpath([one.lr.parent for one in found])
    apart = [
        one if counts[one.split, one.name] == 1 else replace(one, name=_long_name(one, common))
        for one in found
    ]
    again = Counter((one.split, one.name) for one in apart)
    if double := sorted({name for (_, name), count in again.items() if count > 1}):
        problem = f"several pairs of one split are called {', '.join(double)}"
        raise DataError(path, problem, remedy="Name each pair once.")
    return apart


def _long_name(found: PairCandidate, common: str) -> str:
    return "-".join([*found.lr.parent.relative_to(common).parts, found.name])


def _pair(found: PairCandidate) -> Pair:
    sizes = (_size(found.lr), _size(found.hr))
    return Pair(found.name, found.split, found.lr, found.hr, *sizes, camera=found.camera)


def _size(path: Path) -> Size:
    try:
        return image_size(path)
    except ImageError:
        return UNKNOWN_SIZE  # check_pairs says why


def _measured_scale(pairs: list[Pair], path: Path) -> int:
    """Return the scale that most pairs' sizes tell, HR rounded down to whole LR pixels."""
    if not any(min(pair.lr_size) and min(pair.hr_size) for pair in pairs):
        problem = f"in no pair can both images be read ({pairs[0].lr.name}, {pairs[0].hr.name})"
        raise DataError(path, problem, remedy="Put the missing ones there, or say the scale.")
    ratios = [pair.hr_size.width // pair.lr_size.width for pair in pairs if min(pair.lr_size)]
    counts = Counter(ratio for ratio in ratios if ratio >= 1)
    if not counts:
        problem = "in no pair is HR as large as LR or larger"
        raise DataError(path, problem, remedy="Check whether LR and HR are swapped.")
    return counts.most_common(1)[0][0]


def _cut(found: list[PairCandidate], pairs: list[Pair], *, scale: int) -> list[Pair]:
    """Return the pairs, HR sizes cut to a multiple of the scale where the set does so."""
    return [
        _cut_pair(pair, scale) if one.cut else pair for one, pair in zip(found, pairs, strict=True)
    ]


def _cut_pair(pair: Pair, scale: int) -> Pair:
    used = pair.lr_size.times(scale)
    unused = excess_px(used, pair.hr_size)
    return replace(pair, hr_size=used) if all(0 <= side < scale for side in unused) else pair


def _city100(clone: Path, scale: int | None) -> Manifest:
    """Return the pairs of a clone of City100, derived into the cache folder on first use."""
    scales = {camera.scale: camera for camera in cameras_in(clone)}
    if scale is None and len(scales) == 1:
        scale = next(iter(scales))
    if scale not in scales:
        problem = f"holds pairs of scale {' and '.join(map(str, sorted(scales)))}"
        raise DataError(clone, problem, remedy="Say which of these scales to take.")
    sources = [path for camera in scales.values() for path in clone.rglob(f"{camera.source}/*")]
    contents = "".join(path.name + sha256_file(path) for path in sorted(sources) if path.is_file())
    derived = cache_folder() / "city100" / hashlib.sha256(contents.encode()).hexdigest()[:32]
    ready = derived / scales[scale].folder / MANIFEST_NAME
    if not ready.is_file():
        import_city100(clone, derived)
    return read_manifest(ready)
