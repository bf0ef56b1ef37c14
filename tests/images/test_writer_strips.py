"""Rows written to every format as docs/files.md describes, completely or not at all."""

import gc
import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from d2csr.core.errors import ImageError, UsageError
from d2csr.core.geometry import Size
from d2csr.images.exif import ExifTags, Tag
from d2csr.images.formats import MAX_SIDE_PX, PixelFormat, format_limitations
from d2csr.images.metadata import ImageMetadata
from d2csr.images.reader import read_image
from d2csr.images.writer import ImageWriter
from tests.images.made import ALPHA, RGB, RGB16, SMOOTH
from tests.images.test_reader import table

WRITTEN = {suffix: cells for suffix, *cells in table("What comes out")}
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6" exif:PixelXDimension="30"/></x>'
SMOOTH16 = SMOOTH.astype(np.uint16) * 257 - (SMOOTH > 9) * np.uint16(100)


def write(path, pixels, *, rows=7, metadata=None, scale=1.0):
    """Write pixels, the fourth or second channel alpha, a few rows at a time."""
    channels = pixels.shape[2]
    layout = PixelFormat(1 if channels < 3 else 3, channels in (2, 4), 8 * pixels.dtype.itemsize)
    size = Size(pixels.shape[1], pixels.shape[0])
    with ImageWriter(
        path, size=size, pixel_format=layout, metadata=metadata or ImageMetadata(), scale=scale
    ) as strips:
        for top in range(0, size.height, rows):
            strips.write(pixels[top : top + rows])
    return path


def decode_png(path):
    """Return the pixels of a PNG, decoded without any library: filters none and sub."""
    data, at, packed = path.read_bytes(), 8, b""
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if name == b"IHDR":
            width, height, bits, kind = struct.unpack(">IIBB", body[:10])
        packed += body if name == b"IDAT" else b""
        at += 12 + length
    step = {0: 1, 4: 2, 2: 3, 6: 4}[kind] * bits // 8
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * step)
    assert set(rows[:, 0]) <= {0, 1}
    pixels = rows[:, 1:].reshape(height, width, step)
    sums = np.cumsum(pixels, axis=1, dtype=np.uint8)
    pixels = np.where(rows[:, :1, None] == 1, sums, pixels)
    return pixels.reshape(height, width * step).view(f">u{bits // 8}").reshape(height, width, -1)


def read_independently(path, bits):
    """Return a file's pixels as another library, or no library, reads them."""
    if path.suffix == ".png":
        return decode_png(path)
    if path.suffix == ".tif":
        return tifffile.imread(path).reshape((*SMOOTH.shape[:2], -1))
    if bits == 16 and path.suffix == ".avif":
        return read_image(path).pixels  # Pillow knows 8 bit
    return np.asarray(Image.open(path)).reshape((*SMOOTH.shape[:2], -1))


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("colors", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_pixels_are_kept_as_the_page_says(tmp_path, suffix, colors, bits):
    promise = WRITTEN[suffix][bits == 16]
    pixels = (SMOOTH if bits == 8 else SMOOTH16)[..., :colors]
    found = read_independently(write(tmp_path / f"ü{suffix}", pixels), bits).astype(float)
    expected = pixels.astype(float)
    if "rounded to 8 bit" in promise:
        expected = np.rint(expected / 257)
    if "12 bit" in promise:
        expected = (pixels >> 4) * (65535 / 4095)
    assert np.abs(found - expected).max() <= (0.5 if "exact" in promise else 14)
    assert np.abs(found - expected).mean() <= (0.5 if "exact" in promise else 2.0)


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_flat_fields_stay_flat_and_gray_gets_no_tint(tmp_path, suffix, level):
    flat = np.full((20, 30, 3), level, np.uint8)
    assert np.unique(read_independently(write(tmp_path / f"x{suffix}", flat), 8)).tolist() == [
        level
    ]
    ramp = np.repeat(np.tile(np.arange(30, dtype=np.uint8) * 8, (20, 1))[..., None], 3, axis=2)
    found = read_independently(write(tmp_path / f"x{suffix}", ramp), 8)
    assert (found == found[..., :1]).all()


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("colors", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_alpha_is_kept_as_the_page_says(tmp_path, suffix, colors, bits):
    factor = 1 if bits == 8 else 257
    pixels = np.dstack([SMOOTH[..., :colors], ALPHA]).astype(np.uint16) * factor
    pixels = pixels.astype(f"u{bits // 8}")
    read = read_image(write(tmp_path / f"x{suffix}", pixels))
    if WRITTEN[suffix][2].startswith("kept"):
        off = read.alpha / float(read.pixel_format.white) - ALPHA / 255.0
        assert np.abs(off).max() <= (4 / 255 if suffix == ".avif" else 0)
    else:
        weight = ALPHA[..., None] / 255.0
        on_white = SMOOTH[..., :colors] * weight + 255 * (1 - weight)
        assert read.alpha is None
        assert np.abs(read.pixels - on_white).mean() < 6  # noise is what JPEG is worst at


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_side_longer_than_the_page_says_is_refused_before_work(tmp_path, suffix):
    longest = MAX_SIDE_PX.get({".jpg": "jpeg", ".tif": "tiff"}.get(suffix, suffix[1:]))
    assert WRITTEN[suffix][3] == ("unlimited" if longest is None else str(longest))
    path = tmp_path / f"x{suffix}"
    format_limitations(PixelFormat(), path, size=Size(longest or 10**7, 1))
    if longest is not None:
        with pytest.raises(ImageError, match=f"limited to {longest} px"):
            ImageWriter(path, size=Size(1, longest + 1), pixel_format=PixelFormat())


def test_limitations_agree_with_the_page(tmp_path):
    deep = PixelFormat(3, True, 16)
    for suffix, (_, sixteen, alpha, _) in WRITTEN.items():
        limitations = " ".join(format_limitations(deep, Path(f"x{suffix}"), size=Size(9, 9)))
        assert ("white" in limitations) == (alpha == "blended with white")
        assert ("8 bits" in limitations) == ("8 bit" in sixteen)
        assert ("12 bits" in limitations) == ("12 bit" in sixteen)
        assert format_limitations(PixelFormat(), Path(f"x{suffix}"), size=Size(9, 9)) == ()


@pytest.mark.parametrize("name", ["x.heic", "x.gif", "x.bmp", "x"])
def test_what_can_not_be_written_is_refused(name):
    with pytest.raises(ImageError, match=r"no format that can|no encoder") as caught:
        format_limitations(PixelFormat(), Path(name), size=Size(9, 9))
    assert "HEVC" in caught.value.problem or not name.endswith("heic")


def photo_tags():
    """Return EXIF as a camera writes it: turned, with a thumbnail, a note and a place."""
    tags = Image.Exif()
    tags.update({0x010F: "Maker", 0x0112: 6, 0x0132: "2020:01:02 03:04:05", 0x8298: "(c) me"})
    tags.update({0x011A: IFDRational(300), 0x011B: IFDRational(300), 0x0128: 2})
    tags.get_ifd(0x8769).update({0xA002: 30, 0xA003: 20, 0x927C: b"NOTE" + bytes(60)})
    tags.get_ifd(0x8769).update({0x829A: IFDRational(1, 125), 0xA434: "Lens 50"})
    tags.get_ifd(0x8825).update({1: "N", 2: (IFDRational(50), IFDRational(1), IFDRational(0))})
    thumbnail = io.BytesIO()
    Image.fromarray(SMOOTH[:8, :8]).save(thumbnail, "jpeg")
    plain = tags.tobytes().removeprefix(b"Exif\0\0")
    order = "<" if plain[:2] == b"II" else ">"
    first = struct.unpack_from(f"{order}I", plain, 4)[0]
    count = struct.unpack_from(f"{order}H", plain, first)[0]
    small = struct.pack(f"{order}HHHIIHHIII", 2, 513, 4, 1, len(plain) + 30, 514, 4, 1, 9, 0)
    link = first + 2 + 12 * count
    whole = plain[:link] + struct.pack(f"{order}I", len(plain)) + plain[link + 4 :]
    return b"Exif\0\0" + whole + small + thumbnail.getvalue()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """Return a photo with everything, turned by its orientation."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    Image.fromarray(SMOOTH).save(path, exif=photo_tags(), icc_profile=ICC, dpi=(300, 300), xmp=XMP)
    return path


@pytest.mark.parametrize("suffix", WRITTEN)
def test_metadata_of_a_photo_is_kept_and_adapted(tmp_path, photo, suffix):
    decoded = read_image(photo)
    assert decoded.size == Size(20, 30)
    larger = decoded.pixels.repeat(2, axis=0).repeat(2, axis=1)
    path = write(tmp_path / f"x{suffix}", larger, metadata=decoded.metadata, scale=2.0)
    with Image.open(path) as image:
        image.load()
        tags = image.getexif()
    assert image.size == (40, 60)
    assert {tags[0x010F], tags[0x8298]} == {"Maker", "(c) me"}
    assert tags[0x0112] == 1
    assert float(tags[0x011A]) == pytest.approx(600)
    shot = tags.get_ifd(0x8769)
    assert (shot[0xA002], shot[0xA003]) == (40, 60)
    assert float(shot[0x829A]) == pytest.approx(1 / 125)
    assert (shot[0xA434], shot[0x927C]) == ("Lens 50", b"NOTE" + bytes(60))
    assert tags.get_ifd(0x8825)[2] == (50, 1, 0)
    assert image.info["icc_profile"] == ICC
    xmp = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
    assert b'tiff:Orientation="1" exif:PixelXDimension="40"' in xmp
    contents = path.read_bytes()
    assert contents.find(b"\xff\xd8\xff", 1) < 0  # no thumbnail, reachable or not
    again = read_image(path).metadata
    assert again.dpi == pytest.approx((600, 600), rel=1e-4)
    assert again.exif.exif[0xA434].data == decoded.metadata.exif.exif[0xA434].data


@pytest.mark.parametrize("suffix", WRITTEN)
def test_the_print_size_stays_without_exif_too(tmp_path, suffix):
    path = write(
        tmp_path / f"x{suffix}", RGB, metadata=ImageMetadata(dpi=(300.0, 150.0)), scale=3.0
    )
    assert read_image(path).metadata.dpi == pytest.approx((900, 450), rel=1e-3)


def test_exif_too_long_for_jpeg_loses_the_makers_note_first(tmp_path):
    exif = {0x927C: Tag(7, bytes(70_000)), 0xA434: Tag(2, b"Lens\0")}
    path = write(tmp_path / "x.jpg", SMOOTH, metadata=ImageMetadata(exif=ExifTags(exif=exif)))
    with Image.open(path) as image:
        found = image.getexif().get_ifd(0x8769)
    assert found[0xA434] == "Lens"
    assert 0x927C not in found


def test_texts_of_a_png_come_back(tmp_path):
    kept = ImageMetadata(texts=(("Author", "Juergen"), ("Title", "a: b")))
    assert read_image(write(tmp_path / "x.png", RGB, metadata=kept)).metadata.texts == kept.texts
    with Image.open(tmp_path / "x.png") as image:
        assert image.text == dict(kept.texts)


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_an_unknown_resolution_is_not_invented(tmp_path, suffix):
    with Image.open(write(tmp_path / f"x{suffix}", RGB)) as image:
        assert dict(image.getexif()) == {}


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("height", [1, 15, 16, 17, 20])
def test_any_cut_into_rows_gives_the_same_file(tmp_path, suffix, height):
    whole = write(tmp_path / f"a{suffix}", RGB[:height], rows=height).read_bytes()
    for rows in (1, 5):
        assert write(tmp_path / f"b{suffix}", RGB[:height], rows=rows).read_bytes() == whole


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("size", [(1, 1), (8, 5), (2, 100), (9, 9)])
def test_the_smallest_flat_images_keep_their_value(tmp_path, suffix, size):
    for level in (200, 255):
        found = read_image(write(tmp_path / f"x{suffix}", np.full((*size, 3), level, np.uint8)))
        assert np.unique(found.pixels).tolist() == [level]


def test_rows_may_be_changed_after_they_were_written(tmp_path):
    row = np.zeros((1, 30, 3), np.uint8)
    with ImageWriter(tmp_path / "x.png", size=Size(30, 20), pixel_format=PixelFormat()) as strips:
        for level in range(20):
            row[:] = level
            strips.write(row)
    assert read_image(tmp_path / "x.png").pixels[:, 0, 0].tolist() == list(range(20))


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("written", [0, 1, 19, 20])
def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path, suffix, written):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"old")

    def fail():
        with ImageWriter(path, size=Size(30, 20), pixel_format=PixelFormat()) as strips:
            strips.write(RGB[:written])
            raise KeyError("an error of the maker of rows")

    with pytest.raises(KeyError, match="maker of rows"):
        fail()
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"old"]
    assert "encoder" not in [thread.name for thread in threading.enumerate()]


def test_missing_rows_are_a_value_error_and_leave_nothing(tmp_path):
    with (
        pytest.raises(ValueError, match="19 of 20 rows"),
        ImageWriter(tmp_path / "x.png", size=Size(30, 20), pixel_format=PixelFormat()) as strips,
    ):
        strips.write(RGB[:19])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "rows", [RGB[:, :29], RGB16, np.vstack([RGB, RGB]), RGB[..., :1], RGB[..., 0]]
)
def test_rows_of_another_shape_or_type_are_a_value_error(tmp_path, rows):
    with (
        pytest.raises(ValueError, match="rows"),
        ImageWriter(tmp_path / "x.png", size=Size(30, 20), pixel_format=PixelFormat()) as strips,
    ):
        strips.write(rows)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_left_open_blocks_no_thread(tmp_path):
    def rows():
        with ImageWriter(
            tmp_path / "x.tif", size=Size(30, 20), pixel_format=PixelFormat()
        ) as strips:
            while True:
                yield strips.write(RGB[:1])

    maker = rows()
    next(maker)
    del maker
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    assert "encoder" not in [thread.name for thread in threading.enumerate()]


def test_a_folder_that_can_not_be_written_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(UsageError, match="can't be written"),
        ImageWriter(tmp_path / "file" / "x.png", size=Size(30, 20), pixel_format=PixelFormat()),
    ):
        pass


FULL_DISK = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from d2csr.core.errors import ImageError
from d2csr.core.geometry import Size
from d2csr.images.formats import PixelFormat
from d2csr.images.writer import ImageWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
noise = np.random.default_rng(0).integers(0, 256, (64, 500, 3), np.uint8)
try:
    size = Size(500, 64000)
    with ImageWriter(Path(sys.argv[1]), size=size, pixel_format=PixelFormat()) as strips:
        for _ in range(1000):
            strips.write(noise)
except ImageError as error:
    print(error)
"""

MEMORY = """
import resource, sys
import numpy as np
from pathlib import Path
from d2csr.core.geometry import Size
from d2csr.images.formats import PixelFormat
from d2csr.images.writer import ImageWriter
rows = np.repeat(np.arange(24000) % 200, 50).astype(np.uint8).reshape(50, 8000, 3)
def write(height):
    size = Size(8000, height)
    with ImageWriter(Path(sys.argv[1]), size=size, pixel_format=PixelFormat()) as strips:
        for _ in range(height // 50):
            strips.write(rows)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
small = write(500)
print(write(3000) - small)
"""


def run(script, path):
    environment = os.environ | {"D2CSR_DATA": ""}
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_a_full_disk_is_reported_at_once_and_leaves_nothing(tmp_path, suffix):
    assert "can't be written" in run(FULL_DISK, tmp_path / f"x{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_memory_does_not_grow_with_the_image(tmp_path, suffix):
    """Of 60 MB more pixels, a third would show."""
    assert int(run(MEMORY, tmp_path / f"x{suffix}")) < 20
