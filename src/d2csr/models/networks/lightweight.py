"""Light networks of today: SRVGGNetCompact of Real-ESRGAN, SPAN and SAFMN.

Sources: Real-ESRGAN (arXiv:2107.10833) and BasicSR; SPAN (arXiv:2311.12770) and
github.com/hongyuanyu/SPAN; SAFMN (arXiv:2302.13800) and github.com/sunny2109/SAFMN.
Shapes: b images, c channels, h x w LR pixels, S the scale.
"""

from itertools import pairwise
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.errors import UsageError
from d2csr.models.layers import RGB_MEAN, conv3x3
from d2csr.models.networks.base import Sizes, Stage, SystemNetwork
from d2csr.models.networks.public_weights import LayerNames, PublicWeights

ActivationName = Literal["prelu", "relu", "leakyrelu"]

_COMPACT_SLOPE = 0.1  # of SRVGGNetCompact's leaky ReLU
_SPAN_BLOCKS = 6
_SPAN_GAIN = 2  # width of the two inner convolutions of a re-parametrized one
_SAFMN_LEVELS = 4  # groups of channels, each pooled by another factor
_NORM_EPSILON = 1e-6


@final
class SRVGGNetCompact(SystemNetwork):
    """A plain stack of convolutions on the LR grid, added to the nearest-neighbor enlargement."""

    scales: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 8)
    unreadable: ClassVar = {"activation": "relu or leakyrelu: neither has weights"}

    def __init__(
        self,
        scale: int,
        *,
        features: int = 64,
        middle: int = 16,
        activation: ActivationName = "prelu",
    ) -> None:
        """Take the width, the convolutions between first and last, and what follows each."""
        sizes = {"features": features, "middle": middle, "activation": activation}
        super().__init__(scale, sizes)
        widths = [3, *[features] * (middle + 1)]
        self.convs = nn.ModuleList(conv3x3(before, after) for before, after in pairwise(widths))
        self.activations = nn.ModuleList(_activation(activation, features) for _ in self.convs)
        self.last = conv3x3(features, 3 * scale**2)

    def native(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of LR, both in 0..1."""
        features = x
        for conv, activation in zip(self.convs, self.activations, strict=True):
            features = activation(conv(features))
        residual = F.pixel_shuffle(self.last(features), self.scale)
        return residual + F.interpolate(x, scale_factor=self.scale, mode="nearest")

    def stages(self) -> list[Stage]:
        """Return the reach of the stack, and the enlargement behind it."""
        return [(len(self.convs) + 1, self.scale)]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes; only PReLU leaves weights, the names between the convolutions'."""
        features = weights.shape("body.0.weight")[0]
        convs = weights.count("body.{}.weight", step=2)
        weights.check_product(convs)
        last = f"body.{2 * (convs - 1)}.weight"
        sizes = {
            "scale": weights.enlargement(weights.shape(last)[0], 3, name=last),
            "features": features,
            "middle": convs - 2,
        }
        return {**sizes, "activation": "prelu"} if "body.1.weight" in weights else sizes

    def public_layers(self) -> LayerNames:
        """Return BasicSR's names: convolutions and activations in one sequence."""
        return {
            r"convs\.(\d+)": lambda index: f"body.{2 * index}",
            r"activations\.(\d+)": lambda index: f"body.{2 * index + 1}",
            "last": f"body.{2 * len(self.convs)}",
        }


def _activation(name: ActivationName, features: int) -> nn.Module:
    """Return an activation of SRVGGNetCompact."""
    if name == "prelu":
        return nn.PReLU(features)
    return nn.ReLU() if name == "relu" else nn.LeakyReLU(_COMPACT_SLOPE)


class ReparametrizedConv(nn.Module):
    """A 3x3 convolution, trained as 1x1, 3x3 and 1x1 in a row plus a 1x1 skip.

    All four are linear, so their sum is one 3x3 convolution. It is computed from them at every
    call, with gradients: the training graph, which convolves wider features, isn't needed.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build the four convolutions."""
        super().__init__()
        self.skip = nn.Conv2d(inputs, outputs, 1)
        self.expand = nn.Conv2d(inputs, inputs * _SPAN_GAIN, 1)
        self.middle = nn.Conv2d(inputs * _SPAN_GAIN, outputs * _SPAN_GAIN, 3)
        self.project = nn.Conv2d(outputs * _SPAN_GAIN, outputs, 1)

    def kernel(self) -> tuple[Float[Tensor, "out in 3 3"], Float[Tensor, " out"]]:
        """Return weight and bias of the one convolution."""
        expand, project = self.expand.weight[:, :, 0, 0], self.project.weight[:, :, 0, 0]
        weight = torch.einsum("om,mepq,ei->oipq", project, self.middle.weight, expand)
        weight = weight + F.pad(self.skip.weight, (1, 1, 1, 1))
        inner = torch.einsum("mepq,e->m", self.middle.weight, self.expand.bias)
        biases = (self.middle.bias, self.project.bias, self.skip.bias)
        middle, last, skip = (torch.as_tensor(bias) for bias in biases)
        return weight, project @ (inner + middle) + last + skip

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Return the features convolved, zeros beyond the border."""
        return F.conv2d(features, *self.kernel(), padding=1)


class AttentionBlock(nn.Module):
    """Three convolutions whose result is also its own attention, without parameters (SPAB)."""

    def __init__(self, features: int, *, merged: bool) -> None:
        """Build the convolutions."""
        super().__init__()
        self.convs = nn.ModuleList(_span_conv(features, features, merged=merged) for _ in range(3))

    def forward(self, features: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        """Return the block's result, and its first convolution's behind the activation."""
        first = F.silu(self.convs[0](features))
        last = self.convs[2](F.silu(self.convs[1](first)))
        return (last + features) * (last.sigmoid() - 0.5), first


def _span_conv(inputs: int, outputs: int, *, merged: bool) -> nn.Module:
    """Return a convolution of SPAN: one as it runs, four as it is trained."""
    return conv3x3(inputs, outputs) if merged else ReparametrizedConv(inputs, outputs)


@final
class SPAN(SystemNetwork):
    """Six blocks with parameter-free attention; some results skip to one convolution behind.

    The mean and the range that are taken from the input aren't given back to the output.
    """

    scales: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 8)
    unreadable: ClassVar = {"img_range": "255 (the public code's default) or 1"}

    def __init__(
        self,
        scale: int,
        *,
        features: int = 48,
        img_range: int | float = 255.0,
        merged: bool = False,
    ) -> None:
        """Take the width, the factor of the input, and whether convolutions are merged."""
        sizes = {"features": features, "img_range": img_range, "merged": merged}
        super().__init__(scale, sizes)
        self.register_buffer("mean", torch.tensor(RGB_MEAN).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.first = _span_conv(3, features, merged=merged)
        self.blocks = nn.ModuleList(
            AttentionBlock(features, merged=merged) for _ in range(_SPAN_BLOCKS)
        )
        self.body = _span_conv(features, features, merged=merged)
        self.fuse = nn.Conv2d(4 * features, features, 1)
        self.upsample = conv3x3(features, 3 * scale**2)

    def native(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of LR, both in 0..1."""
        first = self.first((x - self.mean.to(x.dtype)) * self.sizes["img_range"])
        features, results = first, []
        for block in self.blocks:
            features, inner = block(features)
            results.append((features, inner))
        known = torch.cat([first, self.body(features), results[0][0], results[-1][1]], dim=1)
        return F.pixel_shuffle(self.upsample(self.fuse(known)), self.scale)

    def for_inference(self) -> "SPAN":
        """Return the same network with each convolution merged into one."""
        if self.sizes["merged"]:
            return self
        merged = SPAN(self.scale, **{**self.sizes, "merged": True})
        merged.to(self.fuse.weight.device)
        state = self.state_dict()
        for name, module in self.named_modules():
            if isinstance(module, ReparametrizedConv):
                state[f"{name}.weight"], state[f"{name}.bias"] = module.kernel()
        merged.load_state_dict({name: state[name] for name in merged.state_dict()})
        return merged.train(self.training)

    def stages(self) -> list[Stage]:
        """Return the reach of all convolutions, and the enlargement behind them."""
        return [(3 + 3 * _SPAN_BLOCKS, self.scale)]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes; files with merged convolutions alone give a merged network."""
        name = "upsampler.0.weight"
        return {
            "scale": weights.enlargement(weights.shape(name)[0], 3, name=name),
            "features": weights.shape("conv_cat.weight")[0],
            "merged": "conv_1.sk.weight" not in weights,
        }

    def public_layers(self) -> LayerNames:
        """Return the public names; merged convolutions are `eval_conv` there."""
        part = "" if self.sizes["merged"] else r"\.(skip|expand|middle|project)"
        return {
            f"first{part}": lambda part="": f"conv_1.{_SPAN_PARTS[part]}",
            rf"blocks\.(\d)\.convs\.(\d){part}": (
                lambda block, conv, part="": f"block_{block + 1}.c{conv + 1}_r.{_SPAN_PARTS[part]}"
            ),
            f"body{part}": lambda part="": f"conv_2.{_SPAN_PARTS[part]}",
            "fuse": "conv_cat",
            "upsample": "upsampler.0",
        }

    @classmethod
    def adapt_public(cls, weights: PublicWeights) -> PublicWeights:
        """Return public weights without merged convolutions that stand beside their parts.

        The public code computes these again before it uses them.
        """
        kept = {
            name: value
            for name, value in weights.tensors.items()
            if ".eval_conv." not in name
            or f"{name.split('.eval_conv.')[0]}.sk.weight" not in weights
        }
        return PublicWeights(kept, where=weights.where)


_SPAN_PARTS = {
    "": "eval_conv",
    "skip": "sk",
    "expand": "conv.0",
    "middle": "conv.1",
    "project": "conv.2",
}


class ChannelNorm(nn.Module):
    """Normalize the channels of each pixel, with a learned factor and offset per channel."""

    def __init__(self, features: int) -> None:
        """Begin with factors of 1 and offsets of 0."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the features with mean 0 and deviation 1 over channels, scaled and shifted."""
        centered = features - features.mean(dim=1, keepdim=True)
        deviation = (centered.square().mean(dim=1, keepdim=True) + _NORM_EPSILON).sqrt()
        return centered / deviation * self.weight[:, None, None] + self.bias[:, None, None]


def pool_to(features: Float[Tensor, "b c h w"], factor: int) -> Float[Tensor, "b c ph pw"]:
    """Return the maxima over `h // factor` x `w // factor` windows that cover the image.

    As `adaptive_max_pool2d`, which has no counterpart in ONNX: sides that aren't multiples of
    `factor` give windows of different sizes, some of which overlap by a pixel. No window is wider
    than `2 * factor`, as an image has at least one; narrower ones repeat their last pixel.
    """
    if factor == 1:
        return features
    offsets = torch.arange(2 * factor, device=features.device)
    for axis, side in zip((2, 3), features.shape[2:], strict=True):
        count = side // factor
        windows = torch.arange(count, device=features.device)[:, None]
        first = windows * side // count
        last = ((windows + 1) * side + count - 1) // count - 1
        index = torch.minimum(first + offsets, last)
        taken = features.index_select(axis, index.flatten())
        features = taken.unflatten(axis, (-1, 2 * factor)).amax(dim=axis + 1)
    return features


class FeatureModulation(nn.Module):
    """Attention from groups of channels that see the image at four resolutions (SAFM)."""

    def __init__(self, features: int) -> None:
        """Build a depthwise convolution for each group, and the 1x1 behind them."""
        super().__init__()
        group = features // _SAFMN_LEVELS
        self.convs = nn.ModuleList(
            nn.Conv2d(group, group, 3, padding=1, groups=group) for _ in range(_SAFMN_LEVELS)
        )
        self.fuse = nn.Conv2d(features, features, 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the features times their attention."""
        size = features.shape[2:]
        groups = features.chunk(_SAFMN_LEVELS, dim=1)
        seen = [
            F.interpolate(conv(pool_to(group, 2**level)), size=size, mode="nearest")
            for level, (conv, group) in enumerate(zip(self.convs, groups, strict=True))
        ]
        return F.gelu(self.fuse(torch.cat(seen, dim=1))) * features


class ModulationBlock(nn.Module):
    """Modulation, then two convolutions; each part normalizes before and adds (AttBlock)."""

    def __init__(self, features: int, growth: int | float) -> None:
        """Build both parts; `growth` is the width between the two convolutions of the second."""
        super().__init__()
        hidden = round(features * growth)
        self.norm1, self.norm2 = ChannelNorm(features), ChannelNorm(features)
        self.modulate = FeatureModulation(features)
        self.expand = conv3x3(features, hidden)
        self.project = nn.Conv2d(hidden, features, 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the features with both residuals."""
        features = features + self.modulate(self.norm1(features))
        return features + self.project(F.gelu(self.expand(self.norm2(features))))


@final
class SAFMN(SystemNetwork):
    """Blocks of spatial modulation on the LR grid, and one shuffle.

    The windows of its pooling depend on the image's size, so no part of an image gives the same
    result as the whole.
    """

    scales: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 8)

    def __init__(
        self, scale: int, *, features: int = 36, blocks: int = 8, growth: int | float = 2.0
    ) -> None:
        """Take the width, the number of blocks, and how much wider they are inside.

        Raises:
            UsageError: the width isn't a multiple of 4.
        """
        super().__init__(scale, {"features": features, "blocks": blocks, "growth": growth})
        if features % _SAFMN_LEVELS:
            problem = f"features={features} isn't a multiple of {_SAFMN_LEVELS}"
            raise UsageError("SAFMN", problem, remedy=f"Give a multiple of {_SAFMN_LEVELS}.")
        self.first = conv3x3(3, features)
        self.blocks = nn.Sequential(*(ModulationBlock(features, growth) for _ in range(blocks)))
        self.upsample = conv3x3(features, 3 * scale**2)

    def native(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of LR, both in 0..1, with sides of at least 8 pixels."""
        first = self.first(x)
        return F.pixel_shuffle(self.upsample(first + self.blocks(first)), self.scale)

    def native_input(self, lr01: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 ph pw"]:
        """Return LR, smaller sides padded to the 8 pixels that the coarsest pooling needs."""
        least = 2 ** (_SAFMN_LEVELS - 1)
        # The larger of side and `least`, without a comparison, which a traced graph can't have.
        height, width = (
            (side + least + abs(side - least)) // 2 for side in (lr01.shape[2], lr01.shape[3])
        )
        padded = F.pad(lr01, (0, least - 1, 0, least - 1), mode="replicate")
        return padded[..., :height, :width]

    def stages(self) -> None:
        """Return None: a window may lie anywhere."""

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the shapes show."""
        features = weights.shape("to_feat.weight")[0]
        blocks = weights.count("feats.{}.norm1.weight")
        weights.check_product(blocks)
        hidden = weights.shape("feats.0.ccm.ccm.0.weight")[0]
        name = "to_img.0.weight"
        scale = weights.enlargement(weights.shape(name)[0], 3, name=name)
        return {"scale": scale, "features": features, "blocks": blocks, "growth": hidden / features}

    def public_layers(self) -> LayerNames:
        """Return the public names."""
        return {
            "first": "to_feat",
            r"blocks\.(\d+)\.(norm\d)": "feats.{0}.{1}",
            r"blocks\.(\d+)\.modulate\.convs\.(\d)": "feats.{0}.safm.mfr.{1}",
            r"blocks\.(\d+)\.modulate\.fuse": "feats.{0}.safm.aggr",
            r"blocks\.(\d+)\.expand": "feats.{0}.ccm.ccm.0",
            r"blocks\.(\d+)\.project": "feats.{0}.ccm.ccm.2",
            "upsample": "to_img.0",
        }
