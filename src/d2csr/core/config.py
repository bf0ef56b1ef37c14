"""The configuration of a D2C-SR network: sizes and choices, checked on creation.

Named configurations: the paper's network and the smaller ones of its Fig. 4.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from d2csr.core.errors import D2csrError

Base = Literal["none", "bicubic"]
Mean = Literal["fixed", "convolution"]
Tail = Literal["expanded", "collapsed"]
TailBorder = Literal["features", "each"]

SCALES = (2, 3, 4, 8)
_CHOICES: dict[str, tuple[str, ...]] = {
    "base": get_args(Base),
    "mean": get_args(Mean),
    "tail": get_args(Tail),
    "tail_border": get_args(TailBorder),
}
_POSITIVE = ("channels", "depth", "children", "groups", "blocks", "convergence_channels")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices of one network; docs/method.md tells what each departs from.

    Attributes:
        scale: SR pixels per LR pixel: 2, 3, 4 or 8.
        channels: width of every feature map of the divergence network (paper: 64).
        depth: levels of the tree (L).
        children: branches of every node (C); `children ** depth` leaves predict.
        groups: residual groups of a branch (G).
        blocks: channel attention blocks of a group (B).
        convergence_channels: width of the convergence network (paper: 64).
        deep_residual: one convolution and sum per ancestor before the tail.
        base: what every prediction is added to: nothing, or the bicubic enlargement.
        mean: RGB mean subtracted as a constant, or trained 1x1 maps as in the authors' code.
        tail: convolutions and shuffles, or the single 5x5 convolution they amount to.
        tail_border: zero-pad the tail's features (one convolution everywhere), or each of its
            stages (the authors' border).
        pooling_px: window of the channel attention's mean, odd; None takes the whole image.
        convergence_last_relu: ReLU also before the softmax, as in the authors' code.
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

    def __post_init__(self) -> None:
        """Refuse sizes and choices that no network can have, all of them in one message."""
        _refuse_errors(vars(self))

    @property
    def leaves(self) -> int:
        """Return how many predictions the tree makes (P)."""
        return self.children**self.depth

    @property
    def trunk_reach_px(self) -> int:
        """Return how many LR pixels features see to each side, whole-image means aside."""
        block = 2 + (self.pooling_px or 0) // 2
        branch = self.groups * (self.blocks * block + 1) + 1
        residuals = self.depth if self.deep_residual else 1
        return 1 + self.depth * branch + residuals

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Return the configuration that `to_dict` wrote; unknown names are an error."""
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - names):
            remedy = f"Known are: {', '.join(sorted(names))}."
            raise D2csrError("model", f"unknown settings {unknown}", remedy=remedy)
        _refuse_errors({field.name: field.default for field in fields(cls)} | values)
        return cls(**values)


def _refuse_errors(values: dict[str, Any]) -> None:
    """Raise an error that names every size and choice that no network can have."""
    errors = [
        f"{name} {values[name]!r} is not a whole number from 1 on"
        for name in _POSITIVE
        if not isinstance(values[name], int) or values[name] < 1
    ]
    if values["scale"] not in SCALES:
        errors.append(f"scale {values['scale']!r} is none of {SCALES}")
    for name, choices in _CHOICES.items():
        if values[name] not in choices:
            errors.append(f"{name} {values[name]!r} is none of {choices}")
    window = values["pooling_px"]
    if window is not None and (not isinstance(window, int) or window < 3 or window % 2 == 0):
        errors.append(f"pooling_px {window!r} is not an odd number from 3 on")
    if errors:
        raise D2csrError("model", "; ".join(errors), remedy="Mend the model's configuration.")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"channels": 64, "groups": 2, "blocks": 4},
    "paper-4.53m": {"channels": 64, "groups": 4, "blocks": 1},
    "paper-3.63m": {"channels": 60, "groups": 1, "blocks": 5},
    "paper-0.91m": {"channels": 24, "groups": 4, "blocks": 2},
    "paper-0.23m": {"channels": 16, "groups": 1, "blocks": 2},
    "paper-0.19m": {"channels": 16, "groups": 1, "blocks": 2, "convergence_channels": 32},
}


def preset(name: str, scale: int) -> ModelConfig:
    """Return the configuration of a named network at a scale.

    The paper gives the sizes of Fig. 4 (5.88M, 4.53M, 3.63M, 0.91M, 0.23M, 0.19M, at x4) but not
    their G and B; these come within 3% of them, but `paper`, whose 5.77M are the authors' code's.

    Raises:
        D2csrError: no such name; those that exist are listed.
    """
    if name not in PRESETS:
        remedy = f"Choose one of {', '.join(PRESETS)}."
        raise D2csrError("model.preset", f"no preset is named {name!r}", remedy=remedy)
    return ModelConfig(scale=scale, **PRESETS[name])
