"""The outcome of one pair, accepted or not: kept beside its images, so that a run can go on."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from d2csr.align.pairing import PhotoPair
from d2csr.align.steps import Settings
from d2csr.core.files import sha256_file, write_atomically

VERSION = 2  # of how pairs are made: another number makes earlier ones anew
Verdict = Literal["accepted", "rejected", "failed"]
IMAGES = ("LR", "HR", "mask")


@dataclass(frozen=True)
class PairResult:
    """What became of two photographs.

    Attributes:
        key: hash of both files and of the settings; another key means that it is out of date.
        name: of the pair's files.
        capture: what the folder called it.
        scene: pairs of one scene share a split.
        wide: path of the wide photograph.
        tele: path of the tele photograph.
        verdict: accepted, rejected (no pair to trust), failed (a file that can't be used).
        cause: one word for it; empty if accepted.
        reason: a sentence; empty if accepted.
        camera: what took them.
        lr_size: width and height of the LR image.
        hr_size: of the HR image.
        hashes: of the images written, by their kind: LR, HR, mask.
        scores: as `trust.Scores` names them; empty where it did not come so far.
        transform: how the tele photograph lies on the LR grid.
        arrows: places and displacements left, (x, y, dx, dy) in HR pixels of the pair.
        notes: sentences about the files.
    """

    key: str
    name: str
    capture: str
    scene: str
    wide: str
    tele: str
    verdict: Verdict
    cause: str = ""
    reason: str = ""
    camera: str = ""
    lr_size: tuple[int, int] = (0, 0)
    hr_size: tuple[int, int] = (0, 0)
    hashes: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    transform: dict[str, Any] = field(default_factory=dict)
    arrows: list[list[float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return asdict(self)


def cache_key(capture: PhotoPair, settings: Settings) -> str:
    """Return what decides an outcome, as one hash; a file that can't be read counts by its name."""
    paths = (capture.wide, capture.tele)
    files = [sha256_file(path) if path.is_file() else str(path) for path in paths]
    parts = [str(VERSION), repr(settings), *files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def write_outcome(outcome: PairResult, path: Path) -> None:
    """Write an outcome atomically, after its images."""
    write_atomically(path, f"{json.dumps(outcome.as_json(), indent=1, allow_nan=False)}\n".encode())


def read_outcome(path: Path) -> PairResult | None:
    """Return an outcome of an earlier run; None where there is none, or none that can be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        sizes = {name: tuple(values[name]) for name in ("lr_size", "hr_size")}
        return PairResult(**{**values, **sizes})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def outcomes_in(work: Path) -> list[PairResult]:
    """Return all outcomes that lie in a folder, by their names."""
    found = (read_outcome(path) for path in sorted(work.glob("*.json")))
    return [outcome for outcome in found if outcome is not None]
