"""Kernel codes of SRMDNF: blurs as the numbers that the network is given."""

import numpy as np
import pytest
import torch

from d2csr.core.errors import D2csrError
from d2csr.models.networks.plain import SRMDNF, kernel_codes


def gaussian(sigma_x: float, sigma_y: float) -> np.ndarray:
    offsets = np.arange(15) - 7
    kernel = np.exp(-0.5 * ((offsets / sigma_y)[:, None] ** 2 + (offsets / sigma_x) ** 2))
    return kernel / kernel.sum()


def unit_kernels() -> np.ndarray:
    """Return the kernels with a single 1, in MATLAB's order: down the columns."""
    kernels = np.zeros((225, 15, 15))
    for index in range(225):
        kernels[index, index % 15, index // 15] = 1
    return kernels


def test_the_directions_are_orthonormal():
    directions = kernel_codes(unit_kernels()).T
    np.testing.assert_allclose(directions @ directions.T, np.eye(15), atol=1e-12)


@pytest.mark.parametrize("sigmas", [(0.7, 0.7), (1.3, 3.0), (2.5, 1.1), (3.5, 3.5)])
def test_a_code_holds_nearly_all_of_a_gaussian_kernel(sigmas):
    kernel = gaussian(*sigmas)
    code = kernel_codes(kernel[None])[0]
    assert (code**2).sum() > 0.98 * (kernel**2).sum()
    assert (code**2).sum() <= (kernel**2).sum() + 1e-12


def test_the_default_code_is_that_of_no_blur_and_no_noise():
    network = SRMDNF(2, features=4, layers=3, noise=True)
    planes = network.native_input(torch.rand(2, 3, 4, 5))[:, 3:]
    expected = kernel_codes(unit_kernels()[112:113])[0]  # the centre of 15 x 15
    assert planes.shape == (2, 16, 4, 5)
    for index, value in enumerate([*expected, 0.0]):
        torch.testing.assert_close(planes[:, index], torch.full((2, 4, 5), float(value)))


def test_a_code_of_another_length_is_refused():
    with pytest.raises(D2csrError, match="code has 3 numbers, not 15"):
        SRMDNF(2, code=[0.1, 0.2, 0.3])
