"""The legend of the uncertainty map: its color scale, with gray levels at ticks, below the map.

The scale is logarithmic, because errors of photographs lie between half a gray level in flat
areas and 30 at edges; each tick is twice the one before. It is the same for all images.
"""

from typing import final

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from d2csr.core.geometry import Size
from d2csr.images.colors import heatmap

TICKS = (0.5, 1, 2, 4, 8, 16, 32)  # gray levels
_OCTAVES = float(np.log2(TICKS[-1] / TICKS[0]))
_TITLE = "EXPECTED ERROR, GRAY LEVELS 0-255"
_NARROWEST_PX = 240  # below it, the title has no room: narrower maps get a margin on the right
_BAR_PX, _TICK_PX, _GAP_PX, _SIDE_PX = 12, 3, 4, 14  # at size 1
_INK, _PAPER = 255, 24

# Letters of 5x7 pixels, row by row, each row a number of 5 bits.
_GLYPHS = {
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "7": (31, 1, 2, 4, 8, 8, 8),
    "9": (14, 17, 17, 15, 1, 2, 12),
    "A": (14, 17, 17, 31, 17, 17, 17),
    "B": (30, 17, 17, 30, 17, 17, 30),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (30, 17, 17, 17, 17, 17, 30),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "G": (14, 17, 16, 23, 17, 17, 15),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "I": (14, 4, 4, 4, 4, 4, 14),
    "J": (7, 2, 2, 2, 2, 18, 12),
    "K": (17, 18, 20, 24, 20, 18, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17),
    "N": (17, 17, 25, 21, 19, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "Q": (14, 17, 17, 17, 21, 18, 13),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14),
    "V": (17, 17, 17, 17, 17, 10, 4),
    "W": (17, 17, 17, 21, 21, 21, 10),
    "X": (17, 17, 10, 4, 10, 17, 17),
    "Y": (17, 17, 10, 4, 4, 4, 4),
    "Z": (31, 1, 2, 4, 8, 16, 31),
    ".": (0, 0, 0, 0, 0, 12, 12),
    ",": (0, 0, 0, 0, 12, 4, 8),
    "-": (0, 0, 0, 31, 0, 0, 0),
    "_": (0, 0, 0, 0, 0, 0, 31),
    " ": (0, 0, 0, 0, 0, 0, 0),
}
_LETTER = Size(5, 7)


@final
class Legend:
    """The legend of one map, and the colors of the map's values."""

    def __init__(self, map_size: Size) -> None:
        """Hold the size of the map that the legend is drawn below."""
        self._map = map_size
        self._magnification = max(1, min(map_size.width // 400, 8))

    @property
    def size(self) -> Size:
        """Return the size of map and legend together."""
        return Size(max(self._map.width, _NARROWEST_PX), self._map.height + self._height)

    @property
    def note(self) -> str:
        """Return the scale in words, for the file's metadata."""
        return (
            "Expected absolute error of each pixel of the super-resolved image, mean over R, G and "
            f"B, in gray levels (0 to 255). Color scale: viridis over log2, {TICKS[0]} (and less) "
            f"to {TICKS[-1]} (and more). The map is the upper left {self._map.width} x "
            f"{self._map.height} pixels; below it is the legend."
        )

    def color(self, levels: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h sw 3"]:
        """Return rows of the map as colors, with the margin of narrow maps."""
        colors = color_levels(levels)
        margin = self.size.width - colors.shape[1]
        return np.pad(colors, [(0, 0), (0, margin), (0, 0)], constant_values=_PAPER)

    def rows(self) -> UInt8[np.ndarray, "h w 3"]:
        """Return the rows of the legend: color bar, ticks, their gray levels, and the title."""
        legend = np.full((self._height, self.size.width, 3), _PAPER, np.uint8)
        unit, first = self._magnification, self._magnification * _SIDE_PX
        columns = np.linspace(0, _OCTAVES, self.size.width - 2 * first, dtype=np.float32)
        bar = slice(unit * _GAP_PX, unit * (_GAP_PX + _BAR_PX))
        legend[bar, first:-first] = color_levels(np.float32(TICKS[0]) * 2 ** columns[None])
        for tick in TICKS:
            share = np.log2(tick / TICKS[0]) / _OCTAVES
            center = first + round(share * (len(columns) - 1))
            left = center - unit // 2
            legend[bar.stop : bar.stop + unit * _TICK_PX, left : left + unit] = _INK
            self._draw(legend, f"{tick:g}", center=center, top=bar.stop + unit * (_TICK_PX + 2))
        title_top = self._height - unit * (_LETTER.height + _GAP_PX)
        self._draw(legend, _TITLE, center=self.size.width // 2, top=title_top)
        return legend

    @property
    def _height(self) -> int:
        lines = 2 * (_LETTER.height + _GAP_PX)
        return self._magnification * (_GAP_PX + _BAR_PX + _TICK_PX + 2 + lines)

    def _draw(
        self, legend: UInt8[np.ndarray, "h w 3"], text: str, *, center: int, top: int
    ) -> None:
        """Draw a line of text, centered at a column."""
        ink = render_text(text).repeat(self._magnification, 0).repeat(self._magnification, 1)
        left = max(0, center - ink.shape[1] // 2)
        legend[top : top + len(ink), left : left + ink.shape[1]][ink] = _INK


def color_levels(levels: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return errors in gray levels as colors, on the scale of the legend."""
    octaves = np.log2(np.maximum(levels, np.float32(TICKS[0])) / np.float32(TICKS[0]))
    return heatmap(octaves, top=_OCTAVES)


def render_text(text: str) -> Bool[np.ndarray, "7 w"]:
    """Return the pixels of a line of text in capitals, one column between letters.

    Characters without a glyph are left blank.
    """
    bits = 1 << np.arange(_LETTER.width)[::-1]
    glyphs = [_GLYPHS.get(letter, _GLYPHS[" "]) for letter in text.upper()]
    letters = [np.array(glyph)[:, None] & bits > 0 for glyph in glyphs]
    return np.concatenate([np.pad(letter, [(0, 0), (0, 1)]) for letter in letters], axis=1)[:, :-1]
