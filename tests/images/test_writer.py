"""Images that are written are read back; a failure leaves nothing behind."""

import numpy as np
import pytest
from PIL import Image

from d2csr.core.errors import ImageError, UsageError
from d2csr.images.reader import read_rgb8
from d2csr.images.writer import write_gray8, write_rgb8

RGB = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".TIFF"])
def test_lossless_formats_keep_every_pixel(tmp_path, suffix):
    write_rgb8(tmp_path / f"é{suffix}", RGB)
    assert np.array_equal(read_rgb8(tmp_path / f"é{suffix}"), RGB)


def test_a_jpeg_is_near_the_image_with_full_color_resolution(tmp_path):
    smooth = np.asarray(Image.fromarray(RGB).resize((50, 70), Image.Resampling.BICUBIC))
    write_rgb8(tmp_path / "x.jpg", smooth)
    assert np.abs(read_rgb8(tmp_path / "x.jpg").astype(int) - smooth).mean() < 1.5


def test_views_are_written_as_they_look(tmp_path):
    write_rgb8(tmp_path / "x.png", RGB[::-1, ::2])
    assert np.array_equal(read_rgb8(tmp_path / "x.png"), RGB[::-1, ::2])


def test_gray_files_have_one_channel(tmp_path):
    write_gray8(tmp_path / "x.png", RGB[..., 0])
    image = Image.open(tmp_path / "x.png")
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), RGB[..., 0])


@pytest.mark.parametrize("name", ["x.bmp", "x", "x.gif"])
def test_a_suffix_that_names_no_format_is_refused(tmp_path, name):
    with pytest.raises(ImageError, match="belongs to no format"):
        write_rgb8(tmp_path / name, RGB)


def test_an_image_that_the_format_can_not_store_leaves_nothing(tmp_path):
    with pytest.raises(ImageError, match=r"16384x1 is too large for \.webp"):
        write_rgb8(tmp_path / "x.webp", np.zeros((1, 16384, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=r"x\.png: can't be written: .*file: Not a directory"):
        write_rgb8(tmp_path / "file" / "x.png", RGB)
