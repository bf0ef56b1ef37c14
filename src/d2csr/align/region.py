"""Rectangles of whole pixels on a grid."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """Columns left..left + width - 1 and rows top..top + height - 1 of a picture."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """Return the first column behind the region."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """Return the first row below the region."""
        return self.top + self.height

    @property
    def slices(self) -> tuple[slice, slice]:
        """Return rows and columns to index a picture by."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def shrunk(self, pixels_x: int, pixels_y: int) -> "Region":
        """Return the region less these pixels on each of its sides."""
        width, height = self.width - 2 * pixels_x, self.height - 2 * pixels_y
        return Region(self.left + pixels_x, self.top + pixels_y, max(width, 0), max(height, 0))

    def times(self, scale: int) -> "Region":
        """Return the same region on a grid `scale` times finer."""
        return Region(*(scale * side for side in (self.left, self.top, self.width, self.height)))
