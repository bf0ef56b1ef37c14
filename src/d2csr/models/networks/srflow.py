"""SRFlow: a normalizing flow from HR to Gaussian latents, conditioned on LR's features.

Source: SRFlow (arXiv:2006.14200), sections 3 and 4, with the layers of the authors' code. The paper
has x4 and x8; x2 and x3 follow the same rule, x3 with a first squeeze by 3.
Shapes: b images, c channels, h x w pixels of a level; HR is H x W, S the scale.
"""

import copy
from typing import Any, ClassVar, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.errors import UsageError
from d2csr.models.layers import conv3x3
from d2csr.models.networks.base import Sizes, Stage, Strided, SystemNetwork, pad_sides
from d2csr.models.networks.blocks import upsampling_factors
from d2csr.models.networks.flow import (
    ActNorm,
    ChannelMixing,
    FlowLevel,
    FlowStep,
    LogDeterminant,
    Split,
)
from d2csr.models.networks.public_weights import LayerNames, PublicWeights
from d2csr.models.networks.rrdb import RrdbTrunk, basicsr_names, leaky, rrdb_sizes

_PLAIN_STEPS = 2  # steps without coupling at the start of each level
_MOST_STACKED = 4  # blocks of the encoder whose results condition the flow


@final
class SRFlow(SystemNetwork):
    """An encoder of LR, and an invertible network between HR and latents given its features.

    `native` decodes latents of zeros, the mode of each step. A latent's value is a Gaussian of
    deviation 1 in training; `sample` draws it with a chosen one, the temperature.
    """

    scales: ClassVar[tuple[int, ...]] = (2, 3, 4, 8)
    unreadable: ClassVar = {
        "stacked_blocks": "the numbers, from 0, of the encoder's blocks that condition the flow"
    }
    side_multiple: int = 2

    def __init__(  # noqa: PLR0913 - the sizes that public weights have
        self,
        scale: int,
        *,
        features: int = 64,
        blocks: int = 23,
        growth: int = 32,
        steps: int = 16,
        hidden: int = 64,
        stacked_blocks: tuple[int, ...] | list[int] = (),
    ) -> None:
        """Take the encoder's sizes, the steps of a level and their width, and the stacked blocks.

        The latter are numbers from 0; none given: those of `default_stack`.

        Raises:
            UsageError: a stacked block doesn't exist.
        """
        stacked = tuple(stacked_blocks) or default_stack(scale, blocks)
        encoder = {"features": features, "blocks": blocks, "growth": growth}
        flow = {"steps": steps, "hidden": hidden, "stacked_blocks": list(stacked)}
        super().__init__(scale, {**encoder, **flow})
        if not set(stacked) <= set(range(blocks)):
            problem = f"stacked_blocks={list(stacked)} are not among {blocks} blocks"
            raise UsageError("SRFlow", problem, remedy=f"Give numbers from 0 to {blocks - 1}.")
        self.stacked = stacked
        self.trunk = RrdbTrunk(3, features=features, blocks=blocks, growth=growth)
        self.factors = upsampling_factors(scale)
        self.upsample = nn.ModuleList(conv3x3(features, features) for _ in self.factors)
        self.full, self.last = conv3x3(features, features), conv3x3(features, 3)
        conditions = features * (len(stacked) + 1)
        self.levels = _build_levels(
            (*self.factors[::-1], 2), conditions=conditions, steps=steps, hidden=hidden
        )
        # The authors' network has this convolution, and their 39.5M parameters count it.
        self.unused = conv3x3(conditions, _UNUSED_CHANNELS).requires_grad_(False)

    def conditions(self, lr: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Return the features that condition each level, the finest first; sides of LR are even."""
        features, results = self.trunk.first(lr), []
        for block in self.trunk.blocks:
            features = block(features)
            results.append(features)
        stacked = torch.cat([results[number] for number in self.stacked], dim=1)
        features = features + self.trunk.last(features)  # as the authors' code: no long skip
        half = F.interpolate(features, scale_factor=0.5, mode="bilinear")
        grids = [half, features]
        for conv, factor in zip(self.upsample[:-1], self.factors[:-1], strict=True):
            enlarged = F.interpolate(features, scale_factor=factor, mode="nearest")
            features = leaky(conv(enlarged))  # the authors' activation works in place
            grids.append(features)
        return tuple(
            torch.cat([grid, F.interpolate(stacked, size=grid.shape[2:], mode="nearest")], dim=1)
            for grid in reversed(grids)
        )

    def encoder_sr(self, lr01: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return the SR of the encoder alone, ESRGAN's network, which the flow is trained after."""
        features = self.trunk.first(lr01)
        for block in self.trunk.blocks:
            features = block(features)
        features = features + self.trunk.last(features)
        for conv, factor in zip(self.upsample, self.factors, strict=True):
            features = leaky(conv(F.interpolate(features, scale_factor=factor, mode="nearest")))
        return self.last(leaky(self.full(features)))

    def encode(
        self, hr: Float[Tensor, "b 3 H W"], conditions: tuple[Tensor, ...]
    ) -> tuple[list[Tensor], LogDeterminant]:
        """Return the latents of HR, the finest first, and the log-determinant of the mapping."""
        z, latents, log_determinant = hr, [], hr.new_zeros(len(hr))
        for level, features in zip(self.levels, conditions, strict=True):
            (*left, z), more = level(z, features)
            latents += left
            log_determinant = log_determinant + more
        return [*latents, z], log_determinant

    def decode(
        self, latents: list[Tensor], conditions: tuple[Tensor, ...]
    ) -> Float[Tensor, "b 3 H W"]:
        """Return the image that has these latents, the finest first."""
        *left, z = latents
        for level, features in zip(reversed(self._flow), reversed(conditions), strict=True):
            z = level.inverse([z] if level.split is None else [left.pop(), z], features)
        return z

    @property
    def _flow(self) -> list[FlowLevel]:
        """Return the levels with their type."""
        return [cast("FlowLevel", level) for level in self.levels]

    def latent_shapes(self, lr: Float[Tensor, "b 3 h w"]) -> list[tuple[Any, ...]]:
        """Return the shapes of the latents of SR, the finest first; traced sizes are tensors."""
        batch, channels, height, width = lr.shape
        height, width = height * self.scale, width * self.scale
        shapes = []
        for level in self._flow:
            channels = channels * level.squeeze**2  # not in place: a traced size is a tensor
            height, width = height // level.squeeze, width // level.squeeze
            if level.split is not None:
                shapes.append((batch, channels - level.split.kept, height, width))
                channels = level.split.kept
        return [*shapes, (batch, channels, height, width)]

    def native(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 H W"]:
        """Return SR of LR at temperature 0, both in 0..1; sides of LR are even."""
        latents = [x.new_zeros(shape) for shape in self.latent_shapes(x)]
        return self.decode(latents, self.conditions(x))

    def sample(
        self, lr01: Float[Tensor, "b 3 h w"], *, temperature: float, seed: int
    ) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR drawn from the distribution given LR, in 0..1 but not clamped.

        Args:
            lr01: RGB in 0..1.
            temperature: the deviation of the latents: 0 as `forward`, 0.9 in the released models.
            seed: of the random numbers, which are drawn on the processor: the same on any device.
        """
        x = self.native_input(lr01)
        generator = torch.Generator().manual_seed(seed)
        latents = [
            (torch.randn(shape, generator=generator) * temperature).to(x)
            for shape in self.latent_shapes(x)
        ]
        height, width = (side * self.scale for side in lr01.shape[2:])
        return self.decode(latents, self.conditions(x))[..., :height, :width]

    def for_inference(self) -> "SRFlow":
        """Return a copy that decodes with stored inverses, which ONNX can't compute."""
        network = copy.deepcopy(self)
        for module in network.modules():
            if isinstance(module, ChannelMixing):
                module.store_inverse()
        return network

    @property
    def is_initialized(self) -> bool:
        """Return whether the flow's normalizations are those of a batch, or trained."""
        norms = [module for module in self.modules() if isinstance(module, ActNorm)]
        return any(bool(norm.logs.any()) for norm in norms)

    @torch.no_grad()
    def initialize(self, lr01: Float[Tensor, "b 3 h w"], hr01: Float[Tensor, "b 3 sh sw"]) -> None:
        """Set every normalization of the flow from a batch, before the first step of training."""

        def fit(norm: nn.Module, inputs: tuple[Tensor]) -> None:
            if isinstance(norm, ActNorm):
                norm.fit(*inputs)

        norms = [module for module in self.modules() if isinstance(module, ActNorm)]
        hooks = [norm.register_forward_pre_hook(fit) for norm in norms]
        try:
            self.encode(self.training_target(hr01), self.training_outputs(lr01))
        finally:
            for hook in hooks:
                hook.remove()

    def training_outputs(self, lr01: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Return the features that `encode` needs for the likelihood of HR."""
        return self.conditions(self.native_input(lr01))

    def training_target(self, hr01: Float[Tensor, "b 3 sh sw"]) -> Float[Tensor, "b 3 H W"]:
        """Return HR in 0..1, padded as LR is."""
        return pad_sides(hr01, self.scale * self.side_multiple)

    def stages(self) -> list[Stage]:
        """Return the layers of decoding: the encoder, and two convolutions for each step."""
        levels: list[Stage] = [
            (2 * self.sizes["steps"] + (level.split is not None), level.squeeze)
            for level in reversed(self._flow)
        ]
        return [(self.trunk.reach, 1), Strided(2, 2, 0), *levels]

    @classmethod
    def infer_sizes(cls, weights: PublicWeights) -> Sizes:
        """Return the sizes; the stacked blocks only where all are, or for the released sizes."""
        features = weights.shape("RRDB.conv_first.weight")[0]
        encoder = rrdb_sizes(weights, "RRDB.body.{}.rdb1.conv1.weight")
        upsampling = min(weights.count("RRDB.conv_up{}.weight", start=1), 4)  # x16 is none of its
        step = f"{_LAYERS}.{{}}.affine.fFeatures.0.weight"
        first = 1 + _PLAIN_STEPS
        hidden, conditions, *_ = weights.shape(step.format(first))
        channels = weights.shape(f"{_LAYERS}.1.invconv.weight", 2)[0]
        steps = weights.count(step, start=first)
        weights.check_product(upsampling + 1, steps, _TENSORS_PER_STEP)
        sizes = {
            "scale": channels // 9 if upsampling == 1 and channels % 9 == 0 else 2**upsampling,
            "features": features,
            "steps": steps,
            "hidden": hidden,
            **encoder,
        }
        stacked, blocks = conditions // features - 1, encoder["blocks"]
        if stacked == blocks:
            return {**sizes, "stacked_blocks": list(range(blocks))}
        if (sizes["scale"], blocks) in _RELEASED and stacked == _MOST_STACKED:
            return {**sizes, "stacked_blocks": list(default_stack(sizes["scale"], blocks))}
        return sizes

    def public_layers(self) -> LayerNames:
        """Return the authors' names, of the encoder those that `basicsr_names` gives."""
        offsets, offset = [], 0
        for level in self._flow:
            offsets.append(offset)
            offset += 1 + len(level.steps) + (level.split is not None)

        def step(level: int, number: int) -> str:
            return f"{_LAYERS}.{offsets[level] + 1 + number}"

        sides = {"by_half": "fAffine", "by_features": "fFeatures"}
        at = r"levels\.(\d)\.steps\.(\d+)\."
        net = at + r"coupling\.(by_half|by_features)\."
        return {
            r"trunk\.first": "RRDB.conv_first",
            r"trunk\.blocks\.(\d+)\.dense\.(\d)\.convs\.(\d)": (
                lambda block, dense, conv: f"RRDB.body.{block}.rdb{dense + 1}.conv{conv + 1}"
            ),
            r"trunk\.last": "RRDB.conv_body",
            r"upsample\.(\d)": lambda number: f"RRDB.conv_up{number + 1}",
            "full": "RRDB.conv_hr",
            "last": "RRDB.conv_last",
            at + "norm": lambda *place: f"{step(*place)}.actnorm",
            at + "mixing": lambda *place: f"{step(*place)}.invconv",
            net + r"convs\.(\d)": lambda *of: f"{step(*of[:2])}.affine.{sides[of[2]]}.{2 * of[3]}",
            net + r"norms\.(\d)": (
                lambda *of: f"{step(*of[:2])}.affine.{sides[of[2]]}.{2 * of[3]}.actnorm"
            ),
            net + r"last(?:\.conv)?": lambda *of: f"{step(*of[:2])}.affine.{sides[of[2]]}.4",
            r"levels\.(\d)\.split\.predict(?:\.conv)?": (
                lambda level: f"{step(level, len(self._flow[level].steps))}.conv"
            ),
            "unused": "flowUpsamplerNet.f.0",
        }

    @classmethod
    def adapt_public(cls, weights: PublicWeights) -> PublicWeights:
        """Return public weights, the encoder's under BasicSR's names."""
        start = "RRDB."
        encoder = {
            name.removeprefix(start): value
            for name, value in weights.tensors.items()
            if name.startswith(start)
        }
        flow = {name: value for name, value in weights.tensors.items() if start not in name}
        named = {start + name: value for name, value in basicsr_names(encoder).items()}
        return PublicWeights({**named, **flow}, where=weights.where)


_LAYERS = "flowUpsamplerNet.layers"
_TENSORS_PER_STEP = 21  # of a step with a coupling
_UNUSED_CHANNELS = 96
_RELEASED = {(4, 23), (8, 23), (8, 8)}  # scale and blocks


def default_stack(scale: int, blocks: int) -> tuple[int, ...]:
    """Return the numbers of the blocks that condition the flow: four, spread as the authors'.

    They take 1, 8, 15 and 22 of 23 at x4, and 1, 3, 5 and 7 at x8, whether there are 8 or 23.
    """
    used = min(blocks, 8) if scale == 8 else blocks
    if used <= _MOST_STACKED:
        return tuple(range(used))
    distance = (used - 2) // (_MOST_STACKED - 1)
    return tuple(1 + distance * number for number in range(_MOST_STACKED))


def _build_levels(
    squeezes: tuple[int, ...], *, conditions: int, steps: int, hidden: int
) -> nn.ModuleList:
    """Return the levels of the flow; channels leave it after all but the last two."""
    levels, channels = [], 3
    for number, squeeze in enumerate(squeezes, start=1):
        channels *= squeeze**2
        widths = [None] * _PLAIN_STEPS + [hidden] * steps
        flow = [FlowStep(channels, conditions, hidden=width) for width in widths]
        split = Split(channels) if number < len(squeezes) - 1 else None
        levels.append(FlowLevel(flow, squeeze=squeeze, split=split))
        channels = channels if split is None else split.kept
    return nn.ModuleList(levels)
