"""Alignment of one pair from files to files, as a job for a process or for a Ray worker."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import cv2
import numpy as np
from jaxtyping import UInt8

from d2csr.align.html_report import preview_path
from d2csr.align.outcome import (
    PairImages,
    PairResult,
    RegistrationRecord,
    Verdict,
    cache_key,
    write_result,
)
from d2csr.align.pairing import PhotoPair
from d2csr.align.photo import Photo, read_pair
from d2csr.align.registration.quality import MAX_DEVIATION_PX, check_quality
from d2csr.align.steps import AlignedPair, Registration, Settings, make_pair, register
from d2csr.core.errors import D2csrError, PairRejectedError
from d2csr.core.files import sha256_file, write_atomically
from d2csr.core.geometry import BrownDistortion
from d2csr.core.parallel import MAX_ATTEMPTS, ActorPool, ray_session
from d2csr.images.pixels import to_uint8
from d2csr.images.writer import write_gray8, write_rgb8

PREVIEW_PX = 640  # longer side of the images in the report
MAX_ARROWS = 400
MASK_BGRA = (200, 0, 220, 110)


@dataclass(frozen=True)
class PairJob:
    """A pair to align.

    Attributes:
        photos: the photographs.
        name: stem of the names of the pair's files.
        camera: name of the camera.
        settings: parameters of the alignment.
        work: folder for its images and its result.
    """

    photos: PhotoPair
    name: str
    camera: str
    settings: Settings
    work: Path

    @property
    def result_path(self) -> Path:
        """Return the path of the stored result."""
        return self.work / f"{self.name}.json"

    @property
    def key(self) -> str:
        """Return the key that an up-to-date result has."""
        return cache_key(self.photos, self.settings)


def process_pair(job: PairJob) -> PairResult:
    """Align a pair, write its images and then its result, and return the result."""
    result = _process(job)
    write_result(result, job.result_path)
    return result


def _process(job: PairJob) -> PairResult:
    try:
        photos = read_pair(job.photos.wide, job.photos.tele)
    except D2csrError as error:
        return make_result(job, Verdict("failed", "file", str(error)))
    notes = tuple(f"{photo.path.name}: {note}" for photo in photos for note in photo.notes)
    try:
        registration = register(*photos, settings=job.settings)
    except PairRejectedError as error:
        _write_previews(job, to_uint8(photos[0].pixels), tele=to_uint8(photos[1].pixels))
        preview_path(job.work, job.name, kind="mask").unlink(missing_ok=True)  # of an earlier run
        return make_result(job, Verdict("rejected", error.cause, error.reason), notes=notes)
    except D2csrError as error:
        return make_result(job, Verdict("failed", "lens", str(error)), notes=notes)
    pair = make_pair(*photos, registration=registration, settings=job.settings)
    _write_previews(job, _enlarge(to_uint8(pair.lr), job.settings.scale), tele=pair.hr)
    _write_mask_preview(job, registration.mask)
    images = PairImages(pair.lr.shape[1::-1], pair.hr.shape[1::-1])
    verdict = _judge(registration, scale=job.settings.scale)
    if verdict.status == "accepted":
        images = replace(images, hashes=_write_images(job, pair))
    record = RegistrationRecord(
        registration.scores.as_json(),
        _describe_transform(registration, photos, settings=job.settings),
        _sample_arrows(registration, job.settings.scale),
    )
    result = make_result(job, verdict, notes=notes)
    return replace(result, images=images, registration=record)


def make_result(job: PairJob, verdict: Verdict, *, notes: tuple[str, ...] = ()) -> PairResult:
    """Return the result of a pair without images."""
    return PairResult(job.key, job.name, job.photos, job.camera, verdict, notes=notes)


def _judge(registration: Registration, *, scale: int) -> Verdict:
    try:
        check_quality(registration.scores, scale=scale)
    except PairRejectedError as error:
        return Verdict("rejected", error.cause, error.reason)
    return Verdict("accepted")


def _describe_transform(
    registration: Registration, photos: tuple[Photo, Photo], *, settings: Settings
) -> dict[str, Any]:
    """Return the mapping from the pair to the photographs, as JSON values for the manifest."""
    mapping, region = registration.mapping, registration.region
    mesh = mapping.mesh
    transfer = registration.transfer.coefficients.round(6).tolist()
    return {
        "matrix": mapping.matrix.tolist(),
        "wide_lens": _describe_lens(mapping.wide_lens),
        "tele_lens": _describe_lens(mapping.tele_lens),
        "mesh": None
        if mesh is None
        else {"region": list(vars(mesh.region).values()), "values": mesh.values.round(5).tolist()},
        "field": None
        if mapping.field is None
        else {
            "region": list(vars(mapping.field.region).values()),
            "largest_px": round(mapping.field.largest_px, 3),
        },
        "lr_region": [region.left, region.top, region.width, region.height],
        "wide_size": list(mapping.wide),
        "tele_size": list(mapping.tele),
        "focal_mm": [photo.camera.focal_mm for photo in photos],
        "focal_ratio": mapping.ratio,
        "color_transfer": transfer if settings.match_color else None,
        "sources": [photo.path.name for photo in photos],
        "sha256_sources": [sha256_file(photo.path) for photo in photos],
    }


def _describe_lens(lens: BrownDistortion) -> dict[str, float]:
    return {name: float(f"{value:.6g}") for name, value in vars(lens).items()}


def _sample_arrows(registration: Registration, scale: int) -> list[list[float]]:
    """Return remaining displacements (x, y, dx, dy) in HR pixels, at most `MAX_ARROWS`."""
    patches = registration.patches
    patches = patches.select(patches.deviation_px < MAX_DEVIATION_PX)
    step = max(1, -(-len(patches) // MAX_ARROWS))
    left, top = registration.region.left, registration.region.top
    positions = (patches.positions - [left, top] + 0.5) * scale - 0.5
    rows = np.concatenate([positions, patches.displacements * scale], axis=1)[::step]
    return rows.round(2).tolist()


def _write_images(job: PairJob, pair: AlignedPair) -> dict[str, str]:
    """Write LR, HR and, if anything is masked, the mask; return their hashes."""
    write_rgb8(job.work / f"{job.name}_LR.png", to_uint8(pair.lr))
    write_rgb8(job.work / f"{job.name}_HR.png", pair.hr)
    kinds = ["LR", "HR"]
    if (pair.registration.mask == 0).any():
        write_gray8(job.work / f"{job.name}_mask.png", pair.registration.mask)
        kinds.append("mask")
    return {kind: sha256_file(job.work / f"{job.name}_{kind}.png") for kind in kinds}


def _write_previews(
    job: PairJob, wide: UInt8[np.ndarray, "h w 3"], *, tele: UInt8[np.ndarray, "sh sw 3"]
) -> None:
    """Write small JPEGs of both images for the report."""
    for kind, image in (("wide", wide), ("tele", tele)):
        small = cv2.resize(image, _preview_size(image), interpolation=cv2.INTER_AREA)
        _write_preview(job, small[..., ::-1], kind=kind)


def _write_mask_preview(job: PairJob, mask: UInt8[np.ndarray, "h w"]) -> None:
    """Write the masked areas in color on transparent ground, as an overlay for the report."""
    overlay = np.zeros((*mask.shape, 4), np.uint8)
    overlay[mask == 0] = MASK_BGRA
    small = cv2.resize(overlay, _preview_size(mask), interpolation=cv2.INTER_NEAREST)
    _write_preview(job, small, kind="mask")


def _preview_size(image: np.ndarray) -> tuple[int, int]:
    """Return width and height of the preview of an image."""
    factor = min(1.0, PREVIEW_PX / max(image.shape[:2]))
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return width, height


def _write_preview(job: PairJob, bgr: np.ndarray, *, kind: str) -> None:
    path = preview_path(job.work, job.name, kind=kind)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 85] if path.suffix == ".jpg" else []
    write_atomically(path, cv2.imencode(path.suffix, bgr, quality)[1].tobytes())


def _enlarge(lr: UInt8[np.ndarray, "h w 3"], scale: int) -> UInt8[np.ndarray, "sh sw 3"]:
    """Return LR enlarged to the size of HR, for the preview."""
    size = (lr.shape[1] * scale, lr.shape[0] * scale)
    return cv2.resize(lr, size, interpolation=cv2.INTER_CUBIC)


def process_on_cluster(
    jobs: Sequence[PairJob], *, workers: int | None, bytes_each: int
) -> Iterator[PairResult]:
    """Yield results from a Ray cluster: the one of RAY_ADDRESS, or one started on this machine.

    Workers that die are replaced and their pairs processed again.

    Args:
        jobs: the pairs; their paths must be the same on every machine.
        workers: number of workers; None uses as many as cores and memory allow.
        bytes_each: memory that a worker needs.
    """
    if not jobs:
        return
    pool = ActorPool(AlignWorker, _give_up, bytes_each=bytes_each)
    with ray_session():
        yield from pool.map_unordered([_with_absolute_paths(job) for job in jobs], workers=workers)


@final
class AlignWorker:
    """Ray worker that processes one pair at a time on one core."""

    def __init__(self) -> None:
        """Limit OpenCV to one thread, because other workers use the other cores."""
        use_one_thread()

    def run(self, job: PairJob) -> PairResult:
        """Return the result of a pair, whose files have been written."""
        return process_pair(job)


def use_one_thread() -> None:
    """Limit OpenCV to one thread in this process."""
    cv2.setNumThreads(1)


def _with_absolute_paths(job: PairJob) -> PairJob:
    photos = job.photos
    paths = {"wide": photos.wide.resolve(), "tele": photos.tele.resolve()}
    return replace(job, photos=replace(photos, **paths), work=job.work.resolve())


def _give_up(job: PairJob) -> PairResult:
    """Return the result of a pair that crashes its workers; it isn't stored, so it is retried."""
    reason = f"crashed {MAX_ATTEMPTS} workers, perhaps for lack of memory"
    return make_result(job, Verdict("failed", "worker", reason))
