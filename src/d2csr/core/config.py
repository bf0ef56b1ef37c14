"""The configuration of a D2C-SR network: its sizes, its choices, and the counts that follow.

The named configurations are the paper's network and the smaller ones of its Fig. 4. Parameters and
operations follow from the same configuration in `network_cost`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any, Literal, get_args

from d2csr.core.errors import D2csrError, quote

Base = Literal["none", "bicubic"]
Mean = Literal["fixed", "convolution"]
Tail = Literal["expanded", "collapsed"]
TailBorder = Literal["features", "each"]
ConvergenceGrid = Literal["sr", "lr"]
NodePath = tuple[int, ...]  # of a node of the tree: which child at every level, root first

SCALES = (2, 3, 4, 8)
TAIL_LR_PX = 2  # that a tail, which is one 5x5 convolution, and the bicubic base see to each side
FUSION_PX = 3  # of its grid that the three 3x3 convolutions of the convergence network see
_REDUCTION = 16  # squeeze of the channel attention, as in RCAN and the authors' code
_TAIL_FACTORS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
# The authors' border disturbs less than one LR pixel, which strips of four hold exactly.
_BORDER_STRIP_LR_PX, _BORDER_REPLACED_LR_PX = 4, 1
_CHOICES: dict[str, tuple[Any, ...]] = {
    "scale": SCALES,
    "base": get_args(Base),
    "mean": get_args(Mean),
    "tail": get_args(Tail),
    "tail_border": get_args(TailBorder),
    "convergence_grid": get_args(ConvergenceGrid),
}
_POSITIVE = ("channels", "depth", "children", "blocks")
# Groups of a branch and of the trunk, of which one may be 0, and the convergence network's width.
_NOT_NEGATIVE = ("groups", "trunk_groups", "convergence_channels")
_SIZES = (*_POSITIVE, *_NOT_NEGATIVE)
_FLAGS = ("deep_residual", "convergence_last_relu", "attention")
# Ten times the largest networks of the field and more: what a file claims beyond is an error, found
# before a network is built from it, which takes 2 ms per block.
MAX_CHANNELS, MAX_LEAVES, MAX_BLOCKS = 1024, 64, 512
_LIMITS = {
    "channels": MAX_CHANNELS,
    "convergence_channels": MAX_CHANNELS,
    "depth": 6,
    "children": MAX_LEAVES,
    "groups": MAX_BLOCKS,
    "trunk_groups": MAX_BLOCKS,
    "blocks": MAX_BLOCKS,
    "pooling_px": 65_535,
}


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field of each graph, by which images are run in parts.

    Attributes:
        trunk_lr_px: LR pixels that a leaf feature depends on to each side; None: the whole image.
        tail_lr_px: LR pixels that the base and the tail depend on to each side.
        fusion_sr_px: SR pixels that the convergence network depends on to each side.
        halo_lr_rows: LR rows needed beyond a strip so that its SR rows are exact: both together.
        border_strip_lr_px: width of the strips along the image's border that `border_tail` runs
            on; 0: none.
        border_replaced_lr_px: outermost pixels of a strip that replace those of `tail`.
    """

    trunk_lr_px: int | None
    tail_lr_px: int
    fusion_sr_px: int
    halo_lr_rows: int
    border_strip_lr_px: int = 0
    border_replaced_lr_px: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices of one network; docs/method.md lists the departures from the paper.

    Attributes:
        scale: SR pixels per LR pixel: 2, 3, 4 or 8.
        channels: width of every feature map of the divergence network (paper: 64).
        depth: levels of the tree (L).
        children: branches of every node (C); `children ** depth` leaves predict.
        groups: residual groups of a branch (G); with 0 it is a single convolution.
        blocks: residual blocks of a group (B).
        convergence_channels: width of the convergence network (paper: 64); with 0 there is none,
            and SR is the plain mean of the predictions.
        deep_residual: one convolution and sum per ancestor before the tail.
        base: what every prediction is added to: nothing, or the bicubic enlargement.
        mean: RGB mean subtracted as a constant, or trained 1x1 maps as in the authors' code.
        tail: convolutions and shuffles, or the single 5x5 convolution they amount to.
        tail_border: zero-pad the tail's features (one convolution everywhere), or each of its
            stages (the authors' border).
        pooling_px: window of the channel attention's mean, odd; None takes the whole image.
        convergence_last_relu: ReLU also before the softmax, as in the authors' code.
        trunk_groups: residual groups that all branches share, before the tree splits.
        attention: channel attention in every block; without it the receptive field is finite.
        convergence_grid: pixels that the convergence network computes on: those of SR, or those of
            LR, where each one holds the `scale ** 2` SR pixels under it as channels.
    """

    scale: int
    channels: int = 64
    depth: int = 2
    children: int = 2
    groups: int = 2
    blocks: int = 4
    convergence_channels: int = 64
    deep_residual: bool = True
    base: Base = "none"
    mean: Mean = "fixed"
    tail: Tail = "expanded"
    tail_border: TailBorder = "features"
    pooling_px: int | None = None
    convergence_last_relu: bool = True
    trunk_groups: int = 0
    attention: bool = True
    convergence_grid: ConvergenceGrid = "sr"

    def __post_init__(self) -> None:
        """Check sizes and choices; one error lists all that no network can have."""
        _check(vars(self))

    @property
    def leaves(self) -> int:
        """Return the number of predictions (P)."""
        return self.children**self.depth

    @property
    def has_convergence(self) -> bool:
        """Return whether a convergence network weights the predictions, not their plain mean."""
        return self.convergence_channels > 0

    @property
    def branch_paths(self) -> list[NodePath]:
        """Return the path of every branch of the tree, parents before children."""
        levels = range(1, self.depth + 1)
        return [path for level in levels for path in product(range(self.children), repeat=level)]

    @property
    def leaf_paths(self) -> list[NodePath]:
        """Return the path of every leaf, left to right."""
        return self.branch_paths[-self.leaves :]

    @property
    def block_count(self) -> int:
        """Return the number of residual blocks of all branches and of the trunk."""
        return _count_blocks(vars(self))

    @property
    def residuals(self) -> int:
        """Return the number of ancestors added to the features of a leaf."""
        return self.depth if self.deep_residual else 1

    @property
    def squeeze_channels(self) -> int:
        """Return the channels between the two 1x1 convolutions of a channel attention."""
        return max(1, self.channels // _REDUCTION)

    @property
    def tail_factors(self) -> tuple[int, ...]:
        """Return the factors of the shuffles of an expanded tail; their product is the scale."""
        return _TAIL_FACTORS[self.scale]

    @property
    def trunk_receptive_field_px(self) -> int:
        """Return the LR pixels a leaf feature depends on to each side, whole-image means aside."""
        block = 2 + ((self.pooling_px or 0) // 2 if self.attention else 0)
        group = self.blocks * block + 1
        trunk = self.trunk_groups * group + 1 if self.trunk_groups else 0
        branch = self.groups * group + 1
        return 1 + trunk + self.depth * branch + self.residuals

    @property
    def receptive_field(self) -> ReceptiveField:
        """Return the receptive field of every graph of the network."""
        bordered = self.tail_border == "each"
        pools_image = self.attention and self.pooling_px is None
        on_lr_grid = self.convergence_grid == "lr"
        fusion_px = FUSION_PX if self.has_convergence else 0
        fusion_lr_px = fusion_px if on_lr_grid else math.ceil(fusion_px / self.scale)
        return ReceptiveField(
            trunk_lr_px=None if pools_image else self.trunk_receptive_field_px,
            tail_lr_px=TAIL_LR_PX,
            fusion_sr_px=(fusion_px + 1) * self.scale - 1 if on_lr_grid else fusion_px,
            halo_lr_rows=TAIL_LR_PX + fusion_lr_px,
            border_strip_lr_px=_BORDER_STRIP_LR_PX if bordered else 0,
            border_replaced_lr_px=_BORDER_REPLACED_LR_PX if bordered else 0,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Return the configuration that `to_dict` wrote.

        Raises:
            D2csrError: unknown names, or sizes and choices that no network can have.
        """
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - names):
            remedy = f"Known settings: {', '.join(sorted(names))}."
            raise D2csrError("model", f"unknown settings {quote(unknown)}", remedy=remedy)
        if "scale" not in values:
            raise D2csrError("model", "has no scale", remedy="Correct the model's configuration.")
        _check({field.name: field.default for field in fields(cls)} | values)
        return cls(**values)


def find_config_errors(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the problem of each size and choice that no network can have, by name."""
    problems = _find_size_errors(values)
    if not problems and values.get("groups") == 0 and not values.get("trunk_groups"):
        problems["groups"] = "0 leaves a network without residual groups; give trunk_groups"
    if values.get("convergence_grid") == "lr" and values.get("tail_border") == "each":
        problems["convergence_grid"] = "'lr' can't be combined with tail_border 'each'"
    elif values.get("convergence_grid") == "lr" and values.get("convergence_channels") == 0:
        problems["convergence_grid"] = "'lr' has no effect without a convergence network"
    for name, choices in _CHOICES.items():
        # True and 2.0 equal 1 and 2, and a list can't be looked up in a set
        if name in values and not any(
            type(values[name]) is type(each) and values[name] == each for each in choices
        ):
            problems[name] = f"{quote(values[name])} is none of {choices}"
    for name in _FLAGS:
        if name in values and type(values[name]) is not bool:
            problems[name] = f"{quote(values[name])} is neither true nor false"
    window = values.get("pooling_px")
    if window is not None and (type(window) is not int or window < 3 or window % 2 == 0):
        problems["pooling_px"] = f"{quote(window)} is not an odd number of at least 3"
    elif window is not None and values.get("attention") is False:
        problems["pooling_px"] = "has no effect without attention"
    return problems


def _find_size_errors(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the problem of each size, and of the numbers of leaves and blocks together."""
    problems: dict[str, str] = {}
    for name in _SIZES:
        size, least = values.get(name, 1), int(name in _POSITIVE)
        if type(size) is not int or size < least:
            problems[name] = f"{quote(size)} is not a whole number of at least {least}"
    for name, limit in _LIMITS.items():
        size = values.get(name)
        if name not in problems and type(size) is int and size > limit:
            problems[name] = f"{quote(size)} is more than {limit}"
    if problems:
        return problems
    defaults: dict[str, Any] = {each.name: each.default for each in fields(ModelConfig)}
    sizes = defaults | dict(values)
    leaves, blocks = sizes["children"] ** sizes["depth"], _count_blocks(sizes)
    if leaves > MAX_LEAVES:
        problems["depth"] = f"{sizes['depth']} makes {leaves} leaves, more than {MAX_LEAVES}"
    if blocks > MAX_BLOCKS:
        problems["blocks"] = f"{sizes['blocks']} makes {blocks} in all, more than {MAX_BLOCKS}"
    return problems


def _count_blocks(sizes: Mapping[str, Any]) -> int:
    branches = sum(sizes["children"] ** level for level in range(1, sizes["depth"] + 1))
    return (branches * sizes["groups"] + sizes["trunk_groups"]) * sizes["blocks"]


def _check(values: dict[str, Any]) -> None:
    """Raise an error that lists every size and choice that no network can have."""
    if problems := find_config_errors(values):
        problem = "; ".join(f"{name} {text}" for name, text in problems.items())
        raise D2csrError("model", problem, remedy="Correct the model's configuration.")


# Wide, for a processor's bf16 units; finite, so that tiles are exact; nearly all of it shared.
_PHOTO: dict[str, Any] = {
    "depth": 1,
    "children": 2,
    "groups": 0,
    "blocks": 2,
    "attention": False,
    "convergence_channels": 16,
    "convergence_last_relu": False,
    "convergence_grid": "lr",
    "base": "bicubic",
    "tail": "collapsed",
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"channels": 64, "groups": 2, "blocks": 4},
    "paper-4.53m": {"channels": 64, "groups": 4, "blocks": 1},
    "paper-3.63m": {"channels": 60, "groups": 1, "blocks": 5},
    "paper-0.91m": {"channels": 24, "groups": 4, "blocks": 2},
    "paper-0.23m": {"channels": 16, "groups": 1, "blocks": 2},
    "paper-0.19m": {"channels": 16, "groups": 1, "blocks": 2, "convergence_channels": 32},
    "photo": {"channels": 32, "trunk_groups": 3, **_PHOTO},
    "photo-base": {"channels": 48, "trunk_groups": 6, **_PHOTO},
}


def preset(name: str, scale: int) -> ModelConfig:
    """Return the configuration of a named network at a scale.

    The paper gives the sizes of Fig. 4 (5.88M, 4.53M, 3.63M, 0.91M, 0.23M, 0.19M, at x4) but not
    their G and B. These come within 3% of the sizes, except `paper`, whose 5.77M are those of the
    authors' code. `photo` and `photo-base` are this project's, for photographs of any camera.

    Raises:
        D2csrError: no such name; those that exist are listed.
    """
    if name not in PRESETS:
        remedy = f"Choose one of {', '.join(PRESETS)}."
        raise D2csrError("model.preset", f"no preset is named {name!r}", remedy=remedy)
    return ModelConfig(scale=scale, **PRESETS[name])


def find_preset(config: ModelConfig) -> str | None:
    """Return the name of the preset with the same sizes as a configuration, or None."""
    for name in PRESETS:
        known = preset(name, config.scale)
        if all(getattr(known, size) == getattr(config, size) for size in _SIZES):
            return name
    return None
