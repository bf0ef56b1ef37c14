"""The maps around the tree: bicubic base and RGB mean."""

import numpy as np
import pytest
import torch

from d2csr.images.resize import cubic_weights
from d2csr.models.layers import RGB_MEAN, BicubicBase, FixedMean
from tests.oracles import network as oracle

SCALES = [2, 3, 4, 8]


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (4, 3)])
@pytest.mark.parametrize("scale", SCALES)
def test_base_is_keys_interpolation_with_clamped_edges_in_loops(scale, size):
    lr = torch.rand(1, 3, *size)
    expected = oracle.bicubic(lr[0].double().numpy(), scale)
    np.testing.assert_allclose(BicubicBase(scale)(lr)[0].numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_base_is_the_matlab_enlargement_but_for_the_border(scale):
    """MATLAB mirrors the image, which differs from clamping within 2 LR pixels of the border."""
    lr = torch.rand(1, 3, 9, 7)
    image = lr[0].double().numpy()
    for axis, length in ((1, 9), (2, 7)):
        places, weights = cubic_weights(length, length * scale, factor=float(scale))
        taps = np.moveaxis(np.take(image, places, axis=axis), axis + 1, -1)
        shape = [1, 1, 1, weights.shape[1]]
        shape[axis] = len(weights)
        image = (taps * weights.reshape(shape)).sum(-1)
    inner = slice(2 * scale, -2 * scale)
    found = BicubicBase(scale)(lr)[0].numpy()
    np.testing.assert_allclose(found[:, inner, inner], image[:, inner, inner], atol=2e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_base_keeps_a_flat_image(scale):
    flat = torch.full((1, 3, 3, 4), 0.375)
    torch.testing.assert_close(
        BicubicBase(scale)(flat), torch.full((1, 3, 3 * scale, 4 * scale), 0.375)
    )


def test_base_stays_exact_under_bf16_autocast():
    lr, base = torch.rand(1, 3, 6, 6), BicubicBase(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert base(lr).equal(base(lr.float()))
        assert base(lr).dtype == torch.float32


def test_adding_the_mean_undoes_subtracting_it():
    lr = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(FixedMean(+1)(FixedMean(-1)(lr)), lr)
    black = FixedMean(+1)(torch.zeros(1, 3, 1, 1))
    assert black.flatten().tolist() == pytest.approx(RGB_MEAN)


def test_fixed_maps_are_no_weights():
    assert list(BicubicBase(2).state_dict()) == list(FixedMean(1).state_dict()) == []
