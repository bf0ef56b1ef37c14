"""The configuration of a compared system: the network's name and sizes, and how images run."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from d2csr.core.config import ReceptiveField
from d2csr.core.errors import D2csrError, quote

_SCALES = range(1, 9)
_MAX_RECEPTIVE_FIELD_PX = 1 << 20
_MOST = 1e9  # of any measured number: a thousand times that of the largest network
_NESTING = 3  # of lists and objects in sizes


@dataclass(frozen=True)
class SystemConfig:
    """Name and sizes of a network of `models/systems.py`, and what the engine knows of it.

    Attributes:
        system: the name in the table of systems.
        scale: SR pixels per LR pixel, 1 to 8.
        sizes: the other constructor arguments, as JSON values.
        receptive_field_lr_px: LR pixels that an SR pixel depends on to each side; None: the whole
            image, which then runs in one piece.
        row_multiple: strips begin at multiples of so many LR rows, as the network folds them.
        values_per_lr_px: values that the graph holds at a time, at most, per LR pixel.
        gflop_per_lr_mp: operations for a million LR pixels, in 1e9; a multiply-add counts as 2.
    """

    system: str
    scale: int
    sizes: Mapping[str, Any]
    receptive_field_lr_px: int | None
    row_multiple: int
    values_per_lr_px: float
    gflop_per_lr_mp: float

    def __post_init__(self) -> None:
        """Check types and ranges; one error lists all that no network can have."""
        _check(vars(self))

    @property
    def leaves(self) -> int:
        """Return the number of predictions, which is 1: SR itself."""
        return 1

    @property
    def receptive_field(self) -> ReceptiveField:
        """Return the receptive field of the graph in the terms of a card: all of it is the tail's.

        Networks that see the whole image have a trunk that does.
        """
        reach = self.receptive_field_lr_px
        return ReceptiveField(
            trunk_lr_px=None if reach is None else 0,
            tail_lr_px=reach or 0,
            fusion_sr_px=0,
            halo_lr_rows=reach or 0,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SystemConfig":
        """Return the configuration that `to_dict` wrote.

        Raises:
            D2csrError: unknown or missing names, or values that no network can have.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            remedy = f"Known settings: {', '.join(sorted(known))}."
            raise D2csrError("model", f"unknown settings {quote(unknown)}", remedy=remedy)
        if missing := sorted(known - set(values)):
            problem = f"has no {', '.join(missing)}"
            raise D2csrError("model", problem, remedy="Correct the model's configuration.")
        _check(values)
        measured = {name: float(values[name]) for name in ("values_per_lr_px", "gflop_per_lr_mp")}
        return cls(**{**values, **measured})


def is_system(values: Mapping[str, Any]) -> bool:
    """Return whether the JSON values of a configuration are those of a compared system."""
    return "system" in values


def _check(values: Mapping[str, Any]) -> None:
    """Raise an error that lists every value that no network can have."""
    is_right = {
        "system": _is_name(values["system"]),
        "scale": _is_count(values["scale"]) and values["scale"] in _SCALES,
        "sizes": _are_sizes(values["sizes"]),
        "receptive_field_lr_px": values["receptive_field_lr_px"] is None
        or _is_count(values["receptive_field_lr_px"], least=0),
        "row_multiple": _is_count(values["row_multiple"]),
        "values_per_lr_px": _is_number(values["values_per_lr_px"]),
        "gflop_per_lr_mp": _is_number(values["gflop_per_lr_mp"]),
    }
    if wrong := [name for name, right in is_right.items() if not right]:
        problem = "; ".join(f"{name} can't be {quote(values[name])}" for name in wrong)
        raise D2csrError("model", problem, remedy="Correct the model's configuration.")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable()


def _is_count(value: object, *, least: int = 1) -> bool:
    return type(value) is int and least <= value <= _MAX_RECEPTIVE_FIELD_PX


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and 0 < float(str(value)) <= _MOST


def _are_sizes(value: object) -> bool:
    """Return whether a value is an object whose members are JSON values of little depth."""
    return isinstance(value, Mapping) and all(
        _is_name(name) and _is_json(each, nesting=_NESTING) for name, each in value.items()
    )


def _is_json(value: object, *, nesting: int) -> bool:
    if isinstance(value, list | tuple):
        return nesting > 0 and all(_is_json(each, nesting=nesting - 1) for each in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)
