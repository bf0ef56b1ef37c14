"""Bundles of the compared systems: every network runs from its graph as in torch."""

import numpy as np
import pytest
import torch

from d2csr.checkpoint import load_network
from d2csr.core.bundle import read_bundle
from d2csr.core.errors import BundleError
from d2csr.engine import open_engine
from d2csr.export.system_bundle import count_values, measure_values, verify_system
from d2csr.export.verification import noise_image
from tests.tiny_systems import NAMES, tiny_system


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_computes_what_the_network_does_whole_and_in_strips(system_bundle, name: str):
    """Strips of one row and of all; `write_system_bundle` has compared tiny crops already."""
    bundle, network = system_bundle(name), tiny_system(name)
    lr01 = np.random.default_rng(3).random((37, 13, 3), np.float32)
    with torch.no_grad():
        lr = torch.from_numpy(lr01).permute(2, 0, 1)[None]
        expected = network(lr)[0].permute(1, 2, 0).numpy()
    engine = open_engine(bundle, backend="openvino", precision="fp32")
    whole = engine.run(lr01).sr
    limit = 1e-5 * max(1.0, np.abs(expected).max())
    assert np.abs(whole - expected).max() <= limit
    in_strips = engine.with_strips(1).run(lr01).sr
    assert np.abs(in_strips - whole).max() <= limit


@pytest.mark.parametrize("name", NAMES)
def test_the_network_comes_back_from_its_bundle(system_bundle, name: str):
    bundle, network = system_bundle(name), tiny_system(name)
    again = load_network(bundle.folder)
    assert (again.scale, again.sizes) == (network.scale, network.sizes)
    assert not again.training
    for key, value in network.state_dict().items():
        assert again.state_dict()[key].equal(value)


def test_the_card_describes_the_network(system_bundle):
    card = read_bundle(system_bundle("edsr").folder).card
    network = tiny_system("edsr")
    assert card.graphs == {"whole": "whole.onnx"}
    assert card.config.system == "edsr"
    assert dict(card.config.sizes) == network.sizes
    assert card.config.receptive_field_lr_px == network.receptive_field
    assert card.parameters == sum(value.numel() for value in network.parameters())
    assert set(card.precisions) <= {"bf16"}
    readme = (system_bundle("edsr").folder / "README.md").read_text()
    assert "edsr: features 4, blocks 1" in readme


def test_a_bundle_with_the_weights_of_another_network_is_found(system_bundle):
    other = tiny_system("edsr")
    with torch.no_grad():
        other.out.weight.add_(0.1)
    with pytest.raises(BundleError, match="differs from its network by"):
        verify_system(system_bundle("edsr"), other, images=[noise_image()])


def test_the_memory_on_the_card_is_at_least_that_of_the_maps(system_bundle):
    """SRFlow's decoder takes far more than the maps that are read later."""
    for name in ("edsr", "srflow"):
        bundle = system_bundle(name)
        counted = count_values(bundle.graph("whole"))
        assert 0 < counted <= bundle.card.config.values_per_lr_px + 0.1
        assert measure_values(bundle.graph("whole"), side_px=160) < 1e5
