"""The whole network against numpy, its shapes for any tree, and its fusion."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from d2csr.core.config import MAX_LEAVES, ModelConfig
from d2csr.core.errors import D2csrError
from d2csr.models.d2csr import D2CSR, fuse, grow, path_name
from tests.oracles import network as oracle

TINY = {"channels": 4, "groups": 1, "blocks": 1, "convergence_channels": 5}
CONFIGS = st.builds(
    ModelConfig,
    scale=st.sampled_from([2, 3, 4, 8]),
    channels=st.integers(1, 6),
    depth=st.integers(1, 2),
    children=st.integers(1, 3),
    groups=st.integers(1, 2),
    blocks=st.integers(1, 2),
    convergence_channels=st.integers(0, 5),
    deep_residual=st.booleans(),
    base=st.sampled_from(["none", "bicubic"]),
    mean=st.sampled_from(["fixed", "convolution"]),
    tail_border=st.sampled_from(["features", "each"]),
    pooling_px=st.sampled_from([None, 3, 5]),
    convergence_last_relu=st.booleans(),
) | st.builds(
    ModelConfig,
    scale=st.sampled_from([2, 3, 4]),
    channels=st.integers(1, 6),
    depth=st.integers(1, 2),
    children=st.integers(1, 3),
    groups=st.integers(0, 2),
    blocks=st.integers(1, 2),
    trunk_groups=st.integers(1, 2),
    convergence_channels=st.integers(1, 5),
    convergence_grid=st.sampled_from(["sr", "lr"]),
    attention=st.booleans(),
    base=st.sampled_from(["none", "bicubic"]),
)


@given(config=CONFIGS, size=st.tuples(st.integers(1, 5), st.integers(1, 5)))
@settings(max_examples=20)
def test_network_is_the_one_written_in_numpy(config, size):
    network = D2CSR(config).double()
    lr = torch.rand(1, 3, *size).double()
    with torch.no_grad():
        found = network(lr)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    expected = oracle.forward(lr[0].numpy(), weights, config.to_dict())
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one[0].numpy(), other, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_a_image_of_one_pixel_is_enlarged(scale):
    output = D2CSR(ModelConfig(scale=scale, **TINY))(torch.rand(2, 3, 1, 1))
    assert output.sr.shape == (2, 3, scale, scale)
    assert output.predictions.shape == (2, 4, 3, scale, scale)
    assert output.weights.shape == (2, 4, scale, scale)


def test_weights_of_a_pixel_sum_to_one_and_sr_lies_between_its_predictions():
    output = D2CSR(ModelConfig(scale=2, **TINY))(torch.rand(1, 3, 5, 4))
    torch.testing.assert_close(output.weights.sum(1), torch.ones(1, 10, 8))
    assert (output.sr <= output.predictions.amax(1) + 1e-6).all()
    assert (output.sr >= output.predictions.amin(1) - 1e-6).all()


def test_fusion_is_equation_8_in_loops():
    predictions, weights = torch.rand(1, 3, 3, 2, 2), torch.rand(1, 3, 2, 2)
    expected = torch.zeros(1, 3, 2, 2)
    for leaf in range(3):
        for color in range(3):
            for y in range(2):
                for x in range(2):
                    weight = weights[0, leaf, y, x]
                    expected[0, color, y, x] += weight * predictions[0, leaf, color, y, x]
    torch.testing.assert_close(fuse(predictions, weights), expected)


@pytest.mark.parametrize("children", [1, 3])
def test_without_a_convergence_network_sr_is_the_mean_of_the_predictions(children):
    network = D2CSR(ModelConfig(scale=2, children=children, **TINY | {"convergence_channels": 0}))
    sr, predictions, weights = network(torch.rand(1, 3, 5, 4))
    torch.testing.assert_close(sr, predictions.mean(1))
    torch.testing.assert_close(weights, torch.full((1, children**2, 10, 8), children**-2.0))
    assert [name for name in network.state_dict() if name.startswith("convergence")] == []


def test_output_is_not_clipped():
    network = D2CSR(ModelConfig(scale=2, **TINY))
    with torch.no_grad():
        for tail in network.divergence.tails:
            tail.out.bias.fill_(3.0)
        assert network(torch.rand(1, 3, 4, 4)).sr.min() > 1


@given(depth=st.integers(1, 4), children=st.integers(1, 4))
def test_tree_has_every_path_once_parents_first(depth, children):
    assume(children**depth <= MAX_LEAVES)
    paths = ModelConfig(scale=2, depth=depth, children=children, blocks=1, groups=1).branch_paths
    assert len(set(paths)) == len(paths) == sum(children**level for level in range(1, depth + 1))
    assert all(path[:-1] in [(), *paths[:place]] for place, path in enumerate(paths))
    assert path_name((0, 1)) == "0-1"


@torch.no_grad()
def test_a_deep_narrow_tree_is_the_one_written_in_numpy():
    config = ModelConfig(scale=2, depth=3, children=2, base="bicubic", **TINY)
    network, lr = D2CSR(config).double(), torch.rand(1, 3, 3, 4).double()
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    expected = oracle.forward(lr[0].numpy(), weights, config.to_dict())
    for one, other in zip(network(lr), expected, strict=True):
        np.testing.assert_allclose(one[0].numpy(), other, rtol=1e-9, atol=1e-6)


def test_siblings_share_all_but_their_own_branch():
    """Changing the first child of a node moves its own leaves and no other."""
    network = D2CSR(ModelConfig(scale=2, depth=2, children=2, **TINY))
    lr = torch.rand(1, 3, 5, 5)
    with torch.no_grad():
        before = network(lr).predictions
        network.divergence.branches["1-0"].conv.bias.add_(1.0)
        leaf_changed = (network(lr).predictions != before).flatten(2).any(2)[0]
        network.divergence.branches["0"].conv.bias.add_(1.0)
        node_changed = (network(lr).predictions != before).flatten(2).any(2)[0]
    assert leaf_changed.tolist() == [False, False, True, False]
    assert node_changed.tolist() == [True, True, True, False]


def test_deep_residual_off_keeps_the_sum_with_the_head_alone():
    config = ModelConfig(scale=2, depth=3, children=2, deep_residual=False, **TINY)
    assert [len(chain) for chain in D2CSR(config).divergence.residuals] == [1] * 8
    assert [
        len(chain) for chain in D2CSR(ModelConfig(scale=2, depth=3, **TINY)).divergence.residuals
    ] == [3] * 8


@pytest.mark.parametrize(
    "choices",
    [
        {"scale": 5},
        {"channels": 0},
        {"base": "linear"},
        {"mean": "none"},
        {"tail": "folded"},
        {"tail_border": "none"},
        {"pooling_px": 4},
        {"pooling_px": 1},
        {"convergence_channels": -1},
        {"convergence_grid": "lr", "convergence_channels": 0},
    ],
)
def test_configurations_no_network_can_have_are_refused(choices):
    values = ModelConfig(scale=2).to_dict() | choices
    with pytest.raises(D2csrError, match=str(next(iter(choices)))):
        ModelConfig.from_dict(values)


def test_unknown_settings_are_refused():
    with pytest.raises(D2csrError, match="width"):
        ModelConfig.from_dict({"scale": 2, "width": 64})


@given(config=CONFIGS)
def test_configuration_survives_json(config):
    assert ModelConfig.from_dict(config.to_dict()) == config


@given(config=CONFIGS, added=st.tuples(*(st.integers(0, 2) for _ in range(5))))
@settings(max_examples=8, deadline=None)
def test_a_grown_network_gives_the_images_of_the_smaller_one(config, added):
    channels, convergence, trunk, groups, blocks = added
    convergence *= config.has_convergence
    larger = replace(
        config,
        channels=config.channels + channels,
        convergence_channels=config.convergence_channels + convergence,
        trunk_groups=config.trunk_groups + trunk,
        groups=config.groups + groups,
        blocks=config.blocks + blocks,
    )
    torch.manual_seed(0)
    smaller, grown = D2CSR(config).eval(), D2CSR(larger).eval()
    grow(grown, smaller)
    lr = torch.rand(1, 3, 5, 6)
    with torch.inference_mode():
        for expected, image in zip(smaller(lr), grown(lr), strict=True):
            torch.testing.assert_close(image, expected, rtol=1e-4, atol=1e-5)


def test_every_added_value_can_be_trained():
    """In a few steps: what sees added channels begins at zero."""
    torch.manual_seed(0)
    small = {**TINY, "scale": 2, "trunk_groups": 1, "attention": False}
    grown = D2CSR(ModelConfig(**{**small, "channels": 7, "trunk_groups": 2, "blocks": 2}))
    grow(grown, D2CSR(ModelConfig(**small)))
    before = {name: value.clone() for name, value in grown.named_parameters()}
    optimizer = torch.optim.Adam(grown.parameters(), lr=1e-2)
    for _ in range(6):
        lr = torch.rand(2, 3, 8, 8)
        optimizer.zero_grad()
        (
            grown(lr).sr - lr.repeat_interleave(2, 2).repeat_interleave(2, 3)
        ).square().sum().backward()
        optimizer.step()
    still = {
        name: float((value == before[name]).double().mean())
        for name, value in grown.named_parameters()
    }
    assert {name: share for name, share in still.items() if share > 0.5} == {}  # dead ReLU units


def test_the_trunk_of_another_scale_keeps_its_features():
    torch.manual_seed(0)
    given_network = D2CSR(ModelConfig(scale=4, **TINY)).eval()
    grown = D2CSR(ModelConfig(scale=3, **{**TINY, "channels": 6})).eval()
    tails = {name: value.clone() for name, value in grown.state_dict().items() if "tails" in name}
    grow(grown, given_network)
    lr = torch.rand(1, 3, 5, 6)
    with torch.inference_mode():
        pairs = zip(
            given_network.divergence.features(lr), grown.divergence.features(lr), strict=True
        )
        for expected, features in pairs:
            torch.testing.assert_close(features[:, :4], expected, rtol=1e-4, atol=1e-5)
    for name, value in tails.items():
        assert torch.equal(grown.state_dict()[name], value)
