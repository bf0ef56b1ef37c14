"""Crops: pure in seed, step and index; every allowed place is reached, and no other."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2csr.core.errors import DataError, UsageError
from d2csr.core.geometry import dihedral_transform
from d2csr.core.manifest import Manifest
from d2csr.data.pixel_cache import cache_path, open_cache
from d2csr.data.sampling import (
    CropLoader,
    CropSampler,
    CropSource,
    allowed_positions,
    masked_counts,
)
from d2csr.data.sources import open_pairs
from d2csr.images.writer import write_gray8, write_rgb8

SETTINGS = {"patch_px": 4, "scale": 2, "batch": 6, "seed": 3}
STEPS = st.integers(0, 2**40)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return three x2 pairs whose HR pixels tell pair, row and column; the second has a mask."""
    folder = tmp_path_factory.mktemp("crops")
    for index, (width, height) in enumerate([(7, 5), (6, 6), (4, 4)]):
        rows, columns = np.mgrid[: 2 * height, : 2 * width]
        hr = np.stack([rows, columns, np.full_like(rows, index)], -1).astype(np.uint8)
        write_rgb8(folder / f"{index}_HR.png", hr)
        write_rgb8(folder / f"{index}_LR2.png", hr[::2, ::2])
    mask = np.full((6, 6), 255, np.uint8)
    mask[0, 0] = mask[5, 2:4] = 0
    write_gray8(folder / "mask.png", mask)
    manifest = open_pairs(folder)
    pairs = list(manifest)
    pairs[1] = replace(pairs[1], mask=folder / "mask.png")
    masked = Manifest(2, "", tuple(pairs), folder)
    return open_cache(masked, cache_path(masked, folder / "cache"))


def same(one, other):
    return (
        np.array_equal(one.lr, other.lr)
        and np.array_equal(one.hr, other.hr)
        and one.names == other.names
    )


@given(STEPS, st.integers(-(2**63), 2**63))
def test_a_batch_depends_on_seed_and_step_alone(cache, step, seed):
    settings = SETTINGS | {"seed": seed}
    warm = CropSampler([CropSource(cache)], **settings)
    warm.batch(step + 1)
    assert same(warm.batch(step), CropSampler([CropSource(cache)], **settings).batch(step))


@given(STEPS, st.sampled_from([1, 2, 3, 6]))
def test_the_shares_of_all_processes_make_the_whole_batch(cache, step, world):
    sampler = CropSampler([CropSource(cache)], **SETTINGS)
    whole = sampler.batch(step)
    shares = [sampler.batch(step, rank=rank, world_size=world) for rank in range(world)]
    assert np.array_equal(np.concatenate([share.lr for share in shares]), whole.lr)
    assert np.array_equal(np.concatenate([share.hr for share in shares]), whole.hr)
    assert sum((share.names for share in shares), ()) == whole.names


@given(STEPS)
def test_lr_and_hr_show_the_same_region_under_the_same_transform(cache, step):
    batch = CropSampler([CropSource(cache)], **SETTINGS).batch(step)
    for lr, hr in zip(batch.lr, batch.hr, strict=True):
        turns = [turn for turn in range(8) if hr[0, 0].tolist() == _corner(hr, turn)]
        assert len(turns) == 1
        upright = dihedral_transform(hr, _undo(turns[0]))
        assert np.array_equal(dihedral_transform(lr, _undo(turns[0])), upright[::2, ::2])
        assert np.array_equal(upright[0, :, 1], upright[0, 0, 1] + np.arange(8))


def _corner(hr, turn):
    """Return what the first pixel must be if the crop was turned so; rows and columns tell."""
    flat = hr.reshape(-1, 3)
    rows, columns = (flat[:, 0].min(), flat[:, 0].max()), (flat[:, 1].min(), flat[:, 1].max())
    swapped = hr[0, 0, 0] != hr[0, -1, 0]  # rows run along the first line
    if swapped != bool(turn & 4):
        return None
    return [rows[bool(turn & 2)], columns[turn & 1], flat[0, 2]]


def _undo(turn):
    """Return the turn that undoes one: mirrored axes trade places where axes are swapped."""
    return turn if not turn & 4 else 4 | (turn & 1) << 1 | (turn & 2) >> 1


@pytest.mark.parametrize("turn", range(8))
def test_undoing_a_turn_gives_the_image_back(turn):
    image = np.arange(12).reshape(3, 4)
    assert np.array_equal(dihedral_transform(dihedral_transform(image, turn), _undo(turn)), image)


def drawn(cache, count=6000, **options):
    sampler = CropSampler([CropSource(cache)], **SETTINGS | options)
    return [sampler.crop(step, index) for step in range(count // 6) for index in range(6)]


def test_every_allowed_position_is_drawn_and_no_other(cache):
    crops = Counter((crop.pair, crop.row, crop.column) for crop in drawn(cache))
    free = {(0, row, column) for row in range(2) for column in range(4)} | {(2, 0, 0)}
    masked = {(1, row, column) for row in range(3) for column in range(3)}
    blocked = {(1, 0, 0)} | {(1, 2, column) for column in range(3)}
    assert set(crops) == free | (masked - blocked)


def test_pairs_and_positions_within_a_pair_are_drawn_equally_often(cache):
    crops = drawn(cache)
    pairs = Counter(crop.pair for crop in crops)
    assert all(abs(count - 2000) < 5 * np.sqrt(6000 * 2 / 9) for count in pairs.values())
    places = Counter((crop.row, crop.column) for crop in crops if crop.pair == 0)
    assert all(abs(count - pairs[0] / 8) < 5 * np.sqrt(pairs[0] / 8) for count in places.values())
    turns = Counter(crop.turn for crop in crops)
    assert sorted(turns) == list(range(8))
    assert all(abs(count - 750) < 5 * np.sqrt(750) for count in turns.values())


def test_sources_get_their_shares_of_the_crops(cache):
    shares = [1.0, 2.5, 0.5]
    sampler = CropSampler([CropSource(cache, share) for share in shares], **SETTINGS)
    crops = [sampler.crop(step, index) for step in range(1000) for index in range(6)]
    for source, share in enumerate(shares):
        own = [crop for crop in crops if crop.source == source]
        expected = 6000 * share / sum(shares)
        assert abs(len(own) - expected) < 5 * np.sqrt(expected)
        pairs = Counter(crop.pair for crop in own)
        assert all(abs(n - len(own) / 3) < 5 * np.sqrt(len(own) / 3) for n in pairs.values())
    assert crops == [sampler.crop(step, index) for step in range(1000) for index in range(6)]


def test_steps_indices_and_seeds_draw_independently(cache):
    crops = drawn(cache, 600)
    assert not any(crops[i : i + 6] == crops[i + 6 : i + 12] for i in range(0, 588, 6))
    for seed in (4, 3 + 128, 3 + 2**40):  # all of its bits count
        assert drawn(cache, 600, seed=seed) != crops
    sampler = CropSampler([CropSource(cache)], **SETTINGS)
    assert [sampler.crop(0, i) for i in range(50)] != [sampler.crop(i, 0) for i in range(50)]


def test_a_larger_limit_allows_masked_positions(cache):
    crops = {(crop.row, crop.column) for crop in drawn(cache, mask_limit=1 / 16) if crop.pair == 1}
    assert (0, 0) in crops
    assert (2, 0) not in crops  # two of its sixteen pixels are masked
    everywhere = drawn(cache, mask_limit=1.0)
    assert len({(crop.row, crop.column) for crop in everywhere if crop.pair == 1}) == 9


MASKS = st.integers(1, 7).flatmap(
    lambda height: st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=height,
                            max_size=height)
)  # fmt: skip


@given(MASKS, st.integers(1, 5), st.floats(0, 1))
def test_allowed_positions_are_those_of_a_loop(mask, patch_px, mask_limit):
    pixels = np.array(mask, np.uint8)
    if min(pixels.shape) < patch_px:
        return
    rows, columns = (side - patch_px + 1 for side in pixels.shape)
    counts = np.array(
        [
            [(pixels[r : r + patch_px, c : c + patch_px] == 0).sum() for c in range(columns)]
            for r in range(rows)
        ]
    )
    assert np.array_equal(masked_counts(pixels, patch_px), counts)
    allowed = [i for i, n in enumerate(counts.flat) if n <= mask_limit * patch_px**2]
    assert allowed_positions(pixels, patch_px, mask_limit=mask_limit).tolist() == allowed


def test_crops_that_can_not_be_drawn_are_refused(cache):
    with pytest.raises(DataError, match="4x4 px is smaller than the 5 px crop"):
        CropSampler([CropSource(cache)], **SETTINGS | {"patch_px": 5})
    with pytest.raises(UsageError, match="scale 2 can't train scale 3"):
        CropSampler([CropSource(cache)], **SETTINGS | {"scale": 3})
    with pytest.raises(UsageError, match="multiple of 4"):
        CropSampler([CropSource(cache)], **SETTINGS).batch(0, rank=0, world_size=4)


def test_the_loader_yields_the_steps_in_order_from_any_step_on(cache):
    sampler = CropSampler([CropSource(cache)], **SETTINGS)
    batches = CropLoader(sampler).iter_from(40)
    for expected, (step, batch) in zip(range(40, 60), batches, strict=False):
        assert step == expected
        assert same(batch, sampler.batch(step))
    batches.close()


@pytest.mark.parametrize(("first", "end"), [(0, 9), (7, 9), (9, 9)])
def test_the_loader_stops_before_the_step_it_is_given(cache, first, end):
    batches = CropLoader(CropSampler([CropSource(cache)], **SETTINGS)).iter_from(first, until=end)
    assert [step for step, _ in batches] == list(range(first, end))


def test_a_resumed_loader_continues_as_if_never_stopped(cache):
    loader = CropLoader(CropSampler([CropSource(cache)], **SETTINGS))
    whole = list(islice(loader.iter_from(0), 8))
    resumed = [*islice(loader.iter_from(0), 3), *islice(loader.iter_from(3), 5)]
    assert [step for step, _ in resumed] == [step for step, _ in whole]
    assert all(same(a, b) for (_, a), (_, b) in zip(whole, resumed, strict=True))


def test_loaders_of_two_processes_share_each_batch(cache):
    sampler = CropSampler([CropSource(cache)], **SETTINGS)
    halves = [
        next(CropLoader(sampler, rank=rank, world_size=2).iter_from(9))[1] for rank in range(2)
    ]
    assert halves[0].names + halves[1].names == sampler.batch(9).names


def test_closing_the_loader_ends_its_threads(cache):
    import threading

    batches = CropLoader(CropSampler([CropSource(cache)], **SETTINGS)).iter_from(0)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("crops")]


def test_an_error_in_the_background_reaches_the_caller(cache):
    batches = CropLoader(CropSampler([CropSource(cache)], **SETTINGS), world_size=4).iter_from(0)
    with pytest.raises(UsageError, match="multiple of 4"):
        next(batches)
