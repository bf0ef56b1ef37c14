"""Results of a photo as the page shows them: its files by kind, and tiles of each to look at.

The tiles are JPEG of high quality and exist for the view alone, so that a browser shows an image of
hundreds of megapixels, and formats that it can't read; what is downloaded are the files themselves.
"""

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pyvips

from d2csr.core.errors import ImageError, first_line
from d2csr.images.reader import read_image
from d2csr.upscale.jobs import Job as ImageJob
from d2csr.upscale.report import ImageReport
from d2csr.web.jobs import Job, JobQueue

TILE_PX = 512
_TILE_SUFFIX = ".jpg[Q=92,subsample_mode=off,strip]"
_LEVELS, _SIZE = "tiles_files", "size"  # libvips appends `_files`
_BACKGROUND = [128.0]  # behind transparent pixels
_ICC = "icc-profile-data"


@dataclass(frozen=True)
class Layer:
    """An image that can be looked at.

    Attributes:
        name: `before`, `after`, `uncertainty`, `prediction_1`, `weight_1`, ...
        label: the name in words.
        path: the file.
    """

    name: str
    label: str
    path: Path


@final
@dataclass(frozen=True)
class Result:
    """One photo of a job that succeeded.

    Attributes:
        job: the job.
        index: of the photo among those that succeeded.
    """

    job: Job
    index: int

    @property
    def report(self) -> ImageReport:
        """Return the report of the photo."""
        return self.job.done[self.index]

    @property
    def name(self) -> str:
        """Return the name by which `find_result` finds it, which is part of its addresses."""
        return f"{self.job.token}/{self.index}"

    @property
    def layers(self) -> dict[str, Layer]:
        """Return its images by name: the photo itself, the result, and the maps that were made."""
        job = ImageJob(Path(self.report.source), Path(self.report.target))
        found = [Layer("before", "Before", job.source), Layer("after", "After", job.target)]
        found.append(Layer("uncertainty", "Uncertainty", job.uncertainty()))
        for leaf in range(len(self.report.files)):
            number = leaf + 1
            path = job.prediction(leaf)
            found.append(Layer(f"prediction_{number}", f"Prediction {number}", path))
            found.append(Layer(f"weight_{number}", f"Weight {number}", job.weight_map(leaf)))
        made = {job.source, *map(Path, self.report.files)}
        return {each.name: each for each in found if each.path in made}

    def tiles_folder(self, layer: Layer) -> Path:
        """Return the folder of the tiles of one of its images."""
        return self.job.folder / "tiles" / f"{self.index}_{layer.name}"


def find_result(queue: JobQueue, name: str) -> Result | None:
    """Return the result of a name; None if there is none, or no longer."""
    token, _, index = name.partition("/")
    job = queue.find(token)
    if job is None or not index.isdecimal() or int(index) >= len(job.done):
        return None
    return Result(job, int(index))


@final
class Tiles:
    """Pyramids of tiles, made when an image is looked at; one at a time, to bound the memory."""

    def __init__(self, *, limit_mp: float) -> None:
        """Make nothing yet; `limit_mp` is the largest photo that is decoded, in megapixels."""
        self._limit_mp = limit_mp
        self._lock = threading.Lock()

    def describe(self, layer: Layer, folder: Path) -> dict[str, Any]:
        """Return the size of an image in pixels and the number of its levels; make its tiles.

        Level 0 is one tile, each further level has twice the size, the last the pixels themselves.

        Args:
            layer: the image.
            folder: folder of the tiles, which is created.

        Raises:
            D2csrError: the image can't be read, or the tiles can't be written.
        """
        with self._lock:
            if not folder.is_dir():
                self._make(layer, folder)
        width, height = map(int, (folder / _SIZE).read_text().split())
        levels = sum(each.is_dir() for each in (folder / _LEVELS).iterdir())
        return {"width": width, "height": height, "tile": TILE_PX, "levels": levels}

    def path(self, folder: Path, *, level: int, column: int, row: int) -> Path:
        """Return the file of a tile, which may not exist."""
        return folder / _LEVELS / str(level) / f"{column}_{row}.jpg"

    def _make(self, layer: Layer, folder: Path) -> None:
        """Write the tiles of an image into a folder, which is complete or absent."""
        unfinished = folder.with_name(f"{folder.name}.part")
        unfinished.mkdir(parents=True, exist_ok=True)
        try:
            image = self._open(layer)
            _to_srgb8(image).dzsave(
                str(unfinished / _LEVELS.removesuffix("_files")),
                tile_size=TILE_PX,
                overlap=0,
                depth="onetile",
                suffix=_TILE_SUFFIX,
            )
            (unfinished / _SIZE).write_text(f"{image.width} {image.height}")
            unfinished.rename(folder)
        except (pyvips.Error, OSError) as error:
            problem = f"can't be shown: {first_line(error)}"
            remedy = "Download the file, which is complete, or free some disk space."
            raise ImageError(layer.path.name, problem, remedy) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _open(self, layer: Layer) -> pyvips.Image:
        """Return an image; the photo in any format that the engine reads, HEIC among them."""
        if layer.name != "before":
            return pyvips.Image.new_from_file(str(layer.path), access="sequential")
        photo = read_image(layer.path, limit_mp=self._limit_mp)
        parts = [photo.pixels] if photo.alpha is None else [photo.pixels, photo.alpha[..., None]]
        pixels = np.concatenate(parts, axis=2)
        interpretations = ("b-w", "grey16") if photo.pixels.shape[2] == 1 else ("srgb", "rgb16")
        image = pyvips.Image.new_from_array(
            pixels, interpretation=interpretations[pixels.dtype == np.uint16]
        ).copy()
        if photo.metadata.icc is not None:
            profile: Any = photo.metadata.icc  # bytes are missing in the types of libvips
            image.set_type(pyvips.GValue.blob_type, _ICC, profile)
        return image


def _to_srgb8(image: pyvips.Image) -> pyvips.Image:
    """Return an image in 8-bit sRGB by its color profile, on gray where it is transparent."""
    if image.get_typeof(_ICC):
        try:
            image = image.icc_transform("srgb", embedded=True)
        except pyvips.Error:  # a damaged profile; the pixels are still worth a look
            image = image.copy()
    image = image.colourspace("srgb").cast("uchar")
    return image.flatten(background=_BACKGROUND) if image.hasalpha() else image
