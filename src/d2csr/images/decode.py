"""Image files opened with libvips: format by content, size, orientation, and supported pixel types.

HEVC, in which phones store photos, is decoded by pillow-heif, because libvips' wheel can't; JPEG
files are decoded by simplejpeg too, because it reports lost data.
"""

import os
import re
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyvips
import simplejpeg

from d2csr.core.errors import ImageError, is_out_of_memory
from d2csr.core.files import open_regular
from d2csr.core.geometry import Size
from d2csr.core.hardware import lacks_address_space
from d2csr.images.exif import COMPRESSION, Tags, read_file_tags
from d2csr.images.formats import FORMATS, HEAD_BYTES, IMAGE_SUFFIXES, sniff_format

SWAPPED_SIDES: Final = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_DECODER_BYTES: Final = 32 << 20  # with less than these left, decoders take files for damaged ones
_REPLACE: Final = "Replace the file, or leave it out."
_DOUBT: Final = "may be damaged, look at it and at the result"
_DEVELOP: Final = "Develop it to TIFF, PNG or JPEG first."
# A warning of this decoder means lost pixels; those of others concern metadata too.
_FAIL_ON: Final = {"gif": "warning"}
# libvips maps files of these formats, which ends the process if another one cuts them short.
_MAPPED: Final = ("gif", "jpeg", "webp")
_MAX_BYTES: Final = 1 << 30  # more than 256 megapixels take; what follows isn't read


def detect_format(path: Path) -> str:
    """Return the format of a file by its content, a key of `FORMATS`, whatever its suffix.

    Raises:
        ImageError: the file is missing, empty, unreadable, no regular file (a pipe or a device), or
            of an unsupported format.
    """
    content = sniff_format(_first_bytes(path))
    if content in FORMATS:
        return content
    supported = ", ".join(sorted(IMAGE_SUFFIXES))
    problem = (
        f"is {content}, which isn't supported" if content else "is not an image in a known format"
    )
    remedy = _DEVELOP if "raw photo" in content else _REPLACE
    raise ImageError(path, problem, f"{remedy} Supported are {supported}.")


def open_image(path: Path, *, sequential: bool = False) -> Any:
    """Return a lazy libvips image of a file's first or main page; no pixels are decoded yet.

    The file isn't opened by its name: libvips caches files by name and would return old pixels
    after a change, takes brackets in a name for options, and needs names in UTF-8. The loader is
    chosen by content, so that libvips' other loaders (drawings, tables, its own format) are never
    reached.

    Args:
        path: an image file.
        sequential: read rows once, top to bottom, in little memory.

    Raises:
        ImageError: as `detect_format`; or the header is damaged.
    """
    content = detect_format(path)
    try:
        image = _load(path, content, sequential=sequential)
        if image.get_typeof("heif-primary") and int(image.get("heif-primary")):
            page = int(image.get("heif-primary"))
            image = _load(path, content, sequential=sequential, page=page)
    except pyvips.Error as error:
        raise decode_error(path, error) from error
    return image


def _load(path: Path, content: str, *, sequential: bool, **options: Any) -> Any:
    loader = f"{'heif' if content == 'avif' else content}load_source"
    access = "sequential" if sequential else "random"
    options = {"fail_on": _FAIL_ON.get(content, "error"), **options}
    with open_regular(path) as file, _copy_if_mapped(file, content) as readable:
        source = pyvips.Source.new_from_descriptor(readable.fileno())  # which libvips duplicates
        return pyvips.Operation.call(loader, source, access=access, **options)


def _copy_if_mapped(file: BinaryIO, content: str) -> BinaryIO:
    """Return the file, or one in memory with its contents if libvips would map it."""
    if content not in _MAPPED:
        return file
    copy, left = os.fdopen(os.memfd_create("d2csr"), "w+b"), _MAX_BYTES
    while part := file.read(min(1 << 20, left)):
        copy.write(part)
        left -= len(part)
    copy.seek(0)
    return copy


def _first_bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise ImageError(path, "does not exist", "Check the name.") from error
    except OSError as error:
        reason = str(error.strerror)
        problem = reason if reason.startswith("is not") else f"can't be read: {reason}"
        raise ImageError(path, problem, "Give a readable image file.") from error
    except ValueError as error:
        raise ImageError(repr(path), "is not a valid file name", "Check the name.") from error
    if not head:
        raise ImageError(path, "is empty (0 bytes)", _REPLACE)
    return head


def orientation(image: Any) -> int:
    """Return the EXIF orientation of an image's pixels, 1..8; 1 is upright."""
    value = int(image.get("orientation")) if image.get_typeof("orientation") else 1
    return value if 1 <= value <= 8 else 1


def upright_size(image: Any) -> Size:
    """Return width and height of the upright image."""
    if orientation(image) in SWAPPED_SIDES:
        return Size(image.height, image.width)
    return Size(image.width, image.height)


def decode_error(path: Path, error: pyvips.Error) -> ImageError:
    """Return the error to raise for a file that libvips can't decode."""
    detail = " ".join(str(error).split())
    if "decoder plugin" in detail:
        problem = "is coded in HEVC, as photos of phones are, and no decoder for it is installed"
        remedy = "Install one (pip install 'd2csr[heif]'), or convert it to AVIF, JPEG or PNG."
        return ImageError(path, problem, remedy)
    if is_out_of_memory(error) or lacks_address_space(_DECODER_BYTES):
        problem = "is too large for the memory of this machine"
        return ImageError(path, problem, "Use a smaller image, or a part of it.")
    return _damaged(path, str(error))


# Lines of libvips' messages that name its functions, or positions of its reader, and no reason.
_NO_REASON: Final = re.compile(
    r"unable to (call|write|open|read)|bad seek|read error$|gave? up|^\W*$", re.IGNORECASE
)


def _damaged(path: Path, detail: str) -> ImageError:
    """Return the error, with the first reason in libvips' message, without names of functions."""
    lines = [re.sub(r"^(\w+: (source input: )?)", "", line.strip()) for line in detail.splitlines()]
    reasons = [line for line in lines if not _NO_REASON.search(line)]
    reason = f" ({reasons[0][:100]})" if reasons else ""
    return ImageError(path, f"is damaged or cut short{reason}", _REPLACE)


# libvips' interpretations that are used as they are, and their number of color channels.
_COLOR_CHANNELS: Final = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb": 3, "rgb16": 3}
_UNSUPPORTED_VALUES: Final = {
    "float": "floating-point",
    "double": "floating-point",
    "int": "signed 32-bit",
    "uint": "32-bit",
    "short": "signed 16-bit",
    "char": "signed 8-bit",
}
_CONVERT: Final = "Convert it to 8- or 16-bit gray or RGB."

# TIFF tags, and values of theirs.
_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _SUB_IFDS, _SAMPLE_FORMAT = 254, 258, 262, 330, 339
_DNG_VERSION: Final = 50706
_CIELAB, _FLOAT = 8, 3
_JPEG_COMPRESSIONS: Final = (6, 7)
_READABLE_BITS: Final = (1, 2, 4, 8, 16, 32)  # 32 is refused later, by the type of its values


def check_tiff_supported(path: Path) -> None:
    """Check that libvips can read a TIFF file and would not read it wrongly.

    Raises:
        ImageError: a raw photo, whose first page is only its thumbnail; values that fill no whole
            bytes or have 64 bits; 8-bit CIELAB.
    """
    try:
        tags = read_file_tags(path).main
    except ValueError:
        return  # libvips gives the reason
    is_thumbnail = _number(tags, _SUBFILE_TYPE) & 1 and _SUB_IFDS in tags
    if _DNG_VERSION in tags or is_thumbnail:
        raise ImageError(path, "is a raw photo", _DEVELOP)
    bits = _number(tags, _BITS, default=1)
    if bits not in _READABLE_BITS:
        is_float = _number(tags, _SAMPLE_FORMAT) == _FLOAT
        kind = "floating-point" if is_float else "whole-number"
        raise ImageError(
            path, f"has {kind} values of {bits} bit, which libvips can't read", _CONVERT
        )
    if _number(tags, _PHOTOMETRIC) == _CIELAB and bits != 16:
        problem = f"is CIELAB of {bits} bit, which libvips can't read"
        raise ImageError(path, problem, "Convert it to RGB, or to 16-bit CIELAB.")


def check_tiff_jpeg(path: Path) -> list[str]:
    """Return a sentence for the user if the JPEG data in a TIFF file may have lost pixels."""
    try:
        is_jpeg = _number(read_file_tags(path).main, COMPRESSION) in _JPEG_COMPRESSIONS
    except ValueError:
        return []  # libvips gives the reason
    if is_jpeg:
        try:  # twice, since a warning about metadata can't be told from one about pixels
            _load(path, "tiff", sequential=True, fail_on="warning").avg()
        except pyvips.Error:
            return [f"{_DOUBT}: libtiff or libjpeg gives warnings"]
    return []


def _number(tags: Tags, number: int, *, default: int = 0) -> int:
    return tags[number].number if number in tags else default


def to_rgb(path: Path, image: Any) -> tuple[Any, list[str]]:
    """Return an image in gray or RGB, and a sentence about each conversion that took place.

    Raises:
        ImageError: CMYK without a color profile.
        pyvips.Error: the profile is damaged.
    """
    bits = 16 if image.format in ("ushort", "short") else 8
    if image.interpretation == "cmyk":
        if not image.get_typeof("icc-profile-data"):
            problem = "is CMYK without a color profile, so its colors are unknown"
            raise ImageError(path, problem, "Convert it to RGB, or embed its profile.")
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
    """Return the number of color channels, 1 or 3.

    Raises:
        ImageError: the channels or the type of the values are not supported.
    """
    if image.format not in ("uchar", "ushort"):
        kind = _UNSUPPORTED_VALUES.get(image.format, image.format)
        problem = f"has {kind} values, whose white level is unknown"
        raise ImageError(path, problem, _CONVERT)
    channels = _COLOR_CHANNELS.get(image.interpretation)
    if channels is None or image.bands not in (channels, channels + 1):
        problem = f"has {image.bands} channels interpreted as {image.interpretation!r}"
        raise ImageError(path, problem, _CONVERT)
    return channels


_FIRST_FILE_FIELD: Final = "vips-loader"  # libvips' fields before it describe the array
_HEIF_ERRORS: Final = (OSError, ValueError, RuntimeError, EOFError, SyntaxError, IndexError)


def decode_hevc(path: Path, image: Any) -> Any:
    """Return an opened image whose pixels can be read, decoded by pillow-heif if it is in HEVC.

    Other images are returned as they are, as is every image where pillow-heif (the extra `heif`) is
    not installed. pillow-heif applies the rotations and crops stored in the file, as libvips does.

    Args:
        path: the file.
        image: from `open_image`; its size must have been checked.

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
        with open_regular(path) as file:
            opened = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
            main = opened[opened.primary_index]
            pixels = np.ascontiguousarray(main)
    except _HEIF_ERRORS as error:
        raise _damaged(path, str(error) or type(error).__name__) from error
    if pixels.shape[:2] != (image.height, image.width):
        raise _damaged(path, "its size differs from its header")
    return _with_fields(pixels, image, is_premultiplied="RGBa" in main.mode)


def _with_fields(pixels: np.ndarray, image: Any, *, is_premultiplied: bool) -> Any:
    """Return pixels as a libvips image with the metadata fields of `image`."""
    white = float(np.iinfo(pixels.dtype).max)
    decoded = pyvips.Image.new_from_array(pixels)
    if is_premultiplied:
        decoded = decoded.unpremultiply(max_alpha=white).rint().cast(decoded.format)
    interpretations = ("srgb", "rgb16") if decoded.bands > 2 else ("b-w", "grey16")
    interpretation = interpretations[pixels.dtype == np.uint16]
    decoded = decoded.copy(interpretation=interpretation, xres=image.xres, yres=image.yres)
    fields = image.get_fields()
    for name in fields[fields.index(_FIRST_FILE_FIELD) :]:
        decoded.set_type(image.get_typeof(name), name, image.get(name))
    return decoded


_START_OF_SCAN: Final = 0xDA
_SEQUENTIAL: Final = (0xC0, 0xC1)  # frames coded by Huffman, baseline and extended
_MAX_PADDING: Final = 64  # zeros before the end marker that cameras write
_LEFT_OVER: Final = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
# Warnings that concern no pixels, or concern parameters that decoders ignore. Phones such as the
# Samsung Galaxy J1 write wrong parameters of the scan (libvips, issue 2309).
_HARMLESS: Final = ("Invalid SOS parameters", "unknown JFIF revision")
_DOUBTFUL: Final = ("Inconsistent progression sequence", "Unknown Adobe color transform")


def check_jpeg(path: Path) -> list[str]:
    """Return a sentence for the user if a JPEG file may have lost pixels; an empty list otherwise.

    libvips lets pass what libjpeg calls a warning, such as data that ends too early, and it stops
    after the last row, so it never notices that data is left over, which shows that the decoder
    lost its place. So the whole file is decoded once more, at an eighth of its size. JPEG has no
    checksum: damage after which the decoder finds its place again isn't noticed.

    Args:
        path: a JPEG file; its size must have been checked.

    Raises:
        ImageError: pixels were lost.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        jpeg = file.read(min(_MAX_BYTES, size))  # `read` allocates what it is given
    found = _find_scan(jpeg)
    normal = jpeg if found is None else _normalize_header(jpeg, frame=found[0], scan=found[1])
    message = _first_warning(normal)
    if not message or any(text in message for text in _HARMLESS):
        return []
    left_over = _LEFT_OVER.search(message)
    if left_over and _is_padding(jpeg, count=int(left_over[1]), marker=int(left_over[2], 16)):
        return []
    if any(text in message for text in _DOUBTFUL) or (left_over and found is None):
        return [f"{_DOUBT}: libjpeg reports: {message}"]
    raise _damaged(path, message)


def _first_warning(jpeg: bytes) -> str:
    """Return the first warning or error of libjpeg, or an empty string."""
    try:
        simplejpeg.decode_jpeg(jpeg, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        message = str(error)
    else:
        return ""
    if "subsampling" not in message:
        return message
    try:  # simplejpeg refuses rare ratios of luma to chroma; libvips reports all but data left over
        pyvips.Image.jpegload_buffer(jpeg, fail_on="warning").avg()
    except pyvips.Error as error:
        return " ".join(str(error).split())
    return ""


def _find_scan(jpeg: bytes) -> tuple[int, int] | None:
    """Return the marker of the frame and the offset of the first scan, if segments lead to it."""
    at, frame = 2, 0
    while jpeg[at : at + 1] == b"\xff":
        marker = int.from_bytes(jpeg[at + 1 : at + 2])
        if marker == _START_OF_SCAN:
            return frame, at
        frame = marker if marker in _SEQUENTIAL else frame
        # a marker may be preceded by any number of bytes FF (T.81, B.1.1.2)
        at += 1 if marker == 0xFF else 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    return None


def _normalize_header(jpeg: bytes, *, frame: int, scan: int) -> bytes:
    """Return the file without what libjpeg warns of though no pixel depends on it.

    It reports its first warning only, and one about these would hide the others: the parameters of
    the scan of a sequential JPEG, which must be 0, 63, 0 (T.81, table B.3), and color profiles.
    """
    head, rest = jpeg[:scan].replace(b"ICC_PROFILE\0", b"no profile!\0"), jpeg[scan:]
    if frame in _SEQUENTIAL:
        end = 2 + int.from_bytes(rest[2:4])
        rest = rest[: end - 3] + b"\0\x3f\0" + rest[end:]
    return head + rest


def _is_padding(jpeg: bytes, *, count: int, marker: int) -> bool:
    """Return whether the bytes before a marker are zeros that fill up the data of the pixels."""
    return count <= _MAX_PADDING and bytes(count) + bytes((0xFF, marker)) in jpeg
