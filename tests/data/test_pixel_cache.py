"""The pixel cache: built once, by one process, and never out of date."""

import multiprocessing
import os
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from d2csr.core.errors import D2csrError, DataError, ImageError, PairError
from d2csr.core.files import _mark
from d2csr.data.pixel_cache import PIXELS_NAME, cache_path, hash_files, is_cached, open_cache
from d2csr.data.sources import open_pairs
from d2csr.images.reader import read_rgb8
from d2csr.images.writer import write_gray8


def opened(manifest, folder):
    return open_cache(manifest, cache_path(manifest, folder / "cache"))


def built(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_the_cache_holds_the_pixels_of_the_files(realsr, tmp_path):
    manifest = open_pairs(realsr)
    cache = opened(manifest, tmp_path)
    assert (len(cache), cache.scale, cache.names) == (3, 2, ("a", "b", "c"))
    for index, pair in enumerate(manifest):
        lr, hr, mask = cache[index]
        assert np.array_equal(lr, read_rgb8(pair.lr))
        assert np.array_equal(hr, read_rgb8(pair.hr))
        assert mask is None
        assert cache.lr_shape(index) == lr.shape[:2]


def test_masks_and_cropped_hr_images_are_cached_as_used(tmp_path, put):
    put(tmp_path / "HR" / "a.png", 13, 13)
    put(tmp_path / "LR_bicubic" / "X3" / "ax3.png", 4, 4)
    manifest = open_pairs(tmp_path)
    write_gray8(tmp_path / "mask.png", np.eye(4, dtype=np.uint8))
    pairs = (replace(manifest.pairs[0], mask=tmp_path / "mask.png"),)
    _, hr, mask = opened(replace(manifest, pairs=pairs), tmp_path)[0]
    assert np.array_equal(hr, read_rgb8(tmp_path / "HR" / "a.png")[:12, :12])
    assert mask is not None
    assert np.array_equal(mask, np.eye(4, dtype=np.uint8))


def test_pixels_can_not_be_changed_by_accident(realsr, tmp_path):
    lr = opened(open_pairs(realsr), tmp_path)[0][0]
    with pytest.raises(ValueError, match="read-only"):
        lr[0] = 0


def test_opening_again_decodes_nothing(realsr, tmp_path, monkeypatch):
    manifest = open_pairs(realsr)
    assert not is_cached(cache_path(manifest, tmp_path / "cache"))
    opened(manifest, tmp_path)
    assert is_cached(cache_path(manifest, tmp_path / "cache"))
    monkeypatch.delattr("d2csr.data.pixel_cache.load_pair")
    opened(open_pairs(realsr), tmp_path)
    assert len(built(tmp_path / "cache")) == 1


def test_a_changed_image_makes_a_new_cache(realsr, tmp_path, put):
    before = opened(open_pairs(realsr), tmp_path)
    old = before[0][0].copy()
    put(realsr / "a_LR2.png", 12, 10, seed=77)
    after = opened(open_pairs(realsr), tmp_path)
    assert np.array_equal(after[0][0], read_rgb8(realsr / "a_LR2.png"))
    assert np.array_equal(before[0][0], old)
    assert len(built(tmp_path / "cache")) == 2


def test_a_moved_set_keeps_its_cache(realsr, tmp_path):
    opened(open_pairs(realsr), tmp_path)
    moved = realsr.rename(tmp_path / "elsewhere")
    opened(open_pairs(moved), tmp_path)
    assert len(built(tmp_path / "cache")) == 1


@pytest.mark.parametrize(("spoil", "error"), [("size", PairError), ("file", ImageError)])
def test_a_build_that_fails_leaves_nothing_and_can_be_repeated(realsr, tmp_path, put, spoil, error):
    good = (realsr / "c_HR.png").read_bytes()
    if spoil == "size":
        put(realsr / "c_HR.png", 9, 9)
    else:
        (realsr / "c_HR.png").write_bytes(good[:-30])
    with pytest.raises(error):
        opened(open_pairs(realsr), tmp_path)
    assert built(tmp_path / "cache") == []
    (realsr / "c_HR.png").write_bytes(good)
    assert len(opened(open_pairs(realsr), tmp_path)) == 3


def test_the_remains_of_a_killed_build_are_removed_by_the_next(realsr, tmp_path):
    manifest = open_pairs(realsr)
    name = opened(manifest, tmp_path).folder.name
    killed = subprocess.Popen(["true"])
    killed.wait()
    (tmp_path / "cache" / name).rename(tmp_path / "cache" / f"{_mark()}{killed.pid}-0")
    opened(manifest, tmp_path)
    assert built(tmp_path / "cache") == [name]


def test_a_truncated_cache_is_refused_with_a_remedy(realsr, tmp_path):
    cache = opened(open_pairs(realsr), tmp_path)
    os.truncate(cache.folder / PIXELS_NAME, 100)
    with pytest.raises(DataError, match="Remove this folder"):
        opened(open_pairs(realsr), tmp_path)


def _build(source, folder, barrier, answers):
    manifest = open_pairs(source)
    barrier.wait()
    try:
        answers.put(int(open_cache(manifest, cache_path(manifest, folder))[2][1].sum()))
    except D2csrError as error:
        answers.put(str(error))


def test_processes_that_build_at_once_get_one_cache(realsr, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    arguments = (realsr, tmp_path / "cache", barrier, answers)
    processes = [context.Process(target=_build, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    sums = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sums == [int(read_rgb8(realsr / "c_HR.png").sum())] * 2
    assert len(built(tmp_path / "cache")) == 1


def test_hashes_that_are_given_name_the_same_cache_and_unreadable_files_have_none(realsr, tmp_path):
    manifest = open_pairs(realsr)
    hashes = hash_files(manifest)
    assert cache_path(manifest, tmp_path, hashes=hashes) == cache_path(manifest, tmp_path)
    assert len(hashes) == 6
    (realsr / "a_HR.png").unlink()
    assert hash_files(manifest).keys() == hashes.keys() - {realsr / "a_HR.png"}
