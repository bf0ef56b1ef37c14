"""The engine within limits: the same bits whatever the plan, and none lost when memory runs out."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from d2csr.core.bundle import Bundle
from d2csr.core.errors import OutOfMemoryError, UsageError
from d2csr.engine import engine as engine_module
from d2csr.engine import planning
from d2csr.engine.backends.base import NchwArray
from d2csr.engine.engine import Engine, Limits, open_engine
from d2csr.engine.feature_store import MemoryFeatureStore
from d2csr.engine.planning import Plan
from d2csr.engine.tail import EngineOutput, StripOutput
from tests.tiny_models import tiny_bundle

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LR = np.random.default_rng(0).random((40, 9, 3), np.float32)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    """Return an engine that runs every image of these tests in one piece."""
    return open_engine(bundle, precision="fp32")


@pytest.fixture
def segments_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run no trunk in one piece."""
    monkeypatch.setattr(planning, "_WHOLE_LIMIT_BYTES", 0)


def _has_bits(engine: Engine, expected: EngineOutput, *, lr: np.ndarray = LR) -> bool:
    return all(map(np.array_equal, engine.run(lr), expected))


def test_segments_give_the_same_image(engine, request):
    expected = engine.run(LR)
    assert engine.plan(40, 9).trunk == "whole"
    request.getfixturevalue("segments_only")
    assert engine.plan(40, 9).trunk == "memory"
    assert _has_bits(engine, expected)


@pytest.mark.usefixtures("segments_only")
def test_feature_maps_that_memory_cannot_hold_go_to_disk(engine, monkeypatch):
    expected = engine.run(LR)

    def fail(self: MemoryFeatureStore, channels: int) -> int:
        raise MemoryError

    monkeypatch.setattr(MemoryFeatureStore, "add", fail)
    assert _has_bits(engine, expected)


def test_a_tail_that_runs_out_of_memory_continues_from_the_same_row(engine, monkeypatch):
    """Graphs fail above 12 rows, and once more in the middle of the image."""
    expected = engine.run(LR).sr
    tail, calls = engine._tail, []

    def failing(features: NchwArray, lr: NchwArray) -> tuple[NchwArray, NchwArray, NchwArray]:
        calls.append(lr.shape[2])
        if lr.shape[2] > 12 or len(calls) == 6:
            raise OutOfMemoryError("tail", "no memory", remedy="None.")
        return tail(features, lr)

    monkeypatch.setattr(engine, "_tail", failing)
    monkeypatch.setattr(planning, "_FIXED_BYTES", 0)  # or half of it would be the least
    parts = list(engine.iter_strips(LR))
    assert [part.first_row for part in parts] == list(_starts(parts))
    assert np.array_equal(np.concatenate([part.output.sr for part in parts]), expected)
    assert calls[0] > 12


def _starts(parts: Sequence[StripOutput]) -> Iterator[int]:
    row = 0
    for part in parts:
        yield row
        row += part.output.sr.shape[0]


def test_an_image_that_never_fits_raises_the_memory_error(engine, monkeypatch):
    def fail(features: NchwArray, lr: NchwArray) -> tuple[NchwArray, NchwArray, NchwArray]:
        raise MemoryError

    monkeypatch.setattr(engine, "_tail", fail)
    with pytest.raises(MemoryError):
        engine.run(LR)


def test_a_limit_too_small_fails_with_the_amount_missing(engine):
    with pytest.raises(UsageError, match=r"memory: .*takes \d+ MiB\. Allow \d+ MiB more\."):
        engine.with_limits(Limits(memory=1 << 20)).run(LR)


@pytest.mark.usefixtures("segments_only")
def test_without_disk_space_the_image_runs_in_tiles_with_a_warning(engine):
    limits = Limits(memory=engine_module.rss_bytes() + (250 << 20), disk=1 << 20)
    plan = engine.with_limits(limits).plan(3000, 3000)
    assert plan.trunk == "tiles"
    assert not plan.exact
    measured = json.loads((BENCHMARKS / "results" / "windows.json").read_text())["largest_levels"]
    assert f"by up to {math.ceil(measured)} of 255 gray levels" in plan.warnings[0]
    assert plan.peak_bytes <= 250 << 20


@pytest.mark.usefixtures("segments_only")
def test_a_change_to_tiles_during_an_image_is_warned_of(engine, monkeypatch):
    """The disk fills up between planning and writing, and memory refuses the maps."""

    def fail(self: MemoryFeatureStore, channels: int) -> int:
        raise MemoryError

    monkeypatch.setattr(MemoryFeatureStore, "add", fail)
    warnings: list[str] = []
    list(engine.iter_strips(LR, on_warning=warnings.append))
    assert warnings == []
    monkeypatch.setattr(engine_module, "free_disk_bytes", lambda folder: 0)
    list(engine.iter_strips(LR, on_warning=warnings.append))
    assert [each for each in warnings if "its own channel means" in each] == warnings != []
    with pytest.warns(UserWarning, match="its own channel means"):
        engine.run(LR)


def test_a_network_without_attention_runs_in_exact_tiles(tmp_path, monkeypatch):
    """Its features are not stored: the halo of a tile is small."""
    bundle = tiny_bundle(tmp_path / "b", base="bicubic", attention=False, trunk_groups=1)
    engine = open_engine(bundle, precision="fp32")
    tall = np.concatenate([LR] * 4)
    expected = engine.run(tall)
    monkeypatch.setattr(planning, "_WHOLE_LIMIT_BYTES", 0)
    monkeypatch.setattr(planning, "_FIXED_BYTES", 0)
    plan = engine.plan(*tall.shape[:2])
    assert (plan.trunk, plan.exact) == ("tiles", True)
    assert plan.window_rows < len(tall)
    assert _has_bits(engine, expected, lr=tall)


@pytest.mark.parametrize("rows", [1, 7, 39])
def test_tiles_of_a_network_with_local_means_are_exact(local_bundle, rows):
    engine = open_engine(local_bundle, precision="fp32")
    expected = engine.run(LR)
    plan = Plan("tiles", max(rows, 2 * local_bundle.card.receptive_field.halo_lr_rows + 1), 1, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "_plan", lambda self, size, budget: plan)
        assert _has_bits(engine, expected)
