"""Kinds of pixels: which are read as they are, which are converted, and which are refused."""

from pathlib import Path
from typing import Any, Final

from d2csr.core.errors import ImageError
from d2csr.images.tags import Tags, read_file_tags

_COLOURS: Final = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb": 3, "rgb16": 3}
_UNKNOWN_WHITE: Final = {
    "float": "floating-point",
    "double": "floating-point",
    "int": "signed 32-bit",
    "uint": "32-bit",
    "short": "signed 16-bit",
    "char": "signed 8-bit",
}
_CONVERT: Final = "Convert it to 8 or 16 bit gray or RGB."

# Numbers of TIFF tags, and of their values.
_SUBFILE, _BITS, _PHOTOMETRIC, _SUBFILES, _SAMPLE_FORMAT, _DNG_VERSION = (
    254,
    258,
    262,
    330,
    339,
    50706,
)
_CIELAB, _FLOAT = 8, 3
_BITS_READ: Final = (1, 2, 4, 8, 16, 32)  # 32 only to be told apart further


def refuse_tiff_kind(path: Path) -> None:
    """Refuse a TIFF file that libvips can't read or reads wrongly, in plainer words than its own.

    Raises:
        ImageError: a raw photo, whose first page is its thumbnail; bits that fill no bytes; 64-bit
            values; 8-bit CIELAB.
    """
    try:
        tags = read_file_tags(path).main
    except ValueError:
        return  # libvips will say what is wrong
    thumbnail = _number(tags, _SUBFILE) & 1 and _SUBFILES in tags
    if _DNG_VERSION in tags or thumbnail:
        raise ImageError(path, "is a raw photo", remedy="Develop it to TIFF, PNG or JPEG first.")
    bits = _number(tags, _BITS, otherwise=1)
    if bits not in _BITS_READ:
        kind = "floating-point" if _number(tags, _SAMPLE_FORMAT) == _FLOAT else "whole-number"
        problem = f"has {kind} values of {bits} bit, which libvips can't read"
        raise ImageError(path, problem, remedy=_CONVERT)
    if _number(tags, _PHOTOMETRIC) == _CIELAB and bits != 16:
        problem = f"is CIELAB of {bits} bit, which libvips can't read"
        raise ImageError(path, problem, remedy="Convert it to RGB, or to CIELAB of 16 bit.")


def in_rgb(path: Path, image: Any) -> tuple[Any, list[str]]:
    """Return the image in gray or RGB, and a sentence where it had to be converted.

    Raises:
        ImageError: CMYK of unknown colours.
        pyvips.Error: its profile is damaged.
    """
    bits = 16 if image.format in ("ushort", "short") else 8
    if image.interpretation == "cmyk":
        if not image.get_typeof("icc-profile-data"):
            problem = "is CMYK without a colour profile, so its colours are not known"
            raise ImageError(path, problem, remedy="Convert it to RGB, or add its profile.")
        image = image.icc_transform(
            "srgb", embedded=True, black_point_compensation=True, depth=bits
        )
        return image, ["CMYK was converted to sRGB by its profile"]
    if image.interpretation == "labs":
        image = image.colourspace("rgb16").copy()
        image.remove("icc-profile-data")
        return image, ["CIELAB was converted to sRGB"]
    return image, []


def colours_of(path: Path, image: Any) -> int:
    """Return the number of colour channels, 1 or 3.

    Raises:
        ImageError: channels or values of a kind whose white is not known.
    """
    if image.format not in ("uchar", "ushort"):
        kind = _UNKNOWN_WHITE.get(image.format, image.format)
        raise ImageError(path, f"has {kind} values, whose white is not known", remedy=_CONVERT)
    colours = _COLOURS.get(image.interpretation)
    if colours is None or image.bands not in (colours, colours + 1):
        problem = f"has {image.bands} channels of the kind {image.interpretation!r}"
        raise ImageError(path, problem, remedy=_CONVERT)
    return colours


def _number(tags: Tags, number: int, *, otherwise: int = 0) -> int:
    return tags[number].number if number in tags else otherwise
