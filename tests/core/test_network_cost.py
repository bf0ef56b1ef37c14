"""Parameters and operations computed from a configuration are those that PyTorch counts."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from d2csr.core.config import ModelConfig, preset
from d2csr.core.network_cost import gflop_per_lr_mp, network_cost
from d2csr.models.d2csr import D2CSR

SMALL = {"channels": 16, "groups": 2, "convergence_channels": 16}
NETWORKS = {
    "paper's tree, x2": {"scale": 2, "channels": 32, "blocks": 1, "groups": 1},
    "the authors' means": {"scale": 4, **SMALL, "mean": "convolution", "blocks": 1},
    "bicubic base, x3": {"scale": 3, **SMALL, "base": "bicubic", "blocks": 2},
    "windows of attention": {"scale": 3, **SMALL, "pooling_px": 5, "blocks": 1},
    "shared trunk, no attention": {"scale": 4, **SMALL, "base": "bicubic", "blocks": 2,
                                   "trunk_groups": 2, "attention": False},
    "a trunk and branches of one convolution": {"scale": 3, "channels": 8, "blocks": 1, "groups": 0,
                                                "trunk_groups": 1},
    "one prediction, no convergence network": {"scale": 3, "channels": 8, "children": 1, "depth": 1,
                                               "groups": 1, "blocks": 2, "base": "bicubic",
                                               "convergence_channels": 0},
    "three children, no residuals": {"scale": 8, "channels": 4, "children": 3, "groups": 1,
                                     "blocks": 1, "deep_residual": False},
}  # fmt: skip


@pytest.mark.parametrize("collapsed", [False, True])
@pytest.mark.parametrize("choices", NETWORKS.values(), ids=NETWORKS)
def test_operations_and_parameters_are_those_that_torch_counts(choices, collapsed):
    # `each` pads no features for an expanded tail, `features` has one kernel for a collapsed one.
    border = "features" if collapsed else "each"
    config = ModelConfig(tail_border=border, tail="expanded", **choices)
    network = D2CSR(config).eval()
    network = network.collapse() if collapsed else network
    counted = _flop(network, (24, 16)) - _flop(network, (16, 16))  # constant parts cancel
    found = network_cost(config, collapsed=collapsed)
    assert found.gflop_per_lr_mp == pytest.approx(counted / (8 * 16) / 1e3, rel=1e-12)
    assert found.parameters == network.parameter_count()


def test_a_convergence_network_on_the_lr_grid_costs_what_torch_counts():
    config = ModelConfig(3, **SMALL, blocks=1, convergence_grid="lr", tail="collapsed")
    network = D2CSR(config).eval()
    counted = _flop(network, (24, 16)) - _flop(network, (16, 16))
    found = network_cost(config, collapsed=True)
    assert found.gflop_per_lr_mp == pytest.approx(counted / (8 * 16) / 1e3, rel=1e-12)
    assert found.parameters == network.parameter_count()


@pytest.mark.parametrize(
    ("config", "trunk", "expanded", "collapsed", "convergence", "parameters_m"),
    [
        (preset("paper", 4), 8998, 6119, 614, 1475, 5.77),
        (preset("paper", 8), 8998, 25657, 2458, 5898, 6.36),
        (ModelConfig(3, blocks=2, **SMALL), 342, 197, 86, 83, 0.27),
        (ModelConfig(3, blocks=3, **SMALL), 452, 197, 86, 83, 0.32),
    ],
)
def test_known_configurations_have_their_known_costs(
    config, trunk, expanded, collapsed, convergence, parameters_m
):
    """The costs were computed by hand, in GFLOP per LR megapixel."""
    as_trained, as_run = (network_cost(config, collapsed=form) for form in (False, True))
    assert round(gflop_per_lr_mp(as_run.trunk)) == trunk
    assert round(gflop_per_lr_mp(as_trained.tails)) == expanded
    assert round(gflop_per_lr_mp(as_run.tails)) == collapsed
    assert round(gflop_per_lr_mp(as_run.convergence)) == convergence
    assert as_trained.parameters / 1e6 == pytest.approx(parameters_m, abs=0.01)


@torch.no_grad()
def _flop(network, size):
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *size))
    return counter.get_total_flops()
