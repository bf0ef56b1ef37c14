"""Field fitted to measured patches: local affine models, on windows as large as surfaces allow.

Around each node of a grid an affine model is fitted under a Gaussian window, weighted by the
information of the patches and robust against other surfaces in the window. The window is the
largest one whose result agrees with those of all smaller ones (Lepski's method), so that noise
averages out on surfaces and edges of depth stay sharp.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from d2csr.align.registration.field import Displacements
from d2csr.align.registration.fit import FLOOR_WIDE_PX
from d2csr.align.registration.lucas_kanade import PatchDisplacements

WINDOW_PX, STEP_PX = 12, 4  # of the patches, wide pixels
FIRST_PX = (WINDOW_PX - 1) / 2 + 1  # position of the first node
PATCHES_PER_PX = (WINDOW_PX / STEP_PX) ** 2  # over each pixel; they aren't independent
AGREEMENT = 2.5  # standard deviations within which windows agree
SLOPE_PRIOR = 0.012  # standard deviation of the field's slope, in pixels per pixel
VALUE_PRIOR_PX = 1.0  # standard deviation of a displacement from the present field, without texture
ROBUST_SQUARE = 9.0  # squared residual, in standard deviations, with a quarter of the full weight

Gray = Float32[np.ndarray, "h w"]


@dataclass(frozen=True)
class Window:
    """Gaussian window over the nodes.

    Attributes:
        sigma: standard deviation, in steps of the nodes.
        spacing: steps from one used node to the next.
        radius: used nodes on each side of the centre.
    """

    sigma: float
    spacing: int
    radius: int

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Return the offsets (x, y) of the used nodes."""
        steps = range(-self.radius, self.radius + 1)
        return [
            (x * self.spacing, y * self.spacing)
            for x in steps
            for y in steps
            if x * x + y * y <= (self.radius + 0.5) ** 2
        ]

    @property
    def overlap(self) -> float:
        """Return the patches over each pixel: overlapping ones aren't independent."""
        return max(1.0, (WINDOW_PX / (STEP_PX * self.spacing)) ** 2)


WINDOWS = (
    Window(1.0, 1, 2), Window(2.0, 2, 2), Window(3.5, 3, 2), Window(6.0, 3, 4), Window(10.0, 3, 7),
)  # fmt: skip
SUPPORT_WINDOW = 1  # of these
SMOOTHING = Window(1.5, 1, 2)


class FittedField(NamedTuple):
    """Field fitted to patches; the maps are those of `DenseRegistration`."""

    values: Displacements
    deviation_px: Gray
    support: Gray


class _Measured(NamedTuple):
    """Measurements on the grid of nodes; nodes without one have no information."""

    displacement: Float32[np.ndarray, "r c 2"]
    information: Float32[np.ndarray, "r c 3"]


class _Fitted(NamedTuple):
    """Local fits at the nodes.

    Attributes:
        model: (u, du/dx, du/dy, v, dv/dx, dv/dy), slopes per step of the nodes.
        covariance: of u and v.
        support: share of the information in the window that agrees with the model.
    """

    model: Float32[np.ndarray, "r c 6"]
    covariance: Float32[np.ndarray, "r c 2 2"]
    support: Float32[np.ndarray, "r c"]


def fit_field(patches: PatchDisplacements, start: Displacements) -> FittedField:
    """Return the field fitted to measured displacements.

    Args:
        patches: displacements, with positions on the region of the field.
        start: present field, by which the surface that a node lies on is chosen.
    """
    measured, present = _gather(patches, start)
    model = np.zeros((*present.shape[:2], 6), np.float32)
    model[..., ::3] = present
    fitted = [_fit_locally(measured, model, window=WINDOWS[0])]
    best, agrees = fitted[0], np.ones(present.shape[:2], bool)
    for window in WINDOWS[1:]:
        new = _fit_locally(measured, best.model, window=window)
        for smaller in fitted:
            agrees &= _agrees(new, smaller)
        fitted.append(new)
        best = _replace_where(agrees, new, old=best)
    deviation = np.sqrt(np.linalg.eigvalsh(best.covariance)[..., 1])
    size = start.shape[1], start.shape[0]
    return FittedField(
        _spread(np.ascontiguousarray(_smooth(best)[..., ::3]), size),
        _spread(deviation.astype(np.float32), size),
        _spread(fitted[SUPPORT_WINDOW].support, size),
    )


def _replace_where(chosen: Bool[np.ndarray, "r c"], new: "_Fitted", *, old: "_Fitted") -> "_Fitted":
    """Return the new fits at some nodes and the old ones at the others."""
    return _Fitted(
        np.where(chosen[..., None], new.model, old.model),
        np.where(chosen[..., None, None], new.covariance, old.covariance),
        np.where(chosen, new.support, old.support),
    )


def _gather(
    patches: PatchDisplacements, start: Displacements
) -> tuple[_Measured, Float32[np.ndarray, "r c 2"]]:
    """Return measurements on the grid of nodes, and the present field there."""
    rows, columns = ((side - WINDOW_PX - 2) // STEP_PX + 1 for side in start.shape[:2])
    column, row = np.rint((patches.positions - FIRST_PX) / STEP_PX).astype(int).T
    present = _at_nodes(start, (rows, columns))
    covariance = np.linalg.inv(patches.information + 1e-9 * np.eye(2))
    information = np.linalg.inv(covariance + FLOOR_WIDE_PX**2 * np.eye(2))
    residual = patches.displacements - present[row, column]
    square = np.einsum("na,nab,nb->n", residual, information, residual)
    information /= max(float(np.quantile(square, 0.25)) / 0.575, 1.0)
    measured = _Measured(present.copy(), np.zeros((rows, columns, 3), np.float32))
    measured.information[row, column] = information[:, (0, 0, 1), (0, 1, 1)]
    measured.displacement[row, column] = patches.displacements
    return measured, present


def _at_nodes(values: Displacements, shape: tuple[int, int]) -> Float32[np.ndarray, "r c 2"]:
    """Return displacements of pixels at the nodes."""
    rows, columns = shape
    x, y = (FIRST_PX + STEP_PX * np.arange(count, dtype=np.float32) for count in (columns, rows))
    return cv2.remap(values, *np.meshgrid(x, y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _spread(nodes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return values at nodes on the grid of pixels."""
    x, y = ((np.arange(side, dtype=np.float32) - FIRST_PX) / STEP_PX for side in size)
    return cv2.remap(nodes, *np.meshgrid(x, y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _fit_locally(
    measured: _Measured, model: Float32[np.ndarray, "r c 6"], *, window: Window
) -> _Fitted:
    """Return the affine models fitted in a window around every node.

    A measurement is weighted by the window, by its information, and by Geman and McClure's function
    of its residual from the present model of the node, so that other surfaces have no influence.
    """
    rows, columns = model.shape[:2]
    sums = np.zeros((6, 5, rows, columns), np.float32)  # of each moment: xx, xy, yy, x, y
    moved = np.moveaxis(np.concatenate([measured.displacement, measured.information], -1), -1, 0)
    model_rows = np.moveaxis(model, -1, 0)
    whole = np.full((rows, columns), 1e-6, np.float32)
    for x, y in window.offsets:
        here = np.s_[..., max(0, -y) : rows - max(0, y), max(0, -x) : columns - max(0, x)]
        there = np.s_[..., max(0, y) : rows + min(0, y), max(0, x) : columns + min(0, x)]
        if not sums[here].size:
            continue
        u, v, xx, xy, yy = moved[there]
        own = model_rows[here]
        rest_u = u - (own[0] + x * own[1] + y * own[2])
        rest_v = v - (own[3] + x * own[4] + y * own[5])
        square = rest_u * (xx * rest_u + 2 * xy * rest_v) + yy * rest_v * rest_v
        weight = np.float32(np.exp(-(x * x + y * y) / (2 * window.sigma**2)))
        whole[here] += weight * (xx + yy)
        weight = weight * np.square(ROBUST_SQUARE / (ROBUST_SQUARE + square))
        xx, xy, yy = xx * weight, xy * weight, yy * weight
        terms = np.stack([xx, xy, yy, xx * rest_u + xy * rest_v, xy * rest_u + yy * rest_v])
        for moment, factor in enumerate((1, x, y, x * x, x * y, y * y)):
            if factor:
                sums[moment][here] += np.float32(factor) * terms
    fitted, covariance = _solve_locally(sums, model, overlap=window.overlap)
    return _Fitted(fitted, covariance, (sums[0, 0] + sums[0, 2]) / whole)


# Moments (1, x, y, xx, xy, yy) of the products of the terms 1, x, y of an affine function.
_PRODUCTS = ((0, 1, 2), (1, 3, 4), (2, 4, 5))


def _solve_locally(
    sums: Float32[np.ndarray, "6 5 r c"], model: Float32[np.ndarray, "r c 6"], *, overlap: float
) -> tuple[Float32[np.ndarray, "r c 6"], Float32[np.ndarray, "r c 2 2"]]:
    """Return the models that the sums of a window determine, and the covariance of u and v.

    Without texture, slopes are drawn to 0 and displacements to the present ones.
    """
    sums = np.moveaxis(sums, (0, 1), (-2, -1)).astype(np.float64) / overlap
    normal = np.empty((*model.shape[:2], 6, 6))
    for i in range(3):
        for j in range(3):
            xx, xy, yy = (sums[..., _PRODUCTS[i][j], k] for k in range(3))
            normal[..., i, j], normal[..., 3 + i, 3 + j] = xx, yy
            normal[..., i, 3 + j] = normal[..., 3 + i, j] = xy
    right = np.concatenate([sums[..., :3, 3], sums[..., :3, 4]], axis=-1)
    prior = np.array([1 / VALUE_PRIOR_PX**2, *[1 / (SLOPE_PRIOR * STEP_PX) ** 2] * 2] * 2)
    right[..., [1, 2, 4, 5]] -= prior[1] * model[..., [1, 2, 4, 5]]
    inverse = np.linalg.inv(normal + np.diag(prior))
    step = np.einsum("rcij,rcj->rci", inverse, right)
    covariance = inverse[..., ::3, ::3]
    return model + step.astype(np.float32), covariance.astype(np.float32)


def _smooth(fitted: _Fitted) -> Float32[np.ndarray, "r c 6"]:
    """Return models averaged over neighbors on the same surface.

    Windows that leave out nodes give neighbors the results of different patches.
    """
    information = np.linalg.inv(fitted.covariance)[..., (0, 0, 1), (0, 1, 1)]
    measured = _Measured(fitted.model[..., ::3], information)
    return _fit_locally(measured, fitted.model, window=SMOOTHING).model


def _agrees(new: _Fitted, old: _Fitted) -> Bool[np.ndarray, "r c"]:
    """Return whether a displacement lies within the errors of that under a smaller window."""
    change = (new.model - old.model)[..., ::3]
    square = np.einsum("rca,rcab,rcb->rc", change, np.linalg.inv(old.covariance), change)
    return square < AGREEMENT**2
