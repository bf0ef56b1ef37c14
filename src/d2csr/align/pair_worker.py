"""One pair from files to files: the part of a run that a process of its own does.

Pairs made by workers of a Ray cluster, which read and write the same folders by their paths.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import cv2
import numpy as np
from jaxtyping import UInt8

from d2csr.align.html_report import preview_path
from d2csr.align.outcome import PairResult, cache_key, write_outcome
from d2csr.align.pairing import PhotoPair
from d2csr.align.photo import Photo, read_pair
from d2csr.align.registration.quality import SURE_PX, check_quality
from d2csr.align.steps import AlignedPair, Registration, Settings, lens_json, make_pair, register
from d2csr.core.errors import D2csrError, PairRejectedError
from d2csr.core.files import sha256_file, write_atomically
from d2csr.core.parallel import MAX_ATTEMPTS, ActorPool, ray_session
from d2csr.images.pixels import to_uint8
from d2csr.images.writer import write_gray8, write_rgb8

PREVIEW_PX = 640  # longer side of the images in the report
ARROWS = 400
MASKED_BGRA = (200, 0, 220, 110)


@dataclass(frozen=True)
class PairJob:
    """A pair to make.

    Attributes:
        capture: its photographs.
        name: of its files.
        camera: what took them.
        settings: how.
        work: folder for its images and its outcome.
    """

    capture: PhotoPair
    name: str
    camera: str
    settings: Settings
    work: Path

    @property
    def outcome_path(self) -> Path:
        """Return where its outcome lies."""
        return self.work / f"{self.name}.json"


def process_pair(task: PairJob) -> PairResult:
    """Return what became of a pair; its images and then its outcome are on the disk."""
    try:
        photos = read_pair(task.capture.wide, task.capture.tele)
    except D2csrError as error:
        return _kept(task, _outcome(task, "failed", cause="file", reason=str(error)))
    try:
        registered = register(*photos, settings=task.settings)
    except PairRejectedError as rejection:
        _write_previews(task, to_uint8(photos[0].pixels), second=to_uint8(photos[1].pixels))
        preview_path(task.work, task.name, kind="m").unlink(missing_ok=True)  # of an earlier run
        told = {"cause": rejection.cause, "reason": rejection.reason}
        return _kept(task, _outcome(task, "rejected", **told, notes=_notes(photos)))
    except D2csrError as error:
        return _kept(task, _outcome(task, "failed", cause="lens", reason=str(error)))
    pair = make_pair(*photos, registered=registered, settings=task.settings)
    about = _about(task, pair, photos=photos)
    _write_previews(task, enlarged(to_uint8(pair.lr), task.settings.scale), second=pair.hr)
    _write_mask_preview(task, registered.mask)
    try:
        check_quality(registered.scores, scale=task.settings.scale)
    except PairRejectedError as rejection:
        told = {"cause": rejection.cause, "reason": rejection.reason}
        return _kept(task, _outcome(task, "rejected", **told, **about))
    return _kept(task, _outcome(task, "accepted", hashes=_write_images(task, pair), **about))


def given_up(task: PairJob, reason: str) -> PairResult:
    """Return the outcome of a pair that can't be worked on, nothing kept: a later run tries it."""
    return _outcome(task, "failed", cause="worker", reason=reason)


def _outcome(task: PairJob, verdict: Any, **about: Any) -> PairResult:
    capture = task.capture
    return PairResult(
        key=cache_key(capture, task.settings),
        name=task.name,
        capture=capture.name,
        scene=capture.scene,
        wide=str(capture.wide),
        tele=str(capture.tele),
        verdict=verdict,
        camera=task.camera,
        **about,
    )


def _kept(task: PairJob, outcome: PairResult) -> PairResult:
    write_outcome(outcome, task.outcome_path)
    return outcome


def _notes(photos: tuple[Photo, Photo]) -> list[str]:
    return [f"{photo.path.name}: {note}" for photo in photos for note in photo.notes]


def _about(task: PairJob, pair: AlignedPair, *, photos: tuple[Photo, Photo]) -> dict[str, Any]:
    registered = pair.registered
    return {
        "lr_size": (pair.lr.shape[1], pair.lr.shape[0]),
        "hr_size": (pair.hr.shape[1], pair.hr.shape[0]),
        "scores": registered.scores.as_json(),
        "transform": transform_json(registered, photos, settings=task.settings),
        "arrows": arrows(registered, task.settings.scale),
        "notes": _notes(photos),
    }


def transform_json(
    registered: Registration, photos: tuple[Photo, Photo], *, settings: Settings
) -> dict[str, Any]:
    """Return all that maps the pair's pixels to the photographs', and what these are."""
    mapping, region = registered.mapping, registered.region
    mesh = mapping.mesh
    return {
        "matrix": mapping.matrix.tolist(),
        "wide_lens": lens_json(mapping.wide_lens),
        "tele_lens": lens_json(mapping.tele_lens),
        "mesh": None
        if mesh is None
        else {"region": list(vars(mesh.region).values()), "values": mesh.values.round(5).tolist()},
        "lr_region": [region.left, region.top, region.width, region.height],
        "wide_size": list(mapping.wide),
        "tele_size": list(mapping.tele),
        "focal_mm": [photo.facts.focal_mm for photo in photos],
        "focal_ratio": mapping.ratio,
        "tone": registered.tone.coefficients.round(6).tolist() if settings.match_colours else None,
        "sources": [photo.path.name for photo in photos],
        "sha256_sources": [sha256_file(photo.path) for photo in photos],
    }


def arrows(registered: Registration, scale: int) -> list[list[float]]:
    """Return displacements that are left, in HR pixels of the pair, as many as a report shows."""
    patches = registered.patches.only(registered.patches.deviation_px < SURE_PX)
    every = max(1, -(-len(patches) // ARROWS))
    left, top = registered.region.left, registered.region.top
    places = (patches.places - [left, top] + 0.5) * scale - 0.5
    rows = np.concatenate([places, patches.moves * scale], axis=1)[::every]
    return rows.round(2).tolist()


def _write_images(task: PairJob, pair: AlignedPair) -> dict[str, str]:
    """Write LR, HR and, where anything is masked, the mask; return their hashes."""
    write_rgb8(task.work / f"{task.name}_LR.png", to_uint8(pair.lr))
    write_rgb8(task.work / f"{task.name}_HR.png", pair.hr)
    kinds = ["LR", "HR"]
    if (pair.registered.mask == 0).any():
        write_gray8(task.work / f"{task.name}_mask.png", pair.registered.mask)
        kinds.append("mask")
    return {kind: sha256_file(task.work / f"{task.name}_{kind}.png") for kind in kinds}


def _write_previews(
    task: PairJob, first: UInt8[np.ndarray, "h w 3"], *, second: UInt8[np.ndarray, "sh sw 3"]
) -> None:
    """Write small JPEGs of both images, for the report."""
    for kind, image in (("a", first), ("b", second)):
        small = cv2.resize(image, _preview_size(image), interpolation=cv2.INTER_AREA)
        _write_preview(task, small[..., ::-1], kind=kind)


def _write_mask_preview(task: PairJob, mask: UInt8[np.ndarray, "h w"]) -> None:
    """Write the masked places in a colour, the rest transparent; laid over the others."""
    coloured = np.zeros((*mask.shape, 4), np.uint8)
    coloured[mask == 0] = MASKED_BGRA
    small = cv2.resize(coloured, _preview_size(mask), interpolation=cv2.INTER_NEAREST)
    _write_preview(task, small, kind="m")


def _preview_size(image: np.ndarray) -> tuple[int, int]:
    """Return width and height of an image in the report."""
    factor = min(1.0, PREVIEW_PX / max(image.shape[:2]))
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return width, height


def _write_preview(task: PairJob, bgr: np.ndarray, *, kind: str) -> None:
    path = preview_path(task.work, task.name, kind=kind)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 85] if path.suffix == ".jpg" else []
    write_atomically(path, cv2.imencode(path.suffix, bgr, quality)[1].tobytes())


def enlarged(lr: UInt8[np.ndarray, "h w 3"], scale: int) -> UInt8[np.ndarray, "sh sw 3"]:
    """Return LR at HR's size, to look at."""
    size = (lr.shape[1] * scale, lr.shape[0] * scale)
    return cv2.resize(lr, size, interpolation=cv2.INTER_CUBIC)


def move_image(source: Path, target: Path) -> None:
    """Move a finished image to where it belongs."""
    target.parent.mkdir(parents=True, exist_ok=True)
    Path(source).replace(target)


def outcomes_of_cluster(
    tasks: Sequence[PairJob], *, workers: int | None, bytes_each: int
) -> Iterator[PairResult]:
    """Yield outcomes as they come from the cluster that RAY_ADDRESS names, or one started here.

    A worker that dies is replaced, and its pair done again.

    Args:
        tasks: the pairs; their paths must mean the same on every machine.
        workers: how many at once; as many as cores and memory bear for None.
        bytes_each: memory that a worker needs.
    """
    if not tasks:
        return
    hands = ActorPool(AlignWorker, _died, bytes_each=bytes_each)
    with ray_session():
        yield from hands.map_unordered([_anywhere(task) for task in tasks], workers=workers)


@final
class AlignWorker:
    """Makes one pair after the other, each on one core."""

    def __init__(self) -> None:
        """Leave the other cores to the other workers."""
        cv2.setNumThreads(1)

    def run(self, task: PairJob) -> PairResult:
        """Return what became of a pair; its files are written."""
        return process_pair(task)


def _anywhere(task: PairJob) -> PairJob:
    """Return a task whose paths hold in any folder."""
    capture = task.capture
    ends = {"wide": capture.wide.resolve(), "tele": capture.tele.resolve()}
    return replace(task, capture=replace(capture, **ends), work=task.work.resolve())


def _died(task: PairJob) -> PairResult:
    return given_up(task, f"{MAX_ATTEMPTS} workers died of it")
