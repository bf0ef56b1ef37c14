"""Tags of EXIF and TIFF: read in both byte orders, changed, written into both kinds of TIFF."""

import struct

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image

from d2csr.core.geometry import Size
from d2csr.images.exif import (
    ORIENTATION,
    PIXEL_X,
    ExifTags,
    Tag,
    add_to_tiff,
    get_dpi,
    read_file_tags,
    read_tags,
    to_bytes,
    with_size,
)
from d2csr.images.reader import read_image
from tests.images.made import RGB

TREE = ExifTags(
    main={271: Tag(2, b"Maker\0"), ORIENTATION: Tag(3, b"\6\0"), 33432: Tag(2, b"me\0")},
    exif={PIXEL_X: Tag(3, b"\x1e\0"), 0x829A: Tag(5, struct.pack("<II", 1, 125))},
    gps={1: Tag(2, b"N\0"), 2: Tag(5, struct.pack("<6I", 50, 1, 1, 1, 0, 1))},
    interop={1: Tag(2, b"R98\0")},
)


def make_blob(order, *, unit):
    """Return an EXIF blob written out byte by byte: a resolution, and a list below."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    at = 8 + 2 + 4 * 12 + 4
    entries = struct.pack(f"{order}H", 4)
    for number, place in ((282, at), (283, at + 8)):
        entries += struct.pack(f"{order}HHII", number, 5, 1, place)
    entries += struct.pack(f"{order}HHIHH", 296, 3, 1, unit, 0)
    entries += struct.pack(f"{order}HHII", 0x8769, 4, 1, at + 16) + struct.pack(f"{order}I", 0)
    values = struct.pack(f"{order}IIII", 600, 2, 150, 1)
    below = struct.pack(f"{order}HHHII", 1, PIXEL_X, 4, 1, 4000) + bytes(4)
    return head + entries + values + below


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("unit", "dpi"), [(2, (300, 150)), (3, (762, 381)), (1, None)])
def test_both_byte_orders_and_units_are_read(order, unit, dpi):
    tree = read_tags(make_blob(order, unit=unit))
    assert tree.exif[PIXEL_X].number == 4000
    assert get_dpi(tree) == (dpi if dpi is None else pytest.approx(dpi))


def test_what_is_written_is_read_again_by_us_and_by_pillow():
    blob = to_bytes(TREE)
    assert read_tags(blob) == TREE
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + blob)
    assert (exif[271], exif[33432], exif[ORIENTATION]) == ("Maker", "me", 6)
    assert float(exif.get_ifd(0x8769)[0x829A]) == 1 / 125
    assert exif.get_ifd(0x8825) == {1: "N", 2: (50, 1, 0)}
    assert exif.get_ifd(0xA005) == {1: "R98"}


def test_a_new_size_replaces_every_size_and_adds_none():
    resized = with_size(TREE, Size(70_000, 9), dpi=(600.0, 600.0))
    assert resized.exif[PIXEL_X].number == 70_000
    assert set(resized.exif) == set(TREE.exif)
    assert resized.main[ORIENTATION].number == 1
    assert get_dpi(resized) == (600, 600)
    assert set(with_size(TREE, Size(9, 9), dpi=None).main) == set(TREE.main)


@pytest.mark.parametrize("big", [False, True])
def test_tags_are_added_to_a_tiff_file_that_stays_the_same_image(tmp_path, big):
    path = tmp_path / "x.tif"
    pyvips.Image.new_from_array(RGB).copy(interpretation="srgb").tiffsave(str(path), bigtiff=big)
    add_to_tiff(path, TREE)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff == big
        page = file.pages[0]
        assert np.array_equal(page.asarray(), RGB)
        assert page.tags["Make"].value == "Maker"
        assert page.tags["ExifTag"].value["PixelXDimension"] == 30
        assert page.tags["GPSTag"].value["GPSLatitude"] == (50, 1, 1, 1, 0, 1)
    tree = read_file_tags(path)
    assert (tree.exif, tree.gps, tree.interop) == (TREE.exif, TREE.gps, TREE.interop)
    assert read_image(path).metadata.exif.main == {271: TREE.main[271], 33432: TREE.main[33432]}


@pytest.mark.parametrize(
    "data", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"XX*\0\x08\0\0\0", b"MM\0+"]
)
def test_data_without_a_directory_of_tags_is_a_value_error(data):
    with pytest.raises(ValueError, match="directory of tags"):
        read_tags(data)


@pytest.mark.parametrize("place", [2**62, 2**63 - 1, 2**63, 2**64 - 1])
def test_offsets_beyond_the_data_are_out_of_bounds(place):
    with pytest.raises(ValueError, match="directory of tags"):
        read_tags(struct.pack("<2sHHHQ", b"II", 43, 8, 0, place) + bytes(40))


def test_a_directory_out_of_bounds_is_left_out():
    blob = bytearray(make_blob("<", unit=2))
    struct.pack_into("<I", blob, 8 + 2 + 3 * 12 + 8, 0xFFFFFFF0)
    assert read_tags(bytes(blob)).exif == {}


def test_a_directory_that_points_to_itself_ends():
    blob = bytearray(make_blob("<", unit=2))
    struct.pack_into("<I", blob, 8 + 2 + 3 * 12 + 8, 8)
    assert set(read_tags(bytes(blob)).exif) == {282, 283, 296}
