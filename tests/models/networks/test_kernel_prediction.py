"""LP-KPN against the authors' Caffe model, and its pyramid against plain loops."""

import numpy as np
import pytest
import torch

from d2csr.core.errors import D2csrError
from d2csr.models.layers import BicubicBase
from d2csr.models.networks.base import luma
from d2csr.models.networks.kernel_prediction import (
    LPKPN,
    apply_kernels,
    collapse_pyramid,
    laplacian_pyramid,
)
from tests.models.networks.conftest import assert_near


@torch.no_grad()
def test_lpkpn_computes_what_the_caffe_model_does(oracle):
    file = oracle("LP-KPN")
    network = LPKPN.from_public(file.weights, scale=3)
    assert network.sizes == {"features": 16, "blocks": 16}
    for x, expected in file.pairs():
        assert_near(network.native(x), expected)


@torch.no_grad()
def test_the_layers_between_are_those_of_the_caffe_model(oracle):
    file = oracle("LP-KPN")
    network, x = LPKPN.from_public(file.weights, scale=3), file["input"]
    found = {
        "data": laplacian_pyramid(x),
        "Kernel": network.kernels(x),
        "Pixel": network.pyramid(x),
    }
    for kind, names in {"data": "321", "Kernel": "CBA", "Pixel": "CBA"}.items():
        for level, name in zip(found[kind], names, strict=True):
            assert_near(level, file[f"blob_{kind}{name}"])


def test_a_collapsed_pyramid_is_the_image():
    image = torch.rand(2, 1, 12, 16)
    assert_near(collapse_pyramid(laplacian_pyramid(image)), image, relative=1e-6)


def test_kernels_are_applied_row_by_row_with_zeros_outside():
    image, kernels = torch.rand(1, 1, 3, 4), torch.rand(1, 25, 3, 4)
    expected = np.zeros((3, 4))
    for row in range(3):
        for column in range(4):
            for tap in range(25):
                y, x = row + tap // 5 - 2, column + tap % 5 - 2
                if 0 <= y < 3 and 0 <= x < 4:
                    expected[row, column] += float(image[0, 0, y, x] * kernels[0, tap, row, column])
    np.testing.assert_allclose(apply_kernels(image, kernels)[0, 0], expected, rtol=1e-5)


@torch.no_grad()
def test_other_sides_are_padded_and_training_compares_padded_pyramids(oracle):
    network = LPKPN.from_public(oracle("LP-KPN").weights, scale=3)
    lr, hr = torch.rand(1, 3, 5, 4), torch.rand(1, 3, 15, 12)
    bicubic = BicubicBase(3)(lr)
    y = luma(bicubic)
    y = torch.cat([y, y[:, :, -1:]], dim=2)
    expected = bicubic + (network.native(y)[:, :, :15] - luma(bicubic)) * 255 / 219
    assert_near(network(lr), expected)
    outputs, target = network.training_outputs(lr), network.training_target(hr)
    assert [each.shape for each in outputs] == [each.shape for each in target]
    assert_near(collapse_pyramid(list(target))[:, :, :15], luma(hr))


def test_the_scale_must_be_given_because_the_weights_fit_every_one(oracle):
    with pytest.raises(D2csrError, match="scale can't be read from the weights"):
        LPKPN.from_public(oracle("LP-KPN").weights)


def test_the_width_must_survive_two_shuffles():
    with pytest.raises(D2csrError, match="features=24 isn't a multiple of 16"):
        LPKPN(2, features=24)
