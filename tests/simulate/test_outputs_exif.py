"""EXIF of captured frames as Pillow, an independent reader, finds it in JPEG, PNG and TIFF."""

import numpy as np
import pytest
from PIL import Image

from d2csr.core.geometry import Size
from d2csr.images.reader import read_rgb8
from d2csr.simulate.camera_config import CameraConfig
from d2csr.simulate.outputs import SceneJob, make_capture
from d2csr.simulate.scene import Procedural

CAMERA = {
    "optics": {"focal_mm": 18.1, "zoom_error": 0, "tele": {"f_number": 5.64}},
    "exposure": {"iso": 199.7, "error_ev": 0, "time_s": 1 / 60},
    "exif": {"make": "d2csr", "start_time": "2024:01:02 03:04:05", "seconds_between": 0},
}


@pytest.mark.parametrize(("kind", "suffix"), [("jpeg", ".jpg"), ("png", ".png"), ("tiff", ".tif")])
def test_every_format_holds_the_settings_of_the_photograph(tmp_path, kind, suffix):
    camera = CameraConfig.model_validate(CAMERA | {"isp": {"format": kind}})
    source = Procedural(Size(300, 260), (1, 2))
    make_capture(SceneJob(source, "001", "", 3, camera, (3, 4), 0), tmp_path)
    with Image.open(tmp_path / f"001_tele{suffix}") as image:
        exif = image.getexif()
        photograph = exif.get_ifd(0x8769)
        pixels = np.asarray(image.convert("RGB"))
    date_time = "2024:01:02 03:04:05"
    assert (exif[0x010F], exif[0x0110], exif[0x0132]) == ("d2csr", "Simulated", date_time)
    assert photograph[0x9003] == date_time
    assert float(photograph[0x920A]) == pytest.approx(54.3)
    assert photograph[0xA405] == 81
    assert photograph[0x8827] == 200
    assert float(photograph[0x829D]) == pytest.approx(5.6)
    assert photograph[0x9000] == b"0232"
    wide_f_number = float(_exif(tmp_path / f"001_wide{suffix}")[0x829D])
    expected_s = 1 / 60 * (5.64 / wide_f_number) ** 2
    assert float(photograph[0x829A]) == pytest.approx(expected_s, rel=0.03)  # f-numbers are rounded
    assert np.array_equal(pixels, read_rgb8(tmp_path / f"001_tele{suffix}"))


def _exif(path):
    with Image.open(path) as image:
        return image.getexif().get_ifd(0x8769)
