"""SRFlow against the authors' code: encoding, decoding, sampling, and its beginning."""

import pytest
import torch

from d2csr.core.errors import D2csrError
from d2csr.losses.likelihood import bits_per_pixel, gaussian_log_density, likelihood_loss
from d2csr.models.networks.public_weights import public_name
from d2csr.models.networks.srflow import SRFlow, default_stack
from tests.models.networks.conftest import assert_near

SIZES = {"features": 4, "blocks": 4, "growth": 2, "steps": 2, "hidden": 4}


@pytest.fixture
def network(oracle) -> SRFlow:
    return SRFlow.from_public(oracle("SRFlow").weights)


def test_all_sizes_are_read_from_the_weights(network):
    encoder = {"features": 8, "blocks": 4, "growth": 4}
    flow = {"steps": 2, "hidden": 8, "stacked_blocks": [0, 1, 2, 3]}
    assert (network.scale, network.sizes) == (4, {**encoder, **flow})


@torch.no_grad()
def test_the_encoders_features_are_those_of_the_authors(oracle, network):
    file = oracle("SRFlow")
    _, up1, up0 = network.conditions(file["input"])
    assert_near(up0, file["feature_fea_up0"])
    assert_near(up1, file["feature_fea_up1"])


@torch.no_grad()
def test_hr_is_encoded_to_the_authors_latents_and_likelihood(oracle, network):
    file = oracle("SRFlow")
    hr = file["input_hr"]
    (eps, z), log_determinant = network.encode(hr, network.conditions(file["input"]))
    assert_near(eps, file["encode_eps"])
    assert_near(z, file["encode_z"])
    # The authors' number contains the density of the latent that leaves at the split.
    assert_near(log_determinant + gaussian_log_density(eps), file["encode_logdet"], relative=1e-6)
    assert_near(bits_per_pixel([eps, z], log_determinant, pixels=24 * 40), file["nll"])


@torch.no_grad()
def test_decoding_returns_hr(oracle, network):
    file = oracle("SRFlow")
    conditions = network.conditions(file["input"])
    latents, _ = network.encode(file["input_hr"], conditions)
    difference = (network.decode(latents, conditions) - file["input_hr"]).abs().max()
    assert difference < 1e-5  # 2.4e-6 for the authors' code


@torch.no_grad()
def test_latents_are_decoded_as_by_the_authors(oracle, network):
    file = oracle("SRFlow")
    assert_near(network.native(file["input"]), file["output"])
    latents = [file["input_eps"], file["input_z"]]
    sample = network.decode(latents, network.conditions(file["input"]))
    assert_near(sample, file["output_sample"])
    _, log_determinant = network.encode(sample, network.conditions(file["input"]))
    decoded = -(log_determinant + gaussian_log_density(file["input_eps"]))
    assert_near(decoded, file["output_sample_logdet"], relative=1e-4)


@torch.no_grad()
def test_stored_inverses_decode_the_same(oracle, network):
    file = oracle("SRFlow")
    runs = network.for_inference()
    mixing = network.levels[0].steps[0].mixing
    assert mixing.stored_inverse is None
    mixing.weight.zero_()  # the copy doesn't look at the weights again
    assert_near(runs.native(file["input"]), file["output"])
    assert runs.state_dict().keys() == network.state_dict().keys()


@torch.no_grad()
def test_sampling_depends_on_temperature_and_seed_alone(network):
    lr = torch.rand(1, 3, 5, 7)
    drawn = network.sample(lr, temperature=0.9, seed=3)
    assert drawn.shape == (1, 3, 20, 28)
    torch.manual_seed(99)
    assert torch.equal(network.sample(lr, temperature=0.9, seed=3), drawn)
    assert not torch.allclose(network.sample(lr, temperature=0.9, seed=4), drawn)
    assert torch.equal(network.sample(lr, temperature=0.0, seed=3), network(lr))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@torch.no_grad()
def test_every_scale_is_invertible(scale: int):
    network = SRFlow(scale, **SIZES).double()
    for value in network.parameters():
        value.add_(0.05 * torch.randn_like(value))
    lr, hr = torch.rand(2, 3, 4, 6).double(), torch.rand(2, 3, 4 * scale, 6 * scale).double()
    conditions = network.conditions(lr)
    latents, _ = network.encode(hr, conditions)
    assert [tuple(each.shape) for each in latents] == network.latent_shapes(lr)
    assert sum(each.numel() for each in latents) == hr.numel()
    torch.testing.assert_close(network.decode(latents, conditions), hr)


@pytest.mark.parametrize("scale", [4, 8])
def test_public_names_are_read_at_both_scales_of_the_paper(scale: int):
    network = SRFlow(scale, **SIZES)
    layers = network.public_layers()
    state = {public_name(name, layers): value for name, value in network.state_dict().items()}
    again = SRFlow.from_public(state)
    assert (again.scale, again.sizes) == (scale, network.sizes)


def test_the_stacked_blocks_are_those_of_the_released_models():
    assert default_stack(4, 23) == (1, 8, 15, 22)
    assert default_stack(8, 23) == default_stack(8, 8) == (1, 3, 5, 7)
    assert default_stack(4, 3) == (0, 1, 2)


def test_stacked_blocks_that_weights_do_not_show_must_be_given():
    network = SRFlow(4, **{**SIZES, "blocks": 5}, stacked_blocks=[0, 2, 4])
    layers = network.public_layers()
    state = {public_name(name, layers): value for name, value in network.state_dict().items()}
    with pytest.raises(D2csrError, match=r"stacked_blocks can't be read .*the numbers, from 0"):
        SRFlow.from_public(state)
    again = SRFlow.from_public(state, stacked_blocks=[0, 2, 4])
    assert again.sizes == network.sizes
    with pytest.raises(D2csrError, match="are not among 5 blocks"):
        SRFlow.from_public(state, stacked_blocks=[0, 2, 5])


def test_the_first_batch_sets_the_normalizations():
    network = SRFlow(2, **SIZES)
    lr, hr = torch.rand(4, 3, 5, 6), torch.rand(4, 3, 10, 12)
    network.initialize(lr, hr)
    latents, _ = network.encode(network.training_target(hr), network.training_outputs(lr))
    assert latents[-1].std().item() == pytest.approx(1, abs=0.3)
    norms = [name for name, value in network.named_parameters() if name.endswith("norm.bias")]
    assert norms
    assert all(network.get_parameter(name).any() for name in norms)


def test_training_raises_the_likelihood():
    network = SRFlow(2, **SIZES)
    lr = torch.rand(2, 3, 8, 8)
    hr = lr.repeat_interleave(2, 2).repeat_interleave(2, 3)
    network.initialize(lr, hr)
    trained = [value for value in network.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-2)

    def step() -> float:
        conditions = network.training_outputs(lr)
        loss = likelihood_loss(lambda image: network.encode(image, conditions), hr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    losses = [step() for _ in range(20)]
    assert losses[-1] < losses[0] - 1


def test_names_that_promise_more_than_the_file_holds_are_refused_at_once(oracle):
    state = oracle("SRFlow").weights
    step = "flowUpsamplerNet.layers.{}.affine.fFeatures.0.weight"
    many = {step.format(index): state[step.format(3)] for index in range(3, 5000)}
    with pytest.raises(D2csrError, match="its names promise"):
        SRFlow.from_public({**state, **many})
