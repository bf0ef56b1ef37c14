"""JPEG files that lost data are refused; the oddities of cameras and phones are not."""

import io
import random
import re
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from d2csr.core.errors import ImageError
from d2csr.images.decode import check_jpeg
from d2csr.images.reader import read_image, read_rgb8

EXAMPLE = Path(__file__).parents[2] / "examples" / "city100_nikon_001_lr3.png"
PHOTO = np.asarray(Image.open(EXAMPLE).convert("RGB"))[:160, :240]
KINDS = {
    "baseline": {"subsampling": 2},
    "full color": {"subsampling": 0},
    "optimized": {"optimize": True},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_rows": 1},
}
PROFILE_PART = b"\xff\xe2\0\x18ICC_PROFILE\0\5\1" + bytes(8)  # part 5 of 1
END, RESTARTS = b"\xff\xd9", rb"\xff([\xd0-\xd7])"


def encode(*, pixels=PHOTO, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=92, **options)
    return buffer.getvalue()


def scan_of(jpeg):
    """Return the offsets of the header of the first scan, and of its data."""
    at = jpeg.index(b"\xff\xda")
    return at, at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")


def zeroed(jpeg, at, share):
    start, length = int(len(jpeg) * at), int(len(jpeg) * share)
    return jpeg[:start] + bytes(length) + jpeg[start + length :]


DAMAGES = {
    "half of it, and an end marker": lambda jpeg: jpeg[: len(jpeg) // 2] + END,
    "90% of it, and an end marker": lambda jpeg: jpeg[: len(jpeg) * 9 // 10] + END,
    "an early end marker": lambda jpeg: jpeg[: len(jpeg) // 2] + END + jpeg[len(jpeg) // 2 :],
    "10% in the middle zeroed": lambda jpeg: zeroed(jpeg, 0.45, 0.1),
    "5% missing": lambda jpeg: jpeg[: len(jpeg) // 2] + jpeg[int(len(jpeg) * 0.55) :],
    "the last quarter zeroed": lambda jpeg: jpeg[: len(jpeg) * 3 // 4] + bytes(len(jpeg) // 4),
    "noise in it": lambda jpeg: zeroed(jpeg, 0.5, 0).replace(
        jpeg[len(jpeg) // 2 :][:400], random.Random(0).randbytes(400)
    ),
}


def odd_parameters(jpeg):
    """As the Samsung Galaxy J1 writes them."""
    _, data = scan_of(jpeg)
    return jpeg[: data - 3] + b"\0\0\0" + jpeg[data:]


def before_scan(jpeg, extra):
    at, _ = scan_of(jpeg)
    return jpeg[:at] + extra + jpeg[at:]


ODDITIES = {
    "bytes after the end": lambda jpeg: jpeg + b"trailer" * 99,
    "another image after the end": lambda jpeg: jpeg + jpeg,
    "8 zeros before the end": lambda jpeg: jpeg[:-2] + bytes(8) + END,
    "40 zeros before the end": lambda jpeg: jpeg[:-2] + bytes(40) + END,
    "fill bytes before the end": lambda jpeg: jpeg[:-2] + b"\xff" * 9 + END,
    "fill bytes before a segment": lambda jpeg: before_scan(jpeg, b"\xff" * 20),
    "a comment after the pixels": lambda jpeg: jpeg[:-2] + b"\xff\xfe\0\4hi" + END,
    "a restart marker at the end": lambda jpeg: jpeg[:-2] + b"\xff\xd0" + END,
    "wrong parameters of the scan": odd_parameters,
    "a part of a color profile": lambda jpeg: before_scan(jpeg, PROFILE_PART),
    "an unknown revision of JFIF": lambda jpeg: jpeg.replace(b"JFIF\0\1", b"JFIF\0\x09", 1),
}


def write(folder, contents):
    path = folder / "x.jpg"
    path.write_bytes(contents)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_jpegs_that_lost_data_are_refused(tmp_path, kind, damage):
    path = write(tmp_path, DAMAGES[damage](encode(**KINDS[kind])))
    for read in (read_image, read_rgb8):
        with pytest.raises(ImageError, match=r"x\.jpg: is damaged or cut short \("):
            read(path)


@pytest.mark.parametrize("oddity", ODDITIES)
def test_oddities_of_cameras_are_accepted_without_a_word(tmp_path, oddity):
    whole = encode()
    image = read_image(write(tmp_path, ODDITIES[oddity](whole)))
    assert image.warnings == ()
    assert np.array_equal(image.pixels, read_rgb8(write(tmp_path, whole)))


@pytest.mark.parametrize("kind", KINDS)
def test_whole_jpegs_of_every_kind_are_accepted(tmp_path, kind):
    for pixels in (PHOTO, PHOTO[:1, :1], PHOTO[:9, :17], PHOTO[..., 0], PHOTO // 8 * 8):
        assert check_jpeg(write(tmp_path, encode(pixels=pixels, **KINDS[kind]))) == []


def test_cmyk_is_checked_too(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).convert("CMYK").save(buffer, "jpeg")
    assert check_jpeg(write(tmp_path, buffer.getvalue())) == []
    with pytest.raises(ImageError, match="premature end"):
        check_jpeg(write(tmp_path, buffer.getvalue()[:-900] + END))


@pytest.mark.parametrize("oddity", ["wrong parameters of the scan", "a part of a color profile"])
def test_oddities_hide_no_damage(tmp_path, oddity):
    half = ODDITIES[oddity](DAMAGES["half of it, and an end marker"](encode()))
    with pytest.raises(ImageError, match="premature end"):
        check_jpeg(write(tmp_path, half))


def test_a_baseline_thumbnail_leaves_the_scans_of_a_progressive_photo_alone(tmp_path):
    thumbnail = encode(pixels=PHOTO[:16, :16])
    photo = encode(progressive=True, exif=b"Exif\0\0" + thumbnail)
    assert photo.count(b"\xff\xc0") == 1
    assert check_jpeg(write(tmp_path, photo)) == []


@pytest.mark.parametrize("number", [lambda _: 0, lambda index: (index + 1) % 8])
def test_restart_markers_out_of_order_are_refused_because_the_decoder_drops_rows(tmp_path, number):
    jpeg = encode(restart_marker_rows=1)
    before = read_rgb8(write(tmp_path, jpeg))
    _, data = scan_of(jpeg)
    odd = bytearray(jpeg)
    for index, match in enumerate(re.finditer(RESTARTS, jpeg[data:])):
        odd[data + match.start() + 1] = 0xD0 + number(index)
    decoded = pyvips.Image.jpegload_buffer(bytes(odd), fail_on="error").numpy()
    assert (decoded != before).any(axis=2).mean() > 0.1
    with pytest.raises(ImageError, match="instead of RST"):
        check_jpeg(write(tmp_path, bytes(odd)))


def test_bytes_between_segments_leave_the_pixels_whole_and_are_told(tmp_path):
    image = read_image(write(tmp_path, before_scan(encode(), b"junk!" * 4)))
    assert "20 extraneous bytes" in image.warnings[0]
    assert np.array_equal(image.pixels, read_rgb8(write(tmp_path, encode())))


def test_rare_subsampling_is_checked_with_libvips(tmp_path):
    """Cr 1x2 beside Cb 1x1: simplejpeg refuses it; the data is of a 4:2:0 file, and ends early."""
    usual, rare = b"\1\x22\0\2\x11\1\3\x11\1", b"\1\x22\0\2\x11\1\3\x12\1"
    jpeg = encode(subsampling=2)
    assert usual in jpeg
    with pytest.raises(ImageError, match="damaged or cut short"):
        check_jpeg(write(tmp_path, jpeg.replace(usual, rare)))


def test_jpeg_data_in_a_tiff_that_lost_pixels_is_told(tmp_path):
    image = pyvips.Image.new_from_array(PHOTO).copy(interpretation="srgb")
    whole = bytes(image.tiffsave_buffer(compression="jpeg", Q=92))
    assert read_image(write(tmp_path, whole)).warnings[1:] == ()  # the first: its suffix is .jpg
    (warning,) = read_image(write(tmp_path, zeroed(whole, 0.5, 0.1))).warnings[:1]
    assert warning.startswith("may be damaged, look at it")


def test_photographs_of_phones_are_accepted(data_folder):
    photos = sorted(data_folder.rglob("*.jpg"))
    assert len(photos) > 40
    assert [path for path in photos if check_jpeg(path)] == []
