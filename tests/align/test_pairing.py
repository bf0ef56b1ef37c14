from datetime import datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from d2csr.align.camera_info import UNKNOWN_CAMERA, read_camera_info
from d2csr.align.pairing import find_pairs
from d2csr.align.photo import read_photo
from d2csr.core.errors import DataError, ImageError
from d2csr.images.exif import (
    DATE_TIME_ORIGINAL,
    FOCAL_LENGTH,
    FOCAL_LENGTH_35MM,
    MAKE,
    MODEL,
    ExifTags,
    add_to_jpeg,
    ascii_tag,
    rational_tag,
    short_tag,
)  # fmt: skip

START = datetime(2024, 5, 1, 10, 0, 0)


def photo(
    path: Path, *, focal_mm: float | None = None, seconds: float = 0.0, side: int = 8
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    jpeg = cv2.imencode(".jpg", np.full((side, side, 3), 90, np.uint8))[1].tobytes()
    if focal_mm is not None:
        taken = (START + timedelta(seconds=seconds)).strftime("%Y:%m:%d %H:%M:%S")
        main = {MAKE: ascii_tag("Maker"), MODEL: ascii_tag("Zoomer 5")}
        exif = {
            DATE_TIME_ORIGINAL: ascii_tag(taken),
            FOCAL_LENGTH: rational_tag(float(focal_mm), denominator=10),
            FOCAL_LENGTH_35MM: short_tag(round(focal_mm * 1.5)),
        }
        jpeg = add_to_jpeg(jpeg, ExifTags(main, exif))
    path.write_bytes(jpeg)


def test_exif_is_read(tmp_path):
    photo(tmp_path / "a.jpg", focal_mm=18, seconds=7)
    camera = read_camera_info(tmp_path / "a.jpg")
    assert (camera.focal_mm, camera.focal_35mm, camera.model) == (18, 27, "Zoomer 5")
    assert camera.taken == START + timedelta(seconds=7)


def test_photographs_are_paired_by_name(tmp_path):
    for name in ("01_wide.jpg", "01_tele.jpg", "b/wide/x.jpg", "b/tele/x.jpg", "tele_9.jpg"):
        photo(tmp_path / name)
    found = find_pairs(tmp_path, scale=2)
    names = [(pair.name, pair.wide.name, pair.tele.name) for pair in found.pairs]
    assert names == [("01", "01_wide.jpg", "01_tele.jpg"), ("b/x", "x.jpg", "x.jpg")]
    assert [(path.name, why) for path, why in found.unpaired] == [
        ("tele_9.jpg", "EXIF has no focal length")
    ]


def test_photographs_are_paired_by_focal_length_and_time(tmp_path):
    for number, (focal, seconds) in enumerate(
        [(18, 0), (55, 5), (55, 65), (18, 60), (18, 120), (55, 900)]
    ):
        photo(tmp_path / f"IMG_{number}.jpg", focal_mm=focal, seconds=seconds)
    found = find_pairs(tmp_path, scale=3)
    assert [(pair.wide.name, pair.tele.name) for pair in found.pairs] == [
        ("IMG_0.jpg", "IMG_1.jpg"),
        ("IMG_3.jpg", "IMG_2.jpg"),
    ]
    assert [path.name for path, _ in found.unpaired] == ["IMG_4.jpg", "IMG_5.jpg"]


def test_pairs_taken_together_share_a_scene(tmp_path):
    for number, (focal, seconds) in enumerate(
        [(18, 0), (55, 4), (55, 9), (18, 12), (18, 90), (55, 93)]
    ):
        photo(tmp_path / f"{number}.jpg", focal_mm=focal, seconds=seconds)
    scenes = [pair.scene for pair in find_pairs(tmp_path, scale=3).pairs]
    assert scenes == ["0", "0", "4"]


def test_raw_is_preferred_to_the_jpeg_beside_it(tmp_path):
    for name in ("1_wide.jpg", "1_wide.dng", "1_tele.jpg"):
        photo(tmp_path / name)
    (pair,) = find_pairs(tmp_path, scale=2).pairs
    assert pair.wide.name == "1_wide.dng"


def test_short_zoom_is_refused_with_the_largest_possible_scale(tmp_path):
    photo(tmp_path / "a.jpg", focal_mm=18)
    photo(tmp_path / "b.jpg", focal_mm=50, seconds=3)
    with pytest.raises(DataError, match=r"ratio 2\.78.*largest possible scale is 3"):
        find_pairs(tmp_path, scale=4)


def test_unpaired_photographs_do_not_affect_named_pairs(tmp_path):
    for name in ("1_wide.jpg", "1_tele.jpg"):
        photo(tmp_path / name)
    photo(tmp_path / "a.jpg", focal_mm=18)
    photo(tmp_path / "b.jpg", focal_mm=50, seconds=3)
    found = find_pairs(tmp_path, scale=4)
    assert [pair.name for pair in found.pairs] == ["1"]
    assert [path.name for path, why in found.unpaired if "no partner" in why] == ["a.jpg", "b.jpg"]


def test_folder_without_pairs_is_refused(tmp_path):
    photo(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="no pair"):
        find_pairs(tmp_path, scale=2)


def damage_exif(path: Path) -> None:
    """Point the first directory of a JPEG's EXIF beyond its end."""
    jpeg = path.read_bytes()
    start = jpeg.index(b"Exif\0\0") + 6
    path.write_bytes(jpeg[: start + 4] + b"\xff\xff\xff\x7f" + jpeg[start + 8 :])


@pytest.mark.parametrize("kind", ["damaged EXIF", "not an image", "empty"])
def test_unreadable_files_are_reported_as_such(tmp_path, kind):
    photo(tmp_path / "1_wide.jpg")
    photo(tmp_path / "1_tele.jpg")
    path = tmp_path / "other.jpg"
    photo(path, focal_mm=18)
    if kind == "damaged EXIF":
        damage_exif(path)
    else:
        path.write_bytes(b"" if kind == "empty" else b"no image at all")
    with pytest.raises(ImageError, match=r"other\.jpg"):
        read_camera_info(path)
    ((unpaired, reason),) = find_pairs(tmp_path, scale=2).unpaired
    assert unpaired == path
    assert "EXIF has no" not in reason


def test_photograph_with_damaged_exif_is_read_with_a_note(tmp_path):
    path = tmp_path / "a.jpg"
    photo(path, focal_mm=18, side=64)
    damage_exif(path)
    read = read_photo(path)
    assert read.camera == UNKNOWN_CAMERA
    assert any("EXIF" in note for note in read.notes)
