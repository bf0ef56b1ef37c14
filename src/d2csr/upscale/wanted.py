"""What to write for each picture, and what to call it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Extension = Literal["png", "jpg", "webp", "tif", "same"]
WRITABLE = (".png", ".jpg", ".jpeg", ".jpe", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Wanted:
    """Files wanted for each picture.

    Attributes:
        suffix: Added to every name, before its ending.
        ext: Format of the pictures: png, jpg, webp, tif, or that of each input (same).
        predictions: Write each prediction too.
        weight_maps: Write each prediction's weight too: dark violet none, teal an equal share,
            yellow twice that or more.
        disagreement: Write how far the predictions are apart too: dark violet 0, yellow 4 grey
            levels or more.
        bicubic: Write the bicubic enlargement too, to compare with.
    """

    suffix: str = ""
    ext: Extension = "png"
    predictions: bool = False
    weight_maps: bool = False
    disagreement: bool = False
    bicubic: bool = False

    @property
    def needs_predictions(self) -> bool:
        """Return whether the fused picture alone won't do."""
        return self.predictions or self.weight_maps or self.disagreement


SR_ONLY = Wanted()


@dataclass(frozen=True)
class Job:
    """One picture to enlarge.

    Attributes:
        source: the file to read.
        target: the SR file to write.
    """

    source: Path
    target: Path

    def bicubic(self) -> Path:
        """Return where the bicubic enlargement goes."""
        return self._beside("bicubic", self.target.suffix)

    def prediction(self, leaf: int) -> Path:
        """Return where a prediction goes; people count from 1."""
        return self._beside(f"prediction_{leaf + 1}", self.target.suffix)

    def weight_map(self, leaf: int) -> Path:
        """Return where a prediction's weights go."""
        return self._beside(f"weight_{leaf + 1}", ".png")

    def disagreement(self) -> Path:
        """Return where the disagreement of the predictions goes."""
        return self._beside("disagreement", ".png")

    def files(self, wanted: Wanted, leaves: int) -> Iterator[Path]:
        """Yield every file that will be written for this picture."""
        yield self.target
        if wanted.bicubic:
            yield self.bicubic()
        if wanted.predictions:
            yield from map(self.prediction, range(leaves))
        if wanted.weight_maps:
            yield from map(self.weight_map, range(leaves))
        if wanted.disagreement:
            yield self.disagreement()

    def _beside(self, what: str, ending: str) -> Path:
        return self.target.with_name(f"{self.target.stem}_{what}{ending}")
