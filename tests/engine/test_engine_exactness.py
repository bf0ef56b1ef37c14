"""The same bits whatever the memory: plans and strips change no value of the shipped models."""

from collections.abc import Callable

import numpy as np
import pytest

from d2csr.core.bundle import read_bundle
from d2csr.engine import planning
from d2csr.engine.backends.base import Precision, load_backend
from d2csr.engine.engine import Engine, open_engine
from d2csr.engine.model import Model, find_bundle, shipped_names
from d2csr.engine.planning import Plan
from d2csr.engine.tail import EngineOutput

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
HEIGHT, WIDTH = 62, 21

Run = Callable[[Plan], EngineOutput]


def _image() -> np.ndarray:
    """Return noise with flat fields whose borders lie on many rows, so on those of many strips."""
    rgb8 = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for first in (2, 14, 27, 41):
        rgb8[first : first + 10, : WIDTH - 6] = (250, 40, 90)
    return rgb8


RGB8 = _image()
LR01 = RGB8.astype(np.float32) / np.float32(255)


@pytest.fixture(scope="module", params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> Precision:
    """Return a precision that this processor computes in."""
    if request.param not in load_backend("openvino").precisions("CPU"):
        pytest.skip(f"this processor has no {request.param}")
    return request.param


@pytest.fixture(scope="module", params=shipped_names())
def engine(request: pytest.FixtureRequest, precision: Precision) -> Engine:
    """Return the engine of a shipped model."""
    bundle = read_bundle(find_bundle(request.param))
    return open_engine(bundle, backend="openvino", device="cpu", precision=precision)


@pytest.fixture
def run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs the image by a plan."""

    def run_plan(plan: Plan) -> EngineOutput:
        monkeypatch.setattr(Engine, "_plan", lambda self, size, budget: plan)
        return engine.run(LR01)

    return run_plan


def test_every_exact_plan_gives_the_same_bits(engine: Engine, run: Run):
    config, receptive_field = engine.bundle.card.config, engine.bundle.card.receptive_field
    whole = run(Plan("whole", HEIGHT, HEIGHT, 0))
    plans = [Plan("whole", HEIGHT, rows, 0) for rows in (1, 7, 32)]
    if config.attention:
        plans.append(Plan("memory", 1, 5, 0))
    if receptive_field.trunk_lr_px is not None:
        tile_rows = 2 * receptive_field.halo_lr_rows + 1
        plans += [Plan("tiles", tile_rows, 1, 0), Plan("tiles", 33, 16, 0)]
    for plan in plans:
        for expected, found in zip(whole, run(plan), strict=True):
            assert np.array_equal(expected, found), plan


def test_strips_of_any_height_join_without_a_seam(engine: Engine, monkeypatch):
    """Up to the 8-bit image, so with the blending of flat fields on their borders."""
    monkeypatch.setattr(planning, "_STRIP_SR_ROWS", 1 << 20)
    whole = Model(engine.bundle, engine).upscale(RGB8)
    for strip_rows in range(1, 41):
        strips = Model(engine.bundle, engine.with_strips(strip_rows)).upscale(RGB8)
        assert np.array_equal(strips, whole), strip_rows
