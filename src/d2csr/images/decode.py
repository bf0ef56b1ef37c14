"""Image files opened: what they are by their content, how large, and how they stand.

Kinds of pixels: which are read as they are, which are converted, and which are refused.

Pixels coded in HEVC, as phones store them, for which libvips' wheel has no decoder.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyvips

from d2csr.core.errors import ImageError
from d2csr.core.geometry import Size
from d2csr.images.exif import Tags, read_file_tags
from d2csr.images.formats import FORMATS, HEAD_BYTES, IMAGE_SUFFIXES, sniff_format

REPLACE = "Replace the file, or take it out."
_UNKNOWN = "is no image in a format known here"
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def detect_format(path: Path) -> str:
    """Return the format a file's content has, a key of `FORMATS`, whatever its suffix says.

    Raises:
        ImageError: the file is missing, empty, unreadable, or no image in a known format.
    """
    head = _first_bytes(path)
    content = sniff_format(head)
    if content in FORMATS:
        return content
    known = ", ".join(sorted(IMAGE_SUFFIXES))
    problem = f"is {content}, which is no format read here" if content else _UNKNOWN
    cure = "Develop it to TIFF, PNG or JPEG first." if "raw photo" in content else REPLACE
    raise ImageError(path, problem, remedy=f"{cure} Known are {known}.")


def open_image(path: Path, *, sequential: bool = False) -> Any:
    """Return a libvips image whose pixels are not read yet, of the file's first or main page.

    By its descriptor: libvips would remember a file by its name and show old pixels after a change,
    would take brackets in a name for options, and needs names in UTF-8. With the reader of the
    content's format: others (drawings, tables, libvips' own format) stay out of reach.

    Args:
        path: an image file.
        sequential: read rows once, top to bottom, in little memory.

    Raises:
        ImageError: as `detect_format`; or the header is damaged.
    """
    content = detect_format(path)
    try:
        image = _loaded(path, content, sequential=sequential)
        if image.get_typeof("heif-primary") and int(image.get("heif-primary")):
            page = int(image.get("heif-primary"))
            image = _loaded(path, content, sequential=sequential, page=page)
    except pyvips.Error as error:
        raise decode_error(path, error) from error
    return image


def orientation(image: Any) -> int:
    """Return the EXIF orientation that pixels must still be turned by, 1 for upright."""
    value = int(image.get("orientation")) if image.get_typeof("orientation") else 1
    return value if 1 <= value <= 8 else 1


def upright_size(image: Any) -> Size:
    """Return width and height of the upright image."""
    if orientation(image) in SIDEWAYS:
        return Size(image.height, image.width)
    return Size(image.width, image.height)


def decode_error(path: Path, error: pyvips.Error) -> ImageError:
    """Return the error of a file that libvips gave up on, in plain words where its are known."""
    detail = " ".join(str(error).split())
    if "decoder plugin" in detail:
        problem = "is coded in HEVC, as phones do, and no decoder for that is installed"
        cure = "Install one (pip install 'd2csr[heif]'), or convert it to AVIF, JPEG or PNG."
        return ImageError(path, problem, remedy=cure)
    if "out of memory" in detail:
        problem = "is too large for this machine's memory"
        return ImageError(path, problem, remedy="Give a smaller image, or a part of it.")
    return ImageError(path, f"is damaged or cut short ({detail[:400]})", remedy=REPLACE)


def _loaded(path: Path, content: str, *, sequential: bool, **options: Any) -> Any:
    loader = f"{'heif' if content == 'avif' else content}load_source"
    access = "sequential" if sequential else "random"
    with path.open("rb") as file:  # which any name opens; libvips keeps a descriptor of its own
        source = pyvips.Source.new_from_descriptor(file.fileno())
        return pyvips.Operation.call(loader, source, access=access, fail_on="error", **options)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise ImageError(path, "does not exist", remedy="Check the name.") from error
    except OSError as error:
        problem = f"can't be read: {error.strerror}"
        raise ImageError(path, problem, remedy="Give a readable image file.") from error
    except ValueError as error:
        raise ImageError(repr(path), "is no file's name", remedy="Check the name.") from error
    if not head:
        raise ImageError(path, "is empty (0 bytes)", remedy=REPLACE)
    return head


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


def check_tiff_supported(path: Path) -> None:
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


def to_rgb(path: Path, image: Any) -> tuple[Any, list[str]]:
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


def color_channels(path: Path, image: Any) -> int:
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


_REPLACE: Final = "Replace the file, or take it out."
_OF_LIBVIPS: Final = "vips-loader"  # the fields from this one on are the file's, not the array's
_ERRORS: Final = (OSError, ValueError, RuntimeError, EOFError, SyntaxError, IndexError)


def decode_hevc(path: Path, image: Any) -> Any:
    """Return an opened image with pixels: itself, or, of HEVC, decoded by pillow-heif.

    Without pillow-heif (the extra `heif`) libvips is left to try. Turns and cuts that the file asks
    for are done by the decoder, as libvips does them.

    Args:
        path: the file.
        image: of `open_image`; its size must have been agreed to.

    Raises:
        ImageError: the pixels are damaged or cut short.
    """
    if not image.get_typeof("heif-compression") or image.get("heif-compression") != "hevc":
        return image
    try:
        import pillow_heif
    except ImportError:
        return image
    try:
        with path.open("rb") as file:
            opened = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
            shown = opened[opened.primary_index]
            pixels = np.ascontiguousarray(shown)
    except _ERRORS as error:
        raise _damaged(path, str(error) or type(error).__name__) from error
    if pixels.shape[:2] != (image.height, image.width):
        raise _damaged(path, "its size is not what its header says")
    return _as_opened(pixels, image, premultiplied="RGBa" in shown.mode)


def _as_opened(pixels: np.ndarray, image: Any, *, premultiplied: bool) -> Any:
    """Return pixels as an image of libvips with all that the file says besides."""
    white = float(np.iinfo(pixels.dtype).max)
    decoded = pyvips.Image.new_from_array(pixels)
    if premultiplied:
        decoded = decoded.unpremultiply(max_alpha=white).rint().cast(decoded.format)
    colour = "srgb" if decoded.bands > 2 else "b-w"
    wide = {"srgb": "rgb16", "b-w": "grey16"}
    interpretation = wide[colour] if pixels.dtype == np.uint16 else colour
    decoded = decoded.copy(interpretation=interpretation, xres=image.xres, yres=image.yres)
    fields = image.get_fields()
    for name in fields[fields.index(_OF_LIBVIPS) :]:
        decoded.set_type(image.get_typeof(name), name, image.get(name))
    return decoded


def _damaged(path: Path, detail: str) -> ImageError:
    return ImageError(path, f"is damaged or cut short ({detail[:400]})", remedy=_REPLACE)
