"""Synthetic pairs: photographs and their bicubic reductions, with a manifest."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from d2csr.core.errors import DataError, ImageError
from d2csr.core.geometry import Size
from d2csr.core.manifest import MANIFEST_NAME, Manifest, Pair, write_manifest
from d2csr.data.layouts import image_files
from d2csr.images.reader import read_rgb8
from d2csr.images.resize import resize_bicubic
from d2csr.images.writer import write_rgb8


def make_bicubic_pairs(
    photos: Path, output: Path, *, scale: int, split: str = "", licence: str = ""
) -> Manifest:
    """Write each photo, cropped to a multiple of the scale, and its reduction; return the manifest.

    Args:
        photos: folder of images, searched at any depth.
        output: gets `NAME_HR.png`, `NAME_LRs.png` and manifest.json.
        scale: HR pixels per LR pixel.
        split: name of the split in the manifest.
        licence: the photos' licence, for the manifest.

    Raises:
        DataError: there are no photos, or some are smaller than a pixel of the LR grid or can't be
            read; all of these are named, and nothing is written.
    """
    files = _find_photos(photos, output, scale=scale)
    _check_usable(photos, files, scale=scale)
    pairs = tuple(
        _write_pair(path, output / name, scale=scale, split=split)
        for path, name in zip(files, _make_names(files, photos), strict=True)
    )
    manifest = Manifest(scale, licence, pairs, output)
    write_manifest(manifest, output / MANIFEST_NAME)
    return manifest


def crop_to_multiple(image: UInt8[np.ndarray, "h w 3"], scale: int) -> UInt8[np.ndarray, "ch cw 3"]:
    """Return the largest part from the top left corner whose sides are multiples of the scale."""
    height, width = (side // scale * scale for side in image.shape[:2])
    return image[:height, :width]


def _find_photos(photos: Path, output: Path, *, scale: int) -> list[Path]:
    """Return the photos; raise a DataError if they, scale or output make no pairs."""
    if scale < 2:
        raise DataError("scale", f"{scale} reduces nothing", remedy="Choose 2 or more.")
    if not photos.is_dir():
        raise DataError(photos, "is not a folder", remedy="Give the folder of the photos.")
    if output.resolve().is_relative_to(photos.resolve()):
        remedy = "Choose a folder outside; a second run would reduce the first one's images."
        raise DataError(output, "lies among the photos", remedy=remedy)
    files = image_files(photos)
    if not files:
        raise DataError(photos, "contains no images", remedy="Give the folder of the photos.")
    return files


def _check_usable(photos: Path, files: list[Path], *, scale: int) -> None:
    """Read every photo; raise one DataError with a line for each that can't be used."""
    errors: list[str] = []
    for path in files:
        try:
            _read_hr(path, scale)
        except ImageError as error:
            errors.append(str(error))
    if errors:
        lines = "\n  ".join([f"{len(errors)} can't be used, nothing was written", *errors])
        raise DataError(photos, lines.removesuffix("."), remedy="Fix or remove these photos.")


def _read_hr(path: Path, scale: int) -> UInt8[np.ndarray, "h w 3"]:
    hr = crop_to_multiple(read_rgb8(path), scale)
    if not hr.size:
        problem = f"has a side of less than {scale} px"
        raise ImageError(path, problem, remedy="Remove it.")
    return hr


def _make_names(files: list[Path], photos: Path) -> list[str]:
    """Return a name for each file: its folders joined by `-`, and its suffix if names collide."""
    names = ["-".join(path.relative_to(photos).with_suffix("").parts) for path in files]
    return [
        name if names.count(name) == 1 else f"{name}-{path.suffix[1:].lower()}"
        for name, path in zip(names, files, strict=True)
    ]


def _write_pair(path: Path, target: Path, *, scale: int, split: str) -> Pair:
    hr = _read_hr(path, scale)
    lr = resize_bicubic(hr, scale=Fraction(1, scale))
    lr_path = target.with_name(f"{target.name}_LR{scale}.png")
    hr_path = target.with_name(f"{target.name}_HR.png")
    write_rgb8(lr_path, lr)
    write_rgb8(hr_path, hr)
    sizes = Size(lr.shape[1], lr.shape[0]), Size(hr.shape[1], hr.shape[0])
    return Pair(target.name, split, lr_path, hr_path, *sizes)
