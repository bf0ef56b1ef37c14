"""What is seen of a plane: its texture's light where rows and columns of a view cross."""

import cv2
import numpy as np
from jaxtyping import Float32, Float64

from d2csr.simulate.geometry import View
from d2csr.simulate.scene import Plane
from d2csr.simulate.tone import LINEAR_OF_SRGB8

FINER = 4  # the texture is enlarged by this, by Lanczos, and read linearly in between
NODE_STEP_PX = 8  # between positions computed in full; cubic polynomials between them


def light_where_crossing(
    plane: Plane, view: View, *, x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " m"]
) -> Float32[np.ndarray, "m n c"] | None:
    """Return the plane's linear RGB where x and y cross, beyond the picture its mirror image.

    Of a plane that one sees past, the light times its cover, and the cover as the fourth channel;
    None where none of it is there.
    """
    u, v = texture_positions(plane, view, x=x, y=y)
    left, right = _span(u)
    top, bottom = _span(v)
    columns = _reflected(np.arange(left, right), plane.size.width)
    rows = _reflected(np.arange(top, bottom), plane.size.height)
    part = LINEAR_OF_SRGB8[plane.texture[rows[:, None], columns]]
    if plane.cover is not None:
        inside = (np.arange(top, bottom) == rows)[:, None] & (np.arange(left, right) == columns)
        cover = np.where(inside, plane.cover[rows[:, None], columns], 0).astype(np.float32) / 255
        if not cover.any():
            return None
        part = np.concatenate([part * cover[..., None], cover[..., None]], axis=-1)
    fine = cv2.resize(part, None, fx=FINER, fy=FINER, interpolation=cv2.INTER_LANCZOS4)
    shift = 0.5 * FINER - 0.5
    return cv2.remap(
        fine,
        ((u - left) * FINER + shift).astype(np.float32),
        ((v - top) * FINER + shift).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _span(positions: np.ndarray) -> tuple[int, int]:
    return int(np.floor(positions.min())) - 6, int(np.ceil(positions.max())) + 7


def _reflected(index: np.ndarray, length: int) -> np.ndarray:
    """Return indices into a row continued by its own mirror image."""
    index = index % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)


def texture_positions(
    plane: Plane, view: View, *, x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " m"]
) -> tuple[Float64[np.ndarray, "m n"], Float64[np.ndarray, "m n"]]:
    """Return column and row of the texture seen where the positions x and y cross."""
    nodes_x, weights_x = _nodes(x)
    nodes_y, weights_y = _nodes(y)
    pixels = np.stack(np.meshgrid(nodes_x, nodes_y), axis=-1)
    seen = view.on_plane(pixels, plane.distance_m) / plane.pitch_m
    u, v = (weights_y @ seen[..., axis] @ weights_x.T for axis in (0, 1))
    return u + (plane.size.width - 1) / 2, v + (plane.size.height - 1) / 2


def _nodes(x: Float64[np.ndarray, " n"]) -> tuple[np.ndarray, Float64[np.ndarray, "n nodes"]]:
    """Return few positions about x, and the weights of Lagrange's cubic from them to x."""
    place = (x - x[0]) / NODE_STEP_PX
    cell = np.floor(place).astype(int)
    t = place - cell
    weights = np.zeros((len(x), cell[-1] + 4))
    steps = (-1, 0, 1, 2)
    for step in steps:
        terms = [(t - other) / (step - other) for other in steps if other != step]
        weights[np.arange(len(x)), cell + 1 + step] = np.prod(terms, axis=0)
    return x[0] + NODE_STEP_PX * np.arange(-1, cell[-1] + 3), weights
