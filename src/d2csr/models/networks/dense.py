"""Networks whose layers take the outputs of all earlier ones: RDN and D-DBPN.

Sources: RDN (arXiv:1802.08797) as github.com/sanghyun-son/EDSR-PyTorch, D-DBPN (arXiv:1803.02735)
as github.com/alterzero/DBPN-Pytorch.
Shapes: b images, c and d channels, h x w LR pixels, sh x sw SR pixels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.models.layers import conv3x3
from d2csr.models.networks.base import Sizes, Stage, Strided, SystemNetwork
from d2csr.models.networks.blocks import ShuffleUpsampler
from d2csr.models.networks.public_weights import LayerNames, PublicWeights


class ResidualDenseBlock(nn.Module):
    """Convolutions, each on the input and all earlier outputs; fused, and the input added."""

    def __init__(self, features: int, layers: int, *, growth: int) -> None:
        """Take the number of convolutions and the channels that each adds."""
        super().__init__()
        self.convs = nn.ModuleList(
            conv3x3(features + index * growth, growth) for index in range(layers)
        )
        self.fusion = nn.Conv2d(features + layers * growth, features, kernel_size=1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the input plus the residual of the block."""
        stacked = features
        for conv in self.convs:
            stacked = torch.cat([stacked, F.relu(conv(stacked))], dim=1)
        return features + self.fusion(stacked)


class RDN(SystemNetwork):
    """Residual dense blocks, whose outputs are all fused before the enlargement."""

    def __init__(
        self,
        scale: int,
        *,
        features: int = 64,
        blocks: int = 16,
        layers: int = 8,
        growth: int = 64,
    ) -> None:
        """Take G0, D, C and G of the paper."""
        sizes = {"features": features, "blocks": blocks, "layers": layers, "growth": growth}
        super().__init__(scale, sizes)
        self.head = nn.ModuleList([conv3x3(3, features), conv3x3(features, features)])
        self.blocks = nn.ModuleList(
            ResidualDenseBlock(features, layers, growth=growth) for _ in range(blocks)
        )
        self.fusion = nn.Conv2d(blocks * features, features, kernel_size=1)
        self.conv = conv3x3(features, features)
        self.upsampler = ShuffleUpsampler(features, growth, scale=scale)
        self.out = conv3x3(growth, 3)

    def native(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of RGB in any range, by which the weights were trained."""
        shallow = self.head[0](x)
        features, outputs = self.head[1](shallow), []
        for block in self.blocks:
            features = block(features)
            outputs.append(features)
        features = shallow + self.conv(self.fusion(torch.cat(outputs, dim=1)))
        return self.out(self.upsampler(features))

    def stages(self) -> list[Stage]:
        """Return the layers on the path of all blocks."""
        trunk = 3 + self.sizes["blocks"] * self.sizes["layers"]
        return [*[(1, 1)] * trunk, *self.upsampler.stages(), (1, 1)]

    @classmethod
    def adapt_public(cls, weights: PublicWeights) -> PublicWeights:
        """Return the weights with the names of EDSR-PyTorch, given those of yjn870 too."""
        if "sfe1.weight" in weights:
            convs = weights.count("upscale.{}.weight", step=2)
            names = {
                r"sfe(\d)": "SFENet{}",
                r"rdbs\.(\d+)\.layers\.(\d+)\.conv": "RDBs.{}.convs.{}.conv.0",
                r"rdbs\.(\d+)\.lff": "RDBs.{}.LFF",
                r"gff\.(\d)": "GFF.{}",
                r"upscale\.(\d)": "UPNet.{}",
                r"output": f"UPNet.{2 * convs}",
            }
            weights.rename(names)
        return weights

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the layers show."""
        growth = weights.shape("RDBs.0.convs.0.conv.0.weight")[0]
        blocks = weights.count("RDBs.{}.LFF.weight")
        layers = weights.count("RDBs.0.convs.{}.conv.0.weight")
        weights.check_product(blocks, layers)
        scale, name = 1, "UPNet.{}.weight"
        for index in range(weights.count(name, step=2) - 1):  # the last makes RGB
            conv = name.format(2 * index)
            scale *= weights.enlargement(weights.shape(conv)[0], growth, name=conv)
        return {
            "scale": scale,
            "features": weights.shape("SFENet1.weight")[0],
            "blocks": blocks,
            "layers": layers,
            "growth": growth,
        }

    def public_layers(self) -> LayerNames:
        """Return the names of EDSR-PyTorch's layers."""
        return {
            r"head\.(\d)": lambda index: f"SFENet{index + 1}",
            r"blocks\.(\d+)\.convs\.(\d+)": "RDBs.{}.convs.{}.conv.0",
            r"blocks\.(\d+)\.fusion": "RDBs.{}.LFF",
            r"fusion": "GFF.0",
            r"conv": "GFF.1",
            r"upsampler\.convs\.(\d)": lambda index: f"UPNet.{2 * index}",
            r"out": f"UPNet.{2 * len(self.upsampler.factors)}",
        }


class Activated(nn.Module):
    """A convolution of any kind, and a PReLU of a single slope."""

    def __init__(self, conv: nn.Module) -> None:
        """Take the convolution."""
        super().__init__()
        self.conv = conv
        self.activation = nn.PReLU()

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d sh sw"]:
        """Return the activated output."""
        return self.activation(self.conv(features))


class ProjectionUnit(nn.Module):
    """Project features to the other grid and back; what the way back misses corrects the result.

    Up units go from LR to the SR grid, down units from there to LR.
    """

    def __init__(self, features: int, inputs: int, *, scale: int, is_up: bool) -> None:
        """Take how many feature maps come in: more than one are fused by a 1x1 convolution."""
        super().__init__()
        fusion = nn.Conv2d(inputs * features, features, kernel_size=1)
        self.fusion = Activated(fusion) if inputs > 1 else None
        kinds = (is_up, not is_up, is_up)
        self.projections = nn.ModuleList(
            Activated(_projection(features, scale, is_up=kind)) for kind in kinds
        )

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d oh ow"]:
        """Return the features on the other grid."""
        if self.fusion is not None:
            features = self.fusion(features)
        projected = self.projections[0](features)
        missing = self.projections[1](projected) - features
        return projected + self.projections[2](missing)


_TENSORS_OF_A_UNIT = 9  # at least: weight, bias and slope of three projections
_EXTRA_TAPS, _PADDING = 4, 2  # of the projections: kernels of 6, 8, 12 with strides of 2, 4, 8


def _projection(features: int, scale: int, *, is_up: bool) -> nn.Conv2d | nn.ConvTranspose2d:
    """Return the convolution from one grid to the other."""
    kind = nn.ConvTranspose2d if is_up else nn.Conv2d
    return kind(features, features, scale + _EXTRA_TAPS, scale, _PADDING)


class DBPN(SystemNetwork):
    """Up and down projections by turns, dense; the SR is made of all features on its grid.

    With `residual`, the default of the authors' training, the bicubic enlargement is added to the
    SR, but outside of `native`. They have no x3: here it has kernels of 7.
    """

    def __init__(
        self,
        scale: int,
        *,
        features: int = 64,
        head_features: int = 256,
        units: int = 7,
        residual: bool = True,
    ) -> None:
        """Take the width, that of the first layer, and the number T of up projections."""
        sizes = {"features": features, "head_features": head_features, "units": units}
        super().__init__(scale, {**sizes, "residual": residual})
        self.adds_bicubic = residual
        self.head = nn.ModuleList(
            [
                Activated(conv3x3(3, head_features)),
                Activated(nn.Conv2d(head_features, features, kernel_size=1)),
            ]
        )
        self.ups = nn.ModuleList(
            ProjectionUnit(features, max(1, n), scale=scale, is_up=True) for n in range(units)
        )
        self.downs = nn.ModuleList(
            ProjectionUnit(features, n + 1, scale=scale, is_up=False) for n in range(units - 1)
        )
        self.out = conv3x3(units * features, 3)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def native(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR of RGB in 0..1, or what is to be added to the bicubic enlargement."""
        for layer in self.head:
            x = layer(x)
        low, high = [], [self.ups[0](x)]  # newest first
        for up, down in zip(list(self.ups)[1:], self.downs, strict=True):
            low.insert(0, down(torch.cat(high, dim=1)))
            high.insert(0, up(torch.cat(low, dim=1)))
        return self.out(torch.cat(high, dim=1))

    def stages(self) -> list[Stage]:
        """Return the layers on the path of all projections."""
        kernel = self.scale + _EXTRA_TAPS
        up = Strided(kernel, self.scale, _PADDING, transposed=True)
        down = Strided(kernel, self.scale, _PADDING)
        units = [up, down, up] + [down, up, down, up, down, up] * (self.sizes["units"] - 1)
        return [(1, 1), *units, (1, 1)]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the layers show; the kernels' side shows the scale."""
        head_features = weights.shape("feat0.conv.weight")[0]
        units = weights.count("up{}.up_conv1.deconv.weight", start=1)
        weights.check_product(units, _TENSORS_OF_A_UNIT)
        return {
            "scale": weights.shape("up1.up_conv1.deconv.weight")[2] - _EXTRA_TAPS,
            "features": weights.shape("feat1.conv.weight")[0],
            "head_features": head_features,
            "units": units,
        }

    def public_layers(self) -> LayerNames:
        """Return the names of the authors' layers."""
        kinds = {"conv": "conv", "activation": "act"}
        convs = {"up": ("deconv", "conv", "deconv"), "down": ("conv", "deconv", "conv")}
        return {
            r"head\.(\d)\.(conv|activation)": lambda index, kind: f"feat{index}.{kinds[kind]}",
            r"(up|down)s\.(\d+)\.projections\.(\d)\.conv": lambda way, unit, part: (
                f"{way}{unit + 1}.{way}_conv{part + 1}.{convs[way][part]}"
            ),
            r"(up|down)s\.(\d+)\.projections\.(\d)\.activation": lambda way, unit, part: (
                f"{way}{unit + 1}.{way}_conv{part + 1}.act"
            ),
            r"(up|down)s\.(\d+)\.fusion\.(conv|activation)": lambda way, unit, kind: (
                f"{way}{unit + 1}.conv.{kinds[kind]}"
            ),
            r"out": "output_conv.conv",
        }
