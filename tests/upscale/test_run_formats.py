"""The format of results: that of each photograph, with its quality."""

import numpy as np
import pytest
from PIL import Image

from d2csr.core.bundle import Bundle
from d2csr.engine.model import load
from d2csr.images.encoding import read_quality
from d2csr.images.reader import read_image, read_rgb8
from d2csr.upscale.options import OutputOptions
from d2csr.upscale.run import upscale_files

SMOOTH = np.tile(np.linspace(20, 230, 48).astype(np.uint8)[None, :, None], (32, 1, 3))


@pytest.fixture
def photo(tmp_path):
    """Return a function that writes a photograph with EXIF."""

    def write(name: str, **options):
        image = Image.fromarray(SMOOTH)
        exif = image.getexif()
        exif[271] = "A camera"
        image.save(tmp_path / name, exif=exif, dpi=(300, 300), **options)
        return tmp_path / name

    return write


def test_a_jpeg_stays_a_jpeg_of_its_quality_with_its_metadata(bundle: Bundle, photo, tmp_path):
    path = photo("a.jpg", quality=72)
    upscale_files([path], model=bundle, options=OutputOptions(bicubic=True))
    for name in ("a_x2.jpg", "a_x2_bicubic.jpg"):
        assert read_quality(tmp_path / name, "jpeg") == 72
        with Image.open(tmp_path / name) as result:
            assert (result.format, result.size) == ("JPEG", (96, 64))
            assert result.getexif()[271] == "A camera"
            assert result.info["dpi"] == pytest.approx((600, 600))
    assert (tmp_path / "a_x2.jpg").stat().st_size < 4 * path.stat().st_size


@pytest.mark.parametrize(
    ("options", "name", "quality"),
    [
        (OutputOptions(quality=40), "a.jpg", 40),
        (OutputOptions(ext="jpg", quality=40), "a.png", 40),
        (OutputOptions(ext="jpg"), "a.png", 95),
        (OutputOptions(ext="jpg"), "a.webp", 95),
    ],
)
def test_the_quality_is_the_one_given_or_the_formats(
    bundle: Bundle, photo, tmp_path, options, name, quality
):
    upscale_files([photo(name)], model=bundle, options=options)
    assert read_quality(tmp_path / "a_x2.jpg", "jpeg") == quality


@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_is_stored_with_or_without_loss_as_it_was(bundle: Bundle, photo, tmp_path, lossless):
    path = photo("a.webp", lossless=lossless)
    upscale_files([path], model=bundle)
    upscale_files([path], tmp_path / "exact", model=bundle, options=OutputOptions(ext="png"))
    assert (read_image(tmp_path / "a_x2.webp").quality is None) == lossless
    exact = read_rgb8(tmp_path / "exact" / "a.png")
    assert np.array_equal(exact, load(bundle.folder).upscale(read_rgb8(path)))
    assert np.array_equal(read_rgb8(tmp_path / "a_x2.webp"), exact) == lossless
