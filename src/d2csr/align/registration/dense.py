"""Dense registration: a field of displacements between the wide and the reduced tele image.

DIS optical flow (Kroeger et al., ECCV 2016) of locally normalized images is the start. Then patches
are measured by Lucas and Kanade's method, with free gain and offset, and the field is fitted to
them; both are repeated.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool

from d2csr.align.registration.field import DisplacementField, Displacements
from d2csr.align.registration.field_fit import (
    PATCHES_PER_PX,
    STEP_PX,
    WINDOW_PX,
    FittedField,
    Gray,
    fit_field,
)
from d2csr.align.registration.lucas_kanade import PatchDisplacements, measure_displacements
from d2csr.align.registration.refine import MIN_SIMILARITY, Views
from d2csr.align.registration.transform import Mapping

NORMALIZING_SIGMA_PX = 8.0
NORMALIZING_FLOOR = 0.02  # of full range: less contrast is mostly noise
FLOW_ROUNDS = 10  # variational iterations of DIS
MEDIAN_PX = 5

ITERATIONS = 3
MAX_CORRECTION_PX = 2.0  # larger ones of a patch are outliers

HELD_OUT_PX = 24  # side of the blocks
HELD_OUT_LIMIT_PX = 1.0  # larger displacements are other surfaces
MIN_HELD_OUT = 50
MIN_STANDARD_ERRORS = 2.5


class Flows(NamedTuple):
    """DIS optical flow in both directions, in wide pixels: fixed(x) = moving(x + forward(x))."""

    forward: Displacements
    backward: Displacements

    @property
    def disagreement_px(self) -> Gray:
        """Return the distance from each pixel after going forward and backward."""
        return np.hypot(*np.moveaxis(self.forward + _sample(self.backward, self.forward), -1, 0))


@dataclass(frozen=True)
class DenseRegistration:
    """Result of the dense registration of a region.

    Attributes:
        field: displacements between the wide image and the one mapped globally.
        flows: the flows that it started from.
        deviation_px: standard deviation of each displacement in its least certain direction, in
            wide pixels.
        support: share of the information around each pixel that agrees with its displacement.
    """

    field: DisplacementField
    flows: Flows
    deviation_px: Gray
    support: Gray


def register_densely(views: Views, mapping: Mapping) -> DenseRegistration:
    """Return the dense registration of a region, starting from a global mapping.

    Args:
        views: both images on the region.
        mapping: from the registered grid to the tele photograph, without a field.
    """
    fixed, moving = (_normalize(image) for image in views.matched(mapping))
    flows = Flows(_flow(fixed, moving), _flow(moving, fixed))
    start = np.stack([cv2.medianBlur(flows.forward[..., axis], MEDIAN_PX) for axis in (0, 1)], -1)
    nothing = np.zeros(start.shape[:2], np.float32)
    fitted = FittedField(start, nothing, nothing)
    for _ in range(ITERATIONS):
        field = DisplacementField(views.region, fitted.values)
        fitted = fit_field(measure_on_field(views, mapping, field=field), fitted.values)
    field = DisplacementField(views.region, fitted.values)
    return DenseRegistration(field, flows, fitted.deviation_px, fitted.support)


def measure_on_field(
    views: Views, mapping: Mapping, *, field: DisplacementField
) -> PatchDisplacements:
    """Return the displacements of patches in all: the field's, and those that remain under it."""
    fixed, moving = views.matched(replace(mapping, field=field))
    patches = measure_displacements(fixed, moving, window_px=WINDOW_PX, step_px=STEP_PX)
    shift = np.array([field.region.left, field.region.top])
    beyond = field.at(patches.positions + patches.displacements + shift)
    is_small = np.hypot(*patches.displacements.T) < MAX_CORRECTION_PX
    good = is_small & (patches.similarity > MIN_SIMILARITY)
    return replace(patches, displacements=patches.displacements + beyond).select(good)


class HeldOut(NamedTuple):
    """Displacement that a fitted field explains on patches that it wasn't fitted to.

    Attributes:
        explained_px: RMS, in wide pixels; 0 if the field explains nothing.
        is_significant: whether the gain exceeds chance.
    """

    explained_px: float
    is_significant: bool


def explain_held_out(views: Views, mapping: Mapping, *, used: Bool[np.ndarray, "h w"]) -> HeldOut:
    """Return the displacement left by a global mapping that a field would explain.

    Blocks of patches are fitted, and the blocks between them are predicted.

    Args:
        views: both images on a region.
        mapping: without a field.
        used: pixels whose patches are compared.
    """
    region = views.region
    none = DisplacementField(region, np.zeros((region.height, region.width, 2), np.float32))
    patches = measure_on_field(views, mapping, field=none)
    column, row = np.rint(patches.positions).astype(int).T
    odd = (row // HELD_OUT_PX + column // HELD_OUT_PX) % 2 == 1
    gains = []
    for half in (odd, ~odd):
        chosen = half & used[row, column]
        if not chosen.any() or half.all():
            continue
        values = fit_field(patches.select(~half), none.values).values
        rest = patches.displacements[chosen]
        left = rest - values[row[chosen], column[chosen]]
        near = np.hypot(*rest.T) < HELD_OUT_LIMIT_PX
        gains.append(((rest**2).sum(1) - (left**2).sum(1))[near])
    gain = np.concatenate(gains) if gains else np.zeros(0)
    if len(gain) < MIN_HELD_OUT:
        return HeldOut(0.0, False)
    chance = float(gain.std()) / np.sqrt(len(gain) / PATCHES_PER_PX)
    mean = float(gain.mean())
    is_significant = bool(mean > MIN_STANDARD_ERRORS * chance)
    return HeldOut(float(np.sqrt(max(mean, 0.0))), is_significant)


def _normalize(image: Gray) -> np.ndarray:
    """Return an 8-bit image of unit contrast everywhere, so that brightness has no influence."""
    mean = cv2.GaussianBlur(image, (0, 0), NORMALIZING_SIGMA_PX)
    variance = cv2.GaussianBlur((image - mean) ** 2, (0, 0), NORMALIZING_SIGMA_PX)
    normalized = (image - mean) / (np.sqrt(variance) + NORMALIZING_FLOOR)
    return np.clip(np.rint(128 + 40 * normalized), 0, 255).astype(np.uint8)


def _flow(fixed: np.ndarray, moving: np.ndarray) -> Displacements:
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(0)
    dis.setVariationalRefinementIterations(FLOW_ROUNDS)
    return dis.calc(fixed, moving, np.zeros((*fixed.shape, 2), np.float32))


def _sample(values: np.ndarray, displacements: Displacements) -> np.ndarray:
    """Return values at displaced pixels."""
    height, width = displacements.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        values,
        x + displacements[..., 0],
        y + displacements[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
