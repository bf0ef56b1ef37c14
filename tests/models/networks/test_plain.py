"""Plain stacks of convolutions against their public code."""

import torch

from d2csr.models.networks.plain import SRCNN
from tests.models.networks.conftest import assert_near


@torch.no_grad()
def test_srcnn_computes_what_its_public_code_does(oracle):
    file = oracle("SRCNN")
    network = SRCNN.from_public(file.weights, scale=3)
    for x, expected in file.pairs():
        assert_near(network.native(x), expected)


def test_srcnn_of_the_first_paper_is_read_from_its_shapes():
    weights = {
        "conv1.weight": torch.rand(64, 3, 9, 9), "conv1.bias": torch.rand(64),
        "conv2.weight": torch.rand(32, 64, 1, 1), "conv2.bias": torch.rand(32),
        "conv3.weight": torch.rand(3, 32, 5, 5), "conv3.bias": torch.rand(3),
    }  # fmt: skip
    network = SRCNN.from_public(weights, scale=2)
    assert network.sizes == {"channels": 3, "features": [64, 32], "kernels": [9, 1, 5]}
    assert network.colors == "rgb"
