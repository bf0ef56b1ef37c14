"""The tail of a network, on strips: features and LR in, predictions, weights and SR out.

It includes all that runs behind the trunk: the tails of the leaves, the exact border of networks
that pad every stage of their tails, and the fusion of the predictions.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from d2csr.core.bundle import Bundle, ModelCard
from d2csr.core.errors import UsageError
from d2csr.core.system_config import SystemConfig
from d2csr.engine.backends.base import Graph, NchwArray, ResolvedBackend
from d2csr.engine.planning import Strip

_GRAY_LEVELS = np.float32(255)

# Features and LR (1, c, h, w) of a strip -> predictions (1, 3 p, S h, S w), weights, SR.
Tail = Callable[[NchwArray, NchwArray], tuple[NchwArray, NchwArray, NchwArray]]


class EngineOutput(NamedTuple):
    """Raw outputs for an image or a strip: RGB in the units of the input, not clipped.

    Attributes:
        sr: the fused image.
        predictions: one image per leaf.
        weights: their weights, which sum to one over the leaves.
    """

    sr: Float32[np.ndarray, "sh sw 3"]
    predictions: Float32[np.ndarray, "p sh sw 3"]
    weights: Float32[np.ndarray, "p sh sw"]


class StripOutput(NamedTuple):
    """The outputs of one strip.

    Attributes:
        first_row: row of the SR image at which the strip begins.
        output: the strip's rows.
    """

    first_row: int
    output: EngineOutput


def disagreement(output: EngineOutput) -> Float32[np.ndarray, "sh sw"]:
    """Return the standard deviation of the predictions, in gray levels (0 to 255).

    Each prediction counts the same, whatever its weight in the fusion: where the fusion selects
    one prediction, a weighted deviation would be 0 although the others differ. The formula is 255
    times the root of mean_i |p_i - mean_j p_j|^2 / 3, with |.| over the three colors.
    """
    variance = output.predictions.var(axis=0, dtype=np.float32).mean(axis=2)
    return np.sqrt(variance) * _GRAY_LEVELS


def require_predictions(bundle: Bundle) -> None:
    """Check that a model makes several predictions, which maps and differences are made from.

    Raises:
        UsageError: it makes one, as the systems that D2C-SR is compared with do.
    """
    if isinstance(bundle.card.config, SystemConfig):
        problem = "has one prediction, its result: no weights, no disagreement, no uncertainty"
        remedy = "Use a D2C-SR model for them, or leave them out."
        raise UsageError(bundle.card.name, problem, remedy)


def compile_tail(backend: ResolvedBackend) -> Tail:
    """Return everything behind the trunk as one function of a strip."""
    card = backend.bundle.card
    tail = backend.compile("tail")
    if "border_tail" not in card.graphs:

        def run(features: NchwArray, lr: NchwArray) -> tuple[NchwArray, NchwArray, NchwArray]:
            predictions, weights, sr = tail([features, lr])
            return predictions, weights, sr

        return run
    border_tail, fusion = backend.compile("border_tail"), backend.compile("fusion")

    def run_with_border(
        features: NchwArray, lr: NchwArray
    ) -> tuple[NchwArray, NchwArray, NchwArray]:
        predictions = recompute_border(tail, border_tail, features=features, lr=lr, card=card)
        weights, sr = fusion([predictions])
        return predictions, weights, sr

    return run_with_border


def compile_whole(backend: ResolvedBackend) -> tuple[Graph, Tail]:
    """Return trunk and tail of a backend that runs images in one piece.

    Its one graph is the tail, which ignores the features; the trunk returns the image unchanged.
    """
    whole = backend.compile("whole")

    def run(features: NchwArray, lr: NchwArray) -> tuple[NchwArray, NchwArray, NchwArray]:
        del features
        predictions, weights, sr = whole([lr])
        return predictions, weights, sr

    return pass_through, run


def compile_system(backend: ResolvedBackend) -> tuple[Graph, Tail]:
    """Return trunk and tail of a compared system, whose one prediction is SR itself."""
    whole = backend.compile("whole")

    def run(features: NchwArray, lr: NchwArray) -> tuple[NchwArray, NchwArray, NchwArray]:
        del features
        (sr,) = whole([lr])
        return sr, np.ones((1, 1, *sr.shape[2:]), np.float32), sr

    return pass_through, run


def pass_through(inputs: Sequence[NchwArray]) -> list[NchwArray]:
    """Return the image unchanged, as the trunk of a model that runs as one graph."""
    return list(inputs)


def recompute_border(
    tail: Graph, border_tail: Graph, *, features: NchwArray, lr: NchwArray, card: ModelCard
) -> NchwArray:
    """Return predictions that are exact up to all four edges of the features.

    On a strip, this also treats its upper and lower edge as edges of the image: those rows are
    either halo, which is cut off, or edges of the image indeed. Images lower or narrower than the
    border's strips run the border tail as a whole.

    Args:
        tail: features, lr -> predictions, right except at the border.
        border_tail: features, lr -> predictions, right up to the edges, slower.
        features: of the strip.
        lr: of the strip.
        card: the model's card, which has the widths of the border.
    """
    strip, kept = (
        card.receptive_field.border_strip_lr_px,
        card.receptive_field.border_replaced_lr_px,
    )
    if min(features.shape[2:]) < strip:
        return border_tail([features, lr])[0]
    (predictions,) = tail([features, lr])
    inside = kept * card.scale
    sides = ((slice(None, strip), slice(None, inside)), (slice(-strip, None), slice(-inside, None)))
    for part, outer in sides:
        for index, target in (
            ((..., part, slice(None)), (..., outer, slice(None))),  # rows
            ((..., part), (..., outer)),  # columns
        ):
            pieces = [np.ascontiguousarray(array[index]) for array in (features, lr)]
            predictions[target] = border_tail(pieces)[0][target]
    return predictions


def run_strip(
    tail: Tail, strip: Strip, *, features: NchwArray, lr: NchwArray, scale: int
) -> StripOutput:
    """Return the outputs of a strip, channels last, without its halo.

    Args:
        tail: as `compile_tail` returns it.
        strip: its rows.
        features: of the strip, halo included.
        lr: of the strip, halo included.
        scale: SR pixels per LR pixel.
    """
    rows = slice(scale * (strip.first - strip.top), scale * (strip.last - strip.top))
    predictions, weights, sr = (each[0, :, rows] for each in tail(features, lr))
    leaves = weights.shape[0]
    output = EngineOutput(
        sr=sr.transpose(1, 2, 0),
        predictions=predictions.reshape(leaves, 3, *weights.shape[1:]).transpose(0, 2, 3, 1),
        weights=weights,
    )
    return StripOutput(scale * strip.first, output)
