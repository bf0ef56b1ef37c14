"""Finished images: found by the pairs' names, refused all at once."""

from pathlib import Path

import numpy as np
import pytest

from d2csr.data.sources import open_pairs
from d2csr.evaluation.systems import PrecomputedImages, holds_images
from d2csr.images.writer import write_rgb8
from tests.evaluation.conftest import scene

NAMES = ("scene_0", "scene_1", "scene_2")


def finished(folder: Path, names: list[str], *, side_px: int = 48) -> PrecomputedImages:
    for seed, name in enumerate(names):
        write_rgb8(folder / name, scene(seed, side_px=side_px))
    return PrecomputedImages(folder, str(folder))


@pytest.mark.parametrize(
    "ending",
    ["", "_SR", "_SR2", "_SRx2", "_x2", "_LR2", "_LR2_SR", "_LR2_x2", "_LR", "x2", "x2_SR"],
)
def test_a_image_is_found_by_the_name_of_its_pair(pairs, tmp_path, ending):
    manifest = open_pairs(pairs / "test")
    system = finished(tmp_path, [f"{name}{ending}.png" for name in NAMES])
    assert system.validate(manifest) == []
    enlarge = system.open(manifest)
    for seed, pair in enumerate(manifest):
        sr = enlarge(pair, np.zeros((24, 24, 3), np.uint8)).sr
        assert np.array_equal(sr, scene(seed))


def test_all_missing_images_are_told_in_one_error(pairs, tmp_path):
    system = finished(tmp_path, ["scene_1.png"])
    (error,) = system.validate(open_pairs(pairs / "test"))
    assert "2 of 3 images are missing: scene_0, scene_2" in str(error)


def test_two_images_of_one_pair_are_refused(pairs, tmp_path):
    system = finished(tmp_path, [*(f"{name}.png" for name in NAMES), "scene_1_SR.png"])
    (error,) = system.validate(open_pairs(pairs / "test"))
    assert "scene_1.png, scene_1_SR.png" in str(error)


def test_a_image_of_another_size_is_told_with_both_sizes(pairs, tmp_path):
    system = finished(tmp_path, [f"{name}.png" for name in NAMES], side_px=44)
    errors = system.validate(open_pairs(pairs / "test"))
    assert len(errors) == 3
    assert "is 44x44 px, HR is 48x48 px" in str(errors[0])


def test_an_unreadable_image_is_told(pairs, tmp_path):
    system = finished(tmp_path, [f"{name}.png" for name in NAMES])
    (tmp_path / "scene_2.png").write_bytes(b"")
    (error,) = system.validate(open_pairs(pairs / "test"))
    assert "scene_2.png" in str(error)


def test_a_folder_without_images_holds_none(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    assert not holds_images(tmp_path)
    assert not holds_images(tmp_path / "missing")
