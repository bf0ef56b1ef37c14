"""Accuracy of `d2csr align` on simulated pairs, compared with common methods; resumable.

    python benchmarks/align_accuracy.py --work DIR -o benchmarks/results/align_accuracy-DATE.json

The ground truth of simulated pairs is known. There are 15 for each of four scales, 14 with tele
frames of 1 to 3 megapixels and one of 20; 16 of the 60 have two nearer planes, which no single
mapping fits. Then wrong pairs are registered, and on every third small pair the competitors
and this tool without some of its parts. Every pair and every row is stored in DIR; a row is
measured again when the code of the tool has changed.
"""

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np

import d2csr.align
from d2csr import __version__
from d2csr.align.camera_info import focal_ratio
from d2csr.align.photo import Photo, read_pair
from d2csr.align.registration import refine as refine_module
from d2csr.align.registration.features import register_coarse
from d2csr.align.registration.photometric import ColorTransfer
from d2csr.align.registration.quality import check_quality
from d2csr.align.registration.refine import ITERATIONS, GrayPair, Iteration, refine
from d2csr.align.registration.transform import Mapping, covered_region, registered_of_wide
from d2csr.align.registration.warp import to_gray01
from d2csr.align.steps import Settings, register
from d2csr.core.errors import PairRejectedError
from d2csr.core.files import write_atomically
from d2csr.core.geometry import Region, Size
from d2csr.images.reader import read_rgb8
from d2csr.simulate.camera_config import (
    CameraConfig,
    IspConfig,
    LensConfig,
    OpticsConfig,
    SceneConfig,
    SensorConfig,
)
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.ground_truth import GroundTruth, read_truth
from d2csr.simulate.scene import Procedural

SCALES = (2, 3, 4, 8)
SMALL_PAIRS, WRONG_PAIRS = 14, 40  # small ones for each scale; wrong ones in all
LARGE = {2: Size(9000, 6000), 3: Size(10560, 7040), 4: Size(9360, 6240), 8: Size(9720, 6480)}
# scenes for tele frames of about 20 MP
SMALL = (Size(2700, 1800), Size(3300, 2200), Size(2700, 1800), Size(4050, 2700))  # 1 to 3 MP
COMPARED_EVERY = 3
LAYERED, LAYERS = (1, 5, 9, 13), 2  # pairs with nearer planes before the backdrop
KINDS = ("two scenes", "mirrored", "upside down", "blank wall", "another part", "turned round")
Grays = tuple[np.ndarray, np.ndarray]


def code_stamp() -> str:
    """Return a hash of the tool's code; rows with another hash are out of date."""
    files = sorted(Path(d2csr.align.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


class Rows:
    """Stored measurements, one file for each row."""

    def __init__(self, folder: Path, stamp: str) -> None:
        self._folder, self._stamp = folder, stamp
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the row of a name, measured now unless it was stored by the same code."""
        path = self._folder / f"{name}.json"
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["stamp"] == self._stamp:
                return kept["row"]
        row = make()
        text = json.dumps({"stamp": self._stamp, "row": row})
        write_atomically(path, text.encode())
        print(name, text[:200], flush=True)
        return row


Good = tuple[int, Path, GroundTruth]

_DECENTRED = {"p1": (-5e-4, 5e-4), "p2": (-5e-4, 5e-4)}
CAMERA = CameraConfig(  # harder than the default: a mosaic, and aliasing that no filter takes away
    sensor=SensorConfig(cfa="rggb", olpf_um=(0.0, 0.0)),
    optics=OpticsConfig(
        wide=LensConfig(
            f_number=(3.5, 5.0),
            psf_sigma_um=(1.3, 1.8),
            k1=(-0.06, -0.04),
            k2=(0.0, 0.01),
            **_DECENTRED,
        ),
        tele=LensConfig(psf_sigma_um=(1.5, 1.9), k1=(0.0, 0.01), **_DECENTRED),
    ),
    isp=IspConfig(sharpening=(0.6, 0.6), sharpening_radius_px=(0.7, 0.7)),
)


def captures(work: Path, *, large: bool) -> Iterator[Good]:
    """Yield simulated pairs, alternating between the scales; existing ones are reused."""
    for number in [SMALL_PAIRS] if large else range(SMALL_PAIRS):
        for scale in SCALES:
            out = work / (f"x{scale}_large" if large else f"x{scale}_{number:02}")
            if not out.is_dir():
                size = LARGE[scale] if large else SMALL[number % len(SMALL)]
                layers = LAYERS if number in LAYERED else 0
                camera = CAMERA.model_copy(update={"scene": SceneConfig(layers=layers)})
                job = SimulationOptions(
                    scale=scale, camera=camera, captures=True, seed=100 * scale + number
                )
                simulate([Procedural(size, (scale, number))], out, options=job)
            (truth,) = read_truth(out)
            yield scale, out, truth


def read_photo_pair(good: Good) -> tuple[Photo, Photo]:
    """Return the photographs of a simulated pair."""
    _, folder, truth = good
    return read_pair(folder / truth.wide_file, folder / truth.tele_file)


def good_row(good: Good) -> dict[str, Any]:
    """Return the verdict on a good pair, the error of its grid and the time it took."""
    scale, _, truth = good
    photos = read_photo_pair(good)
    start = time.process_time()
    row = verdict(photos, scale, good=good)
    row["cpu_seconds"] = time.process_time() - start
    return {"scale": scale, "tele": list(truth.tele.size), "planes": len(truth.planes_m)} | row


def verdict(photos: tuple[Photo, Photo], scale: int, *, good: Good | None) -> dict[str, Any]:
    """Return the verdict on a pair, its scores, and the error of its grid."""
    try:
        registration = register(*photos, settings=Settings(scale))
    except PairRejectedError as rejection:
        return {"accepted": False, "reason": rejection.reason}
    row: dict[str, Any] = {"scores": registration.scores.as_json()}
    if good is not None:
        row |= errors_px(registration.mapping, good, used=(registration.region, registration.mask))
    try:
        check_quality(registration.scores, scale=scale)
    except PairRejectedError as rejection:
        return row | {"accepted": False, "reason": rejection.reason}
    return row | {"accepted": True}


def errors_px(
    mapping: Mapping, good: Good, *, used: tuple[Region, np.ndarray] | None = None
) -> dict[str, float]:
    """Return RMS and 95th percentile of the error of the grid, in HR pixels, over the overlap.

    Each position is compared with the true position of the plane that is visible there. `used_*` is
    the error over the area that isn't masked.
    """
    _, folder, truth = good
    region = covered_region(mapping, margin_px=5.0).shrunk(2, 2)
    x, y = np.meshgrid(
        np.unique(np.linspace(region.left, region.right - 1, 120).astype(int)),
        np.unique(np.linspace(region.top, region.bottom - 1, 80).astype(int)),
    )
    positions = registered_of_wide(np.stack([x, y], -1).astype(np.float64), mapping.scale)
    seen = read_rgb8(folder / truth.planes_file)[y, x, 0]
    true = truth.tele_position(positions)
    for plane in range(1, len(truth.planes_m)):
        true = np.where(
            (seen == plane)[..., None], truth.tele_position(positions, plane=plane), true
        )
    error = np.hypot(*np.moveaxis(mapping(positions) - true, -1, 0)) / mapping.tele_px_per_px
    result = distances(error, "")
    if used is not None:
        region, mask = used
        inside = (x >= region.left) & (x < region.right) & (y >= region.top) & (y < region.bottom)
        kept = mask[(y - region.top)[inside], (x - region.left)[inside]] > 0
        result |= distances(error[inside][kept], "used_")
    return result


def distances(error: np.ndarray, name: str) -> dict[str, float]:
    """Return RMS and 95th percentile, with a prefix of the names."""
    rms = float(np.sqrt((error**2).mean()))
    return {f"{name}rms_px": rms, f"{name}p95_px": float(np.percentile(error, 95))}


def wrong_row(good: list[Good], number: int) -> dict[str, Any]:
    """Return the verdict on a pair that must not be accepted."""
    rng = np.random.default_rng((7, number))
    chosen = good[int(rng.integers(len(good)))]
    scale = chosen[0]
    wide, tele = read_photo_pair(chosen)
    kind = KINDS[number % len(KINDS)]
    pixels = tele.pixels
    if kind == "two scenes":
        others = [each for each in good if each[0] == scale and each[1] != chosen[1]]
        pixels = read_photo_pair(others[int(rng.integers(len(others)))])[1].pixels
    elif kind == "another part":  # the wide frame shows the scene's left third, the tele its right
        side = wide.pixels.shape[1] // 3
        wide = Photo(wide.path, np.ascontiguousarray(wide.pixels[:, :side]), wide.camera)
        pixels = np.ascontiguousarray(pixels[:, pixels.shape[1] // 2 :])
    elif kind == "blank wall":
        noise = rng.normal(140, 4, pixels.shape).clip(0, 255)
        pixels = cv2.GaussianBlur(noise.astype(np.uint8), (0, 0), 1.0)
    elif kind == "turned round":  # half the tele frame has another scene in it, turned over
        half = pixels.shape[1] // 2
        pixels = pixels.copy()
        pixels[:, :half] = pixels[::-1, :half]
        pixels[:, half:] = pixels[:, : half - 1 : -1]
    else:
        pixels = np.ascontiguousarray(pixels[:, ::-1] if kind == "mirrored" else pixels[::-1])
    return {"kind": kind, "scale": scale} | verdict(
        (wide, Photo(tele.path, pixels, tele.camera)), scale, good=None
    )


def sizes(grays: Grays) -> tuple[Size, Size]:
    """Return the sizes of both images."""
    wide, tele = grays
    return Size(wide.shape[1], wide.shape[0]), Size(tele.shape[1], tele.shape[0])


def plain_sift(grays: Grays, scale: int) -> Mapping:
    """Return a homography by RANSAC from SIFT features of both images, the usual method."""
    finder = cv2.SIFT.create(nfeatures=8000)
    found = [finder.detectAndCompute((gray * 255).astype(np.uint8), None) for gray in grays]
    (wide, of_wide), (tele, of_tele) = found
    near = cv2.BFMatcher().knnMatch(of_tele, of_wide, k=2)
    good = [a for a, b in near if a.distance < 0.75 * b.distance]
    start = (np.array([wide[match.trainIdx].pt for match in good]) + 0.5) * scale - 0.5
    goal = np.array([tele[match.queryIdx].pt for match in good])
    matrix, _ = cv2.findHomography(start, goal, cv2.RANSAC, 3.0)
    return Mapping(scale, *sizes(grays), matrix)


def ecc_alone(grays: Grays, scale: int) -> Mapping:
    """Return the mapping of OpenCV's ECC, started with the tele image in the centre."""
    wide, tele = grays
    small = cv2.resize(tele, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    corner = (np.array(wide.shape[::-1]) - small.shape[::-1]) / 2
    start = np.array([[1, 0, corner[0]], [0, 1, corner[1]], [0, 0, 1]], np.float32)
    steps = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-6)
    _, matrix = cv2.findTransformECC(
        small, wide, start, cv2.MOTION_HOMOGRAPHY, steps, np.full(wide.shape, 255, np.uint8), 5
    )
    middle = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    full = middle @ np.linalg.inv(matrix.astype(np.float64)) @ np.linalg.inv(middle)
    return Mapping(scale, *sizes(grays), full / full[2, 2])


COMPETITORS: dict[str, Callable[[Grays, int], Mapping]] = {
    "SIFT + homography once": plain_sift,
    "ECC alone": ecc_alone,
}


def without_warp(photos: tuple[Photo, Photo], scale: int) -> Mapping:
    """Return the mapping of a homography alone."""
    return register(*photos, settings=Settings(scale, warp="none")).mapping


def without_blur(photos: tuple[Photo, Photo], scale: int) -> Mapping:
    """Return the mapping estimated from the tele image at its own resolution."""
    no_blur = {"relative_blur": lambda *_, **__: 0.0, "INITIAL_SIGMA": 0.0}
    with patch.multiple(refine_module, **no_blur):
        return register(*photos, settings=Settings(scale)).mapping


def without_brightness(photos: tuple[Photo, Photo], scale: int) -> Mapping:
    """Return the mapping, and the mask that it depends on, without matched brightness."""

    def identity(*_: np.ndarray, region: Region, scale: int) -> ColorTransfer:
        return ColorTransfer(region.times(scale), np.eye(8)[1:2])

    with patch.object(refine_module, "fit_gray_transfer", identity):
        return register(*photos, settings=Settings(scale)).mapping


def unmasked(
    photos: tuple[Photo, Photo], scale: int, *, iterations: tuple[Iteration, ...] = ITERATIONS
) -> Mapping:
    """Return the mapping after some iterations, none of which leaves out masked patches."""
    wide, tele = photos
    gray = GrayPair(to_gray01(wide.pixels), to_gray01(tele.pixels))
    initial = Mapping(scale, wide.size, tele.size, np.eye(3))
    ratio = focal_ratio(wide.camera, tele.camera)
    coarse = register_coarse(*gray, initial=initial, focal_ratio=ratio).mapping
    return refine(gray, mapping=coarse, lens_prior=coarse, iterations=iterations).mapping


VARIANTS: dict[str, Callable[[tuple[Photo, Photo], int], Mapping]] = {
    "without lenses and mesh": without_warp,
    "without HR blur": without_blur,
    "without brightness matching": without_brightness,
    "without iteration": partial(unmasked, iterations=ITERATIONS[-1:]),
    "without rounds that leave out what is masked": unmasked,
}


def competitor_row(good: Good, name: str) -> dict[str, Any]:
    """Return the error of a competitor on a pair."""
    scale, _, _ = good
    wide, tele = (to_gray01(photo.pixels) for photo in read_photo_pair(good))
    return tried(lambda: COMPETITORS[name]((wide, tele), scale), good)


def variant_row(good: Good, name: str) -> dict[str, Any]:
    """Return the error of this tool without one of its parts on a pair."""
    scale, _, _ = good
    photos = read_photo_pair(good)
    return tried(lambda: VARIANTS[name](photos, scale), good)


def tried(method: Callable[[], Mapping], good: Good) -> dict[str, Any]:
    """Return the error of a method, or the reason why it failed."""
    try:
        return errors_px(method(), good)
    except (PairRejectedError, np.linalg.LinAlgError) as error:
        return {"failed": str(error)[:200]}
    except cv2.error as error:
        if error.code != cv2.Error.STS_NO_CONV:
            raise  # used wrongly
        return {"failed": str(error)[:200]}


def write(stored: dict[str, Any], out: Path | None) -> None:
    """Write the measurements to a file, if there is one."""
    if out is not None:
        write_atomically(out, f"{json.dumps(stored, indent=1)}\n".encode())


def main() -> None:
    """Measure all rows that aren't stored yet and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for pairs and rows")
    parser.add_argument("--only", choices=("captures", "tool", "all"), default="all")
    parser.add_argument("--output", "-o", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    small = list(captures(arguments.work, large=False))
    if arguments.only == "captures":
        list(captures(arguments.work, large=True))
        return
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    ours, theirs = Rows(arguments.work / "rows", code_stamp()), Rows(arguments.work / "rows", own)
    stored: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "version": __version__,
        "machine": platform.machine(),
        "code": code_stamp(),
    }

    def good_rows(pairs: list[Good]) -> list[dict[str, Any]]:
        return [
            ours.of(f"good_{pair[1].name}", lambda pair=pair: good_row(pair))
            | {"pair": pair[1].name}
            for pair in pairs
        ]

    stored["good"] = good_rows(small)
    stored["wrong"] = [
        ours.of(f"wrong_{number:02}", lambda number=number: wrong_row(small, number))
        for number in range(WRONG_PAIRS)
    ]
    stored["compared"] = {}
    write(stored, arguments.output)  # what there is, should the rest be interrupted
    stored["good"] += good_rows(list(captures(arguments.work, large=True)))
    write(stored, arguments.output)
    if arguments.only == "all":
        for pair in small[:: COMPARED_EVERY * len(SCALES)]:
            at = small.index(pair)
            for each in small[at : at + len(SCALES)]:
                name = each[1].name
                stored["compared"][name] = {
                    method: theirs.of(
                        f"{method}_{name}", lambda each=each, m=method: competitor_row(each, m)
                    )
                    for method in COMPETITORS
                } | {
                    method: ours.of(
                        f"{method}_{name}", lambda each=each, m=method: variant_row(each, m)
                    )
                    for method in VARIANTS
                }
    write(stored, arguments.output)
    accepted = [row for row in stored["good"] if row["accepted"]]
    print(f"{len(accepted)} of {len(stored['good'])} good pairs accepted")
    print(f"{sum(row['accepted'] for row in stored['wrong'])} wrong pairs accepted")


if __name__ == "__main__":
    main()
