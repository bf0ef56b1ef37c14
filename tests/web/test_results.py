"""Results: the images of a photo by name, and their tiles, compared with the pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from d2csr.core.errors import ImageError
from d2csr.core.geometry import Size
from d2csr.images.reader import read_rgb8, read_size
from d2csr.upscale.report import ImageReport
from d2csr.web.jobs import Job
from d2csr.web.results import TILE_PX, Layer, Result, Tiles
from d2csr.web.worker import JobRequest


def smooth(height: int, width: int) -> np.ndarray:
    """Return an image that JPEG stores nearly unchanged, in which no two corners are alike."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / width, 255 * y / height, 128 + 0 * x], -1).astype(np.uint8)


@pytest.mark.parametrize("name", ["before", "after"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_tiles_of_the_last_level_are_the_pixels(tmp_path, name, suffix):
    pixels = smooth(700, 1100)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels).save(path)
    tiles, folder = Tiles(limit_mp=10.0), tmp_path / "tiles" / "0_after"
    found = tiles.describe(Layer(name, "", path), folder)
    assert found == {"width": 1100, "height": 700, "tile": TILE_PX, "levels": 3}
    assert tiles.describe(Layer(name, "", path), folder) == found  # a second time, from the disk
    last = read_rgb8(tiles.path(folder, level=2, column=1, row=1))
    expected = pixels[TILE_PX:, TILE_PX : 2 * TILE_PX]
    assert np.abs(last.astype(int) - expected).max() <= 3
    assert read_size(tiles.path(folder, level=0, column=0, row=0)) == Size(275, 175)


def test_a_photo_is_shown_upright_by_its_profile_and_on_gray(tmp_path):
    photo = Image.fromarray(smooth(40, 80)).convert("RGBA")
    photo.putalpha(Image.new("L", photo.size, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo.save(tmp_path / "a.png", exif=exif, icc_profile=profile)
    tiles, folder = Tiles(limit_mp=10.0), tmp_path / "t"
    found = tiles.describe(Layer("before", "", tmp_path / "a.png"), folder)
    assert (found["width"], found["height"]) == (40, 80)
    tile = read_rgb8(tiles.path(folder, level=0, column=0, row=0))
    assert np.abs(tile.astype(int) - 128).max() <= 3


def test_what_cannot_be_shown_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    for name in ("before", "after"):
        with pytest.raises(ImageError):
            Tiles(limit_mp=10.0).describe(Layer(name, "", tmp_path / "a.png"), tmp_path / "t")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_result_has_the_images_that_were_made():
    files = ("out/a.png", "out/a_prediction_1.png", "out/a_prediction_2.png", "out/a_weight_1.png")
    report = ImageReport("in/a.png", "out/a.png", "done", files=files, sr_size=Size(2, 2))
    job = Job(JobRequest((Path("in/a.png"),), Path("out")), Path(), "me", "a.png", "x2")
    job.reports.append(report)
    found = Result(job, 0).layers
    assert list(found) == ["before", "after", "prediction_1", "weight_1", "prediction_2"]
    assert found["prediction_2"].path == Path("out/a_prediction_2.png")
