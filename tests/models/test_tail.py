"""Collapsed tails: the same images as expanded ones, everywhere and at any size."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from d2csr.core.config import ModelConfig
from d2csr.models.d2csr import D2CSR
from d2csr.models.tail import CollapsedTail, ExpandedTail, collapse_tail

SCALES = [2, 3, 4, 8]
BORDERS = ["features", "each"]
SIZES = [(1, 1), (1, 6), (2, 2), (2, 5), (3, 3), (4, 3), (5, 7), (9, 8)]
SMALL = {"channels": 8, "groups": 1, "blocks": 1, "convergence_channels": 6}


def difference(first, second):
    """Return the largest difference relative to the largest value, at least 1."""
    return float((first - second).abs().max() / first.abs().max().clamp(min=1))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("scale", SCALES)
@torch.no_grad()
def test_collapsed_tail_is_the_expanded_one_to_the_last_pixel(scale, border):
    config = ModelConfig(scale=scale, tail_border=border, channels=16)
    tail = ExpandedTail(config)
    collapsed = collapse_tail(tail, config)
    for size in SIZES:
        features = 2 * torch.randn(2, 16, *size)
        assert difference(tail(features), collapsed(features)) < 1e-5, size


@pytest.mark.parametrize("base", ["none", "bicubic"])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("scale", SCALES)
@torch.no_grad()
def test_collapsed_network_gives_the_same_output(scale, border, base):
    network = D2CSR(ModelConfig(scale=scale, tail_border=border, base=base, **SMALL)).eval()
    collapsed = network.collapse()
    assert collapsed.config.tail == "collapsed"
    assert not collapsed.training
    for size in SIZES[::2]:
        lr = torch.rand(1, 3, *size)
        for whole, short in zip(network(lr), collapsed(lr), strict=True):
            assert difference(whole, short) < 1e-5, size


@given(
    scale=st.sampled_from(SCALES),
    shape=st.sampled_from([(1, 1), (1, 3), (2, 2), (3, 2)]),
    channels=st.integers(1, 4),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    border=st.sampled_from(BORDERS),
)
@settings(max_examples=10)
def test_any_tree_collapses(scale, shape, channels, size, border):
    config = ModelConfig(
        scale=scale,
        depth=shape[0],
        children=shape[1],
        tail_border=border,
        **SMALL | {"channels": channels},
    )
    network, lr = D2CSR(config), torch.rand(1, 3, *size)
    with torch.no_grad():
        for whole, short in zip(network(lr), network.collapse()(lr), strict=True):
            assert difference(whole, short) < 1e-5


@pytest.mark.parametrize("scale", SCALES)
@torch.no_grad()
def test_a_features_tail_is_one_zero_padded_5x5_convolution(scale):
    config = ModelConfig(scale=scale, channels=8)
    tail, features = ExpandedTail(config), torch.randn(1, 8, 6, 7)
    collapsed = collapse_tail(tail, config)
    assert isinstance(collapsed, CollapsedTail)
    assert collapsed.conv.weight.shape == (3 * scale**2, 8, 5, 5)
    kernel, bias = collapsed.conv.weight, collapsed.conv.bias
    expected = F.pixel_shuffle(F.conv2d(features, kernel, bias, padding=2), scale)
    assert difference(tail(features), expected) < 1e-5


@pytest.mark.parametrize("scale", SCALES)
@torch.no_grad()
def test_the_two_borders_differ_within_one_lr_pixel_of_the_border_only(scale):
    own = ExpandedTail(ModelConfig(scale=scale, channels=8))
    theirs = ExpandedTail(ModelConfig(scale=scale, channels=8, tail_border="each"))
    theirs.load_state_dict(own.state_dict())
    features = torch.randn(1, 8, 6, 6)
    apart = (own(features) - theirs(features)).abs().amax((0, 1))
    inner = slice(scale, -scale)
    assert float(apart[inner, inner].max()) < 1e-5
    assert float(apart.max()) > 1e-3


@torch.no_grad()
def test_collapsing_leaves_the_network_itself_alone():
    network = D2CSR(ModelConfig(scale=2, **SMALL)).double()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.collapse()
    for name, value in network.state_dict().items():
        assert value.dtype == torch.float64
        assert value.equal(before[name]), name


@torch.no_grad()
def test_collapsing_twice_is_a_copy():
    once = D2CSR(ModelConfig(scale=3, **SMALL)).collapse()
    twice, lr = once.collapse(), torch.rand(1, 3, 4, 4)
    assert twice is not once
    assert twice(lr).sr.equal(once(lr).sr)


def test_a_collapsed_tail_can_go_on_training():
    network = D2CSR(ModelConfig(scale=2, **SMALL)).collapse()
    network(torch.rand(1, 3, 5, 5)).sr.mean().backward()
    assert network.divergence.tails[0].conv.weight.grad.any()
