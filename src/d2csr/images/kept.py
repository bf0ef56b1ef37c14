"""What a picture file says besides its pixels, kept and mended for the picture made of it."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyvips

from d2csr.core.grid import Size
from d2csr.images.signals import Signals
from d2csr.images.source import SIDEWAYS, orientation
from d2csr.images.tags import (
    DESCRIBING,
    MAKER_NOTE,
    TagTree,
    as_exif,
    dpi_of,
    of_size,
    read_file_tags,
    read_tags,
    without,
)

_INCH_MM: Final = 25.4
_UNSAID_DPI: Final = 72.0  # what libvips writes into a file must be something
_EXIF_LIMIT: Final = 64_000  # bytes of one JPEG segment, less its head and what libexif adds
_XMP_LIMIT: Final = 64_000  # the same, and room for longer numbers
_ICC_SPACES: Final = {1: b"GRAY", 3: b"RGB "}

# What tells of the old size or of a picture within the picture; in elements or attributes.
_XMP_THUMBNAILS: Final = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>", re.DOTALL)
_XMP_GAIN_MAP: Final = re.compile(rb"\s+hdrgm:\w+\s*=\s*(\"[^\"]*\"|'[^']*')")
_XMP_NUMBER: Final = rb"((?:%s)(?:\s*=\s*[\"']|>))\s*\d+"


@dataclass(frozen=True)
class Kept:
    """What must survive in the file made of a picture; all of it upright.

    Attributes:
        icc: colour profile, of as many channels as the picture has.
        exif: EXIF, or the describing tags of a TIFF file.
        xmp: XMP packet.
        iptc: IPTC block.
        dpi: resolution across and down, in pixels per inch, of the picture read; None: not said.
        texts: keywords and texts of a PNG file, both in ASCII.
    """

    icc: bytes | None = None
    exif: TagTree = field(default_factory=TagTree)
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    texts: tuple[tuple[str, str], ...] = ()


NOTHING_KEPT: Final = Kept()


def kept_of(image: Any, path: Path, *, bands: int, signals: Signals) -> tuple[Kept, list[str]]:
    """Return what a file says besides its pixels, and what of it had to be left out.

    Args:
        image: the opened file, not yet turned upright.
        path: the file, for what libvips doesn't read of a TIFF.
        bands: colour channels that the picture will have.
        signals: what libvips doesn't read of it.
    """
    warnings: list[str] = []
    icc = _blob(image, "icc-profile-data")
    if icc is not None and not _fits(icc, bands=bands):
        icc = None
        warnings.append("its colour profile is damaged or for other channels, and was left out")
    exif = _tags(image, path, warnings=warnings)
    xmp = _blob(image, "xmp-data")
    if xmp is not None and b"hdrgm:" in xmp:
        warnings.append("its HDR gain map was left out: the result is the standard picture")
    if xmp is not None and len(xmp) > _XMP_LIMIT:
        xmp = None
        warnings.append("its XMP is too long to be written everywhere, and was left out")
    texts = tuple(pair for pair in signals.texts if "".join(pair).isascii())
    if len(texts) < len(signals.texts):
        warnings.append("a text outside ASCII was left out, as libvips would write it wrongly")
    dpi = _upright_dpi(image, dpi_of(exif) or signals.dpi)
    if _is_tiff(image):
        exif = replace(exif, main={n: tag for n, tag in exif.main.items() if n in DESCRIBING})
    if len(as_exif(without(exif, MAKER_NOTE))) > _EXIF_LIMIT:
        exif = TagTree()
        warnings.append("its EXIF is too long to be written everywhere, and was left out")
    return Kept(icc, exif, xmp, _blob(image, "iptc-data"), dpi, texts), warnings


def dressed(image: Any, kept: Kept, *, size: Size, scale: float, exif_for_dpi: bool = False) -> Any:
    """Return a libvips image with all that is kept, corrected for its size and print size.

    Args:
        image: the picture to write.
        kept: what the picture it was made of said.
        size: of the picture to write.
        scale: how many times larger it is than the one read; the print size stays.
        exif_for_dpi: the format has no other place for the resolution than EXIF.
    """
    dpi = scaled_dpi(kept, scale)
    across, down = dpi or (_UNSAID_DPI, _UNSAID_DPI)
    result = image.copy(xres=across / _INCH_MM, yres=down / _INCH_MM)
    blobs = {"icc-profile-data": kept.icc, "iptc-data": kept.iptc}
    blobs["xmp-data"] = _mended_xmp(kept.xmp, size) if kept.xmp else None
    if kept.exif or (exif_for_dpi and dpi is not None):
        tree = of_size(kept.exif, size, dpi=dpi)
        exif = as_exif(tree)
        if len(exif) > _EXIF_LIMIT:
            exif = as_exif(without(tree, MAKER_NOTE))
        blobs["exif-data"] = b"Exif\0\0" + exif
    for name, blob in blobs.items():
        if blob is not None:
            result.set_type(pyvips.GValue.blob_type, name, blob)
    if dpi is not None:
        result.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    for number, (keyword, text) in enumerate(kept.texts):
        result.set_type(pyvips.GValue.gstr_type, f"png-comment-{number}-{keyword}", text)
    return result


def scaled_dpi(kept: Kept, scale: float) -> tuple[float, float] | None:
    """Return the resolution at which an enlarged picture prints as large as the one read."""
    return None if kept.dpi is None else (kept.dpi[0] * scale, kept.dpi[1] * scale)


def _tags(image: Any, path: Path, *, warnings: list[str]) -> TagTree:
    """Return EXIF; of a TIFF file its own tags, which libvips doesn't pass on."""
    try:
        if _is_tiff(image):
            return read_file_tags(path)
        exif = _blob(image, "exif-data")
        return TagTree() if exif is None else read_tags(exif.removeprefix(b"Exif\0\0"))
    except ValueError:
        warnings.append("its EXIF is damaged and was left out")
        return TagTree()


def _is_tiff(image: Any) -> bool:
    return str(image.get("vips-loader")).startswith("tiff")


def _mended_xmp(xmp: bytes, size: Size) -> bytes:
    """Return XMP of an upright picture of this size."""
    for pattern in (_XMP_THUMBNAILS, _XMP_GAIN_MAP):
        xmp = pattern.sub(b"", xmp)
    values = (
        (b"tiff:Orientation", 1),
        (b"tiff:ImageWidth|exif:PixelXDimension", size.width),
        (b"tiff:ImageLength|exif:PixelYDimension", size.height),
    )
    for names, value in values:
        xmp = re.sub(_XMP_NUMBER % names, rb"\g<1>%d" % value, xmp)
    return xmp


def _upright_dpi(image: Any, told: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return pixels per inch of the upright picture, unless there is no sense in them."""
    if told is None or not all(1.0 <= each <= 1e5 for each in told):
        return None
    return (told[1], told[0]) if orientation(image) in SIDEWAYS else told


def _blob(image: Any, name: str) -> bytes | None:
    return bytes(image.get(name)) if image.get_typeof(name) else None


def _fits(icc: bytes, *, bands: int) -> bool:
    """Return whether a profile is whole and for this many channels (ICC.1:2022, 7.2)."""
    whole = len(icc) >= 128 and int.from_bytes(icc[:4], "big") == len(icc)
    return whole and icc[36:40] == b"acsp" and icc[16:20] == _ICC_SPACES[bands]
