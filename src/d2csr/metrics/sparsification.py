"""Quality of a map of expected errors: rank correlation with the true ones, and sparsification.

Source of the curve and its area (AUSE): Ilg et al., 2018 (arXiv:1802.07095), section 5.
"""

import numpy as np
from jaxtyping import Float

BLOCK_PX = 6
# Shares of the blocks removed along a sparsification curve.
REMOVED = np.arange(20) / 20


def block_means(
    field: Float[np.ndarray, "h w"], *, side_px: int = BLOCK_PX
) -> Float[np.ndarray, " n"]:
    """Return the mean of each whole block, row by row; incomplete ones are left out.

    Raises:
        ValueError: the map is smaller than a block.
    """
    rows, columns = field.shape[0] // side_px, field.shape[1] // side_px
    if rows * columns == 0:
        raise ValueError(f"a map of {field.shape} holds no block of {side_px} px")
    whole = field[: rows * side_px, : columns * side_px]
    return whole.reshape(rows, side_px, columns, side_px).mean(axis=(1, 3)).ravel()


def rank_correlation(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Return Spearman's correlation, with mean ranks for ties; nan where an input is constant."""
    ranks = [average_ranks(values) for values in (first, second)]
    one, other = (rank - rank.mean() for rank in ranks)
    spread = float(np.sqrt(np.sum(one * one) * np.sum(other * other)))
    return float(np.sum(one * other)) / spread if spread > 0 else float("nan")


def average_ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the rank of each value, starting at 1; equal values get their mean rank."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[inverse]


def sparsification(
    squared_error: Float[np.ndarray, " n"], expected: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " 20"]:
    """Return the root mean squared error after removing each share in `REMOVED` of the blocks.

    Args:
        squared_error: true squared error of each block.
        expected: expected error of each block; the largest are removed first. The true errors
            give the best possible curve.
    """
    order = np.argsort(-expected, kind="stable")
    removed = np.floor(REMOVED * len(order)).astype(int)
    total_left = np.cumsum(squared_error[order][::-1])[::-1]
    return np.sqrt(np.maximum(total_left[removed], 0) / (len(order) - removed))


def ause(curve: Float[np.ndarray, " 20"], best: Float[np.ndarray, " 20"]) -> float:
    """Return the area between a curve and the best one, over the error of all blocks (AUSE).

    0 is a perfect order; it is also 0 where there are no errors.
    """
    if best[0] == 0:
        return 0.0
    above = (curve - best) / best[0]
    return float(np.mean((above[1:] + above[:-1]) / 2) * (REMOVED[-1] - REMOVED[0]))


def gradient_magnitude(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return the magnitude of the gradient, by central differences: a trivial error predictor."""
    down, right = np.gradient(image)
    return np.hypot(down, right)
