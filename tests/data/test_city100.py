"""City100 as its authors publish it becomes the pairs measured on, pixel for pixel."""

import numpy as np
import pytest

from d2csr.core.errors import DataError, PairError
from d2csr.core.manifest import read_manifest
from d2csr.data.city100 import import_city100, read_scenes, recover_lr
from d2csr.data.validation import check_pairs
from d2csr.images.reader import read_rgb8


def test_scene_1_of_both_cameras_comes_out_pixel_for_pixel(data_folder, tmp_path):
    manifests = import_city100(data_folder / "city100_original", tmp_path)
    assert [manifest.scale for manifest in manifests] == [3, 2]
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.webp"))
    assert len(made) == 4
    for path in made:
        assert np.array_equal(read_rgb8(tmp_path / path), read_rgb8(data_folder / "city100" / path))
    assert all(check_pairs(manifest, patch_px=100) == [] for manifest in manifests)


def test_halves_round_to_even():
    blocks = np.zeros((2, 4, 3), np.uint8)
    blocks[0, 0], blocks[0, 2] = 2, 6  # means 0.5 and 1.5
    assert recover_lr(blocks, 2)[0, :, 0].tolist() == [0, 2]


def test_x3_keeps_every_third_pixel_from_the_second_on(noise):
    published = noise(9, 6)
    assert np.array_equal(recover_lr(published, 3), published[[1, 4]][:, [1, 4, 7]])


@pytest.fixture
def clone(tmp_path, put):
    """Return a clone of five small scenes, camera folders two levels down."""
    for camera in ("City100_NikonD5500", "City100_iPhoneX"):
        for scene in (1, 2, 5, 98, 99):
            for role in "HL":
                name = f"CameraSR/City100/{camera}/{scene:03d}{role}.png"
                put(tmp_path / name, 12, 6, seed=scene)
    for path in (tmp_path / "CameraSR").rglob("*.png"):
        path.rename(path.with_suffix(".PNG"))
    return tmp_path / "CameraSR"


def test_scenes_go_to_the_splits_of_the_data_set(clone, tmp_path):
    nikon, iphone = import_city100(clone, tmp_path / "out")
    splits = {pair.name: pair.split for pair in nikon}
    assert splits == {
        "Nikon_001": "test",
        "Nikon_002": "train",
        "Nikon_005": "val",
        "Nikon_098": "test",
        "Nikon_099": "train",
    }
    assert iphone.pairs[0].lr == tmp_path / "out/iphone_x_x2/test/iPhoneX_001_LR2.webp"
    assert read_manifest(tmp_path / "out/nikon_d5500_x3/manifest.json").licence.startswith("MIT")


def test_scenes_can_be_chosen(clone, tmp_path):
    (tmp_path / "scenes.txt").write_text("001, 99\n")
    nikon, _ = import_city100(clone, tmp_path / "out", scenes=read_scenes(tmp_path / "scenes.txt"))
    assert [pair.name for pair in nikon] == ["Nikon_001", "Nikon_099"]


def test_missing_files_are_reported_before_anything_is_written(clone, tmp_path):
    (clone / "City100/City100_iPhoneX/002L.PNG").unlink()
    with pytest.raises(DataError, match=r"City100_iPhoneX/002L\.PNG, scene 3, scene 4"):
        import_city100(clone, tmp_path / "out", scenes=frozenset({1, 2, 3, 4}))
    assert not (tmp_path / "out").exists()


def test_images_of_another_size_are_refused(clone, tmp_path, put):
    put(tmp_path / "x.png", 12, 9).rename(clone / "City100/City100_iPhoneX/002L.PNG")
    with pytest.raises(PairError, match="12x6 and 12x9"):
        import_city100(clone, tmp_path / "out")


def test_a_folder_without_scenes_is_refused(tmp_path):
    with pytest.raises(DataError, match="no scenes"):
        import_city100(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("text", [None, "one", "1 -2", "", " \n,"])
def test_a_list_of_scenes_must_hold_numbers(tmp_path, text):
    if text is not None:
        (tmp_path / "scenes.txt").write_text(text)
    with pytest.raises(DataError, match=r"scenes\.txt"):
        read_scenes(tmp_path / "scenes.txt")
