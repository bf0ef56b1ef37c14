"""Encoders: their options by format, and the quality at which a file was compressed.

Separate from the writer so that reading an image can estimate its quality without it.
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from d2csr.core.files import open_regular

# Encoder options by format, measured on photographs of 4.5 megapixels.
# PNG: 0.14 s and 3.9 MB; level 6 with every filter tried saves 4% in twice the time.
# TIFF: 0.2 s and 3.8 MB. WebP: effort 0 takes 0.7 s, effort 2 saves 4% in 2.6 s.
# AVIF: 1.1 s; full color resolution, as in JPEG. 12 bits take 10 s at this quality, whatever the
# options, and lossy white varies from pixel to pixel; lossless with effort 0 takes 5 s.
ENCODERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "png": {"compression": 3, "filter": "sub"},
    "jpeg": {"Q": 95, "subsample_mode": "off"},
    "webp": {"lossless": True, "effort": 0},
    "tiff": {"compression": "deflate", "predictor": "horizontal"},
    "avif": {"Q": 90, "subsample_mode": "off", "effort": 2, "compression": "av1"},
}
LOSSY_FORMATS: Final = ("jpeg", "webp", "avif")
LOSSY_WEBP_QUALITY: Final = 90  # of results of lossy WebP images, whose quality isn't stored
_BIGTIFF_BYTES: Final = 3_900_000_000  # below the 4 GiB that 4-byte offsets reach
_AV1_BLOCK_PX: Final = 8  # in lossy images of one block a side, white would come back as 253
_AVIF_DEPTHS: Final[Mapping[str, Mapping[str, Any]]] = {
    "uchar": {"bitdepth": 8},
    "ushort": {"bitdepth": 12, "lossless": True, "effort": 0},
}

# Quantization tables of quality 50 in the order of the file (T.81, Annex K.1, in zigzag order).
_LUMA_TABLE: Final = (
    *(16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40),
    *(26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51),
    *(56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87),
    *(95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99),
)
_MAX_SEGMENTS: Final = 1000
_MAX_CHUNKS: Final = 100
_TABLES, _START_OF_SCAN = 0xDB, 0xDA  # markers of T.81, table B.1


def encoder_options(content: str, image: Any, *, quality: int | None) -> dict[str, Any]:
    """Return the options of libvips' encoder for an image.

    Args:
        content: the format.
        image: of libvips.
        quality: of lossy compression, 1 to 100; None: JPEG 95, AVIF 90, WebP without loss.
    """
    options = dict(ENCODERS[content])
    if content == "tiff":
        values = image.width * image.height * image.bands
        options["bigtiff"] = values * (2 if image.format == "ushort" else 1) > _BIGTIFF_BYTES
    if content == "avif":
        options |= _AVIF_DEPTHS[image.format]
    if quality is not None and content in LOSSY_FORMATS:
        options |= {"Q": quality} if content == "jpeg" else {"Q": quality, "lossless": False}
    if content == "avif" and min(image.width, image.height) <= _AV1_BLOCK_PX:
        options["lossless"] = True
    return options


def read_quality(path: Path, content: str) -> int | None:
    """Return the quality of a file with lossy compression, 1 to 100; None where it isn't known.

    Of a JPEG it is the quality of libjpeg whose quantization table of luma is the nearest, so that
    of a file by libjpeg is exact. Cameras have tables of their own, of which it is an estimate.

    Args:
        path: the file.
        content: its format.
    """
    if content == "webp":
        return LOSSY_WEBP_QUALITY if _is_lossy_webp(path) else None
    table = _read_luma_table(path) if content == "jpeg" else None
    if table is None:
        return None
    errors = {each: np.abs(_scaled_table(each) - table).sum() for each in range(1, 101)}
    return min(errors, key=lambda each: (errors[each], -each))


def _scaled_table(quality: int) -> np.ndarray:
    """Return the luma table of a quality as libjpeg scales it (jcparam.c, 8-bit tables)."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((np.array(_LUMA_TABLE) * percent + 50) // 100, 1, 255)


def _read_luma_table(path: Path) -> np.ndarray | None:
    """Return the first quantization table of a JPEG file, in zigzag order; None without one."""
    for marker, body in _jpeg_segments(path):
        if marker == _TABLES and body:
            is_wide = body[0] >> 4 == 1  # values of 16 bit (T.81, B.2.4.1)
            if len(body) <= 64 * (1 + is_wide):
                return None
            return np.frombuffer(body, ">u2" if is_wide else np.uint8, count=64, offset=1).astype(
                np.int64
            )
    return None


def _jpeg_segments(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment before the first scan."""
    with open_regular(path) as file:
        file.seek(2)
        for _ in range(_MAX_SEGMENTS):
            head = file.read(4)
            if len(head) < 4 or head[0] != 0xFF or head[1] == _START_OF_SCAN:
                return
            length = int.from_bytes(head[2:], "big") - 2
            body = file.read(max(0, length))
            if len(body) < length:
                return
            yield head[1], body


def _is_lossy_webp(path: Path) -> bool:
    """Return whether the first image of a WebP file is lossy (RFC 9649, 2.5)."""
    with open_regular(path) as file:
        file.seek(12)
        for _ in range(_MAX_CHUNKS):
            head = file.read(8)
            if len(head) < 8 or head[:4] == b"VP8L":
                return False
            if head[:4] == b"VP8 ":
                return True
            length = struct.unpack("<I", head[4:])[0]
            # a frame's own chunks follow 16 bytes of position and time
            file.seek(16 if head[:4] == b"ANMF" else length + length % 2, 1)
    return False
