"""The likelihood against its definition; its values for SRFlow are in tests/models/networks."""

import math

import pytest
import torch

from d2csr.losses.likelihood import bits_per_pixel, dequantize, likelihood_loss


def test_bits_per_pixel_is_its_equation():
    latents = [torch.randn(2, 3, 1, 2), torch.randn(2, 1, 1, 1)]
    log_determinant = torch.tensor([0.7, -1.5])
    found = bits_per_pixel(latents, log_determinant, pixels=5)
    for image in range(2):
        log_likelihood = float(log_determinant[image])
        for latent in latents:
            for value in latent[image].flatten().tolist():
                log_likelihood += math.log(math.exp(-value * value / 2) / math.sqrt(2 * math.pi))
        assert float(found[image]) == pytest.approx(-log_likelihood / math.log(2) / 5, rel=1e-5)


def test_noise_is_uniform_centered_and_repeatable():
    hr = torch.full((4, 3, 50, 50), 0.5)
    noise = dequantize(hr, levels=32, generator=torch.Generator().manual_seed(1)) - hr
    again = dequantize(hr, levels=32, generator=torch.Generator().manual_seed(1)) - hr
    assert torch.equal(noise, again)
    assert noise.abs().max() <= 1 / 64
    assert noise.std().item() == pytest.approx(1 / 32 / math.sqrt(12), rel=0.02)
    assert abs(noise.mean().item()) < 1e-4


def test_the_noise_adds_its_constant():
    """The identity as the flow: -ln(32) H W is -log2(32) = -5 bits per pixel of likelihood."""
    hr = torch.rand(2, 3, 4, 4)

    def identity(image):
        return [image], torch.zeros(2)

    plain = likelihood_loss(identity, hr, noise_levels=None)
    torch.testing.assert_close(plain, bits_per_pixel([hr], torch.zeros(2), pixels=16).mean())
    generator = torch.Generator().manual_seed(0)
    noisy = dequantize(hr, levels=32, generator=torch.Generator().manual_seed(0))
    expected = likelihood_loss(identity, noisy, noise_levels=None) + 5
    torch.testing.assert_close(likelihood_loss(identity, hr, generator=generator), expected)
