"""Losses of the systems that D2C-SR is compared with, in one table.

Each takes all outputs of a network (`training_outputs`, the last is the SR), HR in the channels of
the outputs, and the progress of the training in 0..1. Values in 0..1.
Shapes: b images, c channels, sh x sw SR pixels.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from d2csr.losses.components import component_loss, pyramid_loss
from d2csr.losses.reconstruction import DISTANCES

Outputs = Sequence[Float[Tensor, "b c _ _"]]
Target = Float[Tensor, "b c sh sw"]
Loss = Float[Tensor, ""]


SystemLoss = Callable[..., Loss]  # (outputs, hr, *, progress)


def _mean_distance(name: str) -> SystemLoss:
    """Return the loss that is the mean distance of the SR to HR, of the distances of recipes."""

    def loss(outputs: Outputs, hr: Target, *, progress: float) -> Loss:
        return DISTANCES[name](outputs[-1] - hr).mean()

    return loss


def multi_scale_charbonnier(outputs: Outputs, hr: Target, *, progress: float) -> Loss:
    """Return the Charbonnier distances of all pyramid levels, summed over levels and pixels.

    The target of a smaller level is HR reduced by bicubic interpolation with antialiasing. A level
    larger than HR (x3 is made of x4) has HR enlarged as its target. Per image of the batch.

    Source: LapSRN (arXiv:1704.03915) Eq. 3, with its sum over pixels instead of a mean.
    """
    total = hr.new_zeros(())
    for output in outputs:
        target = hr
        if output.shape[2:] != hr.shape[2:]:
            target = F.interpolate(hr, size=output.shape[2:], mode="bicubic", antialias=True)
        total = total + DISTANCES["charbonnier"](output - target).sum()
    return total / len(hr)


def recursive_supervision(outputs: Outputs, hr: Target, *, progress: float) -> Loss:
    """Return the mean squared errors of all recursions and of the SR, weighed by the progress.

    The recursions weigh `1 - progress`, the SR `progress`: their supervision fades. The paper's
    weight decay is left to the optimizer.

    Source: DRCN (arXiv:1511.04491) Eq. 6 to 8, without the factor of 1/2 that both terms have.
    """
    *recursions, sr = (DISTANCES["mse"](output - hr).mean() for output in outputs)
    alpha = 1 - progress
    return alpha * torch.stack(recursions).mean() + (1 - alpha) * sr


def multi_supervision(outputs: Outputs, hr: Target, *, progress: float) -> Loss:
    """Return the Euclidean losses of all outputs, each half its sum of squares per image.

    Source: MemNet (arXiv:1708.02209) as its authors train it: weights of 1, in Caffe's Euclidean
    loss.
    """
    squares = [DISTANCES["mse"](output - hr).sum() for output in outputs]
    return torch.stack(squares).sum() / (2 * len(hr))


def components(outputs: Outputs, hr: Target, *, progress: float) -> Loss:
    """Return CDC's loss of its images of flat parts, edges and corners, and of the SR."""
    return component_loss(outputs, hr)


def pyramid(outputs: Outputs, hr: Outputs, *, progress: float) -> Loss:
    """Return LP-KPN's loss of the levels of a Laplacian pyramid, which HR comes as too."""
    return pyramid_loss(outputs, hr)


# ESRGAN's `adversarial` also needs a discriminator, SRFlow's `likelihood` the flow itself: they
# are in modules of their own.
LOSSES: dict[str, SystemLoss] = {
    "mse": _mean_distance("mse"),
    "l1": _mean_distance("l1"),
    "multi-scale-charbonnier": multi_scale_charbonnier,
    "recursive-supervision": recursive_supervision,
    "multi-supervision": multi_supervision,
    "components": components,
    "pyramid": pyramid,
}
