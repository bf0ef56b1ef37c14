"""Shared parts of the compared networks, and the fixed maps that some of them need."""

import numpy as np
import torch

from d2csr.images.resize import cubic_weights
from d2csr.models.layers import RGB_MEAN
from d2csr.models.networks.blocks import MeanShift, ReduceByQuarter, ShuffleUpsampler


@torch.no_grad()
def test_reduction_by_a_quarter_is_matlabs_but_for_the_border():
    image = torch.rand(1, 1, 24, 32, dtype=torch.double)
    found = ReduceByQuarter()(image)[0, 0].numpy()
    expected = image[0, 0].numpy()
    for axis in (0, 1):
        length = expected.shape[axis]
        places, weights = cubic_weights(length, 3 * length // 4, factor=0.75)
        taps = np.moveaxis(np.take(expected, places, axis=axis), axis + 1, -1)
        shape = [1, 1, weights.shape[1]]
        shape[axis] = len(weights)
        expected = (taps * weights.reshape(shape)).sum(-1)
    np.testing.assert_allclose(found[3:-3, 3:-3], expected[3:-3, 3:-3], atol=1e-6)


def test_reduction_keeps_a_flat_image_to_its_border():
    flat = torch.full((1, 1, 8, 8), 0.375)
    torch.testing.assert_close(ReduceByQuarter()(flat), torch.full((1, 1, 6, 6), 0.375))


def test_mean_shift_subtracts_the_mean_and_is_stored_but_trained_only_if_wanted():
    fixed = MeanShift(-1, value_range=255, trained=False)
    shifted = fixed(torch.zeros(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(shifted, -255 * torch.tensor(RGB_MEAN))
    assert [value.requires_grad for value in fixed.parameters()] == [False, False]
    assert sum(value.numel() for value in fixed.parameters()) == 12
    assert MeanShift(+1, value_range=1, trained=True).weight.requires_grad


@torch.no_grad()
def test_activations_follow_the_shuffles_of_an_upsampler():
    upsampler = ShuffleUpsampler(2, 3, scale=4)
    features = torch.rand(1, 2, 4, 5)
    seen = []
    upsampler(features, [lambda x: seen.append(x.shape) or x] * 2)
    assert seen == [(1, 3, 8, 10), (1, 3, 16, 20)]
