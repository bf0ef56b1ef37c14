"""The weight of the triplet term against a walk through the epochs, and the authors' rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2csr.core.errors import D2csrError
from d2csr.losses.triplet import AlphaSchedule
from tests.oracles import triplet as oracle


@given(
    start=st.integers(0, 60),
    on=st.integers(1, 40),
    off=st.integers(0, 40),
    halve_every=st.integers(1, 90),
    step=st.integers(0, 400),
)
def test_alpha_is_what_a_walk_through_the_steps_finds(start, on, off, halve_every, step):
    schedule = AlphaSchedule(
        alpha=2e-5, start=start, active=on, period=on + off, halve_every=halve_every
    )
    expected = oracle.alpha_in_epoch(
        step, alpha=2e-5, first=start, on=on, period=on + off, halve_every=halve_every
    )
    assert schedule.at(step) == pytest.approx(expected, rel=1e-12)


def test_stated_schedule_is_on_from_epoch_200_for_200_of_every_1000():
    schedule = AlphaSchedule(alpha=2e-5, start=200, active=200, period=1000, halve_every=2000)
    edges = [edge + step for edge in range(0, 5200, 200) for step in (-1, 0, 1)]
    for epoch in edges[1:]:
        expected = oracle.alpha_in_epoch(
            epoch, alpha=2e-5, first=200, on=200, period=1000, halve_every=2000
        )
        assert schedule.at(epoch) == pytest.approx(expected)


def test_authors_code_first_turns_alpha_on_in_epoch_1000():
    """Its rule waits for epoch 200, but is on in the first 200 epochs of a thousand only."""
    schedule = AlphaSchedule(alpha=2e-5, start=1000, active=200, period=1000, halve_every=2000)
    for epoch in range(20_000):
        is_on = epoch > 200 and epoch % 1000 < 200
        assert schedule.at(epoch) == (2e-5 * 0.5 ** (epoch // 2000) if is_on else 0.0)


def test_alpha_without_lengths_is_constant_from_its_start():
    schedule = AlphaSchedule(alpha=0.1, start=3)
    assert [schedule.at(step) for step in (0, 2, 3, 10**9)] == [0.0, 0.0, 0.1, 0.1]


@pytest.mark.parametrize(
    "choices",
    [
        {"alpha": -1.0},
        {"start": -1},
        {"active": 0},
        {"period": 0},
        {"halve_every": 0},
        {"period": 9},
    ],
)
def test_impossible_schedules_are_refused(choices):
    with pytest.raises(D2csrError, match="alpha schedule"):
        AlphaSchedule(**choices)
