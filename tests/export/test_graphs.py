"""Graphs: their receptive fields against what one pixel changes, and those that ship."""

import numpy as np
import pytest
import torch

from d2csr.checkpoint.io import load_weights
from d2csr.engine.model import shipped_bundles
from d2csr.export.graphs import write_tail, write_trunk
from tests.tiny_models import random_network


@pytest.mark.parametrize("grid", ["sr", "lr"])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_sr_depends_on_no_feature_beyond_the_halo(scale, grid):
    """A change of one row of features and LR moves no SR row more than `halo_lr_rows` away."""
    network = random_network(scale=scale, base="bicubic", convergence_grid=grid).double()
    tree, row = network.divergence, 12
    lr = torch.rand(1, 3, 25, 6, dtype=torch.float64)
    features = [torch.rand(1, 4, 25, 6, dtype=torch.float64) for _ in range(4)]

    def sr() -> np.ndarray:
        images = [
            tree.add_base(tail(each), tree.base_image(lr))
            for tail, each in zip(tree.tails, features, strict=True)
        ]
        stacked = torch.stack(images, 1)
        return (stacked * network.convergence(stacked)[:, :, None]).sum(1).detach().numpy()

    before = sr()
    lr[:, :, row] += 100
    for each in features:
        each[:, :, row] += 100
    rows = np.flatnonzero((sr() != before).any((0, 1, 3))) // scale
    halo = network.config.receptive_field.halo_lr_rows
    assert row - halo <= rows.min() <= row - 2
    assert row + 2 <= rows.max() <= row + halo


def test_the_receptive_field_of_local_pooling_is_that_on_the_card():
    network = random_network(pooling_px=5, depth=1).double()
    for name, value in network.named_parameters():
        if name.endswith(("squeeze.bias", "conv1.bias")):
            value.data.fill_(9)  # so that no ReLU is closed: the gates depend on what they see
    middle = network.config.pooling_px + network.config.receptive_field.trunk_lr_px
    lr = torch.rand(1, 3, 1, 2 * middle + 1, dtype=torch.float64)
    before = torch.cat(network.divergence.features(lr), 1)
    lr[..., middle] += 1
    changed = (torch.cat(network.divergence.features(lr), 1) != before).numpy()
    columns = np.flatnonzero(changed.any((0, 1, 2)))
    assert (middle - columns.min(), columns.max() - middle) == (
        network.config.receptive_field.trunk_lr_px,
    ) * 2


def test_the_receptive_field_without_attention_is_that_on_the_card():
    network = random_network(attention=False, trunk_groups=2, groups=1).double()
    for name, value in network.named_parameters():
        if name.endswith("conv1.bias"):
            value.data.fill_(9)  # so that no ReLU is closed
    middle = 2 * network.config.trunk_receptive_field_px
    lr = torch.rand(1, 3, 1, 2 * middle + 1, dtype=torch.float64)
    before = torch.cat(network.divergence.features(lr), 1)
    lr[..., middle] += 1
    changed = (torch.cat(network.divergence.features(lr), 1) != before).numpy()
    columns = np.flatnonzero(changed.any((0, 1, 2)))
    expected = network.config.receptive_field.trunk_lr_px
    assert (middle - columns.min(), columns.max() - middle) == (expected, expected)


def test_a_mean_over_the_whole_image_has_no_end():
    assert random_network().config.receptive_field.trunk_lr_px is None


@pytest.mark.parametrize("bundle", shipped_bundles(), ids=lambda bundle: bundle.card.name)
def test_shipped_bundles_hold_the_graphs_that_an_export_writes(bundle, tmp_path):
    """So a change of the graphs can't be forgotten in the models that ship."""
    network = load_weights(bundle.folder / "model.safetensors").collapse()
    assert bundle.card.config == network.config
    assert bundle.card.receptive_field == network.config.receptive_field
    for write, role in ((write_trunk, "trunk"), (write_tail, "tail")):
        write(network, tmp_path / f"{role}.onnx")
        assert (tmp_path / f"{role}.onnx").read_bytes() == bundle.graph(role).read_bytes()
