"""Robust fit of a mapping to measured displacements: homography, lens distortion and mesh.

Each patch is weighted by its information matrix (2x2) and by Geman and McClure's function of its
residual, so that objects nearer to the camera and moved objects have no influence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from d2csr.align.registration.lucas_kanade import PatchDisplacements
from d2csr.align.registration.transform import (
    Mapping,
    Mesh,
    basis,
    jacobian,
    project,
    registered_of_wide,
    roughness,
)
from d2csr.core.geometry import Region

# Smallest error of a patch, in pixels of the wide photograph, from aliasing and the color mosaic
# whatever its texture. Without it a few patches of strong texture would determine the fit.
FLOOR_WIDE_PX = 0.02
GAUSS_NEWTON_ITERATIONS = 8
MESH_ITERATIONS = 4
FOLDS = 5
# A finer mesh must lower the mean held-out error by this many of its standard errors.
MIN_STANDARD_ERRORS = 2.5
OVERLAP = 4.0  # patches over each position: half-overlapping ones are not independent
STIFFNESS = 1e-2
# Standard deviations: wide k1, wide k2, tele k1, tele p1, tele p2. Tangential terms also take in an
# optical axis that is off the middle of the frame, as in an image that was cropped.
LENS_PRIOR = (0.05, 0.01, 0.01, 0.001, 0.001)
LENS_LIMIT = 0.25  # beyond it two ideal radii may be distorted to the same one
PATCHES_PER_CONTROL_POINT = 5  # a mesh with fewer is not tried


@dataclass(frozen=True)
class Matches:
    """Corresponding points of the registered grid and the tele photograph.

    Attributes:
        registered: positions (x, y) on the registered grid.
        tele: the corresponding positions on the tele photograph.
        information: inverse covariance of each tele position.
    """

    registered: Float64[np.ndarray, "n 2"]
    tele: Float64[np.ndarray, "n 2"]
    information: Float64[np.ndarray, "n 2 2"]

    def __len__(self) -> int:
        """Return the number of correspondences."""
        return len(self.registered)

    def select(self, chosen: np.ndarray) -> "Matches":
        """Return the correspondences that a mask or an index array selects."""
        return Matches(*(values[chosen] for values in vars(self).values()))


def fit_mapping(
    mapping: Mapping,
    matches: Matches,
    *,
    region: Region,
    cells: Sequence[tuple[int, int]],
    lens_prior: Mapping | None,
) -> Mapping:
    """Return the mapping with matrix and warp fitted to the matches.

    Args:
        mapping: the initial matrix and lenses.
        matches: correspondences within the region.
        region: part of the registered grid that a mesh spans.
        cells: sizes of the meshes to try, coarsest first. A mesh is used only if its error on
            held-out patches is clearly below that of every coarser one and of no mesh.
        lens_prior: mapping whose lens coefficients are the prior of the fitted ones; None keeps
            the lenses fixed.
    """
    plain = _fit_parametric(
        mapping.with_matrix(mapping.matrix, None), matches, lens_prior=lens_prior
    )
    best, errors = None, None
    folds = _folds(matches, region)
    miss = residuals(plain, matches)
    square = np.einsum("na,nab,nb->n", miss, matches.information, miss)
    typical = max(float(np.median(square)) / 1.39, 1e-12)
    tried: list[tuple[int, int] | None] = [None, *_supported_meshes(cells, len(matches))]
    for candidate in tried if len(tried) > 1 else []:
        held_out = _held_out_errors(
            plain, matches, region=region, cells=candidate, folds=folds, typical=typical
        )
        if errors is None or _is_significantly_less(held_out, errors):
            best, errors = candidate, held_out
    if best is None:
        return plain
    return plain.with_matrix(plain.matrix, _fit_mesh(plain, matches, region=region, cells=best))


def residuals(mapping: Mapping, matches: Matches) -> Float64[np.ndarray, "n 2"]:
    """Return the measured tele positions less the mapped ones, in tele pixels."""
    return matches.tele - mapping(matches.registered)


def _supported_meshes(cells: Sequence[tuple[int, int]], patches: int) -> list[tuple[int, int]]:
    return [
        (down, across)
        for down, across in cells
        if (down + 3) * (across + 3) * PATCHES_PER_CONTROL_POINT <= patches
    ]


def _fit_parametric(mapping: Mapping, matches: Matches, *, lens_prior: Mapping | None) -> Mapping:
    """Return the mapping with its matrix and, given a prior, its lenses fitted by Gauss-Newton."""
    for _ in range(GAUSS_NEWTON_ITERATIONS):
        residual = residuals(mapping, matches)
        weight = _robust_information(matches.information, residual)
        to_unit = _to_unit(matches.registered)
        derivative = _derivative(mapping, matches.registered, to_unit=to_unit)
        if lens_prior is not None:
            derivative = np.concatenate([derivative, _lens_derivative(mapping, matches)], axis=2)
        normal = np.einsum("nai,nab,nbj->ij", derivative, weight, derivative, optimize=True)
        right = np.einsum("nai,nab,nb->i", derivative, weight, residual, optimize=True)
        prior = np.full(len(right), 1e-12 * np.trace(normal))
        if lens_prior is not None:
            prior[8:] = 1 / np.square(LENS_PRIOR)  # weak texture leaves the lenses as given
            right[8:] -= (
                np.array(_lens_coefficients(mapping)) - _lens_coefficients(lens_prior)
            ) * prior[8:]
        step = np.linalg.solve(normal + np.diag(prior), right)
        mapping = _apply_step(mapping, step, to_unit=to_unit)
    return mapping


def _lens_coefficients(mapping: Mapping) -> tuple[float, ...]:
    wide, tele = mapping.wide_lens, mapping.tele_lens
    return wide.k1, wide.k2, tele.k1, tele.p1, tele.p2


def _with_lens_coefficients(mapping: Mapping, terms: Float64[np.ndarray, " 5"]) -> Mapping:
    k1, k2, tele_k1, p1, p2 = (float(value) for value in terms)
    return replace(
        mapping,
        wide_lens=replace(mapping.wide_lens, k1=k1, k2=k2),
        tele_lens=replace(mapping.tele_lens, k1=tele_k1, p1=p1, p2=p2),
    )


def _apply_step(mapping: Mapping, step: np.ndarray, *, to_unit: np.ndarray) -> Mapping:
    unit = mapping.matrix @ np.linalg.inv(to_unit)
    unit = unit / unit[2, 2] + np.append(step[:8], 0.0).reshape(3, 3)
    mapping = mapping.with_matrix(unit @ to_unit, mapping.mesh)
    if len(step) > 8:
        terms = np.array(_lens_coefficients(mapping)) + step[8:]
        mapping = _with_lens_coefficients(mapping, np.clip(terms, -LENS_LIMIT, LENS_LIMIT))
    return mapping


def _lens_derivative(mapping: Mapping, matches: Matches) -> Float64[np.ndarray, "n 2 5"]:
    """Return the derivative of tele positions by each lens coefficient, by central differences."""
    now, small = np.array(_lens_coefficients(mapping)), 1e-4
    columns = []
    for axis in np.eye(len(now)):
        ends = [_with_lens_coefficients(mapping, now + sign * small * axis) for sign in (1, -1)]
        columns.append((ends[0](matches.registered) - ends[1](matches.registered)) / (2 * small))
    return np.stack(columns, axis=-1)


def _to_unit(points: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "3 3"]:
    """Return the matrix that centres points and scales them to unit variance."""
    middle, size = points.mean(0), float(points.std()) + 1e-9
    return np.array([[1 / size, 0, -middle[0] / size], [0, 1 / size, -middle[1] / size], [0, 0, 1]])


def _derivative(
    mapping: Mapping, registered: Float64[np.ndarray, "n 2"], *, to_unit: Float64[np.ndarray, "3 3"]
) -> Float64[np.ndarray, "n 2 8"]:
    """Return the derivative of projected positions by the matrix's first eight entries.

    The ninth entry is 1. The tele lens is neglected: it changes the derivative by about a percent,
    which only makes Gauss-Newton steps slightly less exact.
    """
    unit = project(to_unit, mapping.ideal_wide(registered))
    matrix = mapping.matrix @ np.linalg.inv(to_unit)
    matrix = matrix / matrix[2, 2]
    homogeneous = np.concatenate([unit, np.ones((len(unit), 1))], axis=1)
    projected = project(matrix, unit)
    scaled = homogeneous / (homogeneous @ matrix[2])[:, None]
    result = np.zeros((len(unit), 2, 8))
    result[:, 0, 0:3] = scaled
    result[:, 1, 3:6] = scaled
    result[:, :, 6:8] = -projected[:, :, None] * scaled[:, None, :2]
    return result


def _robust_information(
    information: Float64[np.ndarray, "n 2 2"], residual: Float64[np.ndarray, "n 2"]
) -> Float64[np.ndarray, "n 2 2"]:
    """Return the information scaled to the observed residuals and reduced for outliers.

    The information of a patch is too optimistic, because of aliasing and overlapping neighbors.
    """
    square = np.einsum("na,nab,nb->n", residual, information, residual)
    # lower quartile of chi-square, two degrees: correct even if half of the patches are outliers
    typical = max(float(np.quantile(square, 0.25)) / 0.575, 1e-12)
    return information * ((9.0 / (9.0 + square / typical)) ** 2 / max(typical, 1.0))[:, None, None]


def _fit_mesh(
    mapping: Mapping, matches: Matches, *, region: Region, cells: tuple[int, int]
) -> Mesh:
    """Return the mesh fitted to the residuals of the parametric mapping."""
    goal = mapping.ideal_tele(matches.tele) - mapping.before_lens(matches.registered)
    b = basis(matches.registered, region, cells=cells)
    points = b.shape[1]
    stiff = np.kron(roughness(cells), np.eye(2)) + 1e-4 * np.eye(2 * points)
    values = np.zeros(2 * points)
    for _ in range(MESH_ITERATIONS):
        residual = goal - b @ values.reshape(-1, 2)
        weight = _robust_information(matches.information, residual)
        blocks = np.einsum("ni,nab->nbia", b, weight)  # n, b, points, a
        normal = np.einsum("nbia,nj->iajb", blocks, b, optimize=True)
        normal = normal.reshape(2 * points, 2 * points)
        right = np.einsum("nbia,nb->ia", blocks, goal).ravel()
        scale = STIFFNESS * np.trace(normal) / (2 * points)
        values = np.linalg.solve(normal + scale * stiff, right)
    return Mesh(region, values.reshape(cells[0] + 3, cells[1] + 3, 2))


def _folds(matches: Matches, region: Region) -> np.ndarray:
    """Return the fold of each match; neighbors share a fold, because patches overlap."""
    side = max(1.0, np.sqrt(region.width * region.height / max(len(matches), 1)) * 2)
    block = np.floor((matches.registered - [region.left, region.top]) / side).astype(int)
    return (block[:, 0] * 2 + block[:, 1] * 3 + block[:, 0] // FOLDS) % FOLDS


def _held_out_errors(
    mapping: Mapping,
    matches: Matches,
    *,
    region: Region,
    cells: tuple[int, int] | None,
    folds: np.ndarray,
    typical: float,
) -> Float64[np.ndarray, " n"]:
    """Return the robust error of each match under a mesh fitted without it and its neighbors."""
    errors = np.zeros(len(matches))
    for fold in range(FOLDS):
        inside, outside = folds == fold, folds != fold
        if not inside.any() or not outside.any():
            continue
        own = matches.select(outside)
        mesh = None if cells is None else _fit_mesh(mapping, own, region=region, cells=cells)
        residual = residuals(mapping.with_matrix(mapping.matrix, mesh), matches.select(inside))
        square = np.einsum("na,nab,nb->n", residual, matches.information[inside], residual)
        errors[inside] = square
    return 9 * errors / (9 * typical + errors)


def _is_significantly_less(
    errors: Float64[np.ndarray, " n"], others: Float64[np.ndarray, " n"]
) -> bool:
    """Return whether errors are significantly below others of the same matches."""
    gain = others - errors
    chance = float(gain.std()) / np.sqrt(len(gain) / OVERLAP)
    return bool(gain.mean() > MIN_STANDARD_ERRORS * chance)


def to_matches(mapping: Mapping, patches: PatchDisplacements) -> Matches:
    """Return displacements on the wide grid as matches of the registered grid and the tele frame.

    Args:
        mapping: by which the moving image was resampled to the wide grid.
        patches: displacements, with positions on the wide photograph.
    """
    scale = mapping.scale
    registered = registered_of_wide(patches.positions, scale)
    tele = mapping(registered + scale * patches.displacements)
    stretch = scale * mapping.tele_px_per_px
    turn = jacobian(mapping.matrix, registered.mean(0))
    turn = turn / np.sqrt(abs(np.linalg.det(turn)))
    covariance = np.linalg.inv(patches.information + 1e-9 * np.eye(2)) + FLOOR_WIDE_PX**2 * np.eye(
        2
    )
    inverse = np.linalg.inv(covariance) / stretch**2
    return Matches(registered, tele, turn @ inverse @ turn.T)
