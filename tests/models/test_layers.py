"""Channel attention: its pooling, and how far a network sees with either kind."""

import numpy as np
import pytest
import torch

from d2csr.core.config import ModelConfig
from d2csr.models.d2csr import D2CSR
from d2csr.models.layers import ChannelAttention, ResidualBlock
from tests.oracles import network as oracle


@pytest.mark.parametrize("window", [None, 3, 5, 9])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (6, 5)])
def test_pooling_is_the_mean_over_what_lies_inside_in_loops(window, size):
    features = torch.rand(1, 4, *size).double()
    found = ChannelAttention(4, 1, pooling_px=window).mean(features)
    expected = oracle.window_mean(features[0].numpy(), window)
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-9)


def test_a_window_over_the_whole_image_is_global_pooling():
    features = torch.rand(1, 4, 5, 6)
    everywhere = ChannelAttention(4, 1, pooling_px=13).mean(features)
    once = ChannelAttention(4, 1).mean(features)
    torch.testing.assert_close(everywhere, once.expand_as(everywhere))


@pytest.mark.parametrize("channels", [1, 15, 16, 64])
def test_squeeze_is_a_sixteenth_and_at_least_one(channels):
    block = ResidualBlock(ModelConfig(2, channels=channels))
    assert block.attention.squeeze.out_channels == max(1, channels // 16)


def moved_columns(pooling_px, width):
    """Return the SR columns that move with the first LR column."""
    config = ModelConfig(
        scale=2, channels=4, groups=1, blocks=1, depth=1, children=2, pooling_px=pooling_px
    )
    network = D2CSR(config).double()
    for name, value in network.named_parameters():
        if name.endswith("attention.squeeze.bias"):
            torch.nn.init.ones_(value)  # a gate whose ReLU is shut would see nothing at all
    lr = torch.rand(1, 3, 3, width).double()
    changed = lr.clone()
    changed[..., 0] += 0.5
    with torch.no_grad():
        moved = (network(lr).sr != network(changed).sr).any(dim=2).any(dim=1)[0]
    return moved.nonzero().flatten().tolist()


def test_local_pooling_gives_a_finite_receptive_field():
    # head 1, two convolutions 2, window 2, group 1, branch 1, residual 1, tail 2: 10 LR pixels,
    # and 3 SR pixels of the convergence network
    moved = moved_columns(pooling_px=5, width=40)
    assert max(moved) <= 2 * (10 + 1) + 3 - 1
    assert max(moved) >= 2 * 8


def test_global_pooling_sees_everything():
    assert max(moved_columns(pooling_px=None, width=40)) == 79
