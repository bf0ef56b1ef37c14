"""CDC: hourglasses that predict flat parts, edges and corners apart, and fuse them per pixel.

Source: Component Divide-and-Conquer for Real-World Image Super-Resolution (arXiv:2008.01928), with
the layers of the authors' code.
Shapes: b images, c channels, h x w LR pixels, multiples of 16; S the scale.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.errors import UsageError
from d2csr.models.layers import conv3x3
from d2csr.models.networks.base import Sizes, Stage, Strided, SystemNetwork
from d2csr.models.networks.blocks import upsampling_factors
from d2csr.models.networks.public_weights import LayerNames, PublicWeights
from d2csr.models.networks.rrdb import initialize_small, leaky

COMPONENTS = ("flat", "edge", "corner")

_DEPTH = 4  # halvings of an hourglass
_RESIDUAL = 0.2  # weight of the last hourglass's result
_WIDTHS = (1, 2, 2, 4, 4)  # of the resolutions of an hourglass, in units of the width outside


def _conv(inputs: int, outputs: int, *, side: int) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size."""
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 without biases, and the input added, by a 1x1 if the widths differ."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build the convolutions."""
        super().__init__()
        self.reduce = _conv(inputs, outputs, side=1)
        self.middle = _conv(outputs, outputs, side=3)
        self.last = _conv(outputs, outputs, side=1)
        self.skip = nn.Identity() if inputs == outputs else _conv(inputs, outputs, side=1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Return the input plus its residual."""
        residual = self.last(leaky(self.middle(leaky(self.reduce(features)))))
        return self.skip(features) + residual


class InceptionBlock(nn.Module):
    """Three branches that see 1, 3 and 5 pixels, concatenated and added to the input."""

    def __init__(self, features: int) -> None:
        """Build the branches and the 1x1 that joins them."""
        super().__init__()
        self.point = _conv(features, features, side=1)
        self.near = nn.ModuleList([_conv(features, features, side=side) for side in (1, 3)])
        self.far = nn.ModuleList([_conv(features, features, side=side) for side in (1, 3, 3)])
        self.join = _conv(3 * features, features, side=1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the input plus its residual; the 1x1 of a longer branch has no activation."""
        near = leaky(self.near[1](self.near[0](features)))
        far = leaky(self.far[1](self.far[0](features)))
        branches = [leaky(self.point(features)), near, leaky(self.far[2](far))]
        return features + self.join(torch.cat(branches, dim=1))


class Hourglass(nn.Module):
    """Four halvings and back, with a skip at each resolution, and inception blocks behind."""

    def __init__(self, features: int, *, middle: int, tails: int) -> None:
        """Take the width outside, the blocks at the lowest resolution, and those behind."""
        super().__init__()
        widths = [features * width for width in _WIDTHS]
        self.down = nn.ModuleList(BottleneckBlock(*both) for both in pairwise(widths))
        self.middle = nn.Sequential(
            *(BottleneckBlock(widths[-1], widths[-1]) for _ in range(middle))
        )
        self.skips = nn.ModuleList(BottleneckBlock(width, width) for width in widths)
        self.up = nn.ModuleList(BottleneckBlock(*both) for both in pairwise(widths[::-1]))
        self.tails = nn.Sequential(*(InceptionBlock(features) for _ in range(tails)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        """Return the result, and the features before the inception blocks."""
        features, kept = x, [x]
        for block in self.down:
            features = block(features)
            kept.append(features)
            features = F.max_pool2d(features, 2)
        features = self.middle(features)
        for block, skip, before in zip(self.up, self.skips[:0:-1], kept[:0:-1], strict=True):
            enlarged = F.interpolate(features, scale_factor=2, mode="nearest")
            features = block(enlarged + skip(before))
        inner = self.skips[0](x) + features
        return self.tails(inner), inner

    def stages(self) -> list[Stage]:
        """Return the reach on the way down, in the middle, and on the way up."""
        tails = 2 * len(self.tails)
        down: list[Stage] = [(1, 1), Strided(2, 2, 0)] * _DEPTH
        up = [(1, 2)] * (_DEPTH - 1)
        return [*down, (len(self.middle), 2), *up, (1 + tails, 1)]


class ComponentHead(nn.Module):
    """Enlarge features to an image or a map: nearest neighbor and a convolution per step."""

    def __init__(self, features: int, *, scale: int, kernel: int) -> None:
        """Take the width, the scale, and the side of the last kernel."""
        super().__init__()
        self.factors = upsampling_factors(scale)
        self.first = conv3x3(features, features)
        self.upsample = nn.ModuleList(conv3x3(features, features) for _ in self.factors)
        self.full = conv3x3(features, features)
        self.last = nn.Conv2d(features, 3, kernel, padding=kernel // 2)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return three channels on the SR grid."""
        features = self.first(features)
        for conv, factor in zip(self.upsample, self.factors, strict=True):
            enlarged = F.interpolate(features, scale_factor=factor, mode="nearest")
            features = leaky(conv(enlarged))
        return self.last(leaky(self.full(features)))


@dataclass(frozen=True)
class ComponentOutputs:
    """What CDC predicts: an image and a map of weights for each component, and the SR they give.

    Attributes:
        images: RGB in 0..1, in the order of `COMPONENTS`.
        maps: weights per color and pixel, which sum to 1 over the components.
        sr: the weighted sum.
    """

    images: Float[Tensor, "component b 3 sh sw"]
    maps: Float[Tensor, "component b 3 sh sw"]
    sr: Float[Tensor, "b 3 sh sw"]


@final
class CDC(SystemNetwork):
    """Hourglasses in a row; three of them feed the heads of flat parts, edges and corners."""

    scales: ClassVar[tuple[int, ...]] = (2, 3, 4, 8)
    side_multiple: int = 2**_DEPTH

    def __init__(
        self,
        scale: int,
        *,
        features: int = 64,
        hourglasses: int = 6,
        middle: int = 2,
        tails: int = 2,
    ) -> None:
        """Take the width, and of the hourglasses: their number, blocks in the middle and behind.

        Raises:
            UsageError: there are fewer hourglasses than the three components need.
        """
        sizes = {"features": features, "hourglasses": hourglasses, "middle": middle, "tails": tails}
        super().__init__(scale, sizes)
        self.heads_behind = (1, hourglasses // 2, hourglasses - 1)
        if len(set(self.heads_behind)) < len(COMPONENTS):
            problem = f"hourglasses={hourglasses} is too few for three components"
            raise UsageError("CDC", problem, remedy="Give at least 4.")
        self.first = conv3x3(3, features)
        self.hourglasses = nn.ModuleList(
            Hourglass(features, middle=middle, tails=0 if is_last else tails)
            for is_last in (*[False] * (hourglasses - 1), True)
        )
        map_kernel = 3 if scale == 3 else 1
        self.image_heads, self.map_heads = (
            nn.ModuleList(ComponentHead(features, scale=scale, kernel=side) for _ in COMPONENTS)
            for side in (3, map_kernel)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                initialize_small(module)

    def components(self, x: Float[Tensor, "b 3 h w"]) -> ComponentOutputs:
        """Return the components' images, their maps and the SR, given LR in 0..1."""
        features = first = self.first(x)
        seen = []
        for index, hourglass in enumerate(self.hourglasses):
            features, inner = hourglass(features)
            if index in self.heads_behind[:-1]:
                seen.append(inner)
        seen.append(first + _RESIDUAL * features)
        images, maps = (
            torch.stack([head(each) for head, each in zip(heads, seen, strict=True)])
            for heads in (self.image_heads, self.map_heads)
        )
        maps = maps.softmax(dim=0)
        return ComponentOutputs(images, maps, (maps * images).sum(dim=0))

    def native(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of LR, both in 0..1, whose sides are multiples of 16."""
        return self.components(x).sr

    def native_outputs(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Return the images of flat parts, edges and corners, and the SR."""
        outputs = self.components(x)
        return (*outputs.images, outputs.sr)

    def stages(self) -> list[Stage]:
        """Return the reach of all hourglasses and of the head behind the last."""
        hourglasses = [
            stage
            for each in self.hourglasses
            if isinstance(each, Hourglass)
            for stage in each.stages()
        ]
        first, *others = upsampling_factors(self.scale)
        return [(1, 1), *hourglasses, (1, first), *((1, factor) for factor in others), (3, 1)]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes; one enlargement is by 3 if the maps' last kernel is 3x3."""
        hourglasses = weights.count("HG_{}.down1.res_block.res.0.weight")
        middle = weights.count("HG_0.mid_res.{}.res.0.weight")
        tails = weights.count("HG_0.tail.{}.res1.0.weight")
        weights.check_product(hourglasses, middle + tails + 1)
        steps = weights.count("flat_map.{}.1.weight", start=1)
        last = weights.shape(f"flat_map.{steps + 2}.0.weight")
        is_3 = steps == 1 and last[-1] == 3
        return {
            "scale": 3 if is_3 else 2 ** min(steps, 9),  # beyond 8, none of its scales
            "features": weights.shape("conv_in.0.weight")[0],
            "hourglasses": hourglasses,
            "middle": middle,
            "tails": tails,
        }

    def public_layers(self) -> LayerNames:
        """Return the names of the authors' code."""
        steps = len(upsampling_factors(self.scale))
        head = r"(image|map)_heads\.(\d)\."
        part = r"hourglasses\.(\d+)\."
        return {
            "first": "conv_in.0",
            head + "first": lambda *of: f"{_head_name(*of)}.0.0",
            head + r"upsample\.(\d)": lambda *of: f"{_head_name(*of[:2])}.{of[2] + 1}.1",
            head + "full": lambda *of: f"{_head_name(*of)}.{steps + 1}.0",
            head + "last": lambda *of: f"{_head_name(*of)}.{steps + 2}.0",
            part + r"tails\.(\d+)\.join": "HG_{0}.tail.{1}.filter_concat",
            part + r"tails\.(\d+)\.point": "HG_{0}.tail.{1}.res1.0",
            part + r"tails\.(\d+)\.near\.(\d)": "HG_{0}.tail.{1}.res2.{2}",
            part + r"tails\.(\d+)\.far\.(\d)": (
                lambda hourglass, tail, conv: f"HG_{hourglass}.tail.{tail}.res3.{(0, 1, 3)[conv]}"
            ),
            part + r"(\w+)\.(\d+)\.(\w+)": (
                lambda hourglass, place, index, layer: (
                    f"HG_{hourglass}.{_PLACES[place].format(index, index + 1)}"
                    f".{_BLOCK_LAYERS[layer]}"
                )
            ),
        }


def _head_name(kind: str, component: int) -> str:
    """Return the public name of the head of a component's image or map."""
    name = COMPONENTS[component]
    return f"upsample_{name}" if kind == "image" else f"{name}_map"


_PLACES = {
    "down": "down{1}.res_block",
    "up": "up{1}.res_block",
    "middle": "mid_res.{0}",
    "skips": "skip_conv{0}",
}
_BLOCK_LAYERS = {"reduce": "res.0", "middle": "res.2", "last": "res.4", "skip": "identity"}
