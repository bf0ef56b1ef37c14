"""Bicubic pairs from photographs."""

from fractions import Fraction

import numpy as np
import pytest

from d2csr.core.errors import DataError
from d2csr.core.geometry import Size
from d2csr.data.sources import open_pairs
from d2csr.data.synthetic import make_bicubic_pairs
from d2csr.data.validation import check_pairs
from d2csr.images.reader import read_rgb8
from d2csr.images.resize import resize_bicubic


@pytest.fixture
def photos(tmp_path, put):
    """Return a folder of three photos, two of them alike but for the suffix."""
    put(tmp_path / "photos/été.png", 26, 20)
    put(tmp_path / "photos/trip/b.png", 24, 24, seed=1)
    put(tmp_path / "photos/trip/b.webp", 24, 24, seed=2)
    return tmp_path / "photos"


def test_photos_become_pairs_that_open_and_pass_the_check(photos, tmp_path):
    made = make_bicubic_pairs(photos, tmp_path / "out", scale=3, split="train", licence="CC0")
    assert open_pairs(tmp_path / "out") == read_back(made)
    assert [pair.name for pair in made] == ["trip-b-png", "trip-b-webp", "été"]
    assert check_pairs(made, patch_px=6) == []
    assert {pair.split for pair in made} == {"train"}
    assert made.pairs[2].lr_size == Size(8, 6)


def read_back(manifest):
    from d2csr.core.manifest import read_manifest

    return read_manifest(manifest.folder / "manifest.json")


def test_hr_is_the_photo_cut_and_lr_its_reduction(photos, tmp_path):
    pair = make_bicubic_pairs(photos, tmp_path / "out", scale=3).pairs[2]
    hr = read_rgb8(photos / "été.png")[:18, :24]
    assert np.array_equal(read_rgb8(pair.hr), hr)
    assert np.array_equal(read_rgb8(pair.lr), resize_bicubic(hr, scale=Fraction(1, 3)))


def test_set5_made_here_is_set5_as_published(data_folder, tmp_path):
    made = make_bicubic_pairs(data_folder / "benchmarks/Set5/HR", tmp_path, scale=3)
    published = open_pairs(data_folder / "benchmarks/Set5", scale=3)
    for ours, theirs in zip(made, published, strict=True):
        assert np.array_equal(read_rgb8(ours.lr), read_rgb8(theirs.lr))


def test_photos_that_can_not_be_read_are_all_named_and_nothing_is_written(photos, tmp_path, put):
    (photos / "bad.png").write_bytes(b"x")
    put(photos / "tiny.png", 2, 9)
    with pytest.raises(DataError, match=r"2 can't be used.*\n  .*bad\.png.*\n  .*tiny\.png"):
        make_bicubic_pairs(photos, tmp_path / "out", scale=3)
    assert not (tmp_path / "out").exists()


def test_impossible_requests_are_refused(photos, tmp_path):
    with pytest.raises(DataError, match="among the photos"):
        make_bicubic_pairs(photos, photos / "out", scale=2)
    with pytest.raises(DataError, match="reduces nothing"):
        make_bicubic_pairs(photos, tmp_path / "out", scale=1)
    with pytest.raises(DataError, match="not a folder"):
        make_bicubic_pairs(photos / "none", tmp_path / "out", scale=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        make_bicubic_pairs(tmp_path / "empty", tmp_path / "out", scale=2)
