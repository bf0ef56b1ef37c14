"""Plain stacks of convolutions: SRCNN and VDSR on the enlargement, FSRCNN and SRMDNF on LR.

Sources: SRCNN (arXiv:1501.00092) and FSRCNN (arXiv:1608.00367) as github.com/yjn870 names their
layers, VDSR (arXiv:1511.04587) as github.com/twtygqyy/pytorch-vdsr, SRMDNF (arXiv:1712.06116) as
github.com/cszn/KAIR.
Shapes: b images, c channels, h x w pixels of the input, sh x sw of the output.
"""

import math
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.errors import UsageError
from d2csr.models.layers import conv3x3
from d2csr.models.networks.base import Sizes, Stage, Strided, SystemNetwork, Takes
from d2csr.models.networks.public_weights import LayerNames, PublicWeights

SCALE_HINT = "2, 3, 4 or 8 (the weights are the same for every scale)"

_KERNEL_PX = 15  # side of the blur kernels that SRMDNF takes
_CODE_LENGTH = 15  # numbers that a blur is reduced to
_SAMPLED_KERNELS = 10_000
_SIGMA_PX = (0.2, 4.0)  # of the sampled Gaussians, along and across


class SRCNN(SystemNetwork):
    """Three convolutions on the bicubic enlargement."""

    takes: ClassVar[Takes] = "enlarged"
    unreadable: ClassVar = {"scale": SCALE_HINT}

    def __init__(
        self,
        scale: int,
        *,
        channels: Literal[1, 3] = 1,
        features: tuple[int, ...] | list[int] = (64, 32),
        kernels: tuple[int, ...] | list[int] = (9, 5, 5),
    ) -> None:
        """Take 1 channel (luma) or 3, the widths between the layers, and the kernels' sides."""
        sizes = {"channels": channels, "features": features, "kernels": kernels}
        super().__init__(scale, sizes)
        self.colors = "rgb" if channels == 3 else "y"
        widths = (channels, *features, channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, side, padding=side // 2)
            for inputs, outputs, side in zip(widths[:-1], widths[1:], kernels, strict=True)
        )

    def native(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the sharpened image, given the enlarged one in 0..1."""
        for conv in list(self.convs)[:-1]:
            x = F.relu(conv(x))
        return self.convs[-1](x)

    def stages(self) -> list[Stage]:
        """Return the three layers."""
        return [(side // 2, 1) for side in self.sizes["kernels"]]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the three layers show."""
        shapes = [weights.shape(f"conv{number}.weight") for number in (1, 2, 3)]
        return {
            "channels": shapes[0][1],
            "features": [shape[0] for shape in shapes[:2]],
            "kernels": [shape[2] for shape in shapes],
        }

    def public_layers(self) -> LayerNames:
        """Return the names of yjn870's layers."""
        return {r"convs\.(\d)": lambda index: f"conv{index + 1}"}


class VDSR(SystemNetwork):
    """Many 3x3 convolutions on the bicubic enlargement, to which their result is added."""

    takes: ClassVar[Takes] = "enlarged"
    unreadable: ClassVar = {"scale": SCALE_HINT}
    colors = "y"

    def __init__(
        self, scale: int, *, features: int = 64, layers: int = 20, bias: bool = True
    ) -> None:
        """Take the number of convolutions; the public code leaves out the biases of the paper."""
        super().__init__(scale, {"features": features, "layers": layers, "bias": bias})
        widths = (1, *[features] * (layers - 1), 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
            for inputs, outputs in pairwise(widths)
        )
        initialize_he(self)

    def native(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Return the sharpened luma, given the enlarged one in 0..1."""
        residual = x
        for conv in list(self.convs)[:-1]:
            residual = F.relu(conv(residual))
        return x + self.convs[-1](residual)

    def stages(self) -> list[Stage]:
        """Return the layers."""
        return [(1, 1)] * self.sizes["layers"]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the layers show."""
        return {
            "features": weights.shape("input.weight")[0],
            "layers": 2 + weights.count("residual_layer.{}.conv.weight"),
            "bias": "input.bias" in weights,
        }

    def public_layers(self) -> LayerNames:
        """Return the names of twtygqyy's layers."""
        last = self.sizes["layers"] - 1
        names = {0: "input", last: "output"}
        return {r"convs\.(\d+)": lambda index: names.get(index, f"residual_layer.{index - 1}.conv")}


class FSRCNN(SystemNetwork):
    """Convolutions on LR luma: shrink the features, map them, expand them, enlarge at the end."""

    unreadable: ClassVar = {"scale": SCALE_HINT}
    _KERNEL_PX = 9  # of the transposed convolution

    def __init__(
        self,
        scale: int,
        *,
        channels: Literal[1, 3] = 1,
        features: int = 56,
        shrunk: int = 12,
        mappings: int = 4,
    ) -> None:
        """Take d, s and m of the paper: wide and narrow features, and the layers between."""
        sizes = {"features": features, "shrunk": shrunk, "mappings": mappings}
        super().__init__(scale, {"channels": channels, **sizes})
        self.colors = "rgb" if channels == 3 else "y"
        widths = (channels, features, *[shrunk] * (mappings + 1), features)
        sides = (5, 1, *[3] * mappings, 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, side, padding=side // 2)
            for inputs, outputs, side in zip(widths[:-1], widths[1:], sides, strict=True)
        )
        self.activations = nn.ModuleList(nn.PReLU(width) for width in widths[1:])
        self.deconv = nn.ConvTranspose2d(
            features, channels, self._KERNEL_PX, scale, padding=4, output_padding=scale - 1
        )
        initialize_he(self)
        nn.init.normal_(self.deconv.weight, std=0.001)

    def native(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c sh sw"]:
        """Return SR of an image in 0..1."""
        for conv, activation in zip(self.convs, self.activations, strict=True):
            x = activation(conv(x))
        return self.deconv(x)

    def stages(self) -> list[Stage]:
        """Return the layers."""
        last = Strided(self._KERNEL_PX, self.scale, 4, transposed=True)
        return [(2, 1), *[(1, 1)] * self.sizes["mappings"], last]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the layers show."""
        features, channels, *_ = weights.shape("first_part.0.weight")
        return {
            "channels": channels,
            "features": features,
            "shrunk": weights.shape("mid_part.0.weight")[0],
            "mappings": weights.count("mid_part.{}.bias", step=2) - 2,
        }

    def public_layers(self) -> LayerNames:
        """Return the names of yjn870's layers: convolution and activation by turns."""
        return {
            r"convs\.(\d+)": lambda n: f"mid_part.{2 * n - 2}" if n else "first_part.0",
            r"activations\.(\d+)": lambda n: f"mid_part.{2 * n - 1}" if n else "first_part.1",
            r"deconv": "last_part",
        }


class SRMDNF(SystemNetwork):
    """3x3 convolutions on LR and on planes that describe its blur; one shuffle at the end.

    The planes are constant: a blur kernel reduced to a few numbers, and with `noise` one more for
    its standard deviation. `forward` takes `code`, by default that of no blur and no noise.
    """

    def __init__(
        self,
        scale: int,
        *,
        features: int = 128,
        layers: int = 12,
        noise: bool = False,
        code: tuple[float, ...] | list[float] = (),
    ) -> None:
        """Take the number of convolutions, whether there is a noise plane, and the constant code.

        The code is that of `kernel_codes`, 15 numbers; empty: that of a kernel without blur.
        Weights trained with another projection of the kernels need their own code.
        """
        code = list(code) or [float(each) for each in kernel_codes(_delta_kernel())[0]]
        if len(code) != _CODE_LENGTH:
            problem = f"code has {len(code)} numbers, not {_CODE_LENGTH}"
            raise UsageError(type(self).__name__, problem, "Give the code of one blur kernel.")
        sizes = {"features": features, "layers": layers, "noise": noise, "code": code}
        super().__init__(scale, sizes)
        planes = code + [0.0] * noise
        self.register_buffer("code", torch.tensor(planes).view(-1, 1, 1), persistent=False)
        self.code: Tensor
        widths = (3 + len(planes), *[features] * (layers - 1), 3 * scale**2)
        self.convs = nn.ModuleList(conv3x3(inputs, outputs) for inputs, outputs in pairwise(widths))

    def native_input(self, lr01: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return LR with the planes of the constant code."""
        planes = self.code.to(lr01.dtype).expand(lr01.shape[0], -1, *lr01.shape[2:])
        return torch.cat([lr01, planes], dim=1)

    def native(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of RGB in 0..1, followed by the planes of the code (and of the noise)."""
        for conv in list(self.convs)[:-1]:
            x = F.relu(conv(x))
        return F.pixel_shuffle(self.convs[-1](x), self.scale)

    def stages(self) -> list[Stage]:
        """Return the layers."""
        return [*[(1, 1)] * self.sizes["layers"], (0, self.scale)]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the layers show."""
        features, inputs, *_ = weights.shape("model.0.weight")
        layers = weights.count("model.{}.weight", step=2)
        last = f"model.{2 * layers - 2}.weight"
        return {
            "scale": weights.enlargement(weights.shape(last)[0], 3, name=last),
            "features": features,
            "layers": layers,
            "noise": inputs == 3 + _CODE_LENGTH + 1,
        }

    def public_layers(self) -> LayerNames:
        """Return the names of KAIR's layers: convolution and activation by turns."""
        return {r"convs\.(\d+)": lambda index: f"model.{2 * index}"}


def initialize_he(network: nn.Module) -> None:
    """Draw the weights of all convolutions as He et al. (arXiv:1502.01852), with biases of 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def kernel_codes(kernels: Float[np.ndarray, "n 15 15"]) -> Float[np.ndarray, "n 15"]:
    """Return each blur kernel as the numbers that SRMDNF is given.

    They are the products with the principal directions of many Gaussian kernels, of which no mean
    is subtracted. KAIR's directions come from other samples: their signs and order may differ.
    """
    columns_first = kernels.transpose(0, 2, 1).reshape(len(kernels), -1)
    return columns_first @ _projection().T


@lru_cache(maxsize=1)
def _projection() -> Float[np.ndarray, "15 225"]:
    """Return the principal directions of Gaussian kernels of any widths and angle, as rows."""
    random = np.random.default_rng(0)
    sigmas = random.uniform(*_SIGMA_PX, size=(2, _SAMPLED_KERNELS, 1))
    angle = random.uniform(0, math.pi, size=(_SAMPLED_KERNELS, 1))
    offsets = np.arange(_KERNEL_PX) - _KERNEL_PX // 2
    x, y = (grid.reshape(1, -1) for grid in np.meshgrid(offsets, offsets))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernels = np.exp(-0.5 * ((along / sigmas[0]) ** 2 + (across / sigmas[1]) ** 2))
    kernels /= kernels.sum(axis=1, keepdims=True)
    _, directions = np.linalg.eigh(kernels.T @ kernels)  # in ascending order
    rows = directions.T[::-1][:_CODE_LENGTH]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1, keepdims=True), axis=1)
    return rows * np.sign(largest)  # a direction has no sign of its own


def _delta_kernel() -> Float[np.ndarray, "1 15 15"]:
    """Return the kernel that blurs nothing."""
    kernel = np.zeros((1, _KERNEL_PX, _KERNEL_PX))
    kernel[0, _KERNEL_PX // 2, _KERNEL_PX // 2] = 1.0
    return kernel
