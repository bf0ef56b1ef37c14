"""Plain stacks of convolutions: SRCNN.

Sources: SRCNN (arXiv:1501.00092), as github.com/yjn870/SRCNN-pytorch names its layers.
Shapes: b images, c channels, h x w pixels of the input, sh x sw of the output.
"""

from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.models.networks.base import Sizes, Stage, SystemNetwork, Takes
from d2csr.models.networks.public_weights import LayerNames, PublicWeights

ANY_SCALE = "2, 3 or 4: the weights are the same for every scale"


class SRCNN(SystemNetwork):
    """Three convolutions on the bicubic enlargement."""

    takes: ClassVar[Takes] = "enlarged"
    unreadable: ClassVar = {"scale": ANY_SCALE}

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
        """Return the reach of the three layers."""
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
