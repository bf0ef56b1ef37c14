"""The `data` commands, as the shell sees them."""

from dataclasses import replace

import numpy as np
import pytest

from d2csr.core.manifest import write_manifest
from d2csr.data.sources import open_pairs
from d2csr.images.writer import write_rgb8


def image(path, width, height):
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    write_rgb8(path, noise)


@pytest.fixture
def pairs(tmp_path):
    """Return a folder of two x2 pairs."""
    for name in "ab":
        image(tmp_path / f"train/{name}_LR2.png", 12, 10)
        image(tmp_path / f"train/{name}_HR.png", 24, 20)
    return tmp_path / "train"


def test_a_sound_set_is_summed_up_in_a_line(d2csr, pairs):
    answer = d2csr("data", "check", pairs, "--patch", 10)
    assert (answer.code, answer.err) == (0, "")
    assert "2 pairs of scale 2 (train), no errors" in answer.out


def test_a_manifest_of_files_elsewhere_needs_a_flag(d2csr, pairs, tmp_path):
    path = tmp_path / "other" / "manifest.json"
    write_manifest(replace(open_pairs(pairs), folder=path.parent), path)
    answer = d2csr("data", "check", path)
    assert answer.code == 2
    assert "outside its folder" in answer.err
    assert "Add --allow-outside" in answer.err
    assert d2csr("data", "check", path, "--allow-outside").code == 0
    bicubic = ("evaluate", "-n", "bicubic", "--data", path)
    assert "outside its folder" in d2csr(*bicubic).err
    assert "b_HR.png: is only 24x20 px" in d2csr(*bicubic, "--allow-outside").err


def test_every_error_is_a_line_and_the_code_is_2(d2csr, pairs):
    (pairs / "a_LR2.png").unlink()
    (pairs / "b_HR.png").write_bytes(b"")
    answer = d2csr("data", "check", pairs, "--scale", 2)
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 2
    assert f"error: {pairs / 'a_LR2.png'}: is missing" in answer.err
    assert f"error: {pairs / 'b_HR.png'}: is empty" in answer.err
    assert "2 errors" in answer.out


def test_the_mask_limit_is_a_share(d2csr, pairs):
    assert d2csr("data", "check", pairs, "--mask-limit", 1).code == 0
    answer = d2csr("data", "check", pairs, "--mask-limit", 1.5)
    assert answer.code == 2
    assert "--mask-limit" in answer.err


def test_a_folder_without_pairs_is_an_error(d2csr, tmp_path):
    answer = d2csr("data", "check", tmp_path)
    assert answer.code == 2
    assert "no pairs in a known layout" in answer.err


def test_photos_become_pairs_that_pass_the_check(d2csr, tmp_path):
    image(tmp_path / "photos" / "x.png", 21, 13)
    answer = d2csr("data", "bicubic", tmp_path / "photos", "-o", tmp_path / "out", "--scale", 4)
    assert answer.code == 0
    assert "1 pairs of scale 4" in answer.out
    assert d2csr("data", "check", tmp_path / "out" / "manifest.json").code == 0


def test_city100_is_imported_by_scene(d2csr, tmp_path):
    folder = tmp_path / "clone" / "City100" / "City100_NikonD5500"
    for scene in (1, 2):
        for role in "HL":
            image(folder / f"{scene:03d}{role}.png", 12, 6)
    (tmp_path / "scenes.txt").write_text("2")
    answer = d2csr(
        "data", "import", "city100", tmp_path / "clone", "-o", tmp_path / "out",
        "--scenes", tmp_path / "scenes.txt",
    )  # fmt: skip
    assert answer.code == 0
    assert "1 train, 0 val, 0 test" in answer.out
    assert (tmp_path / "out/nikon_d5500_x3/train/Nikon_002_LR3.webp").is_file()
    assert d2csr("data", "check", tmp_path / "out/nikon_d5500_x3").code == 0
