"""Images of every kind become upright 8-bit RGB, or are refused with a readable error."""

import io

import numpy as np
import pytest
from PIL import Image

from d2csr.core.errors import ImageError
from d2csr.core.geometry import Size
from d2csr.images.decode import detect_format
from d2csr.images.reader import read_rgb8, read_size

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
SAVED = {"png": {}, "webp": {"lossless": True}, "tiff": {}}


def encoded(array, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", SAVED)
def test_lossless_formats_come_back_pixel_for_pixel(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(encoded(RGB, kind, **SAVED[kind]))
    assert np.array_equal(read_rgb8(path), RGB)
    assert read_size(path) == Size(9, 6)
    assert detect_format(path) == kind


def test_a_jpeg_reads_as_pillow_reads_it(tmp_path):
    path = tmp_path / "x.jpg"
    smooth = np.asarray(Image.fromarray(RGB).resize((90, 60), Image.Resampling.BICUBIC))
    path.write_bytes(encoded(smooth, "jpeg", quality=95, subsampling=0))
    expected = np.asarray(Image.open(path))
    assert np.abs(read_rgb8(path).astype(int) - expected).max() <= 1


def test_gray_is_repeated_and_alpha_is_dropped(tmp_path):
    gray, alpha = RGB[..., 0], np.dstack([RGB, RGB[..., :1]])
    (tmp_path / "gray.png").write_bytes(encoded(gray, "png"))
    (tmp_path / "rgba.png").write_bytes(encoded(alpha, "png"))
    (tmp_path / "la.png").write_bytes(encoded(np.dstack([gray, gray]), "png"))
    assert np.array_equal(read_rgb8(tmp_path / "gray.png"), np.dstack([gray] * 3))
    assert np.array_equal(read_rgb8(tmp_path / "rgba.png"), RGB)
    assert np.array_equal(read_rgb8(tmp_path / "la.png"), np.dstack([gray] * 3))


def test_palette_and_one_bit_images_get_their_colors(tmp_path):
    paletted = Image.fromarray(RGB).convert("P")
    paletted.save(tmp_path / "p.png")
    Image.fromarray(RGB[..., 0] > 127).save(tmp_path / "one.png")
    assert np.array_equal(read_rgb8(tmp_path / "p.png"), np.asarray(paletted.convert("RGB")))
    assert np.array_equal(read_rgb8(tmp_path / "one.png")[..., 0], (RGB[..., 0] > 127) * 255)


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    values = np.array([[0, 128, 129, 257, 32767, 32768, 65406, 65407, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    assert read_rgb8(tmp_path / "x.png")[0, :, 0].tolist() == np.rint(values[0] / 257).tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_pixels_and_size(tmp_path, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "x.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "x.png")))
    assert np.array_equal(read_rgb8(tmp_path / "x.png"), expected)
    assert read_size(tmp_path / "x.png") == Size(expected.shape[1], expected.shape[0])


@pytest.mark.parametrize("name", ["Größe 写真.png", "a[1].png", "100% ü.png", "-x.png"])
def test_odd_names_are_names(tmp_path, name):
    (tmp_path / name).write_bytes(encoded(RGB, "png"))
    assert np.array_equal(read_rgb8(tmp_path / name), RGB)


def test_a_changed_file_is_read_anew(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(encoded(RGB, "png"))
    read_rgb8(path)
    path.write_bytes(encoded(RGB[::-1], "png"))
    assert np.array_equal(read_rgb8(path), RGB[::-1])


def test_the_content_decides_not_the_suffix(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(RGB, "webp", lossless=True))
    assert np.array_equal(read_rgb8(tmp_path / "x.png"), RGB)
    assert detect_format(tmp_path / "x.png") == "webp"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_a_file_cut_short_is_refused_by_name(tmp_path, kind, share):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    whole = encoded(noise, kind)
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ImageError, match=r"cut short|no image") as caught:
        read_rgb8(path)
    assert caught.value.where == str(path)


def test_a_damaged_png_is_refused(tmp_path):
    contents = bytearray(encoded(RGB, "png"))
    contents[-30] ^= 0xFF
    (tmp_path / "x.png").write_bytes(contents)
    with pytest.raises(ImageError, match="damaged"):
        read_rgb8(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("contents", "message"),
    [(None, "does not exist"), (b"", "is empty"), (b"a,b\n1,2\n", "not an image")],
)
def test_a_file_that_is_no_image_is_refused_with_the_reason(tmp_path, contents, message):
    if contents is not None:
        (tmp_path / "x.png").write_bytes(contents)
    with pytest.raises(ImageError, match=message):
        read_size(tmp_path / "x.png")


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(ImageError, match="can't be read"):
        read_rgb8(tmp_path)


def test_floating_point_images_are_refused(tmp_path):
    Image.fromarray(RGB[..., 0].astype(np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match="float32"):
        read_rgb8(tmp_path / "x.tif")
