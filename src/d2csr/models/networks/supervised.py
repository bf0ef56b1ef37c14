"""Networks that are trained at several outputs: LapSRN, DRCN and MemNet.

Sources: LapSRN (arXiv:1704.03915) as github.com/phoenix104104/LapSRN builds it, DRCN
(arXiv:1511.04491) with the names of github.com/LoSealL/VideoSuperResolution, MemNet
(arXiv:1708.02209) as github.com/tyshiwo/MemNet builds it, or github.com/Vandermode/pytorch-MemNet.
Shapes: b images, c channels, h x w pixels of the input, sh x sw of the output.
"""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.errors import CheckpointError
from d2csr.models.layers import conv3x3
from d2csr.models.networks.base import Sizes, Stage, Strided, SystemNetwork, Takes
from d2csr.models.networks.blocks import ReduceByQuarter
from d2csr.models.networks.plain import SCALE_HINT, initialize_he
from d2csr.models.networks.public_weights import LayerNames, PublicWeights

_LEAK = 0.2  # slope of LapSRN's activations for negative numbers


class LapSRNLevel(nn.Module):
    """Twice the size: features by convolutions, the image by a transposed one plus a residual."""

    def __init__(self, features: int, depth: int, *, upsampler: int, bias: bool) -> None:
        """Take the number of convolutions and the kernel's side of the feature upsampler."""
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(features, features, 3, padding=1, bias=bias) for _ in range(depth)
        )
        padding = 0 if upsampler == 3 else 1
        self.upsampler = nn.ConvTranspose2d(features, features, upsampler, 2, padding, bias=bias)
        self.residual = nn.Conv2d(features, 1, 3, padding=1, bias=bias)
        self.image_upsampler = nn.ConvTranspose2d(1, 1, 4, 2, 1, bias=False)
        self.is_cut = upsampler == 3

    def forward(
        self, features: Float[Tensor, "b c h w"], image: Float[Tensor, "b 1 h w"]
    ) -> tuple[Float[Tensor, "b c sh sw"], Float[Tensor, "b 1 sh sw"]]:
        """Return features and image of twice the size."""
        for conv in self.convs:
            features = F.leaky_relu(conv(features), _LEAK)
        features = self.upsampler(features)
        features = F.leaky_relu(features[..., :-1, :-1] if self.is_cut else features, _LEAK)
        return features, self.image_upsampler(image) + self.residual(features)


class LapSRN(SystemNetwork):
    """A pyramid on LR luma, each level of twice the size; x3 is x4 reduced by bicubic."""

    colors = "y"

    def __init__(
        self,
        scale: int,
        *,
        features: int = 64,
        depth: int = 10,
        upsampler: Literal[3, 4] = 3,
        bias: bool = True,
    ) -> None:
        """Take the convolutions per level, and the side of the feature upsampler's kernel.

        The paper's network has 3 and biases; twtygqyy's port has 4 and none.
        """
        sizes = {"features": features, "depth": depth, "upsampler": upsampler, "bias": bias}
        super().__init__(scale, sizes)
        self.head = nn.Conv2d(1, features, 3, padding=1, bias=bias)
        levels = [
            LapSRNLevel(features, depth, upsampler=upsampler, bias=bias)
            for _ in range(math.ceil(math.log2(scale)))
        ]
        self.levels = nn.ModuleList(levels)
        self.reduce = ReduceByQuarter() if scale == 3 else nn.Identity()
        initialize_he(self)
        for level in levels:
            with torch.no_grad():
                level.image_upsampler.weight.copy_(_bilinear_kernel())

    def native_outputs(self, x: Float[Tensor, "b 1 h w"]) -> tuple[Tensor, ...]:
        """Return the image of each level, the smallest first; x3: of the first level, and SR."""
        features, images = F.leaky_relu(self.head(x), _LEAK), [x]
        for level in self.levels:
            features, image = level(features, images[-1])
            images.append(image)
        return (*images[1:-1], self.reduce(images[-1]))

    def native(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 sh sw"]:
        """Return SR of luma in 0..1."""
        return self.native_outputs(x)[-1]

    def stages(self) -> list[Stage]:
        """Return the layers on the path of the features."""
        kernel = self.sizes["upsampler"]
        upsampler = Strided(kernel, 2, 0 if kernel == 3 else 1, transposed=True)
        levels = [*[(1, 1)] * self.sizes["depth"], upsampler] * len(self.levels)
        return [(1, 1), *levels, (1, 1), *(ReduceByQuarter.stages() if self.scale == 3 else [])]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the layers of the official script, or of the port, show."""
        if "conv_input.weight" in weights:
            layers = "convt_F1.0.cov_block.{}.weight"
            depth = weights.count(layers, step=2) - 1
            levels, head = weights.count("convt_I{}.weight", start=1), "conv_input"
            upsampler = layers.format(2 * depth)
        else:
            levels, head = weights.count("level{}_img_up.weight", start=1), "input_conv"
            depth = weights.count("level1_conv{}.weight", start=1)
            upsampler = "level1_upconv.weight"
        weights.check_product(levels, max(depth, 1))
        return {
            "scale": 2**levels,
            "features": weights.shape(f"{head}.weight")[0],
            "depth": depth,
            "upsampler": weights.shape(upsampler)[2],
            "bias": f"{head}.bias" in weights,
        }

    def public_layers(self) -> LayerNames:
        """Return the names of the official script, or of the port where there are no biases."""
        levels, depth = len(self.levels), self.sizes["depth"]
        if not self.sizes["bias"]:
            block = "convt_F{}.0.cov_block.{}"
            return {
                "head": "conv_input",
                r"levels\.(\d)\.convs\.(\d+)": lambda n, index: block.format(n + 1, 2 * index),
                r"levels\.(\d)\.upsampler": lambda n: block.format(n + 1, 2 * depth),
                r"levels\.(\d)\.residual": lambda n: f"convt_R{n + 1}",
                r"levels\.(\d)\.image_upsampler": lambda n: f"convt_I{n + 1}",
            }
        return {
            "head": "input_conv",
            r"levels\.(\d)\.convs\.(\d+)": lambda n, index: f"level{levels - n}_conv{index + 1}",
            r"levels\.(\d)\.upsampler": lambda n: f"level{levels - n}_upconv",
            r"levels\.(\d)\.residual": lambda n: f"level{levels - n}_residual_conv",
            r"levels\.(\d)\.image_upsampler": lambda n: f"level{levels - n}_img_up",
        }


def _bilinear_kernel() -> Float[Tensor, "4 4"]:
    """Return the kernel of a transposed convolution that enlarges by 2, bilinear."""
    taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
    return taps[:, None] * taps


class DRCN(SystemNetwork):
    """One convolution applied again and again, each result an output; the SR weighs them all."""

    takes: ClassVar[Takes] = "enlarged"
    unreadable: ClassVar = {"scale": SCALE_HINT}

    def __init__(
        self,
        scale: int,
        *,
        channels: Literal[1, 3] = 1,
        features: int = 256,
        recursions: int = 16,
    ) -> None:
        """Take 1 channel (luma) or 3, and the number of times that the convolution is applied."""
        sizes = {"channels": channels, "features": features, "recursions": recursions}
        super().__init__(scale, sizes)
        self.colors = "rgb" if channels == 3 else "y"
        self.embedding = nn.ModuleList([conv3x3(channels, features), conv3x3(features, features)])
        self.recursion = conv3x3(features, features)
        self.reconstruction = nn.ModuleList(
            [conv3x3(features, features), conv3x3(features, channels)]
        )
        self.output_weights = nn.Parameter(torch.full((recursions,), 1 / recursions))
        initialize_he(self)
        nn.init.dirac_(self.recursion.weight)  # identity at the start, section 4.3 of the paper

    def predictions(self, x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b c h w"]]:
        """Return the output of every recursion."""
        hidden = x
        for conv in self.embedding:
            hidden = F.relu(conv(hidden))
        predictions = []
        for _ in range(self.sizes["recursions"]):
            hidden = F.relu(self.recursion(hidden))
            features = F.relu(self.reconstruction[0](hidden))
            predictions.append(x + self.reconstruction[1](features))
        return predictions

    def native_outputs(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, ...]:
        """Return the output of every recursion, and their weighted sum, which is the SR."""
        predictions = self.predictions(x)
        return (*predictions, _weighted(predictions, list(self.output_weights)))

    def native(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the sharpened image, given the enlarged one in 0..1."""
        return self.native_outputs(x)[-1]

    def stages(self) -> list[Stage]:
        """Return the layers on the path of all recursions."""
        layers = len(self.embedding) + self.sizes["recursions"] + len(self.reconstruction)
        return [(1, 1)] * layers

    @classmethod
    def adapt_public(cls, weights: PublicWeights) -> PublicWeights:
        """Return the weights without the port's factor of the input, which must be their sum."""
        (count,) = weights.shape("output_weights", dimensions=1)
        values = weights.tensors["output_weights"]
        if count < 2 or not torch.isclose(values[0], values[1:].sum(), rtol=1e-4, atol=1e-5):
            problem = "output_weights[0] is not the sum of the others, so this is not DRCN"
            remedy = "Give weights whose factor of the input is the sum of the output weights."
            raise CheckpointError(weights.where, problem, remedy)
        weights.tensors["output_weights"] = values[1:].clone()
        return weights

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the layers show."""
        features, channels, *_ = weights.shape("entry.0.body.0.weight")
        return {
            "channels": channels,
            "features": features,
            "recursions": weights.shape("output_weights", dimensions=1)[0],
        }

    def public_layers(self) -> LayerNames:
        """Return the names of LoSealL's layers."""
        return {
            r"embedding\.(\d)": "entry.{}.body.0",
            r"recursion": "conv.body.0",
            r"reconstruction\.(\d)": "exit.{}.body.0",
            r"output_weights": "output_weights",
        }


def _weighted(images: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Return the sum of images, each times its weight."""
    products = [weight * image for weight, image in zip(weights, images, strict=True)]
    return torch.stack(products).sum(dim=0)


_TENSORS_OF_A_UNIT = 5  # at least: four of the normalization, one of the convolution


class NormReluConv(nn.Module):
    """Batch normalization, ReLU, convolution: the unit that MemNet is made of."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, bias: bool) -> None:
        """Build normalization and convolution."""
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Return the new features."""
        return self.conv(F.relu(self.norm(features)))


class MemoryBlock(nn.Module):
    """Residual units in a row, whose results and all earlier memories pass a 1x1 gate."""

    def __init__(
        self, features: int, memories: int, *, recursions: int, is_shared: bool, bias: bool
    ) -> None:
        """Take the number of earlier memories; shared units are one unit applied repeatedly."""
        super().__init__()
        self.recursions = recursions
        self.units = nn.ModuleList(
            nn.Sequential(*(NormReluConv(features, features, bias=bias) for _ in range(2)))
            for _ in range(1 if is_shared else recursions)
        )
        gated = (memories + recursions) * features
        self.gate = NormReluConv(gated, features, kernel=1, bias=bias)

    def forward(
        self, memories: list[Float[Tensor, "b c h w"]], *, long_term_first: bool
    ) -> Float[Tensor, "b c h w"]:
        """Return the new memory; the gate takes earlier ones before or after this block's."""
        features, short_term = memories[-1], []
        for index in range(self.recursions):
            features = features + self.units[index % len(self.units)](features)
            short_term.append(features)
        both = [*memories, *short_term] if long_term_first else [*short_term, *memories]
        return self.gate(torch.cat(both, dim=1))


class MemNet(SystemNetwork):
    """Memory blocks on the bicubic enlargement; the output of each is supervised."""

    takes: ClassVar[Takes] = "enlarged"
    unreadable: ClassVar = {"scale": SCALE_HINT}

    def __init__(
        self,
        scale: int,
        *,
        channels: Literal[1, 3] = 1,
        features: int = 64,
        blocks: int = 6,
        recursions: int = 6,
        form: Literal["supervised", "shared", "basic"] = "supervised",
    ) -> None:
        """Take 1 channel (luma) or 3, the memory blocks, the residual units of each, and the form.

        `supervised` is the authors' released network, with an output per block. `shared` applies
        one unit per block repeatedly, as the paper describes. `basic` has a single output, no
        biases, and the gate's inputs in the other order.
        """
        sizes = {"channels": channels, "features": features, "blocks": blocks}
        super().__init__(scale, {**sizes, "recursions": recursions, "form": form})
        self.colors = "rgb" if channels == 3 else "y"
        self.is_basic = form == "basic"
        bias = not self.is_basic
        self.head = NormReluConv(channels, features, bias=bias)
        options = {"recursions": recursions, "is_shared": form == "shared", "bias": bias}
        self.blocks = nn.ModuleList(MemoryBlock(features, n + 1, **options) for n in range(blocks))
        outputs = 1 if self.is_basic else blocks
        self.norms = nn.ModuleList(nn.BatchNorm2d(features) for _ in range(outputs))
        self.reconstruction = nn.Conv2d(features, channels, 3, padding=1, bias=bias)
        weights = [] if self.is_basic else [nn.Parameter(torch.ones(1)) for _ in range(blocks)]
        self.output_weights = nn.ParameterList(weights)
        initialize_he(self)

    def native_outputs(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, ...]:
        """Return the output of every block, and their weighted sum, which is the SR."""
        memories = [self.head(x)]
        for block in self.blocks:
            memories.append(block(memories, long_term_first=not self.is_basic))
        ends = memories[-1:] if self.is_basic else memories[1:]
        predictions = [
            x + self.reconstruction(F.relu(norm(memory)))
            for norm, memory in zip(self.norms, ends, strict=True)
        ]
        if self.is_basic:
            return (predictions[0],)
        return (*predictions, _weighted(predictions, list(self.output_weights)))

    def native(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the sharpened image, given the enlarged one in 0..1."""
        return self.native_outputs(x)[-1]

    def stages(self) -> list[Stage]:
        """Return the layers on the path of all blocks."""
        return [(1, 1)] * (2 * self.sizes["blocks"] * self.sizes["recursions"] + 2)

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes that the layers of the authors' network, or of the basic one, show."""
        is_basic = "feature_extractor.conv.weight" in weights
        if is_basic:
            head = "feature_extractor.conv.weight"
            blocks = weights.count("dense_memory.{}.gate_unit.conv.weight")
            recursions = weights.count("dense_memory.0.recursive_unit.{}.relu_conv1.conv.weight")
        else:
            head = "conv1.weight"
            blocks = weights.count("conv_transition_{:02}.weight", start=1)
            recursions = weights.count("conv01_{:02}_a.weight", start=1)
        features, channels, *_ = weights.shape(head)
        weights.check_product(blocks, recursions, 2 * _TENSORS_OF_A_UNIT)
        return {
            "channels": channels,
            "features": features,
            "blocks": blocks,
            "recursions": recursions,
            "form": "basic" if is_basic else "supervised",
        }

    def public_layers(self) -> LayerNames:
        """Return the names of the authors' layers, or of the basic network's."""
        if self.is_basic:
            kinds = {"norm": "bn", "conv": "conv"}
            block, unit = "dense_memory.{}", "dense_memory.{}.recursive_unit.{}.relu_conv{}.{}"
            return {
                r"head\.(norm|conv)": lambda kind: f"feature_extractor.{kinds[kind]}",
                r"blocks\.(\d+)\.units\.(\d+)\.(\d)\.(norm|conv)": lambda n, r, half, kind: (
                    unit.format(n, r, half + 1, kinds[kind])
                ),
                r"blocks\.(\d+)\.gate\.(norm|conv)": lambda n, kind: (
                    f"{block.format(n)}.gate_unit.{kinds[kind]}"
                ),
                r"norms\.0": "reconstructor.bn",
                r"reconstruction": "reconstructor.conv",
            }
        kinds = {"norm": "bn_conv", "conv": "conv"}
        return {
            r"head\.(norm|conv)": lambda kind: f"{kinds[kind]}1",
            r"blocks\.(\d+)\.units\.(\d+)\.(\d)\.(norm|conv)": lambda n, r, half, kind: (
                f"{kinds[kind]}{n + 1:02}_{r + 1:02}_{'ab'[half]}"
            ),
            r"blocks\.(\d+)\.gate\.(norm|conv)": lambda n, kind: (
                f"{kinds[kind]}_transition_{n + 1:02}"
            ),
            r"norms\.(\d+)": lambda n: f"bn_conv_end_{n + 1:02}",
            r"reconstruction": "Recon",
            r"output_weights\.(\d+)": "weight_output_end.{}",
        }
