"""Pixels between file and engine: depth, gray, and colour under alpha."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from d2csr.upscale.hidden import filled

Stored = np.ndarray[Any, np.dtype[Any]]  # uint8 or uint16, as the file has it
Rgb01 = Float32[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class PixelKind:
    """What a file's pixels are.

    Attributes:
        dtype: uint8 or uint16.
        bands: of colour: 1 or 3.
        colourless: no pixel has a colour, though there may be three bands; nor will any of SR.
    """

    dtype: np.dtype[Any]
    bands: int
    colourless: bool

    @property
    def top(self) -> int:
        """Return the value of white."""
        return int(np.iinfo(self.dtype).max)

    def stored(self, values01: Float32[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
        """Return the nearest values that a file can hold."""
        scaled: np.ndarray[Any, np.dtype[Any]] = np.rint(values01 * np.float32(self.top))
        return scaled.clip(0, self.top).astype(self.dtype)


def kind_of(pixels: Shaped[np.ndarray, "h w c"]) -> PixelKind:
    """Return the kind of a picture's pixels, alpha aside."""
    bands = pixels.shape[2]
    colourless = all(np.array_equal(pixels[..., 0], pixels[..., band]) for band in range(1, bands))
    return PixelKind(pixels.dtype, bands, colourless)


def engine_colour(
    pixels: Shaped[np.ndarray, "h w c"], alpha: Shaped[np.ndarray, "h w"] | None
) -> Rgb01:
    """Return colour as the engine takes it, filled in where alpha hides it; gray is repeated."""
    top = np.float32(np.iinfo(pixels.dtype).max)
    colour = np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.float32)
    colour /= top
    if alpha is None:
        return colour
    return filled(colour, alpha.astype(np.float32) / top)


def engine_gray(gray: Shaped[np.ndarray, "h w"]) -> Rgb01:
    """Return one band as the engine takes it."""
    values = gray.astype(np.float32) / np.float32(np.iinfo(gray.dtype).max)
    return np.repeat(values[..., None], 3, axis=2)


def file_rows(
    sr01: Float32[np.ndarray, "rows sw 3"],
    *,
    kind: PixelKind,
    alpha: Shaped[np.ndarray, "rows sw"] | None,
) -> Shaped[np.ndarray, "rows sw c"]:
    """Return rows of SR as they are stored, alpha behind the colour.

    Args:
        sr01: colour.
        kind: of the picture's pixels.
        alpha: of these rows, as stored.
    """
    if kind.colourless:
        sr01 = sr01.mean(axis=2, keepdims=True, dtype=np.float32)
    rows = kind.stored(sr01)
    if kind.colourless and kind.bands > 1:
        rows = np.repeat(rows, kind.bands, axis=2)
    return rows if alpha is None else np.concatenate([rows, alpha[..., None]], axis=2)
