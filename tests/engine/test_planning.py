"""Plans keep to their budget; strips cover the image once, and read what they need."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.engine.planning import (
    StreamingRequirements,
    default_strip_rows,
    estimate_memory,
    min_bytes,
    plan_streamed,
    plan_strips,
    plan_whole,
    plan_windows,
)

STREAMING = StreamingRequirements(channels=28, halo_rows=4)
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
def test_a_plan_keeps_to_its_budget_or_says_what_it_takes(bundle, height, width, budget_mib):
    need = estimate_memory(bundle.card, Size(width, height), value_bytes=4)
    place = {"height": height, "scale": 2, "budget": budget_mib * MIB}
    whole = plan_whole(need, **place)
    assert whole is None or whole.peak_bytes <= budget_mib * MIB
    least = min_bytes(need, STREAMING, height=height)
    if least > budget_mib * MIB:
        with pytest.raises(UsageError, match="MiB more"):
            plan_streamed(need, STREAMING, **place, disk=1 << 50)
        return
    plan = plan_streamed(need, STREAMING, **place, disk=1 << 50)
    assert least <= plan.peak_bytes <= budget_mib * MIB
    assert (plan.scratch_bytes > 0) == (plan.trunk == "disk")


def test_maps_go_to_disk_only_where_memory_is_short(bundle):
    need = estimate_memory(bundle.card, Size(3000, 2000), value_bytes=4)
    place = {"height": 2000, "scale": 2, "disk": 1 << 50}
    ways = [
        plan_streamed(need, STREAMING, **place, budget=budget * MIB).trunk for budget in (900, 400)
    ]
    assert ways == ["memory", "disk"]


def test_a_plan_says_in_words_what_will_be_done(bundle):
    need = estimate_memory(bundle.card, Size(3000, 2000), value_bytes=4)
    plan = plan_streamed(
        need, STREAMING, height=2000, scale=2, budget=400 * MIB, disk=1 << 50
    ).as_text()
    assert plan.startswith("pass by pass in windows of 64 rows with 641 MiB on disk")


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(64, 4096), st.integers(0, 200))
def test_parts_keep_to_their_budget_or_say_what_they_take(
    bundle, height, width, budget_mib, reach_rows
):
    need = estimate_memory(bundle.card, Size(width, height), value_bytes=4)
    place = {"height": height, "scale": 2, "budget": budget_mib * MIB}
    halo_rows = bundle.card.receptive_field.halo_lr_rows
    try:
        plan = plan_windows(need, reach_rows=reach_rows, exact=True, **place)
    except UsageError:
        least = min(2 * halo_rows + 1, height) + 2 * reach_rows
        assert need.whole / height * least + 64 * MIB > (budget_mib - 1) * MIB
        return
    assert plan.peak_bytes <= budget_mib * MIB
    assert plan.window_rows >= min(plan.strip_rows + 2 * halo_rows, height)


def test_maps_that_fit_nowhere_are_no_plan(bundle):
    need = estimate_memory(bundle.card, Size(3000, 2000), value_bytes=4)
    place = {"height": 2000, "scale": 2, "budget": 400 * MIB}
    assert plan_streamed(need, STREAMING, **place, disk=1 << 20) is None
