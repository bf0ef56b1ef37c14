"""Quality of lossy files: read from JPEG and WebP, and used by the encoders."""

import numpy as np
import pytest
from PIL import Image

from d2csr.core.geometry import Size
from d2csr.images.encoding import LOSSY_WEBP_QUALITY, read_quality
from d2csr.images.formats import PixelFormat
from d2csr.images.reader import read_image
from d2csr.images.writer import ImageWriter

NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def _save(path, **options):
    Image.fromarray(NOISE).save(path, **options)
    return path


@pytest.mark.parametrize("quality", range(1, 101))
def test_the_quality_of_a_file_by_libjpeg_is_exact(tmp_path, quality):
    path = _save(tmp_path / "a.jpg", quality=quality, subsampling=quality % 3)
    assert read_quality(path, "jpeg") == quality


@pytest.mark.parametrize("quality", [1, 24, 50, 75, 95, 100])
def test_a_file_is_written_with_the_quality_that_is_read_from_it(tmp_path, quality):
    path = tmp_path / "a.jpg"
    with ImageWriter(
        path, size=Size(32, 24), pixel_format=PixelFormat(), quality=quality
    ) as writer:
        writer.write(NOISE)
    assert read_image(path).quality == quality


def test_of_other_tables_the_nearest_quality_is_taken(tmp_path):
    """Half and a fifth of the standard table are those of quality 75 and 90, but for noise."""
    with Image.open(_save(tmp_path / "50.jpg", quality=50)) as image:
        base = np.array(image.quantization[0])
    noise = np.random.default_rng(1).integers(-1, 2, 64)
    for divisor, quality in ((2, 75), (5, 90)):
        table = np.clip(base // divisor + noise, 1, 255).tolist()
        path = _save(tmp_path / "a.jpg", qtables=[table, table])
        assert abs(read_quality(path, "jpeg") - quality) <= 2


def test_lossy_and_lossless_webp_are_told_apart(tmp_path):
    lossy = _save(tmp_path / "a.webp", quality=60)
    assert read_quality(lossy, "webp") == LOSSY_WEBP_QUALITY
    with_profile = _save(tmp_path / "b.webp", quality=60, icc_profile=b"x" * 131, exif=b"e" * 9)
    assert read_quality(with_profile, "webp") == LOSSY_WEBP_QUALITY
    assert read_quality(_save(tmp_path / "c.webp", lossless=True), "webp") is None
    frames = [Image.fromarray(NOISE), Image.fromarray(NOISE[::-1])]
    frames[0].save(tmp_path / "d.webp", save_all=True, append_images=frames[1:], quality=60)
    assert read_quality(tmp_path / "d.webp", "webp") == LOSSY_WEBP_QUALITY


def test_other_formats_and_cut_files_have_no_quality(tmp_path):
    assert read_quality(_save(tmp_path / "a.png"), "png") is None
    whole = _save(tmp_path / "a.jpg", quality=80).read_bytes()
    start = whole.index(b"\xff\xdb")
    for length in (0, 2, 3, start, start + 4, start + 30):
        (tmp_path / "cut.jpg").write_bytes(whole[:length])
        assert read_quality(tmp_path / "cut.jpg", "jpeg") is None


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.avif"])
def test_a_lower_quality_makes_a_smaller_and_less_exact_file(tmp_path, name):
    sizes, errors = [], []
    for quality in (95, 30):
        path = tmp_path / str(quality) / name
        with ImageWriter(
            path, size=Size(32, 24), pixel_format=PixelFormat(), quality=quality
        ) as writer:
            writer.write(NOISE)
        sizes.append(path.stat().st_size)
        errors.append(np.abs(read_image(path).pixels.astype(int) - NOISE).mean())
    assert sizes[1] < 0.8 * sizes[0]
    assert 0 < errors[0] < errors[1]
