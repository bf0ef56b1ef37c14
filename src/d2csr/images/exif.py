"""Tags of TIFF and EXIF: read from a file or a blob, mended, and written back.

Both store them alike: a list of (number, type, count, value), the value elsewhere where it is long,
and lists within the list (TIFF 6.0, section 2; Exif 2.32, section 4.6; BigTIFF: 8-byte places).
Values are held little-endian; notes of camera makers are kept byte for byte.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from d2csr.core.geometry import Size

Buffer = bytes | memoryview

_UNITS: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 4,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    18: 8,
}
_SIZES: Final = {**_UNITS, 5: 8, 10: 8}
_SHORT, _LONG, _RATIONAL, _LAST = 3, 4, 5, 12
_INCH, _CENTIMETRE = 2, 3  # units of a resolution
_LONG8: Final = 16
_PLACES: Final = (_LONG, 13, _LONG8, 18)  # types of what points to a list

_MAX_BYTES = 1 << 20  # of one value
_MAX_TAGS = 1000

ORIENTATION, X_DPI, Y_DPI, DPI_UNIT = 274, 282, 283, 296
WIDTH, HEIGHT, PIXEL_X, PIXEL_Y = 256, 257, 0xA002, 0xA003
MAKER_NOTE = 0x927C
_EXIF, _GPS, _INTEROP = 0x8769, 0x8825, 0xA005
# What describes the photo, not how its file is laid out: title, camera, date, author, rating, ...
DESCRIBING: Final = frozenset(
    {270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}
)
# How a file is laid out; means nothing in another.
_LAYOUT: Final = frozenset({254, 255, 258, 259, 262, 273, 277, 278, 279, 284, 330, 513, 514, 700})


@dataclass(frozen=True)
class Tag:
    """One value: its type's number, and its bytes, little-endian."""

    kind: int
    data: bytes

    @property
    def count(self) -> int:
        """Return how many values there are."""
        return len(self.data) // _SIZES[self.kind]

    @property
    def number(self) -> int:
        """Return the first value of a whole number's tag."""
        return int.from_bytes(self.data[: _SIZES[self.kind]], "little")


Tags = Mapping[int, Tag]


@dataclass(frozen=True)
class ExifTags:
    """Tags of an image, and the lists hung below them."""

    main: Tags = field(default_factory=dict)
    exif: Tags = field(default_factory=dict)
    gps: Tags = field(default_factory=dict)
    interop: Tags = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether anything is there."""
        return any((self.main, self.exif, self.gps))


def read_tags(data: Buffer) -> ExifTags:
    """Return the tags of an EXIF blob (without its `Exif00`) or a whole TIFF file.

    Damaged values are left out; the thumbnail's list is never read.

    Raises:
        ValueError: this is neither, or the first list is out of bounds.
    """
    order, big = _order_and_size(data)
    try:
        at = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)[0]
        main = _read_list(data, at, order=order, big=big)
        exif = _below(data, main, number=_EXIF, order=order, big=big)
        gps = _below(data, main, number=_GPS, order=order, big=big)
        interop = _below(data, exif, number=_INTEROP, order=order, big=big)
    except (struct.error, OverflowError) as error:
        raise ValueError("a list of tags is out of bounds") from error
    return ExifTags(_plain(main), _plain(exif), _plain(gps), _plain(interop))


def read_file_tags(path: Path) -> ExifTags:
    """Return the tags of a TIFF file, of any size, reading no more of it than they take.

    Raises:
        ValueError: as `read_tags`.
    """
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole,
        memoryview(whole) as view,
    ):
        return read_tags(view)


def to_bytes(tree: ExifTags) -> bytes:
    """Return tags as an EXIF blob, without its `Exif00`."""
    main = {number: tag for number, tag in tree.main.items() if number not in _LAYOUT}
    blocks, at = _blocks(replace(tree, main=main), {}, at=8, big=False)
    return b"II*\0" + struct.pack("<I", at) + blocks


def add_to_tiff(path: Path, tree: ExifTags) -> None:
    """Add what describes the photo, and the lists below it, to a TIFF file, in place.

    Raises:
        ValueError: this is no little-endian TIFF file.
    """
    with path.open("r+b") as file:
        order, big = _order_and_size(file.read(16))
        if order != "<":
            raise ValueError("not little-endian")
        file.seek(8 if big else 4)
        place, width = ("<Q", 20) if big else ("<I", 12)
        at = struct.unpack(place, file.read(struct.calcsize(place)))[0]
        file.seek(at)
        count = struct.unpack("<Q" if big else "<H", file.read(8 if big else 2))[0]
        raw = file.read(count * width)
        there = [raw[start : start + width] for start in range(0, len(raw), width)]
        ready = {int.from_bytes(entry[:2], "little"): entry for entry in there}
        main = {number: tag for number, tag in tree.main.items() if number in DESCRIBING}
        end = file.seek(0, 2)
        file.write(b"\0" * (-end % 8))
        blocks, at = _blocks(replace(tree, main=main), ready, at=end + -end % 8, big=big)
        file.write(blocks)
        file.seek(8 if big else 4)
        file.write(struct.pack(place, at))


def get_dpi(tree: ExifTags) -> tuple[float, float] | None:
    """Return pixels per inch across and down, as stored; None where tags don't say."""
    across, down = (tree.main.get(number) for number in (X_DPI, Y_DPI))
    unit = tree.main[DPI_UNIT].number if DPI_UNIT in tree.main else _INCH
    if across is None or down is None or {across.kind, down.kind} != {_RATIONAL} or unit < _INCH:
        return None
    factor = 2.54 if unit == _CENTIMETRE else 1.0
    (a, b), (c, d) = (struct.unpack_from("<II", tag.data) for tag in (across, down))
    return (a / b * factor, c / d * factor) if b and d else None


def with_size(tree: ExifTags, size: Size, *, dpi: tuple[float, float] | None) -> ExifTags:
    """Return the tags of a photo that is upright, of another size, and printed at `dpi`."""
    sides = {WIDTH: size.width, HEIGHT: size.height, PIXEL_X: size.width, PIXEL_Y: size.height}
    main, exif = (
        {n: _long(sides[n]) if n in sides else tag for n, tag in tags.items()}
        for tags in (tree.main, tree.exif)
    )
    if ORIENTATION in main:
        main[ORIENTATION] = _short(1)
    if dpi is not None:
        main |= {X_DPI: _rational(dpi[0]), Y_DPI: _rational(dpi[1]), DPI_UNIT: _short(2)}
    return replace(tree, main=main, exif=exif)


def without_tag(tree: ExifTags, number: int) -> ExifTags:
    """Return the tags less one of the photo's own."""
    return replace(tree, exif={n: tag for n, tag in tree.exif.items() if n != number})


def _order_and_size(data: Buffer) -> tuple[str, bool]:
    """Return the byte order, and whether places have 8 bytes."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 8:
        raise ValueError("no list of tags")
    version = struct.unpack_from(f"{order}H", data, 2)[0]
    if version not in (42, 43):
        raise ValueError("no list of tags")
    return order, version == 43


def _read_list(data: Buffer, at: int, *, order: str, big: bool) -> dict[int, Tag]:
    head, entry, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    count = struct.unpack_from(f"{order}{head}", data, at)[0]
    first, width = at + struct.calcsize(f"{order}{head}"), 12 + inline if big else 8 + inline
    tags = {}
    for number in range(min(count, _MAX_TAGS)):
        start = first + number * width
        name, kind, length = struct.unpack_from(f"{order}{entry}", data, start)
        size = _SIZES.get(kind, 0) * length
        value_at = start + width - inline
        if size > inline:
            value_at = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, value_at)[0]
        if 0 < size <= _MAX_BYTES and value_at + size <= len(data):
            tags[name] = Tag(
                kind, _little(bytes(data[value_at : value_at + size]), kind, order=order)
            )
    return tags


def _below(data: Buffer, tags: Tags, *, number: int, order: str, big: bool) -> dict[int, Tag]:
    """Return the list a tag points to; none where there is no such list."""
    tag = tags.get(number)
    if tag is None or tag.kind not in _PLACES:
        return {}
    try:
        return _read_list(data, tag.number, order=order, big=big)
    except (struct.error, OverflowError):
        return {}


def _plain(tags: Tags) -> Tags:
    """Return the tags that mean the same anywhere: no places of lists."""
    return {n: t for n, t in tags.items() if n not in (_EXIF, _GPS, _INTEROP) and t.kind <= _LAST}


def _little(data: bytes, kind: int, *, order: str) -> bytes:
    unit = _UNITS[kind]
    if order == "<" or unit == 1:
        return data
    return np.frombuffer(data, f">u{unit}").astype(f"<u{unit}").tobytes()


def _blocks(tree: ExifTags, ready: Mapping[int, bytes], *, at: int, big: bool) -> tuple[bytes, int]:
    """Return all lists laid out from a place on, and where the main one stands."""
    out = b""
    pointers: dict[int, Tag] = {}
    for number, tags in ((_INTEROP, tree.interop), (_EXIF, tree.exif), (_GPS, tree.gps)):
        inner = pointers if number == _EXIF else {}
        if tags or inner:
            block, place = _block({**tags, **inner}, ready={}, at=at + len(out), big=big)
            out += block
            pointers = {n: tag for n, tag in pointers.items() if n != _INTEROP}
            pointers[number] = Tag(_LONG8, struct.pack("<Q", place)) if big else _long(place)
    block, place = _block({**tree.main, **pointers}, ready=ready, at=at + len(out), big=big)
    return out + block, place


def _block(tags: Tags, *, ready: Mapping[int, bytes], at: int, big: bool) -> tuple[bytes, int]:
    """Return long values and the list behind them, and where the list stands."""
    entry, place, inline = ("<HHQ", "<Q", 8) if big else ("<HHI", "<I", 4)
    values, entries = b"", dict(ready)
    for number, tag in tags.items():
        value = tag.data.ljust(inline, b"\0")
        if len(tag.data) > inline:
            value = struct.pack(place, at + len(values))
            values += tag.data + b"\0" * (-len(tag.data) % 8)
        entries[number] = struct.pack(entry, number, tag.kind, tag.count) + value
    count = struct.pack("<Q" if big else "<H", len(entries))
    listed = b"".join(entries[number] for number in sorted(entries))
    block = values + count + listed + struct.pack(place, 0)
    return block + b"\0" * (-len(block) % 8), at + len(values)


def _short(value: int) -> Tag:
    return Tag(_SHORT, struct.pack("<H", value))


def _long(value: int) -> Tag:
    return Tag(_LONG, struct.pack("<I", value))


def _rational(value: float) -> Tag:
    return Tag(_RATIONAL, struct.pack("<II", min(round(value * 1000), 2**32 - 1), 1000))
