"""Layers of the flow: each is inverted, and its log-determinant is that of its Jacobian."""

import pytest
import torch
from torch import nn

from d2csr.models.networks.flow import ActNorm, FlowLevel, FlowStep, Split


def shaken(layer: nn.Module) -> nn.Module:
    """Return the layer in float64, every parameter moved away from zero."""
    for value in layer.double().parameters():
        value.data += 0.1 * torch.randn_like(value)
    return layer


def level(squeeze: int) -> FlowLevel:
    channels = 3 * squeeze**2
    steps = [FlowStep(channels, 4, hidden=None), FlowStep(channels, 4, hidden=5)]
    return shaken(FlowLevel(steps, squeeze=squeeze, split=Split(channels)))


@pytest.mark.parametrize("squeeze", [2, 3])
@torch.no_grad()
def test_a_level_is_inverted(squeeze: int):
    flow = level(squeeze)
    z, features = torch.rand(2, 3, 12, 6).double(), torch.rand(2, 4, 12, 6).double()
    features = features[:, :, ::squeeze, ::squeeze]
    latents, _ = flow(z, features)
    assert [each.shape[1] for each in latents] == ([6, 6] if squeeze == 2 else [13, 14])
    torch.testing.assert_close(flow.inverse(latents, features), z)


@pytest.mark.parametrize("squeeze", [2, 3])
def test_the_log_determinant_is_that_of_the_jacobian(squeeze: int):
    flow = level(squeeze)
    z, features = torch.rand(1, 3, 6, 6).double(), torch.rand(1, 4, 6, 6).double()
    features = features[:, :, ::squeeze, ::squeeze]

    def flat(image: torch.Tensor) -> torch.Tensor:
        return torch.cat([each.flatten() for each in flow(image.view_as(z), features)[0]])

    jacobian = torch.autograd.functional.jacobian(flat, z.flatten())
    expected = torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(flow(z, features)[1], expected[None])


def test_a_fitted_normalization_gives_mean_0_and_deviation_1():
    norm, z = ActNorm(3), 5 + 2 * torch.rand(4, 3, 8, 8)
    norm.fit(z)
    result = norm(z)
    torch.testing.assert_close(result.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std((0, 2, 3), correction=0), torch.ones(3))
