"""The exact likelihood of HR under a normalizing flow, in bits per pixel.

Separate from the losses that compare two images: it compares none, but needs the flow itself.
Source: SRFlow (arXiv:2006.14200), Eq. 3, with the noise of the authors' code.
Shapes: b images, h x w pixels.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Encode = Callable[[Tensor], tuple[Sequence[Tensor], Tensor]]

NOISE_LEVELS = 32  # noise of a 32nd of the range hides the steps of 8-bit images


def gaussian_log_density(latent: Float[Tensor, "b *size"]) -> Float[Tensor, " b"]:
    """Return the logarithm of each image's density under independent standard Gaussians."""
    return -0.5 * (latent.square() + math.log(2 * math.pi)).flatten(1).sum(dim=1)


def bits_per_pixel(
    latents: Sequence[Tensor], log_determinant: Float[Tensor, " b"], *, pixels: int
) -> Float[Tensor, " b"]:
    """Return the negative log-likelihood of each image in bits per pixel, all colors together.

    Args:
        latents: the latents of the images.
        log_determinant: the logarithm of the factor by which the flow grows volume.
        pixels: of an image.
    """
    log_likelihood = log_determinant + sum(gaussian_log_density(each) for each in latents)
    return -log_likelihood / (math.log(2) * pixels)


def dequantize(
    hr: Float[Tensor, "b 3 h w"], *, levels: int, generator: torch.Generator | None = None
) -> Float[Tensor, "b 3 h w"]:
    """Return the images plus uniform noise, centered, as wide as one of `levels` in 0..1.

    Without it, a flow can become arbitrarily certain of the few values that pixels have.
    """
    noise = torch.rand(hr.shape, generator=generator, dtype=hr.dtype).to(hr.device)
    return hr + (noise - 0.5) / levels


def likelihood_loss(
    encode: Encode,
    hr: Float[Tensor, "b 3 h w"],
    *,
    noise_levels: int | None = NOISE_LEVELS,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood of HR, in bits per pixel.

    Args:
        encode: from an image to its latents and log-determinant: `SRFlow.encode` with the features
            of LR.
        hr: in 0..1.
        noise_levels: of the noise that is added first; None: no noise, as the authors' code, whose
            training call leaves it off. With noise the result counts the density's unit: bits to
            tell `noise_levels` values per color apart.
        generator: of the noise.
    """
    pixels = hr.shape[2] * hr.shape[3]
    if noise_levels is not None:
        hr = dequantize(hr, levels=noise_levels, generator=generator)
    latents, log_determinant = encode(hr)
    if noise_levels is not None:
        log_determinant = log_determinant - math.log(noise_levels) * pixels
    return bits_per_pixel(latents, log_determinant, pixels=pixels).mean()
