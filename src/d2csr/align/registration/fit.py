"""The mapping that explains measured displacements: matrix, then as much warp as they support.

Patches vote with what they know (2x2 information), and lose their vote as they disagree with the
rest (Geman and McClure's weight): nearer objects and moved things are outvoted, not averaged in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from d2csr.align.registration.transform import Mapping, Mesh, basis, jacobian, project, roughness
from d2csr.core.geometry import Region

# What the best patch is still off by, whatever its texture says: aliasing and the mosaic, in pixels
# of the wide photograph. Keeps a few strong patches from deciding alone.
FLOOR_WIDE_PX = 0.02
ROUNDS = 8
FOLDS = 5
# A finer mesh must lower the mean held-out error by this many of its standard errors.
ERRORS_LESS = 2.5
OVERLAP = 4.0  # patches to one place: half-overlapping ones are not independent
STIFFNESS = 1e-2
# Standard deviations: wide k1, wide k2, tele k1, tele p1, tele p2. Tangential terms also take in an
# optical axis that is off the middle of the frame, as in an image that was cropped.
LENS_PRIOR = (0.05, 0.01, 0.01, 0.001, 0.001)
LENS_LIMIT = 0.25  # beyond it a radius may meet two places of the scene
PATCHES_A_POINT = 5  # control points beyond this share of the patches are not tried


@dataclass(frozen=True)
class Matches:
    """Where positions of the registered grid were found on the tele photograph.

    Attributes:
        registered: positions on the registered grid.
        tele: the same places on the tele photograph.
        information: inverse covariance of the tele position.
    """

    registered: Float64[np.ndarray, "n 2"]
    tele: Float64[np.ndarray, "n 2"]
    information: Float64[np.ndarray, "n 2 2"]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.registered)

    def only(self, chosen: np.ndarray) -> "Matches":
        """Return the chosen ones."""
        return Matches(*(values[chosen] for values in vars(self).values()))


def fit_mapping(
    mapping: Mapping,
    matches: Matches,
    *,
    region: Region,
    cells: Sequence[tuple[int, int]],
    straight: Mapping | None,
) -> Mapping:
    """Return the mapping with matrix and warp fitted to the matches.

    Args:
        mapping: gives the lenses and the first guess of the matrix.
        matches: of this region.
        region: of the registered grid, which a mesh spans.
        cells: meshes allowed, coarsest first; the first that no finer one betters clearly is
            taken, no mesh being the first of all.
        straight: fit the distortion of both lenses, held near this mapping's; None doesn't.
    """
    plain = _parametric(mapping.with_matrix(mapping.matrix, None), matches, straight=straight)
    best, errors = None, None
    folds = _folds(matches, region)
    miss = residuals(plain, matches)
    square = np.einsum("na,nab,nb->n", miss, matches.information, miss)
    typical = max(float(np.median(square)) / 1.39, 1e-12)
    tried: list[tuple[int, int] | None] = [None, *_affordable(cells, len(matches))]
    for candidate in tried if len(tried) > 1 else []:
        held_out = _held_out(plain, matches, region, candidate, folds, typical=typical)
        if errors is None or _clearly_less(held_out, errors):
            best, errors = candidate, held_out
    if best is None:
        return plain
    return plain.with_matrix(plain.matrix, _mesh(plain, matches, region=region, cells=best))


def residuals(mapping: Mapping, matches: Matches) -> Float64[np.ndarray, "n 2"]:
    """Return how far the mapping misses the matches, in tele pixels."""
    return matches.tele - mapping(matches.registered)


def _affordable(cells: Sequence[tuple[int, int]], patches: int) -> list[tuple[int, int]]:
    return [
        (down, across)
        for down, across in cells
        if (down + 3) * (across + 3) * PATCHES_A_POINT <= patches
    ]


def _parametric(mapping: Mapping, matches: Matches, *, straight: Mapping | None) -> Mapping:
    """Return the mapping with its matrix, and radial lenses if asked, fitted: Gauss and Newton."""
    for _ in range(ROUNDS):
        miss = residuals(mapping, matches)
        weight = _weighted(matches.information, miss)
        to_unit = _to_unit(matches.registered)
        derivative = _derivative(mapping, matches.registered, to_unit=to_unit)
        if straight is not None:
            derivative = np.concatenate([derivative, _lens_derivative(mapping, matches)], axis=2)
        normal = np.einsum("nai,nab,nbj->ij", derivative, weight, derivative, optimize=True)
        right = np.einsum("nai,nab,nb->i", derivative, weight, miss, optimize=True)
        prior = np.full(len(right), 1e-12 * np.trace(normal))
        if straight is not None:  # a lens is what it was said to be until patches say otherwise
            prior[8:] = 1 / np.square(LENS_PRIOR)
            right[8:] -= (np.array(_bent(mapping)) - _bent(straight)) * prior[8:]
        step = np.linalg.solve(normal + np.diag(prior), right)
        mapping = _stepped(mapping, step, to_unit=to_unit)
    return mapping


def _bent(mapping: Mapping) -> tuple[float, ...]:
    wide, tele = mapping.wide_lens, mapping.tele_lens
    return wide.k1, wide.k2, tele.k1, tele.p1, tele.p2


def _with_bent(mapping: Mapping, terms: Float64[np.ndarray, " 5"]) -> Mapping:
    k1, k2, tele_k1, p1, p2 = (float(value) for value in terms)
    return replace(
        mapping,
        wide_lens=replace(mapping.wide_lens, k1=k1, k2=k2),
        tele_lens=replace(mapping.tele_lens, k1=tele_k1, p1=p1, p2=p2),
    )


def _stepped(mapping: Mapping, step: np.ndarray, *, to_unit: np.ndarray) -> Mapping:
    unit = mapping.matrix @ np.linalg.inv(to_unit)
    unit = unit / unit[2, 2] + np.append(step[:8], 0.0).reshape(3, 3)
    mapping = mapping.with_matrix(unit @ to_unit, mapping.mesh)
    if len(step) > 8:
        terms = np.array(_bent(mapping)) + step[8:]
        mapping = _with_bent(mapping, np.clip(terms, -LENS_LIMIT, LENS_LIMIT))
    return mapping


def _lens_derivative(mapping: Mapping, matches: Matches) -> Float64[np.ndarray, "n 2 5"]:
    """Return how tele positions move with each lens coefficient, by differences."""
    now, small = np.array(_bent(mapping)), 1e-4
    columns = []
    for axis in np.eye(len(now)):
        ends = [_with_bent(mapping, now + sign * small * axis) for sign in (1, -1)]
        columns.append((ends[0](matches.registered) - ends[1](matches.registered)) / (2 * small))
    return np.stack(columns, axis=-1)


def _to_unit(points: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "3 3"]:
    """Return the matrix that centres points and brings them to about unit size."""
    middle, size = points.mean(0), float(points.std()) + 1e-9
    return np.array([[1 / size, 0, -middle[0] / size], [0, 1 / size, -middle[1] / size], [0, 0, 1]])


def _derivative(
    mapping: Mapping, registered: Float64[np.ndarray, "n 2"], *, to_unit: Float64[np.ndarray, "3 3"]
) -> Float64[np.ndarray, "n 2 8"]:
    """Return how projected positions move with the matrix' first eight entries, the last at 1.

    The tele lens bends this by a percent or so; steps need not be better than that.
    """
    unit = project(to_unit, mapping.ideal_wide(registered))
    matrix = mapping.matrix @ np.linalg.inv(to_unit)
    matrix = matrix / matrix[2, 2]
    homogeneous = np.concatenate([unit, np.ones((len(unit), 1))], axis=1)
    place = project(matrix, unit)
    scaled = homogeneous / (homogeneous @ matrix[2])[:, None]
    result = np.zeros((len(unit), 2, 8))
    result[:, 0, 0:3] = scaled
    result[:, 1, 3:6] = scaled
    result[:, :, 6:8] = -place[:, :, None] * scaled[:, None, :2]
    return result


def _weighted(
    information: Float64[np.ndarray, "n 2 2"], miss: Float64[np.ndarray, "n 2"]
) -> Float64[np.ndarray, "n 2 2"]:
    """Return the information, brought to the size of what is missed, less what outliers lose.

    Patches know less than their own residuals say: aliasing and neighbours' overlap.
    """
    square = np.einsum("na,nab,nb->n", miss, information, miss)
    # the lower quarter of chi-square, two degrees: holds although half the scene stands elsewhere
    typical = max(float(np.quantile(square, 0.25)) / 0.575, 1e-12)
    return information * ((9.0 / (9.0 + square / typical)) ** 2 / max(typical, 1.0))[:, None, None]


def _mesh(mapping: Mapping, matches: Matches, *, region: Region, cells: tuple[int, int]) -> Mesh:
    """Return the mesh that explains what the matrix leaves over."""
    goal = mapping.ideal_tele(matches.tele) - mapping.before_lens(matches.registered)
    b = basis(matches.registered, region, cells=cells)
    points = b.shape[1]
    stiff = np.kron(roughness(cells), np.eye(2)) + 1e-4 * np.eye(2 * points)
    values = np.zeros(2 * points)
    for _ in range(ROUNDS // 2):
        miss = goal - b @ values.reshape(-1, 2)
        weight = _weighted(matches.information, miss)
        blocks = np.einsum("ni,nab->nbia", b, weight)  # n, b, points, a
        normal = np.einsum("nbia,nj->iajb", blocks, b, optimize=True)
        normal = normal.reshape(2 * points, 2 * points)
        right = np.einsum("nbia,nb->ia", blocks, goal).ravel()
        scale = STIFFNESS * np.trace(normal) / (2 * points)
        values = np.linalg.solve(normal + scale * stiff, right)
    return Mesh(region, values.reshape(cells[0] + 3, cells[1] + 3, 2))


def _folds(matches: Matches, region: Region) -> np.ndarray:
    """Return each match's fold; neighbours share one, because patches overlap."""
    side = max(1.0, np.sqrt(region.width * region.height / max(len(matches), 1)) * 2)
    block = np.floor((matches.registered - [region.left, region.top]) / side).astype(int)
    return (block[:, 0] * 2 + block[:, 1] * 3 + block[:, 0] // FOLDS) % FOLDS


def _held_out(  # noqa: PLR0917 - what is fitted, to what, and left out how
    mapping: Mapping,
    matches: Matches,
    region: Region,
    cells: tuple[int, int] | None,
    folds: np.ndarray,
    *,
    typical: float,
) -> Float64[np.ndarray, " n"]:
    """Return each match's robust error under a mesh fitted without it and its neighbours."""
    errors = np.zeros(len(matches))
    for fold in range(FOLDS):
        inside, outside = folds == fold, folds != fold
        if not inside.any() or not outside.any():
            continue
        own = matches.only(outside)
        mesh = None if cells is None else _mesh(mapping, own, region=region, cells=cells)
        miss = residuals(mapping.with_matrix(mapping.matrix, mesh), matches.only(inside))
        square = np.einsum("na,nab,nb->n", miss, matches.information[inside], miss)
        errors[inside] = square
    return 9 * errors / (9 * typical + errors)


def _clearly_less(errors: Float64[np.ndarray, " n"], others: Float64[np.ndarray, " n"]) -> bool:
    """Return whether errors are less than others of the same matches by more than chance."""
    gain = others - errors
    chance = float(gain.std()) / np.sqrt(len(gain) / OVERLAP)
    return bool(gain.mean() > ERRORS_LESS * chance)


def matches_of(
    mapping: Mapping,
    places: Float64[np.ndarray, "n 2"],
    *,
    moves: Float64[np.ndarray, "n 2"],
    information: Float64[np.ndarray, "n 2 2"],
) -> Matches:
    """Return displacements on the wide grid as matches of the registered grid and the tele frame.

    Args:
        mapping: by which the moving image was brought to the wide grid.
        places: on the wide photograph.
        moves: where the wide place was found, less itself, in wide pixels.
        information: inverse covariance of the moves.
    """
    scale = mapping.scale
    registered = (places + 0.5) * scale - 0.5
    tele = mapping(registered + scale * moves)
    stretch = scale * mapping.tele_px_per_px
    turn = jacobian(mapping.matrix, registered.mean(0))
    turn = turn / np.sqrt(abs(np.linalg.det(turn)))
    covariance = np.linalg.inv(information + 1e-9 * np.eye(2)) + FLOOR_WIDE_PX**2 * np.eye(2)
    inverse = np.linalg.inv(covariance) / stretch**2
    return Matches(registered, tele, turn @ inverse @ turn.T)
