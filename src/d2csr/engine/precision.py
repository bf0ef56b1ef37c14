"""Precisions that graphs are computed in, and what a model answers for in each."""

from typing import Any, Literal, get_args

import numpy as np

from d2csr.core.bundle import BundleCard

Precision = Literal["fp32", "bf16", "int8"]
AskedPrecision = Literal["auto", "fp32", "bf16", "int8"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# A mean squared error e beside the model's own m costs 10 log10(1 + e / m) dB: 26.4 dB below it,
# 0.01 dB. A model nothing is known of is taken to reach this PSNR; real pairs give 25 to 35 dB.
_BELOW_DB = 26.4
_SUPPOSED_DB = 34.0


def graph_role(role: str, precision: Precision) -> str:
    """Return the role on the card that a graph of a precision has."""
    return f"{role}_int8" if precision == "int8" else role


def has_graphs(card: BundleCard, precision: Precision) -> bool:
    """Return whether a bundle has graphs for a precision."""
    return graph_role("trunk", precision) in card.graphs


def keeps_promise(card: BundleCard, precision: str) -> bool:
    """Return whether a precision costs at most 0.01 dB, by what was measured at export.

    A card without the measurement promises float32 alone.
    """
    if precision == "fp32":
        return True
    loss = card.precisions.get(precision)
    reached_db = max((each.psnr_db for each in card.facts.figures), default=_SUPPOSED_DB)
    return loss is not None and loss.psnr_between_db >= reached_db + _BELOW_DB


def to_bits(values: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return float32 rounded to bfloat16, as the bits of it; bits stay as they are."""
    if values.dtype == np.uint16:
        return values
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bits(bits: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the float32 values of bfloat16 bits; float32 stays as it is."""
    if bits.dtype == np.float32:
        return bits
    return (bits.astype(np.uint32) << 16).view(np.float32)
