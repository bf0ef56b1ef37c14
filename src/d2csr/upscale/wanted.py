"""What to write for each picture, and what to call it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from d2csr.core.errors import UsageError
from d2csr.images.formats import FORMATS, WRITABLE_FORMATS
from d2csr.upscale.size import MODELS_OWN, OutputSize

Extension = Literal["png", "jpg", "webp", "tif", "avif", "same"]
WRITABLE = tuple(suffix for name in WRITABLE_FORMATS for suffix in FORMATS[name])


@dataclass(frozen=True)
class Wanted:
    """Files wanted for each picture.

    Attributes:
        suffix: Added to every name, before its ending.
        ext: Format of the pictures: png, jpg, webp, tif, avif, or that of each input (same).
        predictions: Write each prediction too.
        weight_maps: Write each prediction's weight too: dark violet none, teal an equal share,
            yellow twice that or more.
        disagreement: Write how far the predictions are apart too: dark violet 0, yellow 4 grey
            levels or more.
        bicubic: Write the bicubic enlargement too, to compare with.
        self_ensemble: Average what the model says of the picture's eight flips and turns.
        size: Of SR and of the bicubic enlargement.
    """

    suffix: str = ""
    ext: Extension = "png"
    predictions: bool = False
    weight_maps: bool = False
    disagreement: bool = False
    bicubic: bool = False
    self_ensemble: bool = False
    size: OutputSize = MODELS_OWN

    def __post_init__(self) -> None:
        """Refuse maps that SR would not be made from.

        Raises:
            UsageError: the predictions are asked for, but SR is made from more than them.
        """
        if self.needs_predictions and (self.self_ensemble or self.size != MODELS_OWN):
            problem = "are of one run, at the model's own size"
            remedy = "Leave -x, --outscale, --width and --height out."
            raise UsageError("predictions, weight maps and disagreement", problem, remedy=remedy)

    @property
    def needs_predictions(self) -> bool:
        """Return whether the fused picture alone won't do."""
        return self.predictions or self.weight_maps or self.disagreement

    def settings(self) -> dict[str, Any]:
        """Return all that decides what the files hold; their names are told by themselves."""
        values = asdict(self)
        return {name: values[name] for name in values if name not in {"suffix", "ext"}}


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

    def is_map(self, file: Path) -> bool:
        """Return whether one of the picture's files shows numbers, not the picture."""
        return file == self.disagreement() or file.name.startswith(f"{self.target.stem}_weight_")

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
