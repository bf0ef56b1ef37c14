"""Plans stay within their budget; strips cover the image once and read the rows they need."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.engine.planning import (
    MemoryEstimate,
    StreamingRequirements,
    default_strip_rows,
    estimate_memory,
    min_bytes,
    min_tile_bytes,
    plan_segments,
    plan_strips,
    plan_tiles,
    plan_whole,
)

STREAMING = StreamingRequirements(channels=28, halo_rows=4)
# Of a made-up model, where the trunk, or else the strips, decide what is most.
TRUNK_MOST = MemoryEstimate(
    whole=100_000, channel=10, leaves=50, window_row=3000, strip_row=10, strip_halo_rows=4
)
STRIPS_MOST = replace(TRUNK_MOST, strip_row=7000, window_row=30)
FIXED = 64 << 20  # graphs and the allocator
MIB = 1 << 20


@given(st.integers(1, 300), st.integers(1, 80), st.integers(0, 6), st.integers(0, 299))
def test_strips_cover_every_row_once_and_read_their_halo(height, strip_rows, halo_rows, start):
    start = min(start, height - 1)
    strips = plan_strips(height, strip_rows=strip_rows, halo_rows=halo_rows, start=start)
    rows = [row for strip in strips for row in range(strip.first, strip.last)]
    assert rows == list(range(start, height))
    for strip in strips:
        assert strip.top == max(0, strip.first - halo_rows)
        assert strip.bottom == min(height, strip.last + halo_rows)


def test_a_strip_is_64_rows_of_sr_at_every_scale():
    assert [scale * default_strip_rows(scale) for scale in (2, 3, 4, 8)] == [64, 63, 64, 64]


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 4096))
def test_a_plan_stays_within_its_budget_or_fails(bundle, height, width, budget_mib):
    need = estimate_memory(bundle.card, Size(width, height), value_bytes=4)
    image = {"height": height, "scale": 2, "budget": budget_mib * MIB}
    whole = plan_whole(need, **image)
    assert whole is None or whole.peak_bytes <= budget_mib * MIB
    least = min_bytes(need, STREAMING, height=height)
    if least > budget_mib * MIB:
        with pytest.raises(UsageError, match="MiB more"):
            plan_segments(need, STREAMING, **image, disk=1 << 50)
        return
    plan = plan_segments(need, STREAMING, **image, disk=1 << 50)
    assert least <= plan.peak_bytes <= budget_mib * MIB
    assert (plan.scratch_bytes > 0) == (plan.trunk == "disk")


@pytest.mark.parametrize("need", [TRUNK_MOST, STRIPS_MOST])
def test_a_peak_is_that_of_the_trunk_or_of_the_strips_whichever_is_more(need):
    """With 100 LR rows, strips of 32 rows and windows of 96, the largest at x2."""
    image = {"height": 100, "scale": 2, "budget": 1 << 30}
    strip = 36 * need.strip_row + FIXED + need.leaves
    assert plan_whole(need, **image).peak_bytes == max(100_000 + FIXED, strip)
    plan = plan_segments(need, STREAMING, **image, disk=0)
    assert (plan.window_rows, plan.strip_rows) == (96, 32)
    assert plan.peak_bytes == max(28 * 10 + 96 * need.window_row + FIXED, strip)
    tiles = plan_tiles(need, trunk_halo_rows=7, exact=True, **image)
    assert (tiles.window_rows, tiles.strip_rows) == (100, 32)
    assert tiles.peak_bytes == max((100 + 14) * 1001 + FIXED, strip)
    assert min_bytes(need, STREAMING, height=100) == max(
        9 * need.window_row + FIXED, 5 * need.strip_row + FIXED
    )
    assert min_tile_bytes(need, trunk_halo_rows=7, height=100) == (5 + 14) * 1001 + FIXED


def test_a_trunk_above_2_gib_runs_in_segments():
    image = {"height": 100, "scale": 2, "budget": 1 << 40}
    most = replace(TRUNK_MOST, whole=(2 << 30) - FIXED)
    assert plan_whole(most, **image).peak_bytes == 2 << 30
    assert plan_whole(replace(most, whole=most.whole + 1), **image) is None


def test_exact_tiles_are_no_larger_than_2_gib_or_twice_the_smallest():
    """Larger ones are slower; others are as large as memory allows, as each has its error."""
    image = {"height": 1000, "scale": 2, "budget": 1 << 40, "trunk_halo_rows": 7}
    for row_bytes, rows in ((10 << 20, 184), (1 << 30, 24)):
        need = replace(TRUNK_MOST, whole=1000 * (row_bytes - 1))
        assert plan_tiles(need, exact=True, **image).window_rows == rows
        assert plan_tiles(need, exact=False, **image).window_rows == 1000


def test_feature_maps_go_to_disk_only_if_memory_is_too_small(bundle):
    need = estimate_memory(bundle.card, Size(3000, 2000), value_bytes=4)
    image = {"height": 2000, "scale": 2, "disk": 1 << 50}
    ways = [
        plan_segments(need, STREAMING, **image, budget=budget * MIB).trunk for budget in (900, 400)
    ]
    assert ways == ["memory", "disk"]


def test_a_plan_as_text(bundle):
    need = estimate_memory(bundle.card, Size(3000, 2000), value_bytes=4)
    plan = plan_segments(
        need, STREAMING, height=2000, scale=2, budget=400 * MIB, disk=1 << 50
    ).as_text()
    assert plan.startswith("in segments, 96 rows at a time, with 641 MiB on disk")


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(64, 4096), st.integers(0, 200))
def test_tiles_stay_within_their_budget_or_fail(bundle, height, width, budget_mib, trunk_halo_rows):
    need = estimate_memory(bundle.card, Size(width, height), value_bytes=4)
    image = {"height": height, "scale": 2, "budget": budget_mib * MIB}
    halo_rows = bundle.card.receptive_field.halo_lr_rows
    try:
        plan = plan_tiles(need, trunk_halo_rows=trunk_halo_rows, exact=True, **image)
    except UsageError:
        least = min(2 * halo_rows + 1, height) + 2 * trunk_halo_rows
        assert need.whole / height * least + 64 * MIB > (budget_mib - 1) * MIB
        return
    assert plan.peak_bytes <= budget_mib * MIB
    assert plan.window_rows >= min(plan.strip_rows + 2 * halo_rows, height)


def test_there_is_no_plan_for_feature_maps_that_fit_nowhere(bundle):
    need = estimate_memory(bundle.card, Size(3000, 2000), value_bytes=4)
    image = {"height": 2000, "scale": 2, "budget": 400 * MIB}
    assert plan_segments(need, STREAMING, **image, disk=1 << 20) is None
