"""What an image file says besides its pixels, kept and mended for the image made of it.

Signals in files that libvips doesn't pass on: colours by number, frames, resolution, texts.
"""

import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyvips

from d2csr.core.geometry import Size
from d2csr.images.decode import SIDEWAYS, orientation
from d2csr.images.exif import (
    DESCRIBING,
    MAKER_NOTE,
    ExifTags,
    get_dpi,
    read_file_tags,
    read_tags,
    to_bytes,
    with_size,
    without_tag,
)

HDR_TRANSFERS: Final = {16: "PQ", 18: "HLG"}  # Rec. ITU-T H.273, table 3
SRGB_PRIMARIES: Final = (1, 2)  # BT.709, not said; table 2
P3_PRIMARIES: Final = (11, 12)
_HEAD_BYTES: Final = 1 << 16  # boxes before the coded pixels
_MAX_CHUNKS: Final = 1000
_INCH_M: Final = 0.0254
_MAX_TEXT: Final = 1 << 16
_XMP_KEY: Final = "XML:com.adobe.xmp"


@dataclass(frozen=True)
class ContainerInfo:
    """What a file says by numbers.

    Attributes:
        primaries: of the colours, as H.273 numbers them; 2: not said.
        transfer: curve of the values, the same.
        gray: the coded image has no colour planes.
        frames: images of an animated PNG or an AVIF sequence, otherwise 1.
        gamma: of a PNG that says no more of its colours; otherwise None.
        dpi: of a PNG or JPEG file, across and down, less its EXIF; None: not said.
        texts: of a PNG, by their keywords, in the order of the file; XMP apart.
    """

    primaries: int = 2
    transfer: int = 2
    gray: bool = False
    frames: int = 1
    gamma: float | None = None
    dpi: tuple[float, float] | None = None
    texts: tuple[tuple[str, str], ...] = ()


def read_container_info(path: Path, content: str) -> ContainerInfo:
    """Return the signals of a file with this content; the plain ones for other formats."""
    if content == "png":
        return _of_png(path)
    if content == "jpeg":
        return _of_jpeg(path)
    return _of_heif(path) if content in ("avif", "heif") else ContainerInfo()


def _of_png(path: Path) -> ContainerInfo:
    """Walk the chunks before the pixels (PNG, third edition, 5.3)."""
    found: dict[bytes, bytes] = {}
    texts: list[tuple[str, str]] = []
    for name, body in _chunks(path):
        found.setdefault(name, body)
        if name in (b"tEXt", b"zTXt", b"iTXt") and (text := _text(name, body)):
            texts.append(text)
    coded = found.get(b"cICP", b"")
    frames = found.get(b"acTL", b"")
    gamma = found.get(b"gAMA", b"")
    told = {b"iCCP", b"sRGB", b"cICP"} & set(found)
    return ContainerInfo(
        primaries=coded[0] if len(coded) == 4 else 2,
        transfer=coded[1] if len(coded) == 4 else 2,
        frames=int.from_bytes(frames[:4], "big") if len(frames) == 8 else 1,
        gamma=int.from_bytes(gamma, "big") / 1e5 if len(gamma) == 4 and not told else None,
        dpi=_dpi(found.get(b"pHYs", b"")),
        texts=tuple(texts),
    )


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a PNG before its pixels, long ones cut short."""
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(_MAX_CHUNKS):
            head = file.read(8)
            if len(head) < 8 or head[4:] == b"IDAT":
                return
            length = int.from_bytes(head[:4], "big")
            body = file.read(min(_MAX_TEXT, length))
            yield head[4:], body
            file.seek(length - len(body) + 4, 1)


def _dpi(body: bytes) -> tuple[float, float] | None:
    """Return pixels per inch of a chunk that has pixels per metre (11.3.4.3)."""
    if len(body) != 9 or body[8] != 1:
        return None
    across, down = struct.unpack(">II", body[:8])
    return (across * _INCH_M, down * _INCH_M) if across and down else None


def _text(name: bytes, body: bytes) -> tuple[str, str] | None:
    """Return keyword and text of a chunk (11.3.3); nothing for XMP, or damage."""
    keyword, _, rest = body.partition(b"\0")
    key = keyword.decode("latin-1")
    if not 1 <= len(key) <= 79 or not key.isprintable() or key == _XMP_KEY:
        return None
    try:
        if name == b"tEXt":
            text = rest.decode("latin-1")
        elif name == b"zTXt":
            text = zlib.decompressobj().decompress(rest[1:], _MAX_TEXT).decode("latin-1")
        else:
            language_on = rest[2:].split(b"\0", 2)[2]
            packed = zlib.decompressobj().decompress(language_on, _MAX_TEXT) if rest[0] else b""
            text = (packed or language_on).decode("utf-8")
    except (IndexError, UnicodeDecodeError, zlib.error):
        return None
    return (key, text) if "\0" not in text else None


def _of_jpeg(path: Path) -> ContainerInfo:
    """Read the density behind the first marker (JFIF 1.02, page 5)."""
    with path.open("rb") as file:
        head = file.read(18)
    if len(head) < 18 or head[2:4] != b"\xff\xe0" or head[6:11] != b"JFIF\0":
        return ContainerInfo()
    factor = {1: 1.0, 2: 2.54}.get(head[13])  # per inch, per centimetre; otherwise a mere ratio
    across, down = struct.unpack(">HH", head[14:18])
    return ContainerInfo(dpi=(across * factor, down * factor) if factor else None)


def _of_heif(path: Path) -> ContainerInfo:
    """Look for the boxes `colr`, `av1C`, `stsz` (ISO/IEC 23008-12; AV1-ISOBMFF, 2.3)."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        head = whole[:_HEAD_BYTES]
    primaries, transfer = 2, 2
    at = head.find(b"colrnclx")
    if 0 <= at <= len(head) - 12:
        primaries, transfer = struct.unpack_from(">HH", head, at + 8)
    planes = []
    at = head.find(b"av1C")
    while 0 <= at < len(head) - 7:
        planes.append(bool(head[at + 6] & 0x10))  # the bit `monochrome`
        at = head.find(b"av1C", at + 4)
    at = head.find(b"stsz")  # sizes of a sequence's samples: version, size of all, number
    frames = int.from_bytes(head[at + 12 : at + 16], "big") if at >= 0 else 1
    return ContainerInfo(primaries, transfer, gray=bool(planes) and all(planes), frames=frames)


_INCH_MM: Final = 25.4
_UNSAID_DPI: Final = 72.0  # what libvips writes into a file must be something
_EXIF_LIMIT: Final = 64_000  # bytes of one JPEG segment, less its head and what libexif adds
_XMP_LIMIT: Final = 64_000  # the same, and room for longer numbers
_ICC_SPACES: Final = {1: b"GRAY", 3: b"RGB "}

# What tells of the old size or of an image within the image; in elements or attributes.
_XMP_THUMBNAILS: Final = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>", re.DOTALL)
_XMP_GAIN_MAP: Final = re.compile(rb"\s+hdrgm:\w+\s*=\s*(\"[^\"]*\"|'[^']*')")
_XMP_NUMBER: Final = rb"((?:%s)(?:\s*=\s*[\"']|>))\s*\d+"


@dataclass(frozen=True)
class ImageMetadata:
    """What must survive in the file made of an image; all of it upright.

    Attributes:
        icc: colour profile, of as many channels as the image has.
        exif: EXIF, or the describing tags of a TIFF file.
        xmp: XMP packet.
        iptc: IPTC block.
        dpi: resolution across and down, in pixels per inch, of the image read; None: not said.
        texts: keywords and texts of a PNG file, both in ASCII.
    """

    icc: bytes | None = None
    exif: ExifTags = field(default_factory=ExifTags)
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    texts: tuple[tuple[str, str], ...] = ()


NOTHING_KEPT: Final = ImageMetadata()


def read_metadata(
    image: Any, path: Path, *, bands: int, signals: ContainerInfo
) -> tuple[ImageMetadata, list[str]]:
    """Return what a file says besides its pixels, and what of it had to be left out.

    Args:
        image: the opened file, not yet turned upright.
        path: the file, for what libvips doesn't read of a TIFF.
        bands: colour channels that the image will have.
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
        warnings.append("its HDR gain map was left out: the result is the standard image")
    if xmp is not None and len(xmp) > _XMP_LIMIT:
        xmp = None
        warnings.append("its XMP is too long to be written everywhere, and was left out")
    texts = tuple(pair for pair in signals.texts if "".join(pair).isascii())
    if len(texts) < len(signals.texts):
        warnings.append("a text outside ASCII was left out, as libvips would write it wrongly")
    dpi = _upright_dpi(image, get_dpi(exif) or signals.dpi)
    if _is_tiff(image):
        exif = replace(exif, main={n: tag for n, tag in exif.main.items() if n in DESCRIBING})
    if len(to_bytes(without_tag(exif, MAKER_NOTE))) > _EXIF_LIMIT:
        exif = ExifTags()
        warnings.append("its EXIF is too long to be written everywhere, and was left out")
    return ImageMetadata(icc, exif, xmp, _blob(image, "iptc-data"), dpi, texts), warnings


def apply_metadata(
    image: Any, kept: ImageMetadata, *, size: Size, scale: float, exif_for_dpi: bool = False
) -> Any:
    """Return a libvips image with all that is kept, corrected for its size and print size.

    Args:
        image: the image to write.
        kept: what the image it was made of said.
        size: of the image to write.
        scale: how many times larger it is than the one read; the print size stays.
        exif_for_dpi: the format has no other place for the resolution than EXIF.
    """
    dpi = scaled_dpi(kept, scale)
    across, down = dpi or (_UNSAID_DPI, _UNSAID_DPI)
    result = image.copy(xres=across / _INCH_MM, yres=down / _INCH_MM)
    blobs = {"icc-profile-data": kept.icc, "iptc-data": kept.iptc}
    blobs["xmp-data"] = _mended_xmp(kept.xmp, size) if kept.xmp else None
    if kept.exif or (exif_for_dpi and dpi is not None):
        tree = with_size(kept.exif, size, dpi=dpi)
        exif = to_bytes(tree)
        if len(exif) > _EXIF_LIMIT:
            exif = to_bytes(without_tag(tree, MAKER_NOTE))
        blobs["exif-data"] = b"Exif\0\0" + exif
    for name, blob in blobs.items():
        if blob is not None:
            result.set_type(pyvips.GValue.blob_type, name, blob)
    if dpi is not None:
        result.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    for number, (keyword, text) in enumerate(kept.texts):
        result.set_type(pyvips.GValue.gstr_type, f"png-comment-{number}-{keyword}", text)
    return result


def scaled_dpi(kept: ImageMetadata, scale: float) -> tuple[float, float] | None:
    """Return the resolution at which an enlarged image prints as large as the one read."""
    return None if kept.dpi is None else (kept.dpi[0] * scale, kept.dpi[1] * scale)


def _tags(image: Any, path: Path, *, warnings: list[str]) -> ExifTags:
    """Return EXIF; of a TIFF file its own tags, which libvips doesn't pass on."""
    try:
        if _is_tiff(image):
            return read_file_tags(path)
        exif = _blob(image, "exif-data")
        return ExifTags() if exif is None else read_tags(exif.removeprefix(b"Exif\0\0"))
    except ValueError:
        warnings.append("its EXIF is damaged and was left out")
        return ExifTags()


def _is_tiff(image: Any) -> bool:
    return str(image.get("vips-loader")).startswith("tiff")


def _mended_xmp(xmp: bytes, size: Size) -> bytes:
    """Return XMP of an upright image of this size."""
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
    """Return pixels per inch of the upright image, unless there is no sense in them."""
    if told is None or not all(1.0 <= each <= 1e5 for each in told):
        return None
    return (told[1], told[0]) if orientation(image) in SIDEWAYS else told


def _blob(image: Any, name: str) -> bytes | None:
    return bytes(image.get(name)) if image.get_typeof(name) else None


def _fits(icc: bytes, *, bands: int) -> bool:
    """Return whether a profile is whole and for this many channels (ICC.1:2022, 7.2)."""
    whole = len(icc) >= 128 and int.from_bytes(icc[:4], "big") == len(icc)
    return whole and icc[36:40] == b"acsp" and icc[16:20] == _ICC_SPACES[bands]
