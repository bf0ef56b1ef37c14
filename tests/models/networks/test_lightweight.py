"""SRVGGNetCompact, SPAN and SAFMN against their public code."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from d2csr.core.errors import D2csrError, UsageError
from d2csr.models.networks.lightweight import SAFMN, SPAN, SRVGGNetCompact, pool_to
from tests.models.networks.conftest import assert_near


@torch.no_grad()
def test_srvgg_computes_what_basicsr_does(oracle):
    file = oracle("SRVGGNetCompact")
    network = SRVGGNetCompact.from_public(file.weights)
    assert network.sizes == {"features": 8, "middle": 3, "activation": "prelu"}
    for x, expected in file.pairs():
        assert_near(network.native(x), expected)


@pytest.mark.parametrize("activation", ["relu", "leakyrelu"])
@torch.no_grad()
def test_srvgg_without_prelu_asks_for_its_activation(oracle, activation: str):
    state = {name: value for name, value in oracle("SRVGGNetCompact").weights.items()
             if int(name.split(".")[1]) % 2 == 0}  # fmt: skip
    with pytest.raises(D2csrError, match="activation can't be read from the weights"):
        SRVGGNetCompact.from_public(state)
    network = SRVGGNetCompact.from_public(state, activation=activation)
    x = features = torch.rand(1, 3, 6, 5)
    for index in range(0, 8, 2):
        features = F.conv2d(features, state[f"body.{index}.weight"], state[f"body.{index}.bias"],
                            padding=1)  # fmt: skip
        features = F.leaky_relu(features, 0.0 if activation == "relu" else 0.1)
    last = F.conv2d(features, state["body.8.weight"], state["body.8.bias"], padding=1)
    expected = F.pixel_shuffle(last, 4) + x.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert_near(network.native(x), expected)


@torch.no_grad()
def test_span_computes_what_its_public_code_does_merged_or_not(oracle):
    file = oracle("SPAN")
    trained = SPAN.from_public(file.weights, img_range=1.0)
    merged = trained.for_inference()
    assert trained.sizes == {"features": 8, "img_range": 1.0, "merged": False}
    assert merged.sizes["merged"]
    assert merged.for_inference() is merged
    assert sum(value.numel() for value in merged.parameters()) == 15_088
    for x, expected in file.pairs():
        assert_near(trained.native(x), expected)
        assert_near(merged.native(x), expected)


@torch.no_grad()
def test_span_is_read_from_merged_weights_alone(oracle):
    """As files for other programs have them: `eval_conv` without the parts it comes from."""
    file = oracle("SPAN")
    state = {name: value for name, value in file.weights.items()
             if ".sk." not in name and ".conv." not in name}  # fmt: skip
    network = SPAN.from_public(state, img_range=1.0)
    assert network.sizes["merged"]
    for x, expected in file.pairs():
        assert_near(network.native(x), expected)


def test_span_asks_for_its_range(oracle):
    with pytest.raises(D2csrError, match=r"Give img_range=255 .* or 1"):
        SPAN.from_public(oracle("SPAN").weights)


def training_graph(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Return the output of the public code's training graph: 1x1, 3x3, 1x1 plus a parallel 1x1."""
    features = F.pad(x, (1, 1, 1, 1))
    for part in ("conv.0", "conv.1", "conv.2"):
        features = F.conv2d(features, state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"])
    return features + F.conv2d(x, state[f"{name}.sk.weight"], state[f"{name}.sk.bias"])


def test_spans_convolutions_have_the_gradients_of_the_training_graph(oracle):
    state = oracle("SPAN").weights
    network = SPAN.from_public(state, img_range=1.0)
    names = {"skip": "sk", "expand": "conv.0", "middle": "conv.1", "project": "conv.2"}
    x = torch.rand(2, 8, 5, 6)
    weights = {name: value.clone().requires_grad_() for name, value in state.items()}
    expected = training_graph(weights, "conv_2", x)
    found = network.body(x)
    assert_near(found, expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    for name, parameter in network.body.named_parameters():
        part, kind = name.split(".")
        assert_near(parameter.grad, weights[f"conv_2.{names[part]}.{kind}"].grad, relative=1e-4)


@torch.no_grad()
def test_safmn_computes_what_its_public_code_does(oracle):
    file = oracle("SAFMN")
    network = SAFMN.from_public(file.weights)
    assert network.sizes == {"features": 8, "blocks": 2, "growth": 2.0}
    for x, expected in file.pairs():
        assert_near(network.native(x), expected)


@pytest.mark.parametrize("sides", [(8, 8), (11, 13), (23, 31), (64, 9), (17, 100)])
def test_pooling_is_torchs_adaptive_one(sides: tuple[int, int]):
    features = torch.rand(2, 3, *sides)
    for factor in (1, 2, 4, 8):
        size = (sides[0] // factor, sides[1] // factor)
        assert torch.equal(pool_to(features, factor), F.adaptive_max_pool2d(features, size))


@torch.no_grad()
def test_safmn_pads_images_smaller_than_its_pooling(oracle):
    network = SAFMN.from_public(oracle("SAFMN").weights)
    lr = torch.rand(1, 3, 5, 11)
    padded = lr[:, :, [0, 1, 2, 3, 4, 4, 4, 4]]
    assert_near(network(lr), network.native(padded)[:, :, :20])


def test_safmn_needs_a_width_that_its_levels_divide():
    with pytest.raises(UsageError, match="features=10 isn't a multiple of 4"):
        SAFMN(2, features=10)
