"""Wishes beside scores: what else one evaluation is to do."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Extras:
    """What an evaluation can be asked for beside scores.

    Attributes:
        fit: Pairs that the linear filter is fitted on: their train split, if they have one.
        split: Which split to score; without it `test` if there is one, else everything.
        save: Folder for the SR pictures, with the figures beside them.
        calibration: Compare the disagreement of the predictions with the true error.
    """

    fit: Path | None = None
    split: str | None = None
    save: Path | None = None
    calibration: bool = False


NOTHING_MORE = Extras()
