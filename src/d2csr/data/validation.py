"""The check of a set of pairs, which finds every error before any work is done."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from d2csr.core.errors import D2csrError, ImageError, ManifestError, PairError
from d2csr.core.files import sha256_file
from d2csr.core.geometry import Size
from d2csr.core.manifest import Manifest, Pair
from d2csr.data.pairs import SIZE_REMEDY, describe_size_mismatch, load_mask
from d2csr.data.sampling import allowed_positions
from d2csr.images.decode import detect_format
from d2csr.images.formats import FORMATS, format_from_suffix
from d2csr.images.reader import read_rgb8, read_size


class _Requirements(NamedTuple):
    """The requirements that pairs are checked against."""

    scale: int
    patch_px: int | None
    mask_limit: float
    decode: bool
    hashes: Mapping[Path, str]


def check_pairs(
    manifest: Manifest,
    *,
    patch_px: int | None,
    mask_limit: float = 0.0,
    decode: bool = True,
    hashes: Mapping[Path, str] | None = None,
) -> list[D2csrError]:
    """Return every error of the pairs, in their order; an empty list if there are none.

    Errors are: files missing, empty, damaged, cut short, of another format than their suffix,
    changed since the manifest was written; sizes that don't fit the scale or aren't the
    recorded ones, LR and HR swapped, images smaller than the crop, masks of another size than LR
    or covering all of it.

    Args:
        manifest: the pairs.
        patch_px: side of the LR crops; None where none are cut.
        mask_limit: largest masked share of a crop, 0..1.
        decode: read all pixels, which alone finds damage behind a header. False for pairs whose
            cache is built: it is named by their contents, so these were read before.
        hashes: SHA-256 of files that are hashed already; others are hashed where the manifest
            records a hash to compare with.
    """
    required = _Requirements(manifest.scale, patch_px, mask_limit, decode, hashes or {})
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(partial(_errors, required=required), manifest))
    return [error for errors in found for error in errors]


def _errors(pair: Pair, required: _Requirements) -> list[D2csrError]:
    errors = [
        *_file_errors(pair.lr, pair.hr, decode=required.decode),
        *_file_errors(pair.hr, pair.lr, decode=required.decode),
    ]
    if any(isinstance(error, _UnreadableError) for error in errors):
        return errors  # a file that can't be read has neither size nor hash
    lr, hr = read_size(pair.lr), read_size(pair.hr)
    return [
        *errors,
        *_hash_errors(pair, required.hashes),
        *_size_errors(pair, required, lr=lr, hr=hr),
        *_mask_errors(pair, required),
    ]


class _UnreadableError(ImageError):
    """An image whose size or pixels can't be read."""


def _file_errors(path: Path, partner: Path, *, decode: bool) -> Iterator[D2csrError]:
    if not path.exists():
        problem = f"is missing, the partner of {partner.name}"
        remedy = f"Add it, or remove {partner.name}."
        yield _UnreadableError(path, problem, remedy=remedy)
        return
    try:
        content = detect_format(path)
        if decode:
            read_rgb8(path)
    except ImageError as error:
        yield _UnreadableError(error.where, error.problem, remedy=error.remedy)
        return
    if content != format_from_suffix(path):
        suffix = FORMATS.get(content, (f".{content}",))[0]
        problem = f"is mislabelled: the suffix is {path.suffix}, its content is {content}"
        yield ImageError(path, problem, remedy=f"Rename it to end in {suffix}, or replace it.")


def _hash_errors(pair: Pair, hashes: Mapping[Path, str]) -> Iterator[D2csrError]:
    for path, recorded in ((pair.lr, pair.sha256_lr), (pair.hr, pair.sha256_hr)):
        if recorded and (hashes.get(path) or sha256_file(path)) != recorded:
            problem = "has changed since the manifest was written (its SHA-256 differs)"
            yield ManifestError(path, problem, remedy="Restore it, or write the manifest again.")


def _size_errors(
    pair: Pair, required: _Requirements, *, lr: Size, hr: Size
) -> Iterator[D2csrError]:
    if problem := describe_size_mismatch(pair, required.scale, lr=lr, hr=hr):
        yield PairError(pair.hr, problem, remedy=SIZE_REMEDY)
    elif (pair.lr_size, pair.hr_size) != (lr, lr.times(required.scale)):
        recorded = f"LR {pair.lr_size} px and HR {pair.hr_size} px"
        problem = f"{pair.name}: {recorded} are recorded, not {lr} and {lr.times(required.scale)}"
        remedy = "Write the manifest again."
        yield ManifestError(pair.lr, problem, remedy=remedy)
    side = required.patch_px
    if side is not None and min(lr) < side:
        problem = f"is {lr} px, smaller than the LR crop of {side}x{side} px"
        yield ImageError(pair.lr, problem, remedy="Use smaller crops, or remove the pair.")


def _mask_errors(pair: Pair, required: _Requirements) -> Iterator[D2csrError]:
    try:
        mask = load_mask(pair)
    except D2csrError as error:
        yield error
        return
    if mask is None or required.patch_px is None or min(mask.shape) < required.patch_px:
        return
    if not len(allowed_positions(mask, required.patch_px, mask_limit=required.mask_limit)):
        problem = (
            f"allows no {required.patch_px} px crop (limit: {required.mask_limit:g} of it masked)"
        )
        yield PairError(pair.mask, problem, remedy="Raise the mask limit, or remove the pair.")
