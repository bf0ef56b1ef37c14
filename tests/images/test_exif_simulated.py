"""EXIF as an independent reader finds it in JPEG, PNG and TIFF files."""

import io

import numpy as np
import pytest

from d2csr.images.exif_simulated import Facts, jpeg_with_exif, png_with_exif, tiff_with_exif
from d2csr.simulate.camera_config import DevelopmentPart
from d2csr.simulate.isp import jpeg_bytes

Image = pytest.importorskip("PIL.Image", reason="Pillow reads EXIF independently")

METADATA = Facts("d2csr", "Simulated", "2024:01:02 03:04:05", 54.3, 81.4, 5.64, 1 / 60, 199.7)
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_every_format_tells_the_photograph(kind):
    contents = {
        "jpeg": lambda: jpeg_with_exif(jpeg_bytes(IMAGE, DevelopmentPart()), METADATA),
        "png": lambda: png_with_exif(IMAGE, METADATA),
        "tiff": lambda: tiff_with_exif(IMAGE, METADATA),
    }[kind]()
    with Image.open(io.BytesIO(contents)) as image:
        exif = image.getexif()
        photograph = exif.get_ifd(0x8769)
        pixels = np.asarray(image.convert("RGB"))
    assert (exif[0x010F], exif[0x0110], exif[0x0132]) == ("d2csr", "Simulated", METADATA.date_time)
    assert photograph[0x9003] == METADATA.date_time
    assert float(photograph[0x920A]) == pytest.approx(54.3)
    assert photograph[0xA405] == 81
    assert photograph[0x8827] == 200
    assert float(photograph[0x829D]) == pytest.approx(5.6)
    assert float(photograph[0x829A]) == pytest.approx(1 / 60, rel=1e-4)
    assert pixels.shape == IMAGE.shape
    if kind != "jpeg":
        assert np.array_equal(pixels, IMAGE)
