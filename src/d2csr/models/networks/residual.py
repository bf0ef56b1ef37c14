"""Residual networks on LR: SRResNet in both forms, EDSR and RCAN.

Sources: SRResNet (arXiv:1609.04802) as github.com/Lornatang/SRGAN-PyTorch, its form without batch
normalization as github.com/XPixelGroup/BasicSR, EDSR (arXiv:1707.02921) as
github.com/sanghyun-son/EDSR-PyTorch, RCAN (arXiv:1807.02758) as github.com/yulunzhang/RCAN.
Shapes: b images, c features, h x w LR pixels, sh x sw SR pixels.
"""

from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.models.layers import ChannelAttention, conv3x3
from d2csr.models.networks.base import Sizes, Stage, SystemNetwork
from d2csr.models.networks.blocks import (
    MeanShift,
    ResidualBlock,
    ShuffleUpsampler,
    shuffle_scale,
)
from d2csr.models.networks.public_weights import LayerNames, PublicWeights

_WHITE = 255  # of the layers inside of EDSR and RCAN
_AFTER_BODY = "conv_after_body.weight"  # BasicSR's name for the last layer before the upsampler


class NormalizedBlock(nn.Module):
    """A residual block with batch normalization, and a PReLU of a single slope."""

    def __init__(self, features: int) -> None:
        """Build the layers."""
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(features)
        self.activation = nn.PReLU()
        self.conv2 = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(features)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the input plus its residual."""
        residual = self.activation(self.norm1(self.conv1(features)))
        return features + self.norm2(self.conv2(residual))


class SRResNet(SystemNetwork):
    """The generator of SRGAN: batch normalization, and an activation after every shuffle.

    The public code clamps its result to 0..1; this network doesn't. It has no x3: here one shuffle
    by 3 enlarges.
    """

    _SIDE = 9  # of the first and last kernel

    def __init__(self, scale: int, *, features: int = 64, blocks: int = 16) -> None:
        """Take the residual blocks and their width."""
        super().__init__(scale, {"features": features, "blocks": blocks})
        self.head = nn.Conv2d(3, features, self._SIDE, padding=self._SIDE // 2)
        self.head_activation = nn.PReLU()
        self.blocks = nn.Sequential(*(NormalizedBlock(features) for _ in range(blocks)))
        self.conv = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(features)
        self.upsampler = ShuffleUpsampler(features, features, scale=scale)
        self.activations = nn.ModuleList(nn.PReLU() for _ in self.upsampler.factors)
        self.out = nn.Conv2d(features, 3, self._SIDE, padding=self._SIDE // 2)

    def native(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of RGB in 0..1, not clamped."""
        shallow = self.head_activation(self.head(x))
        features = shallow + self.norm(self.conv(self.blocks(shallow)))
        return self.out(self.upsampler(features, list(self.activations)))

    def stages(self) -> list[Stage]:
        """Return the layers on the path of all blocks."""
        side, trunk = self._SIDE // 2, 2 * self.sizes["blocks"] + 1
        return [(side, 1), *[(1, 1)] * trunk, *self.upsampler.stages(), (side, 1)]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the layers show."""
        features = weights.shape("conv1.0.weight")[0]
        convs = "upsampling.{}.upsample_block.0.weight"
        return {
            "scale": shuffle_scale(weights, convs, step=1, outputs=features),
            "features": features,
            "blocks": weights.count("trunk.{}.rcb.0.weight"),
        }

    def public_layers(self) -> LayerNames:
        """Return the names of Lornatang's layers."""
        parts = {"conv1": 0, "norm1": 1, "activation": 2, "conv2": 3, "norm2": 4}
        return {
            r"head": "conv1.0",
            r"head_activation": "conv1.1",
            r"blocks\.(\d+)\.(\w+)": lambda n, part: f"trunk.{n}.rcb.{parts[part]}",
            r"conv": "conv2.0",
            r"norm": "conv2.1",
            r"upsampler\.convs\.(\d)": "upsampling.{}.upsample_block.0",
            r"activations\.(\d)": "upsampling.{}.upsample_block.2",
            r"out": "conv3",
        }


class MSRResNet(SystemNetwork):
    """SRResNet without batch normalization, whose result is added to a bilinear enlargement."""

    _LEAK = 0.1  # slope of the activations for negative numbers
    _INITIAL_GAIN = 0.1  # of the weights drawn as He et al.

    def __init__(self, scale: int, *, features: int = 64, blocks: int = 16) -> None:
        """Take the residual blocks and their width."""
        super().__init__(scale, {"features": features, "blocks": blocks})
        self.head = conv3x3(3, features)
        self.blocks = nn.Sequential(*(ResidualBlock(features) for _ in range(blocks)))
        self.upsampler = ShuffleUpsampler(features, features, scale=scale)
        self.conv = conv3x3(features, features)
        self.out = conv3x3(features, 3)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight)
                layer.weight.data *= self._INITIAL_GAIN
                nn.init.zeros_(layer.bias)

    def native(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of RGB in 0..1."""
        activations = [nn.LeakyReLU(self._LEAK)] * len(self.upsampler.factors)
        features = self.blocks(F.leaky_relu(self.head(x), self._LEAK))
        features = self.upsampler(features, activations)
        sr = self.out(F.leaky_relu(self.conv(features), self._LEAK))
        return sr + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)

    def stages(self) -> list[Stage]:
        """Return the layers on the path of all blocks."""
        return [*[(1, 1)] * (2 * self.sizes["blocks"] + 1), *self.upsampler.stages(), (2, 1)]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the layers show."""
        features, scale = weights.shape("conv_first.weight")[0], 1
        weights.shape("upconv1.weight")  # an error if there is none
        for number in range(1, 1 + weights.count("upconv{}.weight", start=1)):
            name = f"upconv{number}.weight"
            scale *= weights.enlargement(weights.shape(name)[0], features, name=name)
        blocks = weights.count("body.{}.conv1.weight")
        return {"scale": scale, "features": features, "blocks": blocks}

    def public_layers(self) -> LayerNames:
        """Return the names of BasicSR's layers."""
        return {
            r"head": "conv_first",
            r"blocks\.(\d+)\.(conv\d)": "body.{}.{}",
            r"upsampler\.convs\.(\d)": lambda index: f"upconv{index + 1}",
            r"conv": "conv_hr",
            r"out": "conv_last",
        }


class EDSR(SystemNetwork):
    """Residual blocks without batch normalization, wide and scaled, around RGB less its mean."""

    unreadable: ClassVar = {"res_scale": "0.1 for EDSR of 256 features, 1 for the baseline of 64"}

    def __init__(
        self,
        scale: int,
        *,
        features: int = 256,
        blocks: int = 32,
        res_scale: float = 0.1,
        white: Literal[255, 1] = 255,
    ) -> None:
        """Take the residual blocks, their width, the factor of every residual, and the range.

        `white` is that of `native`: 255 in the authors' code, 1 in BasicSR's.
        """
        sizes = {"features": features, "blocks": blocks, "res_scale": res_scale, "white": white}
        super().__init__(scale, sizes)
        self.value_range = white
        self.sub_mean = MeanShift(-1, value_range=_WHITE, trained=False)
        self.add_mean = MeanShift(+1, value_range=_WHITE, trained=False)
        self.head = conv3x3(3, features)
        self.blocks = nn.Sequential(
            *(ResidualBlock(features, gain=res_scale) for _ in range(blocks))
        )
        self.conv = conv3x3(features, features)
        self.upsampler = ShuffleUpsampler(features, features, scale=scale)
        self.out = conv3x3(features, 3)

    def native(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of RGB in 0..`white`."""
        shallow = self.head(self.sub_mean(x * (_WHITE / self.value_range)))
        features = shallow + self.conv(self.blocks(shallow))
        sr = self.add_mean(self.out(self.upsampler(features)))
        return sr * (self.value_range / _WHITE)

    def stages(self) -> list[Stage]:
        """Return the layers on the path of all blocks."""
        return [*[(1, 1)] * (2 * self.sizes["blocks"] + 2), *self.upsampler.stages(), (1, 1)]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the layers show."""
        features = weights.shape("head.0.weight")[0]
        return {
            "scale": shuffle_scale(weights, "tail.0.{}.weight", step=2, outputs=features),
            "features": features,
            "blocks": weights.count("body.{}.body.0.weight"),
            "white": _inferred_white(weights),
        }

    @classmethod
    def adapt_public(cls, weights: PublicWeights) -> PublicWeights:
        """Return the weights with the names of EDSR-PyTorch, given those of BasicSR too."""
        if _AFTER_BODY in weights:
            blocks = weights.count("body.{}.conv1.weight")
            block = {r"body\.(\d+)\.conv(\d)": lambda n, part: f"body.{n}.body.{2 * part - 2}"}
            weights.rename({**block, **_basicsr_layers(blocks)})
        return weights

    def public_layers(self) -> LayerNames:
        """Return the names of EDSR-PyTorch's layers."""
        return {
            **_mean_shift_and_tail_layers(self.value_range),
            r"blocks\.(\d+)\.conv(\d)": lambda n, part: f"body.{n}.body.{2 * part - 2}",
            r"conv": f"body.{self.sizes['blocks']}",
        }


def _inferred_white(weights: PublicWeights) -> int:
    """Return white in `native`: BasicSR takes 0..1, and stores no mean."""
    return 255 if "sub_mean.weight" in weights else 1


def _basicsr_layers(body: int) -> LayerNames:
    """Return the authors' names of BasicSR's layers outside of the body of so many parts."""
    return {
        r"conv_first": "head.0",
        r"conv_after_body": f"body.{body}",
        r"upsample\.(\d+)": "tail.0.{}",
        r"conv_last": "tail.1",
    }


def _mean_shift_and_tail_layers(white: int) -> LayerNames:
    """Return the names that EDSR and RCAN share: mean, first layer, upsampler, last layer."""
    return {
        r"(sub_mean|add_mean)": "{}" if white == _WHITE else "",
        r"head": "head.0",
        r"upsampler\.convs\.(\d)": lambda index: f"tail.0.{2 * index}",
        r"out": "tail.1",
    }


class AttentionGroup(nn.Module):
    """Residual blocks with channel attention, one convolution, and the input added."""

    def __init__(self, features: int, blocks: int, *, hidden: int) -> None:
        """Take the number of blocks, and the channels within their attention."""
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(features, attention=ChannelAttention(features, hidden))
                for _ in range(blocks)
            )
        )
        self.conv = conv3x3(features, features)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the input plus the residual of the group."""
        return features + self.conv(self.blocks(features))


class RCAN(SystemNetwork):
    """Groups of residual blocks with channel attention, which depends on the whole image."""

    def __init__(
        self,
        scale: int,
        *,
        features: int = 64,
        groups: int = 10,
        blocks: int = 20,
        reduction: int = 16,
        white: Literal[255, 1] = 255,
    ) -> None:
        """Take groups, blocks per group, their width, how much the attention narrows it, the range.

        `white` is that of `native`: 255 in the authors' code, 1 in BasicSR's.
        """
        sizes = {"features": features, "groups": groups, "blocks": blocks}
        super().__init__(scale, {**sizes, "reduction": reduction, "white": white})
        self.value_range = white
        self.sub_mean = MeanShift(-1, value_range=_WHITE, trained=True)
        self.add_mean = MeanShift(+1, value_range=_WHITE, trained=True)
        self.head = conv3x3(3, features)
        hidden = max(1, features // reduction)
        self.groups = nn.Sequential(
            *(AttentionGroup(features, blocks, hidden=hidden) for _ in range(groups))
        )
        self.conv = conv3x3(features, features)
        self.upsampler = ShuffleUpsampler(features, features, scale=scale)
        self.out = conv3x3(features, 3)

    def native(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of RGB in 0..`white`."""
        shallow = self.head(self.sub_mean(x * (_WHITE / self.value_range)))
        features = shallow + self.conv(self.groups(shallow))
        sr = self.add_mean(self.out(self.upsampler(features)))
        return sr * (self.value_range / _WHITE)

    def stages(self) -> None:
        """Return None: channel attention averages the whole image."""

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the layers show."""
        features = weights.shape("head.0.weight")[0]
        groups = weights.count("body.{}.body.0.body.0.weight")
        blocks = weights.count("body.0.body.{}.body.0.weight")
        weights.check_product(groups, blocks)
        hidden = weights.shape("body.0.body.0.body.3.conv_du.0.weight")[0]
        return {
            "scale": shuffle_scale(weights, "tail.0.{}.weight", step=2, outputs=features),
            "features": features,
            "groups": groups,
            "blocks": blocks,
            "reduction": max(1, features // max(1, hidden)),
            "white": _inferred_white(weights),
        }

    @classmethod
    def adapt_public(cls, weights: PublicWeights) -> PublicWeights:
        """Return the weights with the authors' names, given those of BasicSR too."""
        if _AFTER_BODY in weights:
            groups = weights.count("body.{}.conv.weight")
            blocks = weights.count("body.0.residual_group.{}.rcab.0.weight")
            block = r"body\.(\d+)\.residual_group\.(\d+)\.rcab"
            names = {
                block + r"\.([02])": "body.{}.body.{}.body.{}",
                block + r"\.3\.attention\.([13])": lambda g, b, index: (
                    f"body.{g}.body.{b}.body.3.conv_du.{index - 1}"
                ),
                r"body\.(\d+)\.conv": lambda g: f"body.{g}.body.{blocks}",
            }
            weights.rename({**names, **_basicsr_layers(groups)})
        return weights

    def public_layers(self) -> LayerNames:
        """Return the names of the authors' layers."""
        groups, blocks = self.sizes["groups"], self.sizes["blocks"]
        block, gate = "body.{}.body.{}.body.{}", {"squeeze": 0, "excite": 2}
        return {
            **_mean_shift_and_tail_layers(self.value_range),
            r"groups\.(\d+)\.blocks\.(\d+)\.conv(\d)": lambda g, b, part: block.format(
                g, b, 2 * part - 2
            ),
            r"groups\.(\d+)\.blocks\.(\d+)\.attention\.(\w+)": lambda g, b, part: block.format(
                g, b, f"3.conv_du.{gate[part]}"
            ),
            r"groups\.(\d+)\.conv": lambda g: f"body.{g}.body.{blocks}",
            r"conv": f"body.{groups}",
        }
