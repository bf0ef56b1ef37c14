"""Outputs of every backend for small random networks, against loops in numpy."""

import numpy as np
import pytest

from d2csr.core.bundle import Bundle
from d2csr.engine import open_engine
from d2csr.engine.backends.base import BACKENDS
from tests.oracles import network as oracle
from tests.tiny_models import random_network, tiny_bundle

SIZES = ((1, 1), (1, 6), (3, 2), (7, 5))
KINDS = (
    {"scale": 2, "tail_border": "each", "pooling_px": 5},
    {"scale": 3, "tail_border": "features", "base": "bicubic", "pooling_px": 3, "channels": 6},
    {"scale": 4, "tail_border": "each", "mean": "convolution", "base": "bicubic"},
    {"scale": 8, "tail_border": "features", "convergence_last_relu": False},
    {"scale": 4, "base": "bicubic", "attention": False, "trunk_groups": 1, "groups": 0},
    {"scale": 3, "base": "bicubic", "trunk_groups": 1, "convergence_grid": "lr"},
    {"scale": 3, "base": "bicubic", "convergence_channels": 0},
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list[tuple[Bundle, list]]:
    """Return bundles, each with images and the outputs of the oracle."""
    random = np.random.default_rng(0)
    found = []
    for index, kind in enumerate(KINDS):
        bundle = tiny_bundle(tmp_path_factory.mktemp("kinds") / str(index), **kind)
        network = random_network(**kind)
        weights = {name: value.double().numpy() for name, value in network.state_dict().items()}
        expected = []
        for size in SIZES:
            lr01 = random.random((*size, 3), np.float32)
            image = lr01.transpose(2, 0, 1).astype(np.float64)
            expected.append((lr01, oracle.forward(image, weights, network.config.to_dict())))
        found.append((bundle, expected))
    return found


def _off(engine, expected) -> float:
    """Return the largest difference of SR, predictions and weights from the oracle's."""
    worst = 0.0
    for lr01, (sr, predictions, weights) in expected:
        ours = engine.run(lr01)
        pairs = (
            (ours.sr.transpose(2, 0, 1), sr),
            (ours.predictions.transpose(0, 3, 1, 2), predictions),
            (ours.weights, weights),
        )
        worst = max(worst, *(float(np.abs(one - other).max()) for one, other in pairs))
    return worst


@pytest.mark.parametrize("name", BACKENDS)
def test_float32_matches_the_oracle(cases, name):
    for bundle, expected in cases:
        engine = open_engine(bundle, backend=name, device="cpu", precision="fp32")
        assert _off(engine, expected) < 1e-5, bundle.card.config
        assert _off(engine.with_strips(4), expected) < 1e-5, bundle.card.config


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_bfloat16_is_near_and_is_not_float32(cases, name):
    for bundle, expected in cases:
        engine = open_engine(bundle, backend=name, device="cpu", precision="fp32")
        if "bf16" not in _precisions(name):
            pytest.skip("no bfloat16 on this processor")
        engine = open_engine(bundle, backend=name, device="cpu", precision="bf16")
        assert 1e-5 < _off(engine, expected) < 0.03, bundle.card.config


def test_backends_do_not_change_the_image_or_earlier_outputs(cases):
    (bundle, expected), *_ = cases
    lr01, _ = expected[-1]
    original = lr01.copy()
    for name in BACKENDS:
        engine = open_engine(bundle, backend=name, device="cpu", precision="fp32")
        first = engine.run(lr01)
        before = first.sr.copy()
        engine.run(1 - lr01)
        assert np.array_equal(first.sr, before)
        assert np.array_equal(lr01, original)


def _precisions(name: str) -> tuple[str, ...]:
    from d2csr.engine.backends.base import load_backend

    backend = load_backend(name)
    return backend.precisions(backend.find_device("cpu"))
