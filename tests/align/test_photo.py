"""Photographs of phones and cameras: HEIC and RAW."""

import struct
from pathlib import Path

import numpy as np
import pytest

from d2csr.align.photo import Photo, read_pair, read_photo
from d2csr.align.steps import Settings, align
from tests.images.made import heic

BYTE, TEXT, SHORT, LONG, RATIO, SIGNED_RATIO = 1, 2, 3, 4, 5, 10
FORMS = {BYTE: "B", SHORT: "H", LONG: "I", RATIO: "II", SIGNED_RATIO: "ii"}
IDENTITY = [(int(row == column), 1) for row in range(3) for column in range(3)]


def dng(rggb: np.ndarray, *, neutral: tuple[float, float, float]) -> bytes:
    """Return a DNG 1.4: a bare mosaic of 16 bit, and the color of gray as the camera sees it."""
    height, width = rggb.shape
    data = rggb.astype("<u2").tobytes()
    tags = {
        254: (LONG, [0]), 256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [16]),
        259: (SHORT, [1]), 262: (SHORT, [32803]), 271: (TEXT, b"Toy\0"), 272: (TEXT, b"Raw\0"),
        273: (LONG, [0]), 274: (SHORT, [1]), 277: (SHORT, [1]), 278: (LONG, [height]),
        279: (LONG, [len(data)]), 284: (SHORT, [1]), 33421: (SHORT, [2, 2]),
        33422: (BYTE, [0, 1, 1, 2]), 50706: (BYTE, [1, 4, 0, 0]), 50708: (TEXT, b"Toy Raw\0"),
        50714: (SHORT, [0]), 50717: (LONG, [65535]), 50721: (SIGNED_RATIO, IDENTITY),
        50728: (RATIO, [(round(value * 1000), 1000) for value in neutral]), 50778: (SHORT, [21]),
    }  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    packed = {tag: _packed(kind, values) for tag, (kind, values) in tags.items()}
    tail = b"".join(each + bytes(len(each) % 2) for each in packed.values() if len(each) > 4)
    packed[273] = struct.pack("<I", start + len(tail))
    rows, at = b"", start
    for tag, (kind, values) in tags.items():
        own = packed[tag]
        rows += struct.pack("<HHI", tag, kind, len(values))
        rows += own.ljust(4, b"\0") if len(own) <= 4 else struct.pack("<I", at)
        at += len(own) + len(own) % 2 if len(own) > 4 else 0
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + rows + bytes(4) + tail + data


def _packed(kind: int, values) -> bytes:
    if kind == TEXT:
        return values
    flat = np.array(values).ravel().tolist()
    return struct.pack(f"<{FORMS[kind] * len(values)}", *flat)


def mosaic(photo: Photo, *, neutral: tuple[float, float, float]) -> np.ndarray:
    """Return what a sensor behind RGGB filters would have measured of a photograph."""
    height, width = (side // 2 * 2 for side in photo.pixels.shape[:2])
    srgb = photo.pixels[:height, :width] / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = linear * neutral * 40000
    bare = np.empty((height, width))
    for row, column, color in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        bare[row::2, column::2] = seen[row::2, column::2, color]
    return bare


@pytest.fixture(scope="module")
def photo_pair(captures: Path) -> tuple[Photo, Photo]:
    return read_pair(captures / "001_wide.jpg", captures / "001_tele.jpg")


SEEN, WRONG = (0.5, 1.0, 0.667), (0.8, 1.0, 0.4)


def test_raw_photographs_share_the_wide_ones_white_balance(photo_pair, tmp_path):
    """One sensor reading twice, the second time with another white balance."""
    bare = mosaic(photo_pair[0], neutral=SEEN)
    for name, neutral in (("wide", SEEN), ("tele", WRONG)):
        (tmp_path / f"{name}.dng").write_bytes(dng(bare, neutral=neutral))
    wide, tele = read_pair(tmp_path / "wide.dng", tmp_path / "tele.dng")
    assert wide.pixels.dtype == np.uint16
    np.testing.assert_array_equal(wide.pixels, tele.pixels)
    alone = read_photo(tmp_path / "tele.dng").pixels.astype(float)
    assert np.abs(alone - tele.pixels).mean() > 1000  # of 65535


def test_raw_photographs_make_a_pair(photo_pair, tmp_path):
    for photo, name in zip(photo_pair, ("wide", "tele"), strict=True):
        contents = dng(mosaic(photo, neutral=SEEN), neutral=SEEN)
        (tmp_path / f"{name}.dng").write_bytes(contents)
    raw = read_pair(tmp_path / "wide.dng", tmp_path / "tele.dng")
    pair = align(*raw, settings=Settings(scale=3))
    assert pair.hr.shape[:2] == (3 * pair.lr.shape[0], 3 * pair.lr.shape[1])
    assert pair.lr.dtype == np.uint16


def test_heic_photographs_are_the_same_pixels(photo_pair, tmp_path):
    for photo, name in zip(photo_pair, ("wide", "tele"), strict=True):
        (tmp_path / f"{name}.heic").write_bytes(heic(photo.pixels, "RGB"))
    found = read_pair(tmp_path / "wide.heic", tmp_path / "tele.heic")
    for mine, photo in zip(found, photo_pair, strict=True):
        np.testing.assert_array_equal(mine.pixels, photo.pixels)
