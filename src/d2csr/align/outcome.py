"""Result of each pair, accepted or not, stored beside its images so that a run can be resumed."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from d2csr.align.pairing import PhotoPair
from d2csr.align.steps import Settings
from d2csr.core.errors import DataError
from d2csr.core.files import sha256_file, write_atomically
from d2csr.core.typed_reader import LIST_VALUES, read_json

VERSION = 4  # of the method and the format: pairs of another version are made again
IMAGES = ("LR", "HR", "mask")
# Present names of the scores in the order in which version 2 stored them; one had another name.
_SCORES_2 = (
    "residual_median_px", "residual_p95_px", "grid_error_px", "parallax", "similarity", "textured",
    "blur_minor", "blur_major", "detail", "exposure_ev", "colour_residual", "saturated", "overlap",
    "masked", "ratio", "features",
)  # fmt: skip

# What a photographer can do, for groups of causes: why pairs were rejected, what to do, the causes.
ADVICE = (
    (
        "too much depth close by, or movement",
        "stand further away, choose flat or distant subjects, and wait until nothing moves",
        ("trusted_share", "trusted_mp", "parallax", "masked", "residual_median_px"),
    ),
    (
        "not the same scene, or too little of it",
        "take both photographs from one place, at the same subject, one right after the other",
        ("similarity", "features", "geometry", "overlap"),
    ),
    ("too little texture", "choose subjects with detail everywhere", ("textured", "grid_error_px")),
    (
        "out of focus or shaken",
        "hold still or use a tripod, and let the camera focus before each photograph",
        ("blur_minor", "blur_major", "detail"),
    ),
    (
        "different exposures or colors, or overexposed",
        "set exposure and white balance by hand, and avoid bright sky",
        ("exposure_ev", "colour_residual", "saturated"),
    ),
    ("too little zoom", "choose a smaller --scale, or zoom in further", ("ratio",)),
)  # fmt: skip

Status = Literal["accepted", "rejected", "failed"]


@dataclass(frozen=True)
class Verdict:
    """Decision on a pair.

    Attributes:
        status: accepted, rejected (not a good pair), failed (a file can't be used).
        cause: keyword for lists, for example the name of a score; empty if accepted.
        reason: sentence; empty if accepted.
    """

    status: Status
    cause: str = ""
    reason: str = ""


@dataclass(frozen=True)
class PairImages:
    """Images of a pair.

    Attributes:
        lr_size: width and height of LR.
        hr_size: width and height of HR.
        hashes: SHA-256 of the files of an accepted pair, by kind: LR, HR, mask.
    """

    lr_size: tuple[int, int] = (0, 0)
    hr_size: tuple[int, int] = (0, 0)
    hashes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RegistrationRecord:
    """Registration of a pair as JSON values; empty if registration failed.

    Attributes:
        scores: by the names of `quality.MEANINGS`.
        transform: mapping from the LR grid to the tele photograph.
        arrows: remaining displacements (x, y, dx, dy) in HR pixels of the pair.
    """

    scores: dict[str, Any] = field(default_factory=dict)
    transform: dict[str, Any] = field(default_factory=dict)
    arrows: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class PairResult:
    """Result of the alignment of two photographs.

    Attributes:
        key: hash of both files and of the settings; another key means that it is out of date.
        name: stem of the names of the pair's files.
        photos: the photographs.
        camera: name of the camera.
        verdict: decision on the pair.
        images: sizes and hashes of its images.
        registration: scores and mapping.
        notes: warnings about the files.
    """

    key: str
    name: str
    photos: PhotoPair
    camera: str
    verdict: Verdict
    images: PairImages = PairImages()
    registration: RegistrationRecord = RegistrationRecord()
    notes: tuple[str, ...] = ()

    @property
    def is_accepted(self) -> bool:
        """Return whether the pair belongs to the training set."""
        return self.verdict.status == "accepted"

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        values = asdict(self)
        values["photos"] |= {"wide": str(self.photos.wide), "tele": str(self.photos.tele)}
        return {"version": VERSION, **values}


def cache_key(photos: PhotoPair, settings: Settings) -> str:
    """Return the hash of everything that a result depends on: version, settings, both files.

    The path stands for a file that doesn't exist.
    """
    paths = (photos.wide, photos.tele)
    files = [sha256_file(path) if path.is_file() else str(path) for path in paths]
    parts = [str(VERSION), repr(settings), *files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def write_result(result: PairResult, path: Path) -> None:
    """Write a result atomically; its images must have been written before."""
    write_atomically(path, f"{json.dumps(result.as_json(), indent=1, allow_nan=False)}\n".encode())


def read_result(path: Path) -> PairResult | None:
    """Return the result that an earlier run stored, or None if there is no readable one."""
    try:
        values = read_json(path, dict, error_type=DataError, remedy="", max_values=LIST_VALUES)
        if values.get("version") not in (3, VERSION):  # version 2 has no number
            values = _upgrade(values)
        return PairResult(
            key=values["key"],
            name=values["name"],
            photos=_parse_photos(values["photos"]),
            camera=values["camera"],
            verdict=Verdict(**values["verdict"]),
            images=_parse_images(values["images"]),
            registration=RegistrationRecord(**values["registration"]),
            notes=tuple(values["notes"]),
        )
    except (DataError, ValueError, TypeError, KeyError, AttributeError):
        return None


def read_results(work: Path) -> list[PairResult]:
    """Return all results in a folder, sorted by name."""
    results = (read_result(path) for path in sorted(work.glob("*.json")))
    return [result for result in results if result is not None]


def advise(results: Iterable[PairResult]) -> list[str]:
    """Return a line for each main cause of rejections, the most frequent first, with advice."""
    rejected = [each.verdict.cause for each in results if each.verdict.status == "rejected"]
    counts = [(sum(cause in causes for cause in rejected), *words) for *words, causes in ADVICE]
    return [
        f"{count} rejected: {reason}; {advice}"
        for count, reason, advice in sorted(counts, key=lambda each: -each[0])
        if count
    ]


def _parse_photos(values: dict[str, Any]) -> PhotoPair:
    return PhotoPair(values["name"], values["scene"], Path(values["wide"]), Path(values["tele"]))


def _parse_images(values: dict[str, Any]) -> PairImages:
    lr_size, hr_size = ((int(w), int(h)) for w, h in (values["lr_size"], values["hr_size"]))
    return PairImages(lr_size, hr_size, values["hashes"])


def _upgrade(old: dict[str, Any]) -> dict[str, Any]:
    """Return a result of version 2, which had one flat list of fields, in the present form."""
    scores = dict(zip(_SCORES_2, old["scores"].values(), strict=bool(old["scores"])))
    photos = {name: old[name] for name in ("scene", "wide", "tele")}
    return {
        **{name: old[name] for name in ("key", "name", "camera", "notes")},
        "photos": {"name": old["capture"], **photos},
        "verdict": {"status": old["verdict"], "cause": old["cause"], "reason": old["reason"]},
        "images": {name: old[name] for name in ("lr_size", "hr_size", "hashes")},
        "registration": {
            "scores": scores, "transform": old["transform"], "arrows": old["arrows"],
        },
    }  # fmt: skip
