"""Finished images: matched by the names of the pairs, all errors reported together."""

from pathlib import Path

import numpy as np
import pytest

from d2csr.data.sources import open_pairs
from d2csr.evaluation.systems import PrecomputedImages, has_images
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
def test_an_image_is_found_by_the_name_of_its_pair(pairs, tmp_path, ending):
    manifest = open_pairs(pairs / "test")
    system = finished(tmp_path, [f"{name}{ending}.png" for name in NAMES])
    assert system.validate(manifest) == []
    upscale = system.open(manifest)
    for seed, pair in enumerate(manifest):
        sr = upscale(pair, np.zeros((24, 24, 3), np.uint8)).sr
        assert np.array_equal(sr, scene(seed))


def test_all_missing_images_are_one_error(pairs, tmp_path):
    system = finished(tmp_path, ["scene_1.png"])
    (error,) = system.validate(open_pairs(pairs / "test"))
    assert "2 of 3 images are missing: scene_0, scene_2" in str(error)


def test_two_images_of_one_pair_are_an_error(pairs, tmp_path):
    system = finished(tmp_path, [*(f"{name}.png" for name in NAMES), "scene_1_SR.png"])
    (error,) = system.validate(open_pairs(pairs / "test"))
    assert "scene_1.png, scene_1_SR.png" in str(error)


def test_the_error_for_another_size_gives_both_sizes(pairs, tmp_path):
    system = finished(tmp_path, [f"{name}.png" for name in NAMES], side_px=44)
    errors = system.validate(open_pairs(pairs / "test"))
    assert len(errors) == 3
    assert "is 44x44 px, HR is 48x48 px" in str(errors[0])


def test_an_unreadable_image_is_an_error(pairs, tmp_path):
    system = finished(tmp_path, [f"{name}.png" for name in NAMES])
    (tmp_path / "scene_2.png").write_bytes(b"")
    (error,) = system.validate(open_pairs(pairs / "test"))
    assert "scene_2.png" in str(error)


def test_a_folder_without_images_has_none(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    assert not has_images(tmp_path)
    assert not has_images(tmp_path / "missing")
