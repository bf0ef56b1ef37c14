"""What scenes are made from: photos on the disk, or numbers that procedural scenes grow from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from d2csr.core.errors import DataError
from d2csr.core.grid import Size
from d2csr.images.formats import is_image_name
from d2csr.images.read import read_rgb8
from d2csr.simulate.scene import procedural


@dataclass(frozen=True)
class Photo:
    """A photo in a file."""

    path: Path

    @property
    def name(self) -> str:
        """Return the name of the file."""
        return self.path.name

    def picture(self) -> UInt8[np.ndarray, "h w 3"]:
        """Return the photo; `ImageError` where it can't be read."""
        return read_rgb8(self.path)


@dataclass(frozen=True)
class Procedural:
    """A scene drawn by chance."""

    size: Size
    seed: tuple[int, ...]

    @property
    def name(self) -> str:
        """Return what it grows from."""
        return f"procedural {'-'.join(map(str, self.seed))}"

    def picture(self) -> UInt8[np.ndarray, "h w 3"]:
        """Return the picture, the same for the same seed."""
        return procedural(self.size, rng=np.random.default_rng(self.seed))


Source = Photo | Procedural


def photos_in(places: Sequence[Path], *, out: Path) -> tuple[Photo, ...]:
    """Return the photos that files and folders name, folders searched at any depth.

    Raises:
        DataError: a place is missing, a folder holds no pictures, or is to hold the results.
    """
    found: list[Path] = []
    for place in places:
        if out.resolve().is_relative_to(place.resolve()):
            remedy = "Choose a folder outside; a second run would take its pictures for photos."
            raise DataError(out, "lies among the photos", remedy=remedy)
        if place.is_dir():
            inside = sorted(path for path in place.rglob("*") if is_image_name(path))
            if not inside:
                raise DataError(place, "holds no pictures", remedy="Give a folder of photos.")
            found += inside
        elif place.exists():
            found.append(place)
        else:
            raise DataError(place, "does not exist", remedy="Check the name.")
    return tuple(Photo(path) for path in found)
