"""Metadata of images: profile, EXIF, XMP, IPTC, resolution and texts, carried over when upscaling.

libvips reads most of it; the rest (color spaces by number, frames, PNG texts) is read here.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyvips

from d2csr.core.files import open_regular
from d2csr.core.geometry import Size
from d2csr.images.decode import SWAPPED_SIDES, orientation
from d2csr.images.exif import (
    DESCRIPTIVE,
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
SRGB_PRIMARIES: Final = (1, 2)  # BT.709, unspecified; table 2
P3_PRIMARIES: Final = (11, 12)
_HEAD_BYTES: Final = 1 << 16  # holds the boxes before the coded pixels
_MAX_CHUNKS: Final = 1000
_INCH_M: Final = 0.0254
_MAX_TEXT_BYTES: Final = 1 << 16  # of one text, unpacked
_MAX_TEXTS_BYTES: Final = 1 << 20  # of all
_MAX_KEYWORD_BYTES: Final = 79
_MAX_CHUNK_BYTES: Final = _MAX_TEXT_BYTES + 1024  # with keywords and language
_XMP_KEY: Final = "XML:com.adobe.xmp"


@dataclass(frozen=True)
class ContainerInfo:
    """Facts in a file's container that libvips doesn't read.

    Attributes:
        primaries: of the colors, by H.273; 2: unspecified.
        transfer: characteristic of the values, by H.273; 2: unspecified.
        is_gray: the coded image has no color planes.
        frames: number of images in an animated PNG or an AVIF sequence, otherwise 1.
        gamma: of a PNG that specifies its colors by nothing else; otherwise None.
        dpi: resolution of a PNG or JPEG outside its EXIF, horizontal and vertical; None: unknown.
        texts: keywords and texts of a PNG, in the order of the file, without XMP, up to 64 KiB each
            and 1 MiB together.
        has_long_texts: whether there are longer ones.
    """

    primaries: int = 2
    transfer: int = 2
    is_gray: bool = False
    frames: int = 1
    gamma: float | None = None
    dpi: tuple[float, float] | None = None
    texts: tuple[tuple[str, str], ...] = ()
    has_long_texts: bool = False


def read_container_info(path: Path, content: str) -> ContainerInfo:
    """Return the container's facts of a file of this format; defaults for other formats."""
    if content == "png":
        return _read_png(path)
    if content == "jpeg":
        return _read_jpeg(path)
    return _read_heif(path) if content in ("avif", "heif") else ContainerInfo()


_PNG_FACTS: Final = (b"cICP", b"acTL", b"gAMA", b"iCCP", b"sRGB", b"pHYs")
_PNG_TEXTS: Final = (b"tEXt", b"zTXt", b"iTXt")


def _read_png(path: Path) -> ContainerInfo:
    """Read the chunks before the pixels (PNG, third edition, 5.3)."""
    chunks: dict[bytes, bytes] = {}
    texts: list[tuple[str, str]] = []
    unread, has_long_texts = _MAX_TEXTS_BYTES, False
    for name, body in _png_chunks(path):
        if name in _PNG_FACTS:
            chunks.setdefault(name, body)
        elif name in _PNG_TEXTS and (found := _png_text(name, body)):
            keyword, text = found
            if text is None or len(text) > unread:
                has_long_texts = True
                continue
            unread -= len(text)
            texts.append((keyword, text))
    cicp = chunks.get(b"cICP", b"")
    animation = chunks.get(b"acTL", b"")
    gamma = chunks.get(b"gAMA", b"")
    has_only_gamma = len(gamma) == 4 and not {b"iCCP", b"sRGB", b"cICP"} & set(chunks)
    return ContainerInfo(
        primaries=cicp[0] if len(cicp) == 4 else 2,
        transfer=cicp[1] if len(cicp) == 4 else 2,
        frames=int.from_bytes(animation[:4], "big") if len(animation) == 8 else 1,
        gamma=int.from_bytes(gamma, "big") / 1e5 if has_only_gamma else None,
        dpi=_png_dpi(chunks.get(b"pHYs", b"")),
        texts=tuple(texts),
        has_long_texts=has_long_texts,
    )


def _png_chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each chunk before the pixels, long contents cut short."""
    with open_regular(path) as file:
        file.seek(8)
        for _ in range(_MAX_CHUNKS):
            head = file.read(8)
            if len(head) < 8 or head[4:] == b"IDAT":
                return
            length = int.from_bytes(head[:4], "big")
            body = file.read(min(_MAX_CHUNK_BYTES, length))
            yield head[4:], body
            file.seek(length - len(body) + 4, 1)


def _png_dpi(body: bytes) -> tuple[float, float] | None:
    """Return the pixels per inch of a `pHYs` chunk, which holds pixels per metre (11.3.4.3)."""
    if len(body) != 9 or body[8] != 1:
        return None
    across, down = struct.unpack(">II", body[:8])
    return (across * _INCH_M, down * _INCH_M) if across and down else None


def _png_text(name: bytes, body: bytes) -> tuple[str, str | None] | None:
    """Return keyword and text of a chunk (11.3.3); None if it is damaged or holds XMP.

    Instead of a text that is too long, None is returned beside the keyword.
    """
    keyword, _, rest = body.partition(b"\0")
    key = keyword.decode("latin-1")
    if not 1 <= len(key) <= _MAX_KEYWORD_BYTES or not key.isprintable() or key == _XMP_KEY:
        return None
    try:
        if name == b"iTXt":
            raw = rest[2:].split(b"\0", 2)[2]  # after the language and the translated keyword
            is_packed = rest[0] != 0
        else:
            raw, is_packed = rest[name == b"zTXt" :], name == b"zTXt"
        if is_packed:
            raw = zlib.decompressobj().decompress(raw, _MAX_TEXT_BYTES + 1)
        if len(raw) > _MAX_TEXT_BYTES:
            return key, None
        text = raw.decode("utf-8" if name == b"iTXt" else "latin-1")
    except (IndexError, UnicodeDecodeError, zlib.error):
        return None
    return (key, text) if "\0" not in text else None


def _read_jpeg(path: Path) -> ContainerInfo:
    """Read the density after the first marker (JFIF 1.02, page 5)."""
    with open_regular(path) as file:
        head = file.read(18)
    if len(head) < 18 or head[2:4] != b"\xff\xe0" or head[6:11] != b"JFIF\0":
        return ContainerInfo()
    factor = {1: 1.0, 2: 2.54}.get(head[13])  # per inch or centimetre; else only a ratio
    across, down = struct.unpack(">HH", head[14:18])
    return ContainerInfo(dpi=(across * factor, down * factor) if factor else None)


def _read_heif(path: Path) -> ContainerInfo:
    """Read the boxes `colr`, `av1C` and `stsz` (ISO/IEC 23008-12; AV1-ISOBMFF, 2.3)."""
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    primaries, transfer = 2, 2
    offset = head.find(b"colrnclx")
    if 0 <= offset <= len(head) - 12:
        primaries, transfer = struct.unpack_from(">HH", head, offset + 8)
    monochrome = []
    offset = head.find(b"av1C")
    while 0 <= offset < len(head) - 7:
        monochrome.append(bool(head[offset + 6] & 0x10))
        offset = head.find(b"av1C", offset + 4)
    offset = head.find(b"stsz")  # of a sequence: version, common size, number of samples
    frames = int.from_bytes(head[offset + 12 : offset + 16], "big") if offset >= 0 else 1
    is_gray = bool(monochrome) and all(monochrome)
    return ContainerInfo(primaries, transfer, is_gray=is_gray, frames=frames)


_INCH_MM: Final = 25.4
_DEFAULT_DPI: Final = 72.0  # libvips always writes a resolution
_MAX_EXIF_BYTES: Final = 64_000  # one JPEG segment, less its head and what libexif adds
_MAX_XMP_BYTES: Final = 64_000  # the same, with room for longer numbers
_ICC_SPACES: Final = {1: b"GRAY", 3: b"RGB "}

# Parts of XMP that describe the old size or an embedded image, as elements or attributes. Each
# pattern takes time in proportion to the text: an attempt begins only where a part may begin.
_XMP_THUMBNAILS: Final = (b"xmp:Thumbnails", b"xap:Thumbnails")
_XMP_GAIN_MAP: Final = re.compile(rb"(?<!\s)\s++hdrgm:\w+\s*=\s*(\"[^\"]*\"|'[^']*')")
_XMP_NUMBER: Final = rb"((?:%s)(?:\s*=\s*[\"']|>))\s*\d+"


@dataclass(frozen=True)
class ImageMetadata:
    """Metadata that is carried over to an upscaled image; it describes the upright image.

    Attributes:
        icc: color profile, for as many channels as the image has.
        exif: EXIF, or the descriptive tags of a TIFF file.
        xmp: XMP packet.
        iptc: IPTC block.
        dpi: horizontal and vertical pixels per inch of the image read; None: unknown.
        texts: keywords and texts of a PNG file, both in ASCII.
    """

    icc: bytes | None = None
    exif: ExifTags = field(default_factory=ExifTags)
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    texts: tuple[tuple[str, str], ...] = ()


NO_METADATA: Final = ImageMetadata()


def read_metadata(
    image: Any, path: Path, *, color_channels: int, container: ContainerInfo
) -> tuple[ImageMetadata, list[str]]:
    """Return the metadata of a file, and a sentence about each part that was left out.

    Args:
        image: the opened file, not yet rotated upright.
        path: the file, for the TIFF tags that libvips doesn't read.
        color_channels: of the image that will be written.
        container: facts of the file that libvips doesn't read.
    """
    warnings: list[str] = []
    icc = _blob(image, "icc-profile-data")
    if icc is not None and not _is_usable_profile(icc, color_channels=color_channels):
        icc = None
        warnings.append("its color profile is damaged or for other channels, and was left out")
    exif = _read_exif(image, path, warnings=warnings)
    xmp = _blob(image, "xmp-data")
    if xmp is not None and b"hdrgm:" in xmp:
        warnings.append("its HDR gain map was left out: the result is the standard image")
    if xmp is not None and len(xmp) > _MAX_XMP_BYTES:
        xmp = None
        warnings.append("its XMP is too long for some formats, and was left out")
    if container.has_long_texts:
        warnings.append("texts above 64 KiB, or 1 MiB together, were left out")
    texts = tuple(pair for pair in container.texts if "".join(pair).isascii())
    if len(texts) < len(container.texts):
        warnings.append("a text outside ASCII was left out, because libvips would garble it")
    dpi = _upright_dpi(image, get_dpi(exif) or container.dpi)
    if _is_tiff(image):
        exif = replace(exif, main={n: tag for n, tag in exif.main.items() if n in DESCRIPTIVE})
    if len(to_bytes(without_tag(exif, MAKER_NOTE))) > _MAX_EXIF_BYTES:
        exif = ExifTags()
        warnings.append("its EXIF is too long for some formats, and was left out")
    return ImageMetadata(icc, exif, xmp, _blob(image, "iptc-data"), dpi, texts), warnings


def apply_metadata(
    image: Any, metadata: ImageMetadata, *, size: Size, scale: float, exif_for_dpi: bool = False
) -> Any:
    """Return a libvips image with metadata, in which sizes and resolution fit the new image.

    Args:
        image: the image to write.
        metadata: of the image that it was made from.
        size: of the image to write.
        scale: ratio of its sides to those of the image read; the print size stays the same.
        exif_for_dpi: whether the format stores the resolution in EXIF only.
    """
    dpi = scaled_dpi(metadata, scale)
    across, down = dpi or (_DEFAULT_DPI, _DEFAULT_DPI)
    result = image.copy(xres=across / _INCH_MM, yres=down / _INCH_MM)
    blobs = {"icc-profile-data": metadata.icc, "iptc-data": metadata.iptc}
    blobs["xmp-data"] = _resized_xmp(metadata.xmp, size) if metadata.xmp else None
    if metadata.exif or (exif_for_dpi and dpi is not None):
        tags = with_size(metadata.exif, size, dpi=dpi)
        exif = to_bytes(tags)
        if len(exif) > _MAX_EXIF_BYTES:
            exif = to_bytes(without_tag(tags, MAKER_NOTE))
        blobs["exif-data"] = b"Exif\0\0" + exif
    for name, blob in blobs.items():
        if blob is not None:
            result.set_type(pyvips.GValue.blob_type, name, blob)
    if dpi is not None:
        result.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    for index, (keyword, text) in enumerate(metadata.texts):
        result.set_type(pyvips.GValue.gstr_type, f"png-comment-{index}-{keyword}", text)
    return result


def scaled_dpi(metadata: ImageMetadata, scale: float) -> tuple[float, float] | None:
    """Return the resolution at which an upscaled image prints as large as the original."""
    return None if metadata.dpi is None else (metadata.dpi[0] * scale, metadata.dpi[1] * scale)


def _read_exif(image: Any, path: Path, *, warnings: list[str]) -> ExifTags:
    """Return the EXIF tags; of a TIFF file its own tags, which libvips doesn't read."""
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


def _resized_xmp(xmp: bytes, size: Size) -> bytes:
    """Return the XMP of an upright image of this size."""
    for name in _XMP_THUMBNAILS:
        xmp = _without_elements(xmp, name)
    xmp = _XMP_GAIN_MAP.sub(b"", xmp)
    values = (
        (b"tiff:Orientation", 1),
        (b"tiff:ImageWidth|exif:PixelXDimension", size.width),
        (b"tiff:ImageLength|exif:PixelYDimension", size.height),
    )
    for names, value in values:
        xmp = re.sub(_XMP_NUMBER % names, rb"\g<1>%d" % value, xmp)
    return xmp


def _without_elements(xmp: bytes, name: bytes) -> bytes:
    """Return the XMP without the elements of this name, as far as they are closed."""
    opening, closing = re.compile(rb"<%s\b" % name), b"</%s>" % name
    kept, start = [], 0
    while found := opening.search(xmp, start):
        end = xmp.find(closing, found.end())
        if end < 0:
            break
        kept.append(xmp[start : found.start()])
        start = end + len(closing)
    return b"".join((*kept, xmp[start:]))


def _upright_dpi(image: Any, dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the resolution of the upright image, or None if it is implausible."""
    if dpi is None or not all(1.0 <= each <= 1e5 for each in dpi):
        return None
    return (dpi[1], dpi[0]) if orientation(image) in SWAPPED_SIDES else dpi


def _blob(image: Any, name: str) -> bytes | None:
    return bytes(image.get(name)) if image.get_typeof(name) else None


def _is_usable_profile(icc: bytes, *, color_channels: int) -> bool:
    """Return whether a profile is complete and for this many channels (ICC.1:2022, 7.2)."""
    is_complete = len(icc) >= 128 and int.from_bytes(icc[:4], "big") == len(icc)
    return is_complete and icc[36:40] == b"acsp" and icc[16:20] == _ICC_SPACES[color_channels]
