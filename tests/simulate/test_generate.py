"""Whole runs: determined by the seed, usable for training, written completely or not at all."""

import json
from dataclasses import replace

import numpy as np
import pytest

from d2csr.core.errors import DataError, ImageError, UsageError
from d2csr.core.geometry import Size
from d2csr.core.manifest import read_manifest
from d2csr.data.pairs import load_pair
from d2csr.data.validation import check_pairs
from d2csr.images.reader import read_rgb8, read_size
from d2csr.images.resize import resize_bicubic
from d2csr.images.writer import write_rgb8
from d2csr.simulate.camera_config import CameraConfig
from d2csr.simulate.generate import SimulationOptions, draw_splits, simulate
from d2csr.simulate.ground_truth import read_truth
from d2csr.simulate.scene import Photo, Procedural, draw_procedural_image, find_photos

JOB = SimulationOptions(scale=2, val=0.25, test=0.25)
SCENES = tuple(Procedural(Size(150, 130), (0, number)) for number in range(4))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*.*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "pairs"
    assert simulate(SCENES, out, options=JOB) == 4
    return out


def test_the_seed_decides_every_byte_whatever_the_processes(pairs, tmp_path):
    simulate(SCENES, tmp_path / "two", options=replace(JOB, workers=2))
    assert contents(tmp_path / "two") == contents(pairs)
    simulate(SCENES[:1], tmp_path / "other", options=replace(JOB, seed=1))
    (other,) = (tmp_path / "other").rglob("*_001_HR.png")
    (first,) = pairs.rglob("*_001_HR.png")
    assert other.read_bytes() != first.read_bytes()


def test_the_manifest_is_accepted(pairs):
    manifest = read_manifest(pairs / "manifest.json")
    assert check_pairs(manifest, patch_px=16) == []
    assert sorted(pair.split for pair in manifest) == ["test", "train", "train", "val"]
    assert all(pair.lr == pairs / pair.split / f"{pair.name}_LR2.png" for pair in manifest)


def test_two_steps_of_training_move_every_weight(pairs):
    """Those of channel attention aside, some of whose units start dead."""
    torch = pytest.importorskip("torch", reason="training needs it")
    from tests.tiny_models import random_network

    network = random_network().train()
    before = {name: each.detach().clone() for name, each in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters())
    for pair in read_manifest(pairs / "manifest.json").pairs[:2]:
        lr, hr = (torch.from_numpy(each / 255.0).float() for each in load_pair(pair, scale=2))
        crop = lr[:16, :16].permute(2, 0, 1)[None], hr[:32, :32].permute(2, 0, 1)[None]
        output = network(crop[0])
        loss = (getattr(output, "sr", output) - crop[1]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    still = [
        name for name, each in network.named_parameters() if bool((each == before[name]).all())
    ]
    assert [name for name in still if ".attention." not in name] == []


def test_hr_and_lr_are_aligned(pairs):
    """HR, reduced, is nearest to LR where it is not moved."""
    pair = read_manifest(pairs / "manifest.json").pairs[0]
    lr = read_rgb8(pair.lr).astype(float).mean(axis=2)
    reduced = resize_bicubic(read_rgb8(pair.hr), scale=0.5).astype(float).mean(axis=2)
    apart = {
        (y, x): np.square(np.roll(reduced, (y, x), (0, 1)) - lr)[2:-2, 2:-2].mean()
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
    }
    assert min(apart, key=apart.__getitem__) == (0, 0)
    assert abs(reduced.mean() - lr.mean()) < 5


def test_captures_come_with_ground_truth(tmp_path):
    out = tmp_path / "captures"
    simulate(SCENES[:2], out, options=replace(JOB, captures=True, scale=3))
    truths = read_truth(out)
    assert [truth.name for truth in truths] == ["001", "002"]
    for truth in truths:
        assert read_size(out / truth.wide_file) == truth.wide.size
        assert read_size(out / truth.tele_file) == truth.tele.size
        assert read_size(out / truth.parallax_file) == truth.wide.size
    rows = json.loads((out / "truth.json").read_text())["captures"]
    assert np.shape(rows[0]["matrix"]) == (3, 3)


def test_splits_are_determined_by_the_seed():
    first = draw_splits(20, val=0.1, test=0.2, seed=0)
    assert (first.count("val"), first.count("test")) == (2, 4)
    assert draw_splits(20, val=0.1, test=0.2, seed=0) == first
    assert draw_splits(20, val=0.1, test=0.2, seed=1) != first


def test_unusable_photos_are_reported_before_any_work(tmp_path):
    photos = tmp_path / "photos"
    small, broken = photos / "small.png", photos / "broken.png"
    write_rgb8(small, draw_procedural_image(Size(30, 200), rng=np.random.default_rng(0)))
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 can't be used") as raised:
        simulate(find_photos([photos], output=tmp_path / "out"), tmp_path / "out", options=JOB)
    assert "small.png: is 30x200 px; scale 2 needs 40 px" in str(raised.value)
    assert "broken.png" in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_photo_damaged_after_its_header_leaves_nothing_behind(tmp_path, workers):
    photo = tmp_path / "photo.png"
    write_rgb8(photo, draw_procedural_image(Size(150, 130), rng=np.random.default_rng(0)))
    photo.write_bytes(photo.read_bytes()[:-3000])
    sources = (*SCENES[:1], Photo(photo))
    with pytest.raises(ImageError, match="damaged or cut short"):
        simulate(sources, tmp_path / "out", options=replace(JOB, workers=workers))
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_a_folder_in_use_is_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="exists already"):
        simulate(SCENES, tmp_path / "out", options=JOB)
    assert (tmp_path / "out/mine.txt").read_text() == "kept"


def test_results_among_the_photos_are_refused(tmp_path):
    write_rgb8(tmp_path / "a.png", np.zeros((80, 80, 3), np.uint8))
    with pytest.raises(DataError, match="lies among the photos"):
        find_photos([tmp_path], output=tmp_path / "out")


def test_the_default_camera_is_whole():
    assert CameraConfig.model_validate(CameraConfig().model_dump()) == CameraConfig()
