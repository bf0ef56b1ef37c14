"""The section `data` of a recipe: sets of training pairs, their shares, and the size of crops."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from d2csr.core.yaml_config import ConfigBase, Count, Share

_ROUNDING = 1e-6  # of shares that should be 1 together


class SourceConfig(ConfigBase):
    """One of several sets of training pairs.

    Attributes:
        path: a manifest or any layout `d2csr data check` knows; `$NAME` and `~` are expanded.
        share: of all crops, 0..1; sources without one divide the rest by their number of pairs.
        repeat: factor on that number.
    """

    path: str
    share: float | None = Field(default=None, gt=0, le=1)
    repeat: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _check_share(self) -> "SourceConfig":
        if self.share is not None and self.repeat != 1:
            raise ValueError("repeat has no effect beside share; give one of them")
        return self


def _to_sources(train: Any) -> Any:
    """Return a list of sets of pairs; a path alone is one of them."""
    return [{"path": train}] if isinstance(train, str) else train


class DataConfig(ConfigBase):
    """The pairs, and the crops cut from them.

    Attributes:
        train: sets of training pairs, each with its share; a path alone is one set.
        validate_on: pairs that choose among checkpoints; None validates nothing.
        patch_px: side of an LR crop.
        batch_size: crops of a step, all devices together.
        mask_limit: largest masked share of a crop, 0..1.
    """

    train: Annotated[tuple[SourceConfig, ...], BeforeValidator(_to_sources)]
    validate_on: str | None = None
    patch_px: Count = 96
    batch_size: Count = 4
    mask_limit: Share = 0.0

    @field_validator("train")
    @classmethod
    def _check_shares(cls, train: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
        if not train:
            raise ValueError("at least one set of pairs is needed")
        shares = [each.share for each in train if each.share is not None]
        total = sum(shares)
        if total > 1 + _ROUNDING or (len(shares) == len(train) and total < 1 - _ROUNDING):
            raise ValueError(f"the shares of the sources are {total:g} together, not 1")
        if len(shares) < len(train) and total > 1 - _ROUNDING:
            raise ValueError("the shares leave nothing for the sources without one")
        return train

    def crop_shares(self, pairs: Sequence[int]) -> list[float]:
        """Return the share of each source, given the number of pairs in each."""
        rest = 1 - sum(each.share or 0 for each in self.train)
        weights = [
            count * each.repeat if each.share is None else 0
            for each, count in zip(self.train, pairs, strict=True)
        ]
        return [
            rest * weight / sum(weights) if each.share is None else each.share
            for each, weight in zip(self.train, weights, strict=True)
        ]
