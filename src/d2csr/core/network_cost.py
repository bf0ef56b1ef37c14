"""Parameters and operations of a network, counted from its configuration alone."""

from dataclasses import dataclass
from typing import NamedTuple

from d2csr.core.config import ModelConfig

_TAIL_TAPS = 25  # of the single 5x5 convolution that equals a tail
_BASE_TAPS = 25  # of the bicubic base: one filter per output phase and color


class Convolution(NamedTuple):
    """Convolutions of the same size.

    Attributes:
        inputs: channels in.
        outputs: channels out.
        taps: kernel height times width.
        number: how many of them there are.
        per_lr_px: output pixels per LR pixel; 0: a single one for the whole image.
        bias: whether each has a bias.
        trained: whether the weights are learned; fixed ones are no parameters.
    """

    inputs: int
    outputs: int
    taps: int = 9
    number: int = 1
    per_lr_px: int = 1
    bias: bool = True
    trained: bool = True

    @property
    def flop_per_lr_px(self) -> int:
        """Return the multiplications and additions per LR pixel of all these convolutions."""
        return 2 * self.inputs * self.outputs * self.taps * self.number * self.per_lr_px

    @property
    def parameters(self) -> int:
        """Return the number of trained values of all these convolutions."""
        values = self.inputs * self.outputs * self.taps + (self.outputs if self.bias else 0)
        return values * self.number if self.trained else 0


@dataclass(frozen=True)
class NetworkCost:
    """The convolutions of a network, part by part; softmax and sums are not counted."""

    trunk: tuple[Convolution, ...]
    tails: tuple[Convolution, ...]
    convergence: tuple[Convolution, ...]

    @property
    def parameters(self) -> int:
        """Return the number of trained values."""
        return sum(each.parameters for each in (*self.trunk, *self.tails, *self.convergence))

    @property
    def gflop_per_lr_mp(self) -> float:
        """Return the operations for a million LR pixels, in 1e9; a multiply-add counts as 2."""
        return gflop_per_lr_mp((*self.trunk, *self.tails, *self.convergence))


def gflop_per_lr_mp(convolutions: tuple[Convolution, ...]) -> float:
    """Return the operations of convolutions for a million LR pixels, in 1e9."""
    return sum(each.flop_per_lr_px for each in convolutions) / 1e3


def network_cost(config: ModelConfig, *, collapsed: bool) -> NetworkCost:
    """Return the convolutions of a configuration, its tails expanded or collapsed.

    The other kernels along the border (`tail_border: each`) are left out: of a large image they
    compute next to nothing.
    """
    return NetworkCost(
        trunk=tuple(_trunk(config)),
        tails=tuple(_collapsed_tails(config) if collapsed else _expanded_tails(config)),
        convergence=tuple(_convergence(config)),
    )


def _trunk(config: ModelConfig) -> list[Convolution]:
    width, hidden = config.channels, config.squeeze_channels
    branches = len(config.branch_paths)
    groups = branches * config.groups + config.trunk_groups
    if config.trunk_groups:
        branches += 1  # the trunk is built like one
    blocks = groups * config.blocks
    residuals = config.leaves * config.residuals
    gated = 0 if config.pooling_px is None else 1  # a gate per pixel only where pooling is local
    parts = [
        Convolution(3, width),
        Convolution(width, width, number=2 * blocks + groups + branches + residuals),
    ]
    if config.attention:
        parts += [
            Convolution(width, hidden, taps=1, number=blocks, per_lr_px=gated),
            Convolution(hidden, width, taps=1, number=blocks, per_lr_px=gated),
        ]
    if config.mean == "convolution":
        parts.append(Convolution(3, 3, taps=1))
    return parts


def _expanded_tails(config: ModelConfig) -> list[Convolution]:
    width, leaves, pixels = config.channels, config.leaves, 1
    parts: list[Convolution] = []
    for factor in config.tail_factors:
        outputs = width * factor**2
        parts.append(Convolution(width, outputs, number=leaves, per_lr_px=pixels))
        pixels *= factor**2
    return [
        *parts,
        Convolution(width, 3, number=leaves, per_lr_px=pixels),
        *_sums(config, leaves),
    ]


def _collapsed_tails(config: ModelConfig) -> list[Convolution]:
    tail = Convolution(config.channels, 3 * config.scale**2, taps=_TAIL_TAPS, number=config.leaves)
    return [tail, *_sums(config, config.leaves)]


def _sums(config: ModelConfig, leaves: int) -> list[Convolution]:
    """Return the convolutions added to the tails on the SR grid: the mean, and the base once."""
    pixels = config.scale**2
    parts: list[Convolution] = []
    if config.mean == "convolution":  # one map, applied to each leaf
        parts.append(Convolution(3, 3, taps=1, per_lr_px=pixels))
        repeated = Convolution(3, 3, taps=1, number=leaves - 1, per_lr_px=pixels, trained=False)
        parts.append(repeated)
    if config.base == "bicubic":
        base = Convolution(1, 3 * pixels, taps=_BASE_TAPS, bias=False, trained=False)
        parts.append(base)
    return parts


def _convergence(config: ModelConfig) -> list[Convolution]:
    if not config.has_convergence:
        return []
    width, leaves, pixels = config.convergence_channels, config.leaves, config.scale**2
    if config.convergence_grid == "lr":  # the SR pixels under an LR pixel are its channels
        leaves, pixels = leaves * pixels, 1
    sizes = ((3 * leaves, width), (width, width), (width, leaves))
    return [Convolution(*size, per_lr_px=pixels, bias=False) for size in sizes]
