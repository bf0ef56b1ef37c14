"""CDC against the authors' code."""

import pytest
import torch

from d2csr.core.errors import D2csrError
from d2csr.models.networks.hourglass import CDC, COMPONENTS
from d2csr.models.networks.public_weights import public_name
from tests.models.networks.conftest import assert_near


@torch.no_grad()
def test_cdc_computes_what_the_authors_code_does(oracle):
    file = oracle("CDC")
    network = CDC.from_public(file.weights)
    assert network.sizes == {"features": 4, "hourglasses": 6, "middle": 2, "tails": 2}
    (x, expected), *_ = file.pairs()
    outputs = network.components(x)
    assert_near(outputs.sr, expected)
    assert_near(network.native(x), expected)
    for index, component in enumerate(COMPONENTS):
        assert_near(outputs.images[index], file[f"output_{component}"])
        assert_near(outputs.maps[index].mean(1, keepdim=True), file[f"map_{component}"])


@torch.no_grad()
def test_sides_that_are_no_multiples_of_16_are_padded_and_cut(oracle):
    network = CDC.from_public(oracle("CDC").weights)
    lr = torch.rand(1, 3, 15, 18)
    padded = lr[:, :, [*range(15), 14]][..., [*range(18), *[17] * 14]]
    assert_near(network(lr), network.native(padded)[:, :, :60, :72])
    assert [each.shape for each in network.training_outputs(lr)] == [(1, 3, 60, 72)] * 4


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_scale_is_read_from_the_number_of_enlargements_and_the_last_kernel(scale: int):
    network = CDC(scale, features=2, hourglasses=4, middle=1, tails=1)
    layers = network.public_layers()
    state = {public_name(name, layers): value for name, value in network.state_dict().items()}
    again = CDC.from_public(state)
    assert (again.scale, again.sizes) == (network.scale, network.sizes)
    x = torch.rand(1, 3, 16, 16)
    assert_near(again.native(x), network.native(x))


def test_three_components_need_four_hourglasses():
    with pytest.raises(D2csrError, match="hourglasses=3 is too few for three components"):
        CDC(2, features=2, hourglasses=3)


def test_every_parameter_is_trained():
    network = CDC(2, features=2, hourglasses=4)
    sum(
        each.square().mean() for each in network.training_outputs(torch.rand(1, 3, 16, 16))
    ).backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []


def test_names_that_promise_more_than_the_file_holds_are_refused_at_once(oracle):
    state = oracle("CDC").weights
    one = torch.ones(1)
    many = {f"HG_{index}.down1.res_block.res.0.weight": one for index in range(3000)}
    wide = {f"HG_0.mid_res.{index}.res.0.weight": one for index in range(3000)}
    with pytest.raises(D2csrError, match="its names promise 9009000 blocks"):
        CDC.from_public({**many, **wide, **state})
    steps = {f"flat_map.{index}.1.weight": one for index in range(1, 20_000)}
    last = {"flat_map.20001.0.weight": torch.ones(3, 4, 1, 1)}
    with pytest.raises(D2csrError, match="it holds 20424 tensors, more than any"):
        CDC.from_public({**state, **steps, **last})
