from datetime import datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from d2csr.align.camera_info import facts_of_file
from d2csr.align.pairing import find_pairs
from d2csr.core.errors import DataError
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


def photo(path: Path, *, focal_mm: float | None = None, seconds: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    jpeg = cv2.imencode(".jpg", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
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
    facts = facts_of_file(tmp_path / "a.jpg")
    assert (facts.focal_mm, facts.focal_35mm, facts.model) == (18, 27, "Zoomer 5")
    assert facts.taken == START + timedelta(seconds=7)


def test_names_tell_pairs(tmp_path):
    for name in ("01_wide.jpg", "01_tele.jpg", "b/wide/x.jpg", "b/tele/x.jpg", "tele_9.jpg"):
        photo(tmp_path / name)
    found = find_pairs(tmp_path, scale=2)
    names = [(pair.name, pair.wide.name, pair.tele.name) for pair in found.pairs]
    assert names == [("01", "01_wide.jpg", "01_tele.jpg"), ("b/x", "x.jpg", "x.jpg")]
    assert [(path.name, why) for path, why in found.unpaired] == [
        ("tele_9.jpg", "EXIF tells no focal length")
    ]


def test_focal_length_and_time_tell_pairs(tmp_path):
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


def test_pairs_taken_at_once_share_a_scene(tmp_path):
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


def test_short_zoom_is_refused_with_the_honest_scale(tmp_path):
    photo(tmp_path / "a.jpg", focal_mm=18)
    photo(tmp_path / "b.jpg", focal_mm=50, seconds=3)
    with pytest.raises(DataError, match=r"ratio 2\.78.*largest honest scale is 3"):
        find_pairs(tmp_path, scale=4)


def test_photographs_left_over_do_not_spoil_named_pairs(tmp_path):
    for name in ("1_wide.jpg", "1_tele.jpg"):
        photo(tmp_path / name)
    photo(tmp_path / "a.jpg", focal_mm=18)
    photo(tmp_path / "b.jpg", focal_mm=50, seconds=3)
    found = find_pairs(tmp_path, scale=4)
    assert [pair.name for pair in found.pairs] == ["1"]
    assert [path.name for path, why in found.unpaired if "no partner" in why] == ["a.jpg", "b.jpg"]


def test_folder_without_pairs_is_told(tmp_path):
    photo(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="no pair"):
        find_pairs(tmp_path, scale=2)
