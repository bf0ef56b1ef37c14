"""Losses of networks for real photographs: components of CDC, and the pyramid of LP-KPN.

Sources: CDC (arXiv:2008.01928), section 3, with the numbers of the authors' code; LP-KPN
(arXiv:1904.00523), section 4.3, with the authors' Caffe model.
Shapes: b images, h x w SR pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Image = Float[Tensor, "b 3 h w"]
Mask = Bool[Tensor, "b 1 h w"]

# The authors' luma; BT.601 has 0.504 where they have 0.564.
_LUMA = (0.257, 0.564, 0.098)
_LUMA_OFFSET = 16 / 255
_SOBEL_SCALE = 1 / 12  # OpenCV's for 3x3 gradients and 3x3 blocks
_HARRIS = 0.04  # weight of the squared trace
_CORNER, _EDGE = 0.01, -0.001  # thresholds, in units of an image's largest response
_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))  # across columns
_GRADIENT_WEIGHT = 4
_COMPONENT_WEIGHTS = (1.0, 2.0, 5.0)  # flat parts, edges, corners


def _gradients(
    image: Float[Tensor, "b c h w"], *, mode: str
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """Return the Sobel responses across columns and across rows, `mode` being that of `F.pad`."""
    channels = image.shape[1]
    kernel = image.new_tensor(_SOBEL)
    kernels = torch.stack([kernel, kernel.T])[:, None].repeat(channels, 1, 1, 1)
    responses = F.conv2d(F.pad(image, (1, 1, 1, 1), mode=mode), kernels, groups=channels)
    return responses[:, 0::2], responses[:, 1::2]


def harris_response(hr: Image) -> Float[Tensor, "b 1 h w"]:
    """Return the response of Harris' corner detector on the authors' luma, as OpenCV's.

    3x3 gradients, their products summed over 3x3 pixels, the border mirrored.
    """
    weights = hr.new_tensor(_LUMA).view(3, 1, 1)
    luma255 = 255 * ((hr * weights).sum(dim=1, keepdim=True) + _LUMA_OFFSET)
    across, down = _gradients(luma255, mode="reflect")
    products = torch.cat([across.square(), across * down, down.square()], dim=1)
    padded = F.pad(products * _SOBEL_SCALE**2, (1, 1, 1, 1), mode="reflect")
    xx, xy, yy = (9 * F.avg_pool2d(padded, 3, stride=1)).split(1, dim=1)
    return xx * yy - xy.square() - _HARRIS * (xx + yy).square()


def component_masks(hr: Image) -> tuple[Mask, Mask, Mask]:
    """Return masks of HR's flat parts, edges and corners, each image by its own thresholds.

    Pixels exactly at a threshold belong to none.
    """
    response = harris_response(hr)
    largest = response.amax(dim=(1, 2, 3), keepdim=True)
    is_corner, is_edge = response > _CORNER * largest, response < _EDGE * largest
    is_flat = (response < _CORNER * largest) & (response > _EDGE * largest)
    return is_flat, is_edge, is_corner


def masked_l1(sr: Image, hr: Image, *, mask: Mask) -> Float[Tensor, ""]:
    """Return the absolute difference inside the mask, averaged over all pixels of the image."""
    return (mask * (sr - hr)).abs().mean()


def gradient_weighted_loss(sr: Image, hr: Image) -> Float[Tensor, ""]:
    """Return the mean absolute difference, weighted by how much the gradients differ.

    `(1 + 4 |dx|)(1 + 4 |dy|) |SR - HR|` with the differences of Sobel responses dx and dy, per
    color, zeros beyond the border; the weights have gradients too.
    """
    difference = sr - hr
    across, down = _gradients(difference, mode="constant")
    weights = (1 + _GRADIENT_WEIGHT * across.abs()) * (1 + _GRADIENT_WEIGHT * down.abs())
    return (weights * difference.abs()).mean()


def component_loss(outputs: Sequence[Image], hr: Image) -> Float[Tensor, ""]:
    """Return CDC's loss of its images of flat parts, edges and corners, and of the SR.

    The former are compared with HR inside their masks, weighted 1, 2 and 5 as in the authors'
    code, the last by `gradient_weighted_loss`.
    """
    *images, sr = outputs
    loss = gradient_weighted_loss(sr, hr)
    masks = component_masks(hr)
    for weight, image, mask in zip(_COMPONENT_WEIGHTS, images, masks, strict=True):
        loss = loss + weight * masked_l1(image, hr, mask=mask)
    return loss


def pyramid_loss(levels: Sequence[Tensor], target: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Return LP-KPN's loss: half the squared differences of all levels, summed, per image.

    Args:
        levels: the Laplacian pyramid of the SR's luma.
        target: that of the HR's luma.
    """
    squares = [
        (level - wanted).square().sum() / (2 * len(level))
        for level, wanted in zip(levels, target, strict=True)
    ]
    return torch.stack(squares).sum()
