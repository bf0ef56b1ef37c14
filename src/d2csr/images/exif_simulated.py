"""What cameras write about a photograph (EXIF), as bytes in JPEG, PNG and TIFF files."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from jaxtyping import UInt8

Value = str | int | Fraction | tuple[int, ...]

# Exif 2.32, table 4 and on; the first nine are TIFF 6.0's.
_TAGS: Mapping[str, tuple[int, str]] = {
    "width": (0x0100, "long"),
    "height": (0x0101, "long"),
    "bits": (0x0102, "short"),
    "compression": (0x0103, "short"),
    "photometric": (0x0106, "short"),
    "strip_offset": (0x0111, "long"),
    "samples": (0x0115, "short"),
    "strip_rows": (0x0116, "long"),
    "strip_bytes": (0x0117, "long"),
    "make": (0x010F, "ascii"),
    "model": (0x0110, "ascii"),
    "orientation": (0x0112, "short"),
    "date_time": (0x0132, "ascii"),
    "exif": (0x8769, "long"),
    "exposure_time": (0x829A, "rational"),
    "f_number": (0x829D, "rational"),
    "iso": (0x8827, "short"),
    "exif_version": (0x9000, "undefined"),
    "date_time_original": (0x9003, "ascii"),
    "focal_length": (0x920A, "rational"),
    "focal_length_35mm": (0xA405, "short"),
}
_CODES = {"ascii": 2, "short": 3, "long": 4, "rational": 5, "undefined": 7}
_SIZES = {"ascii": 1, "short": 2, "long": 4, "rational": 8, "undefined": 1}


@dataclass(frozen=True)
class Facts:
    """What is written about one photograph.

    Attributes:
        make: maker of the camera.
        model: name of the camera.
        date_time: YYYY:MM:DD HH:MM:SS.
        focal_mm: focal length.
        focal_35mm: the same in terms of 35 mm film.
        f_number: aperture.
        exposure_s: time.
        iso: sensitivity.
    """

    make: str
    model: str
    date_time: str
    focal_mm: float
    focal_35mm: float
    f_number: float
    exposure_s: float
    iso: float

    def camera(self) -> dict[str, Value]:
        """Return the tags of the first directory."""
        tags = {"make": self.make, "model": self.model, "date_time": self.date_time}
        return {**tags, "orientation": 1}

    def photograph(self) -> dict[str, Value]:
        """Return the tags of the Exif directory."""
        return {
            "exposure_time": Fraction(self.exposure_s).limit_denominator(100_000),
            "f_number": Fraction(round(self.f_number * 10), 10),
            "iso": round(self.iso),
            "exif_version": "0232",
            "date_time_original": self.date_time,
            "focal_length": Fraction(round(self.focal_mm * 10), 10),
            "focal_length_35mm": round(self.focal_35mm),
        }


def exif_block(facts: Facts) -> bytes:
    """Return the block, a TIFF file without pixels, that JPEG and PNG files carry."""
    return _directories(facts.camera(), facts.photograph())


def jpeg_with_exif(jpeg: bytes, facts: Facts) -> bytes:
    """Return a JPEG file with the block put first, as Exif wants it."""
    block = b"Exif\0\0" + exif_block(facts)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def png_with_exif(rgb8: UInt8[np.ndarray, "h w 3"], facts: Facts) -> bytes:
    """Return a PNG file with the block as its `eXIf` chunk."""
    png = cv2.imencode(".png", rgb8[..., ::-1])[1].tobytes()
    header = 8 + 25  # signature and IHDR
    body = b"eXIf" + exif_block(facts)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:header] + chunk + png[header:]


def tiff_with_exif(rgb8: UInt8[np.ndarray, "h w 3"], facts: Facts) -> bytes:
    """Return an uncompressed TIFF file with the same tags."""
    height, width = rgb8.shape[:2]
    tags: dict[str, Value] = {
        **facts.camera(),
        "width": width,
        "height": height,
        "bits": (8, 8, 8),
        "compression": 1,
        "photometric": 2,
        "samples": 3,
        "strip_rows": height,
        "strip_bytes": rgb8.nbytes,
        "strip_offset": 0,
    }
    tags["strip_offset"] = len(_directories(tags, facts.photograph()))
    return _directories(tags, facts.photograph()) + rgb8.tobytes()


def _directories(first: Mapping[str, Value], exif: Mapping[str, Value]) -> bytes:
    """Return the header, the first directory and, after it, the Exif directory it points to."""
    start = 8 + len(_directory({**first, "exif": 0}, 8))
    body = _directory({**first, "exif": start}, 8) + _directory(exif, start)
    return b"II*\0" + struct.pack("<I", 8) + body


def _directory(tags: Mapping[str, Value], start: int) -> bytes:
    """Return a directory that begins at byte `start`, what doesn't fit its entries after it."""
    entries, beyond = b"", b""
    after = start + 2 + 12 * len(tags) + 4
    for name, value in sorted(tags.items(), key=lambda item: _TAGS[item[0]][0]):
        tag, kind = _TAGS[name]
        data = _encoded(value, kind)
        entries += struct.pack("<HHI", tag, _CODES[kind], len(data) // _SIZES[kind])
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", after + len(beyond))
            beyond += data + b"\0" * (len(data) % 2)
    return struct.pack("<H", len(tags)) + entries + b"\0" * 4 + beyond


def _encoded(value: Value, kind: str) -> bytes:
    if isinstance(value, str):
        return value.encode("ascii", "replace") + (b"\0" if kind == "ascii" else b"")
    if isinstance(value, Fraction):
        return struct.pack("<II", value.numerator, value.denominator)
    numbers: Sequence[int] = value if isinstance(value, tuple) else (value,)
    return struct.pack(f"<{len(numbers)}{'H' if kind == 'short' else 'I'}", *numbers)
