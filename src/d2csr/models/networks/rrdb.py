"""ESRGAN: residual-in-residual dense blocks, the generator built from them, its discriminator.

Source: ESRGAN (arXiv:1809.00219), sections 3.1 and 3.2, with the layers of BasicSR. Public weights
have BasicSR's names (Real-ESRGAN too), those of the authors' code, or those of the code before it.
Shapes: b images, c channels, f features, h x w pixels of the input, S the scale.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.models.layers import conv3x3
from d2csr.models.networks.base import Sizes, Stage, Strided, SystemNetwork
from d2csr.models.networks.public_weights import LayerNames, PublicWeights, load_public

SLOPE = 0.2  # of every leaky ReLU of ESRGAN
_RESIDUAL = 0.2  # weight of a residual, against sums that explode over 23 blocks
_DENSE_CONVS = 5
_INITIAL_GAIN = 0.1  # of the dense blocks' weights: the untrained trunk is nearly the identity
_UNSHUFFLE = {1: 4, 2: 2, 3: 1, 4: 1, 8: 1}  # side of the pixel unshuffle in front, by scale
_STEPS = {1: (2, 2), 2: (2, 2), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}  # enlargements behind, by scale


def leaky(features: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
    """Return the features, negative values times 0.2."""
    return F.leaky_relu(features, SLOPE)


def initialize_small(conv: nn.Conv2d) -> None:
    """Draw weights from He's distribution times 0.1, and set biases to 0."""
    nn.init.kaiming_normal_(conv.weight)
    conv.weight.data.mul_(_INITIAL_GAIN)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the input and the results of all before it."""

    def __init__(self, features: int, growth: int) -> None:
        """Build the convolutions, with the small initial weights of the paper."""
        super().__init__()
        outputs = [growth] * (_DENSE_CONVS - 1) + [features]
        convs = [conv3x3(features + growth * index, output) for index, output in enumerate(outputs)]
        for conv in convs:
            initialize_small(conv)
        self.convs = nn.ModuleList(convs)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the input plus 0.2 times the last convolution's result."""
        *inner, last = self.convs
        known = [features]
        for conv in inner:
            known.append(leaky(conv(torch.cat(known, dim=1))))
        return features + _RESIDUAL * last(torch.cat(known, dim=1))


class ResidualDenseBlocks(nn.Module):
    """Three dense blocks and the input added (RRDB)."""

    def __init__(self, features: int, growth: int) -> None:
        """Build the dense blocks."""
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(features, growth) for _ in range(3)))

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the input plus 0.2 times the result of the dense blocks."""
        return features + _RESIDUAL * self.dense(features)


class RrdbTrunk(nn.Module):
    """The part of ESRGAN's generator on the grid of its input."""

    def __init__(self, inputs: int, *, features: int, blocks: int, growth: int) -> None:
        """Build the first convolution, the blocks, and the convolution behind them."""
        super().__init__()
        self.first = conv3x3(inputs, features)
        self.blocks = nn.Sequential(*(ResidualDenseBlocks(features, growth) for _ in range(blocks)))
        self.last = conv3x3(features, features)

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f h w"]:
        """Return the features behind the long skip from the first convolution."""
        first = self.first(image)
        return first + self.last(self.blocks(first))

    @property
    def reach(self) -> int:
        """Pixels that a result depends on to each side."""
        return 2 + len(self.blocks) * 3 * _DENSE_CONVS


@final
class RRDBNet(SystemNetwork):
    """ESRGAN's generator; x2 and x1 work on LR whose pixels are folded into channels, as BasicSR.

    x3 enlarges once by 3, which BasicSR doesn't have.
    """

    scales: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 8)

    def __init__(
        self, scale: int, *, features: int = 64, blocks: int = 23, growth: int = 32
    ) -> None:
        """Take the width, the number of blocks of three dense blocks each, and their growth."""
        super().__init__(scale, {"features": features, "blocks": blocks, "growth": growth})
        self.side_multiple = _UNSHUFFLE[scale]
        inputs = 3 * _UNSHUFFLE[scale] ** 2
        self.trunk = RrdbTrunk(inputs, features=features, blocks=blocks, growth=growth)
        self.upsample = nn.ModuleList(conv3x3(features, features) for _ in _STEPS[scale])
        self.full = conv3x3(features, features)
        self.last = conv3x3(features, 3)

    def native(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of LR, both in 0..1; sides are multiples of the unshuffle."""
        features = self.trunk(F.pixel_unshuffle(x, self.side_multiple))
        for conv, factor in zip(self.upsample, _STEPS[self.scale], strict=True):
            features = leaky(conv(F.interpolate(features, scale_factor=factor, mode="nearest")))
        return self.last(leaky(self.full(features)))

    def stages(self) -> list[Stage]:
        """Return the reach of the trunk, of each upsampling step, and of the last layers."""
        first, *steps = _STEPS[self.scale]
        inner: list[Stage] = [(self.trunk.reach, first), *((1, factor) for factor in steps), (3, 1)]
        return (
            inner
            if self.side_multiple == 1
            else [Strided(self.side_multiple, self.side_multiple, 0), *inner]
        )

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes and the scale; one upsampling convolution may mean x2 or x3."""
        features, inputs, *_ = weights.shape("conv_first.weight")
        sizes = rrdb_sizes(weights, "body.{}.rdb1.conv1.weight")
        steps = weights.count("conv_up{}.weight", start=1)
        scale = {(12, 2): 2, (48, 2): 1, (3, 1): 3, (3, 2): 4, (3, 3): 8}.get((inputs, steps))
        return {"scale": scale, "features": features, **sizes}

    def public_layers(self) -> LayerNames:
        """Return BasicSR's names."""
        return {
            r"trunk\.first": "conv_first",
            r"trunk\.blocks\.(\d+)\.dense\.(\d)\.convs\.(\d)": (
                lambda block, dense, conv: f"body.{block}.rdb{dense + 1}.conv{conv + 1}"
            ),
            r"trunk\.last": "conv_body",
            r"upsample\.(\d)": lambda step: f"conv_up{step + 1}",
            "full": "conv_hr",
            "last": "conv_last",
        }

    @classmethod
    def adapt_public(cls, weights: PublicWeights) -> PublicWeights:
        """Return public weights under BasicSR's names."""
        return PublicWeights(basicsr_names(weights.tensors), where=weights.where)


def rrdb_sizes(weights: PublicWeights, template: str) -> Sizes:
    """Return the numbers of blocks and the growth, given the name of a block's first weights."""
    blocks = weights.count(template)
    weights.check_product(blocks, 3, _DENSE_CONVS)
    return {"blocks": blocks, "growth": weights.shape(template.format(0))[0]}


_AUTHORS = (  # names of the authors' code, and BasicSR's
    (r"RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2."),
    (r"trunk_conv\.", "conv_body."),
    (r"upconv(\d)\.", r"conv_up\1."),
    (r"HRconv\.", "conv_hr."),
)


def basicsr_names(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the tensors under BasicSR's names, whichever of the three sets they come with.

    The oldest code numbers its layers: `model.1.sub.0.RDB1.conv1.0.weight` is the first block,
    `model.1.sub.23` the convolution behind 23 of them, and every third layer behind it upsamples.
    """
    names = {name: name for name in state}
    if "model.0.weight" in state:
        names = {name: _numbered_name(name, state) for name in state}
    for pattern, replacement in _AUTHORS:
        names = {name: re.sub(f"^{pattern}", replacement, new) for name, new in names.items()}
    return {new: state[name] for name, new in names.items()}


def _numbered_name(name: str, state: Mapping[str, Tensor]) -> str:
    """Return the name in the authors' later code of a tensor of their numbered layers."""
    if found := re.fullmatch(r"model\.1\.sub\.(\d+)\.(RDB\d\.conv\d)\.0\.(\w+)", name):
        return "RRDB_trunk.{}.{}.{}".format(*found.groups())
    if found := re.fullmatch(r"model\.1\.sub\.\d+\.(\w+)", name):
        return f"trunk_conv.{found[1]}"
    found = re.fullmatch(r"model\.(\d+)\.(\w+)", name)
    if found is None:
        return name
    numbers = {int(match[1]) for match in map(_TOP_LAYER.match, state) if match is not None}
    layers = sorted(numbers)
    order = layers.index(int(found[1]))
    tail = {len(layers) - 2: "HRconv", len(layers) - 1: "conv_last"}
    layer = "conv_first" if order == 0 else tail.get(order, f"upconv{order}")
    return f"{layer}.{found[2]}"


_TOP_LAYER = re.compile(r"model\.(\d+)\.(?:weight|bias)$")


@final
class Discriminator(nn.Module):
    """ESRGAN's discriminator: one logit per image, from ever smaller and wider features."""

    def __init__(self, *, features: int = 64, levels: int = 5, input_px: int = 128) -> None:
        """Take the width of the first level, the halvings, and the side of the images."""
        super().__init__()
        self.input_px = input_px
        widths = [features * min(2**level, 8) for level in range(levels)]
        self.first = conv3x3(3, features)
        self.same = nn.ModuleList(
            _normalized(before, after, kernel=3) for before, after in pairwise(widths)
        )
        self.halve = nn.ModuleList(_normalized(width, width, kernel=4) for width in widths)
        side = input_px >> levels
        self.hidden = nn.Linear(widths[-1] * side**2, 100)
        self.logit = nn.Linear(100, 1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1"]:
        """Return the logits of square RGB images in 0..1 with the side `input_px`."""
        features = self.halve[0](leaky(self.first(images)))
        for same, halve in zip(self.same, self.halve[1:], strict=True):
            features = halve(same(features))
        return self.logit(leaky(self.hidden(features.flatten(1))))

    @classmethod
    def from_public(
        cls, state: Mapping[str, Tensor], *, where: object = "weights"
    ) -> "Discriminator":
        """Return the discriminator with BasicSR's weights, ready to judge.

        Raises:
            CheckpointError: the weights are those of another network, or damaged.
        """
        weights = PublicWeights(state, where=where)
        features = weights.shape("conv0_0.weight")[0]
        levels = weights.count("conv{}_1.weight")
        weights.check_product(levels)
        inputs = weights.shape("linear1.weight", 2)[1]
        side = round((inputs / (features * min(2 ** (levels - 1), 8))) ** 0.5)
        sizes = {"features": features, "levels": levels, "input_px": side << levels}
        with torch.device("meta"):
            expected = cls(**sizes)
        weights.check_against(expected, _DISCRIMINATOR_LAYERS)
        return load_public(cls(**sizes), weights, layers=_DISCRIMINATOR_LAYERS).eval()


_DISCRIMINATOR_LAYERS: LayerNames = {
    "first": "conv0_0",
    r"same\.(\d)\.0": lambda level: f"conv{level + 1}_0",
    r"same\.(\d)\.1": lambda level: f"bn{level + 1}_0",
    r"halve\.(\d)\.0": "conv{0}_1",
    r"halve\.(\d)\.1": "bn{0}_1",
    "hidden": "linear1",
    "logit": "linear2",
}


def _normalized(inputs: int, outputs: int, *, kernel: int) -> nn.Sequential:
    """Return a convolution that halves the size if its kernel is 4x4, normalized and activated."""
    stride = 2 if kernel == 4 else 1
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE))
