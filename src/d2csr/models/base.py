"""Fixed maps around the tree: the RGB mean and the bicubic base, both free of training."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, as EDSR (arXiv:1707.02921) and RCAN subtract it
_CUBIC = -0.5  # Keys' a, as in MATLAB and Pillow


class BicubicBase(nn.Module):
    """Enlarge by bicubic interpolation, edges clamped, as one 5x5 convolution and a shuffle."""

    def __init__(self, scale: int) -> None:
        """Compute the kernel of every output phase."""
        super().__init__()
        self.scale = scale
        taps = torch.stack([_cubic_taps((phase + 0.5) / scale - 0.5) for phase in range(scale)])
        kernel = torch.einsum("iy,jx->ijyx", taps, taps).reshape(scale**2, 1, 5, 5)
        self.register_buffer("kernel", kernel.repeat(3, 1, 1, 1), persistent=False)
        self.kernel: Tensor

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return the enlargement, in the units of `lr`, overshoots not clipped."""
        if torch.is_autocast_enabled(lr.device.type):  # bf16 would round the picture to 8 bits
            with torch.autocast(lr.device.type, enabled=False):
                return self(lr)
        padded = F.pad(lr, (2, 2, 2, 2), mode="replicate")
        return F.pixel_shuffle(F.conv2d(padded, self.kernel.to(lr.dtype), groups=3), self.scale)


def _cubic_taps(offset: float) -> Float[Tensor, "5"]:
    """Return Keys' cubic weights of five neighbours for a point `offset` from the middle one."""
    distance = (torch.arange(-2.0, 3.0, dtype=torch.float64) - offset).abs()
    near = (_CUBIC + 2) * distance**3 - (_CUBIC + 3) * distance**2 + 1
    far = _CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    taps = torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros(())))
    return taps.float()


class FixedMean(nn.Module):
    """Add or subtract the RGB mean of natural pictures."""

    def __init__(self, sign: int) -> None:
        """Take +1 to add, -1 to subtract."""
        super().__init__()
        self.register_buffer("mean", sign * torch.tensor(RGB_MEAN).view(3, 1, 1), persistent=False)
        self.mean: Tensor

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return the shifted picture."""
        return image + self.mean.to(image.dtype)
