"""TIFF and EXIF tags: read from files and blobs, changed, and written back.

Both store tags alike, in directories of (number, type, count, value); a long value stands elsewhere
and the entry holds its offset, and an entry may point to another directory (TIFF 6.0, section 2;
Exif 2.32, section 4.6; BigTIFF: 8-byte offsets). Values are held little-endian here; maker notes
are kept byte for byte.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from d2csr.core.files import open_regular
from d2csr.core.geometry import Size

ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 2, 3, 4, 5, 7, 16
# Bytes of the numbers that values of each type consist of; a rational is two numbers.
_NUMBER_BYTES: Final = {
    1: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 4, 6: 1, UNDEFINED: 1, 8: 2, 9: 4, 10: 4, 11: 4,
    12: 8, 13: 4, LONG8: 8, 18: 8,
}  # fmt: skip
_VALUE_BYTES: Final = {**_NUMBER_BYTES, RATIONAL: 8, 10: 8}
_POINTER_TYPES: Final = (LONG, 13, LONG8, 18)
_LAST_EXIF_TYPE: Final = 12  # later ones belong to BigTIFF
_INCH, _CENTIMETRE = 2, 3  # units of a resolution

_MAX_VALUE_BYTES: Final = 1 << 20
_MAX_DIRECTORY_BYTES: Final = 8 << 20  # of all its values
_MAX_TAGS: Final = 1000

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
MAKE, MODEL, ORIENTATION, X_DPI, Y_DPI, DPI_UNIT = 271, 272, 274, 282, 283, 296
SOFTWARE, DATE_TIME = 305, 306
EXPOSURE_TIME, F_NUMBER, ISO, EXIF_VERSION, DATE_TIME_ORIGINAL = 33434, 33437, 34855, 36864, 36867
FOCAL_LENGTH, MAKER_NOTE, PIXEL_X, PIXEL_Y, FOCAL_LENGTH_35MM = 37386, 37500, 40962, 40963, 41989
_EXIF, _GPS, _INTEROP = 34665, 34853, 40965
# Tags that describe the photo, not the layout of its file: title, camera, date, author, rating, ...
DESCRIPTIVE: Final = frozenset(
    {270, MAKE, MODEL, SOFTWARE, DATE_TIME, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}
)
# Tags about the layout of a file, which mean nothing in another.
_LAYOUT: Final = frozenset({254, 255, 258, 259, 262, 273, 277, 278, 279, 284, 330, 513, 514, 700})


@final
class _FileBytes:
    """The bytes of an open file as a sequence, of which only those that are asked for are read.

    Not a memory map, which ends the process if another one cuts the file short.
    """

    def __init__(self, descriptor: int) -> None:
        """Hold the descriptor, which must stay open."""
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def __len__(self) -> int:
        """Return the size of the file when it was opened."""
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        """Return the bytes of a slice, fewer at the end of the file.

        Raises:
            OverflowError: it begins beyond the largest possible file.
        """
        start = part.start or 0
        return os.pread(self._descriptor, part.stop - start, start)


Buffer = bytes | memoryview | _FileBytes


@dataclass(frozen=True)
class Tag:
    """The values of one tag: the number of their type, and their bytes, little-endian."""

    kind: int
    data: bytes

    @property
    def count(self) -> int:
        """Return the number of values."""
        return len(self.data) // _VALUE_BYTES[self.kind]

    @property
    def number(self) -> int:
        """Return the first value of a tag of whole numbers."""
        return int.from_bytes(self.data[: _VALUE_BYTES[self.kind]], "little")


Tags = Mapping[int, Tag]


def ascii_tag(text: str) -> Tag:
    """Return a tag of text; characters outside ASCII become question marks."""
    return Tag(ASCII, text.encode("ascii", "replace") + b"\0")


def short_tag(*values: int) -> Tag:
    """Return a tag of 16-bit whole numbers."""
    return Tag(SHORT, struct.pack(f"<{len(values)}H", *values))


def long_tag(value: int) -> Tag:
    """Return a tag of one 32-bit whole number."""
    return Tag(LONG, struct.pack("<I", value))


def rational_tag(value: float, *, denominator: int) -> Tag:
    """Return a tag of one fraction, the nearest with at most this denominator."""
    nearest = Fraction(value).limit_denominator(denominator)
    return Tag(RATIONAL, struct.pack("<II", min(nearest.numerator, 2**32 - 1), nearest.denominator))


@dataclass(frozen=True)
class ExifTags:
    """The main directory of an image's tags, and the directories that it points to."""

    main: Tags = field(default_factory=dict)
    exif: Tags = field(default_factory=dict)
    gps: Tags = field(default_factory=dict)
    interop: Tags = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether there are any tags."""
        return any((self.main, self.exif, self.gps))


def read_tags(data: Buffer) -> ExifTags:
    """Return the tags of an EXIF blob (without its `Exif00`) or of a whole TIFF file.

    Damaged values are left out; the thumbnail's directory is never read. Of a directory, at most
    1,000 tags are read, each up to 1 MiB, and together no more bytes than the data or 8 MiB: values
    that overlap can't add up to more than the file holds.

    Raises:
        ValueError: the data is neither, or the main directory is out of bounds.
    """
    order, is_big = _byte_order(data)
    try:
        offset = _unpack(f"{order}{'Q' if is_big else 'I'}", data, at=8 if is_big else 4)[0]
        main = _read_directory(data, offset, order=order, is_big=is_big)
        exif = _read_below(data, main, number=_EXIF, order=order, is_big=is_big)
        gps = _read_below(data, main, number=_GPS, order=order, is_big=is_big)
        interop = _read_below(data, exif, number=_INTEROP, order=order, is_big=is_big)
    except (struct.error, OverflowError) as error:
        raise ValueError("a directory of tags is out of bounds") from error
    return ExifTags(*map(_without_pointers, (main, exif, gps, interop)))


def read_file_tags(path: Path) -> ExifTags:
    """Return the tags of a TIFF file of any size; only the tags are read from disk.

    Raises:
        ValueError: as `read_tags`.
    """
    with open_regular(path) as file:
        return read_tags(_FileBytes(file.fileno()))


def to_bytes(tags: ExifTags) -> bytes:
    """Return tags as an EXIF blob, without its `Exif00`."""
    main = {number: tag for number, tag in tags.main.items() if number not in _LAYOUT}
    blocks, offset = _write_directories(replace(tags, main=main), {}, start=8, is_big=False)
    return b"II*\0" + struct.pack("<I", offset) + blocks


def bigtiff_header(tags: Tags) -> bytes:
    """Return the beginning of a BigTIFF file: its header and one directory with these tags."""
    block, offset = _write_directory(tags, ready={}, start=16, is_big=True)
    return b"II" + struct.pack("<HHHQ", 43, 8, 0, offset) + block


def add_to_jpeg(jpeg: bytes, tags: ExifTags) -> bytes:
    """Return a JPEG file with tags as its first segment (Exif 2.32, 4.5.4)."""
    segment = b"Exif\0\0" + to_bytes(tags)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def add_to_tiff(path: Path, tags: ExifTags) -> None:
    """Add the descriptive tags, and the directories below them, to a TIFF file, in place.

    Raises:
        ValueError: the file is no little-endian TIFF file.
    """
    with path.open("r+b") as file:
        order, is_big = _byte_order(file.read(16))
        if order != "<":
            raise ValueError("not little-endian")
        file.seek(8 if is_big else 4)
        pointer, width = ("<Q", 20) if is_big else ("<I", 12)
        offset = struct.unpack(pointer, file.read(struct.calcsize(pointer)))[0]
        file.seek(offset)
        count = struct.unpack("<Q" if is_big else "<H", file.read(8 if is_big else 2))[0]
        raw = file.read(count * width)
        entries = [raw[start : start + width] for start in range(0, len(raw), width)]
        ready = {int.from_bytes(entry[:2], "little"): entry for entry in entries}
        main = {number: tag for number, tag in tags.main.items() if number in DESCRIPTIVE}
        end = file.seek(0, 2)
        padding = -end % 8
        blocks, offset = _write_directories(
            replace(tags, main=main), ready, start=end + padding, is_big=is_big
        )
        file.write(b"\0" * padding + blocks)
        file.seek(8 if is_big else 4)
        file.write(struct.pack(pointer, offset))


def get_dpi(tags: ExifTags) -> tuple[float, float] | None:
    """Return the horizontal and vertical resolution as stored, in pixels per inch, if any."""
    across, down = (tags.main.get(number) for number in (X_DPI, Y_DPI))
    unit = tags.main[DPI_UNIT].number if DPI_UNIT in tags.main else _INCH
    if across is None or down is None or {across.kind, down.kind} != {RATIONAL} or unit < _INCH:
        return None
    factor = 2.54 if unit == _CENTIMETRE else 1.0
    (a, b), (c, d) = (struct.unpack_from("<II", tag.data) for tag in (across, down))
    return (a / b * factor, c / d * factor) if b and d else None


def with_size(tags: ExifTags, size: Size, *, dpi: tuple[float, float] | None) -> ExifTags:
    """Return the tags of an upright image of another size, with this resolution if it is known."""
    sides = {WIDTH: size.width, HEIGHT: size.height, PIXEL_X: size.width, PIXEL_Y: size.height}
    main, exif = (
        {n: long_tag(sides[n]) if n in sides else tag for n, tag in directory.items()}
        for directory in (tags.main, tags.exif)
    )
    if ORIENTATION in main:
        main[ORIENTATION] = short_tag(1)
    if dpi is not None:
        across, down = (rational_tag(round(each * 1000) / 1000, denominator=1000) for each in dpi)
        main |= {X_DPI: across, Y_DPI: down, DPI_UNIT: short_tag(_INCH)}
    return replace(tags, main=main, exif=exif)


def with_software(tags: ExifTags, text: str) -> ExifTags:
    """Return the tags with a program added, after those that the image went through before."""
    before = tags.main.get(SOFTWARE)
    names = [] if before is None else [before.data.rstrip(b"\0 ").decode("ascii", "replace")]
    software = ascii_tag("; ".join(filter(None, [*names, text])))
    return replace(tags, main={**tags.main, SOFTWARE: software})


def without_tag(tags: ExifTags, number: int) -> ExifTags:
    """Return the tags without one of the EXIF directory."""
    return replace(tags, exif={n: tag for n, tag in tags.exif.items() if n != number})


def _unpack(form: str, data: Buffer, *, at: int) -> tuple[Any, ...]:
    """Return the values at a place, as `struct.unpack_from`, which takes no slices of files.

    Raises:
        struct.error, OverflowError: they lie beyond the end.
    """
    return struct.unpack(form, data[at : at + struct.calcsize(form)])


def _byte_order(data: Buffer) -> tuple[str, bool]:
    """Return the byte order, and whether offsets have 8 bytes."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 8:
        raise ValueError("no directory of tags")
    version = _unpack(f"{order}H", data, at=2)[0]
    if version not in (42, 43):
        raise ValueError("no directory of tags")
    return order, version == 43


def _read_directory(data: Buffer, offset: int, *, order: str, is_big: bool) -> dict[int, Tag]:
    head, entry, inline = ("Q", "HHQ", 8) if is_big else ("H", "HHI", 4)
    count = _unpack(f"{order}{head}", data, at=offset)[0]
    first = offset + struct.calcsize(f"{order}{head}")
    width = 12 + inline if is_big else 8 + inline
    tags, unread = {}, min(len(data), _MAX_DIRECTORY_BYTES)
    for index in range(min(count, _MAX_TAGS)):
        start = first + index * width
        number, kind, length = _unpack(f"{order}{entry}", data, at=start)
        size = _VALUE_BYTES.get(kind, 0) * length
        at = start + width - inline
        if size > inline:
            at = _unpack(f"{order}{'Q' if is_big else 'I'}", data, at=at)[0]
        if 0 < size <= min(_MAX_VALUE_BYTES, unread) and at + size <= len(data):
            unread -= size
            value = bytes(data[at : at + size])
            if len(value) < size:  # the file has been cut short meanwhile
                continue
            tags[number] = Tag(kind, _to_little_endian(value, kind, order=order))
    return tags


def _read_below(
    data: Buffer, tags: Tags, *, number: int, order: str, is_big: bool
) -> dict[int, Tag]:
    """Return the directory that a tag points to, empty if there is none."""
    tag = tags.get(number)
    if tag is None or tag.kind not in _POINTER_TYPES:
        return {}
    try:
        return _read_directory(data, tag.number, order=order, is_big=is_big)
    except (struct.error, OverflowError):
        return {}


def _without_pointers(tags: Tags) -> Tags:
    """Return the tags whose meaning doesn't depend on the file they stand in."""
    pointers = (_EXIF, _GPS, _INTEROP)
    return {n: t for n, t in tags.items() if n not in pointers and t.kind <= _LAST_EXIF_TYPE}


def _to_little_endian(data: bytes, kind: int, *, order: str) -> bytes:
    width = _NUMBER_BYTES[kind]
    if order == "<" or width == 1:
        return data
    return np.frombuffer(data, f">u{width}").astype(f"<u{width}").tobytes()


def _write_directories(
    tags: ExifTags, ready: Mapping[int, bytes], *, start: int, is_big: bool
) -> tuple[bytes, int]:
    """Return all directories laid out from an offset on, and the offset of the main one."""
    out = b""
    pointers: dict[int, Tag] = {}
    for number, below in ((_INTEROP, tags.interop), (_EXIF, tags.exif), (_GPS, tags.gps)):
        inner = pointers if number == _EXIF else {}
        if below or inner:
            block, offset = _write_directory(
                {**below, **inner}, ready={}, start=start + len(out), is_big=is_big
            )
            out += block
            pointers = {n: tag for n, tag in pointers.items() if n != _INTEROP}
            pointers[number] = Tag(LONG8, struct.pack("<Q", offset)) if is_big else long_tag(offset)
    block, offset = _write_directory(
        {**tags.main, **pointers}, ready=ready, start=start + len(out), is_big=is_big
    )
    return out + block, offset


def _write_directory(
    tags: Tags, *, ready: Mapping[int, bytes], start: int, is_big: bool
) -> tuple[bytes, int]:
    """Return the long values and, after them, the directory; and the offset of the directory."""
    entry, pointer, inline = ("<HHQ", "<Q", 8) if is_big else ("<HHI", "<I", 4)
    values, entries = bytearray(), dict(ready)
    for number, tag in tags.items():
        value = tag.data.ljust(inline, b"\0")
        if len(tag.data) > inline:
            value = struct.pack(pointer, start + len(values))
            values += tag.data + b"\0" * (-len(tag.data) % 8)
        entries[number] = struct.pack(entry, number, tag.kind, tag.count) + value
    count = struct.pack("<Q" if is_big else "<H", len(entries))
    directory = b"".join(entries[number] for number in sorted(entries))
    block = bytes(values) + count + directory + struct.pack(pointer, 0)
    return block + b"\0" * (-len(block) % 8), start + len(values)
