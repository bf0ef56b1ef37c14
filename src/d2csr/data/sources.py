"""Sources of pairs: a manifest, a list, or a folder in any known layout, told by its names."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from d2csr.core.errors import DataError, ImageError
from d2csr.core.grid import UNKNOWN_SIZE, Size, common_scale
from d2csr.core.manifest import MANIFEST_NAME, Manifest, Pair, read_manifest
from d2csr.data.layouts import Found, image_files, named_side_by_side
from d2csr.images.read import image_size

KNOWN = "Known are: a manifest.json; NAME_HR.png beside NAME_LR3.png (RealSR V3)."


def open_pairs(path: Path, *, scale: int | None = None, split: str | None = None) -> Manifest:
    """Return the pairs that lie at `path`, and never write there.

    Faults of single pairs stay in the manifest, for `check_pairs` to tell them all at once: a
    missing file is the path expected, and a size that can't be read is (0, 0).

    Args:
        path: a manifest, a list file, or a folder.
        scale: which scale to take; needed only where several lie there.
        split: which split to take (train, val, test); None takes all.

    Raises:
        DataError: nothing is there, or nothing of this scale or split.
        ManifestError: the manifest doesn't follow its schema.
    """
    manifest = _of_file(path) if path.is_file() else _of_folder(path, scale)
    if scale is not None and manifest.scale != scale:
        problem = f"holds pairs of scale {manifest.scale}, not {scale}"
        raise DataError(path, problem, remedy="Choose other pairs, or another scale.")
    chosen = manifest.of_split(split)
    if not chosen.pairs:
        there = ", ".join(sorted({pair.split or "(none told)" for pair in manifest})) or "none"
        wanted = "pairs" if split is None else f"pairs of split {split!r}"
        raise DataError(path, f"holds no {wanted}", remedy=f"Splits that are there: {there}.")
    return chosen


def _of_file(path: Path) -> Manifest:
    return read_manifest(path)


def _of_folder(path: Path, scale: int | None) -> Manifest:
    if not path.is_dir():
        raise DataError(path, "does not exist", remedy="Check the path.")
    if (path / MANIFEST_NAME).is_file():
        return read_manifest(path / MANIFEST_NAME)
    found = list(named_side_by_side(image_files(path.absolute())))
    if not found:
        raise DataError(path, "holds pairs in no known layout", remedy=KNOWN)
    return _manifest(found, path, scale)


def _manifest(found: list[Found], path: Path, scale: int | None) -> Manifest:
    """Return the pairs of one scale, sizes read, each name once in its split."""
    told = sorted({one.scale for one in found if one.scale is not None})
    if scale is None and len(told) > 1:
        problem = f"holds pairs of several scales: {told}"
        raise DataError(path, problem, remedy="Say which scale to take.")
    wanted = scale if scale is not None else (told[0] if told else None)
    kept = [one for one in found if wanted is None or one.scale in (wanted, None)]
    if not kept:
        problem = f"holds no pairs of scale {wanted}"
        raise DataError(path, problem, remedy=f"Scales that are there: {told}.")
    pairs = [_pair(one) for one in kept]
    if wanted is None:
        wanted = _measured_scale(pairs, path)
    return Manifest(wanted, "", tuple(_cut(pairs, kept, wanted)), path.absolute())


def _pair(found: Found) -> Pair:
    sizes = (_size(found.lr), _size(found.hr))
    return Pair(found.name, found.split, found.lr, found.hr, *sizes, camera=found.camera)


def _size(path: Path) -> Size:
    try:
        return image_size(path)
    except ImageError:
        return UNKNOWN_SIZE


def _measured_scale(pairs: list[Pair], path: Path) -> int:
    """Return the scale most pairs have."""
    scales = [common_scale(pair.lr_size, pair.hr_size) for pair in pairs]
    counts = Counter(one for one in scales if one is not None)
    if not counts:
        problem = "no pair's HR picture is an integer multiple of its LR picture"
        raise DataError(path, problem, remedy="Check the pictures, or say the scale.")
    return counts.most_common(1)[0][0]


def _cut(pairs: list[Pair], found: list[Found], scale: int) -> list[Pair]:
    """Return the pairs with HR sizes cut to a multiple of the scale where the set does so."""
    return [
        _cut_pair(pair, scale) if one.cut else pair for pair, one in zip(pairs, found, strict=True)
    ]


def _cut_pair(pair: Pair, scale: int) -> Pair:
    used = pair.lr_size.times(scale)
    columns, rows = (pair.hr_size.width - used.width, pair.hr_size.height - used.height)
    fits = 0 <= columns < scale and 0 <= rows < scale
    return replace(pair, hr_size=used) if fits else pair
