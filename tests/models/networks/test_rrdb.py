"""ESRGAN's generator and discriminator against BasicSR, and the three sets of public names."""

import pytest
import torch

from d2csr.core.errors import D2csrError
from d2csr.losses.adversarial import AdversarialConfig, discriminator_losses, generator_terms
from d2csr.losses.reconstruction import weighted_sum
from d2csr.models.networks.rrdb import Discriminator, RRDBNet, basicsr_names
from tests.models.networks.conftest import assert_near


@pytest.mark.parametrize(("name", "scale"), [("RRDBNet", 4), ("RRDBNet_x2", 2)])
@torch.no_grad()
def test_the_generator_computes_what_basicsr_does(oracle, name: str, scale: int):
    file = oracle(name)
    network = RRDBNet.from_public(file.weights)
    assert (network.scale, network.sizes) == (scale, {"features": 8, "blocks": 2, "growth": 4})
    for x, expected in file.pairs():
        assert_near(network.native(x), expected)


@torch.no_grad()
def test_odd_sides_are_padded_for_the_unshuffle_of_x2(oracle):
    network = RRDBNet.from_public(oracle("RRDBNet_x2").weights)
    lr = torch.rand(1, 3, 7, 9)
    padded = lr[:, :, [*range(7), 6]][:, :, :, [*range(9), 8]]
    assert_near(network(lr), network.native(padded)[:, :, :14, :18])


AUTHORS = {"conv_body": "trunk_conv", "body.": "RRDB_trunk.", "conv_hr": "HRconv"}


def author_names(state: dict) -> dict:
    renamed = {}
    for name, value in state.items():
        new = name.replace("rdb", "RDB").replace("conv_up", "upconv")
        for ours, theirs in AUTHORS.items():
            new = new.replace(ours, theirs)
        renamed[new] = value
    return renamed


def numbered_names(state: dict, blocks: int) -> dict:
    """Names of the oldest code: a sequence of layers, those with weights at 0, 1, 3, 6, 8, 10."""
    layers = {"conv_first": 0, "conv_up1": 3, "conv_up2": 6, "conv_hr": 8, "conv_last": 10}
    renamed = {}
    for name, value in state.items():
        layer, kind = name.rsplit(".", 1)
        if layer.startswith("body."):
            _, block, dense, conv = layer.split(".")
            new = f"model.1.sub.{block}.{dense.upper()}.{conv}.0.{kind}"
        elif layer == "conv_body":
            new = f"model.1.sub.{blocks}.{kind}"
        else:
            new = f"model.{layers[layer]}.{kind}"
        renamed[new] = value
    return renamed


@torch.no_grad()
def test_all_three_sets_of_names_give_the_same_network(oracle):
    file = oracle("RRDBNet")
    x, expected = next(file.pairs())
    for state in (author_names(file.weights), numbered_names(file.weights, 2)):
        assert state.keys() != file.weights.keys()
        assert basicsr_names(state).keys() == file.weights.keys()
        assert_near(RRDBNet.from_public(state).native(x), expected)


@torch.no_grad()
def test_the_discriminator_computes_what_basicsr_does(oracle):
    file = oracle("ESRGAN_discriminator")
    network = Discriminator.from_public(file.weights)
    assert network.input_px == 128
    for images, expected in file.pairs():
        assert_near(network(images), expected)


def test_the_discriminator_has_the_published_parameters():
    with torch.device("meta"):
        assert sum(value.numel() for value in Discriminator().parameters()) == 14_499_401


@pytest.mark.parametrize("input_px", [96, 144, 256])
def test_the_discriminator_is_built_for_any_side(input_px: int):
    network = Discriminator(features=2, input_px=input_px)
    assert network(torch.rand(2, 3, input_px, input_px)).shape == (2, 1)


def test_weights_of_another_network_are_refused_at_once(oracle):
    state = oracle("RRDBNet").weights
    with pytest.raises(D2csrError, match=r"conv0_0\.weight is missing"):
        Discriminator.from_public(state, where="file.pth")
    with pytest.raises(D2csrError, match=r"conv_first\.weight is missing"):
        RRDBNet.from_public(oracle("SPAN").weights, where="file.pth")
    many = {f"body.{block}.rdb1.conv1.weight": torch.ones(1) for block in range(30)}
    with pytest.raises(D2csrError, match="promise 450 blocks"):
        RRDBNet.from_public({"conv_first.weight": state["conv_first.weight"], **many})


def test_every_weight_of_both_networks_gets_a_gradient():
    network, judge = (
        RRDBNet(2, features=4, blocks=1, growth=2),
        Discriminator(features=2, input_px=64),
    )
    sr, hr = network(torch.rand(2, 3, 32, 32)), torch.rand(2, 3, 64, 64)
    terms = generator_terms(
        sr, hr, logits=(judge(hr), judge(sr)), features=None, config=AdversarialConfig()
    )
    weighted_sum(terms).backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []
    judge.zero_grad()
    sum(discriminator_losses(judge(hr), judge(sr.detach()))).backward()
    assert [name for name, value in judge.named_parameters() if value.grad is None] == []
