"""Bundle and network compared: every scale and choice, all sizes, whole and in strips."""

import math

import numpy as np
import pytest
import torch

from d2csr.core.errors import BundleError
from d2csr.engine import open_engine
from d2csr.engine.backends.base import load_backend
from d2csr.export.bundle_writer import export_bundle
from d2csr.export.verification import LIMIT, measure_precision_errors, verify_against_network
from tests.tiny_models import METADATA, random_network

SIZES = ((1, 1), (1, 7), (2, 3), (4, 3), (5, 4), (33, 20))
KINDS = [
    {"scale": 2, "tail_border": "features"},
    {"scale": 2, "tail_border": "each", "base": "bicubic", "pooling_px": 5},
    {"scale": 3, "tail_border": "features", "base": "bicubic", "pooling_px": 49},
    {"scale": 3, "tail_border": "each", "mean": "convolution"},
    {"scale": 4, "tail_border": "features", "mean": "convolution", "depth": 1, "children": 3},
    {"scale": 4, "tail_border": "each", "base": "bicubic", "mean": "convolution"},
    {"scale": 8, "tail_border": "features", "base": "bicubic", "mean": "convolution"},
    {"scale": 8, "tail_border": "each", "pooling_px": 3, "convergence_last_relu": False},
    {"scale": 2, "tail": "collapsed", "deep_residual": False, "children": 1, "groups": 2},
    {"scale": 2, "base": "bicubic", "children": 1, "depth": 1, "convergence_channels": 0},
    {"scale": 2, "tail_border": "each", "children": 3, "depth": 1, "convergence_channels": 0},
]


@pytest.mark.parametrize("choices", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_engine_and_network_agree(exported, choices):
    network, bundle = exported(**choices)
    engine = open_engine(bundle, precision="fp32")
    random = np.random.default_rng(0)
    for size in SIZES:
        lr01 = random.random((*size, 3), np.float32)
        with torch.no_grad():
            sr, predictions, weights = network(torch.from_numpy(lr01).permute(2, 0, 1)[None])
        for each in (engine, engine.with_strips(1 if size[0] < 6 else 6)):
            ours = each.run(lr01)
            assert np.abs(ours.sr - sr[0].permute(1, 2, 0).numpy()).max() < 1e-5
            assert np.abs(ours.weights - weights[0].numpy()).max() < 1e-5
            wanted = predictions[0].permute(0, 2, 3, 1).numpy()
            assert np.abs(ours.predictions - wanted).max() < 1e-5


def test_agreement_is_a_small_part_of_the_limit(exported):
    network, bundle = exported(scale=4, tail_border="each")
    lr8 = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    assert 0 < verify_against_network(bundle, network, images=[lr8]) < LIMIT / 10


def test_a_bundle_of_other_weights_is_refused(exported):
    network, bundle = exported()
    with torch.no_grad():
        network.divergence.head.weight[0, 0, 0, 0] += 0.01
    lr8 = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    with pytest.raises(BundleError, match="differs from its network by"):
        verify_against_network(bundle, network, images=[lr8])


def test_weights_that_are_not_numbers_are_refused(exported):
    network, bundle = exported()
    with torch.no_grad():
        network.divergence.head.weight.fill_(float("nan"))
    with pytest.raises(BundleError, match="differs"):
        verify_against_network(bundle, network, images=[np.zeros((4, 4, 3), np.uint8)])


def test_the_network_is_left_as_it_was():
    network = random_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.collapse()
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_bfloat16_is_measured_against_float32(exported):
    _, bundle = exported(base="bicubic")
    if "bf16" not in load_backend("openvino").precisions("CPU"):
        pytest.skip("no bfloat16 on this processor")
    lr8 = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    lr01 = lr8 / np.float32(255)
    exact, coarse = (open_engine(bundle, precision=each).run(lr01).sr for each in ("fp32", "bf16"))
    wanted = -10 * math.log10(((exact - coarse).astype(np.float64) ** 2).mean())
    loss = measure_precision_errors(bundle, images=[lr8])["bf16"]
    assert (loss.psnr_to_fp32_db, loss.images) == (pytest.approx(wanted, abs=0.01), 1)
    assert 60 < loss.psnr_to_fp32_db < 100
    assert measure_precision_errors(bundle, images=[])["bf16"].images == 0
    assert set(bundle.card.precisions) == {"bf16"}


def test_weights_may_round_as_those_of_the_network_do(tmp_path):
    """Large logits of nearly equal predictions: float32 itself misses float64 by over the limit."""
    network = random_network(depth=1, children=2, convergence_last_relu=False)
    with torch.no_grad():
        network.convergence.convs[-1].weight *= 30000
    bundle = export_bundle(network, tmp_path / "bundle", metadata=METADATA)
    lr8 = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    assert verify_against_network(bundle, network, images=[lr8]) > LIMIT
    with torch.no_grad():
        network.convergence.convs[0].weight[0, 0, 0, 0] += 0.01
    with pytest.raises(BundleError, match="differs from its network by"):
        verify_against_network(bundle, network, images=[lr8])
