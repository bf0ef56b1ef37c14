"""Signals in files that libvips doesn't pass on: colours by number, frames, resolution, texts."""

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HDR_TRANSFERS: Final = {16: "PQ", 18: "HLG"}  # Rec. ITU-T H.273, table 3
SRGB_PRIMARIES: Final = (1, 2)  # BT.709, not said; table 2
P3_PRIMARIES: Final = (11, 12)
_HEAD_BYTES: Final = 1 << 16  # boxes before the coded pixels
_MAX_CHUNKS: Final = 1000
_INCH_M: Final = 0.0254
_MAX_TEXT: Final = 1 << 16
_XMP_KEY: Final = "XML:com.adobe.xmp"


@dataclass(frozen=True)
class Signals:
    """What a file says by numbers.

    Attributes:
        primaries: of the colours, as H.273 numbers them; 2: not said.
        transfer: curve of the values, the same.
        gray: the coded picture has no colour planes.
        frames: pictures of an animated PNG or an AVIF sequence, otherwise 1.
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


def signals_of(path: Path, content: str) -> Signals:
    """Return the signals of a file with this content; the plain ones for other formats."""
    if content == "png":
        return _of_png(path)
    if content == "jpeg":
        return _of_jpeg(path)
    return _of_heif(path) if content in ("avif", "heif") else Signals()


def _of_png(path: Path) -> Signals:
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
    return Signals(
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


def _of_jpeg(path: Path) -> Signals:
    """Read the density behind the first marker (JFIF 1.02, page 5)."""
    with path.open("rb") as file:
        head = file.read(18)
    if len(head) < 18 or head[2:4] != b"\xff\xe0" or head[6:11] != b"JFIF\0":
        return Signals()
    factor = {1: 1.0, 2: 2.54}.get(head[13])  # per inch, per centimetre; otherwise a mere ratio
    across, down = struct.unpack(">HH", head[14:18])
    return Signals(dpi=(across * factor, down * factor) if factor else None)


def _of_heif(path: Path) -> Signals:
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
    return Signals(primaries, transfer, gray=bool(planes) and all(planes), frames=frames)
