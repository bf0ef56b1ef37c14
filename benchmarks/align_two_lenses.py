"""Accuracy of `d2csr align` on simulated pairs of two lenses beside each other; resumable.

    D2CSR_DATA=DATA python benchmarks/align_two_lenses.py --work DIR \
        -o benchmarks/results/align_two_lenses-DATE.json

Each of the 40 pairs (x2) has a baseline of 9 to 10 mm, a backdrop at 1 to 4 m and up to three
nearer planes, all slanted. Each lens has its own distortion, stabilizer shift, rolling shutter,
tone curve and sharpening. Half of the scenes are drawn, half are parts of `photos/clic2025`. The
error of each trusted pixel is the distance from its true position, on the plane that is seen there.
Then wrong pairs are made of them. Every pair and every row is stored in DIR; a row is measured
again when the code of the tool has changed.
"""

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from align_accuracy import Good, Rows, code_stamp, wrong_row

from d2csr import __version__
from d2csr.align.photo import read_pair
from d2csr.align.registration.quality import check_quality
from d2csr.align.registration.transform import registered_of_wide
from d2csr.align.registration.trust import has_texture
from d2csr.align.registration.warp import gaussian_blur, to_gray01
from d2csr.align.steps import Registration, Settings, register
from d2csr.core.errors import PairRejectedError
from d2csr.core.files import write_atomically
from d2csr.core.geometry import Size
from d2csr.images.formats import is_image_name
from d2csr.images.reader import read_rgb8
from d2csr.images.writer import write_rgb8
from d2csr.simulate.camera_config import (
    CameraConfig,
    ExposureConfig,
    IspConfig,
    LensConfig,
    OpticsConfig,
    PoseConfig,
    SceneConfig,
    SensorConfig,
)
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.ground_truth import GroundTruth, read_truth
from d2csr.simulate.scene import Photo, Procedural, Source

SCALE, PAIRS = 2, 40
SCENE = Size(1200, 800)
PHOTOS = "photos/clic2025"
UNSET = f"D2CSR_DATA is not set: set it to the folder that contains {PHOTOS}/"
DISTANCES_M = (1.0, 2.0, 4.0)
BASELINES_MM = ((10.0, 1.0), (-1.0, 9.0))
_ISP = IspConfig(
    noise_reduction=(2, 8),
    sharpening=(0.5, 1.5),
    sharpening_radius_px=(0.6, 1.2),
    jpeg_quality=(90, 97),
    jpeg_subsampling="420",
)
_DECENTRED = {"p1": (-1e-3, 1e-3), "p2": (-1e-3, 1e-3), "defocus_um": (-1, 1)}


def camera(number: int) -> CameraConfig:
    """Return the phone that takes a pair."""
    return CameraConfig(
        sensor=SensorConfig(
            pixel_pitch_um=1.4,
            cfa="rggb",
            olpf_um=(0, 0),
            full_well_e=6000,
            base_iso=50,
            read_noise_e=2,
            adc_bits=12,
        ),
        optics=OpticsConfig(
            focal_mm=5.0,
            zoom_error=(-0.05, 0.05),
            wide=LensConfig(
                f_number=(1.6, 2.4),
                psf_sigma_um=(0.3, 0.8),
                corner_psf_sigma_um=(0.2, 0.7),
                k1=(-0.05, 0),
                k2=(-0.01, 0.01),
                **_DECENTRED,
            ),
            tele=LensConfig(
                f_number=(1.8, 2.8),
                psf_sigma_um=(0.3, 0.6),
                corner_psf_sigma_um=(0.1, 0.4),
                k1=(-0.01, 0.02),
                **_DECENTRED,
            ),
        ),
        pose=PoseConfig(
            tilt_deg=(-0.2, 0.2),
            translation_mm=(-1, 1),
            baseline_mm=BASELINES_MM[number % 2],
            stabilization_px=(-8, 8),
            shear=(-0.002, 0.002),
        ),
        scene=SceneConfig(
            distance_m=DISTANCES_M[number % 3],
            layers=number % 4,
            layer_distance=(0.6, 0.95),
            layer_area=(0.05, 0.25),
            plane_tilt_deg=(-15, 15),
        ),
        exposure=ExposureConfig(iso=(50, 400), frames=3),
        isp=_ISP,
        tele_isp=_ISP.model_copy(update={"contrast": 1.1, "sharpening": (0.2, 0.8)}),
    )


def source(number: int, work: Path) -> Source:
    """Return the scene of a pair: drawn, or a part of a photo."""
    if number // 4 % 2 == 0:  # by fours, as the number of planes changes with each
        return Procedural(SCENE, (9, number))
    photos = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET)) / PHOTOS
    paths = sorted(path for path in photos.iterdir() if is_image_name(path))
    rgb8 = read_rgb8(paths[number % len(paths)])
    rng = np.random.default_rng((9, number))
    width, height = (min(side, most) for side, most in zip(SCENE, rgb8.shape[1::-1], strict=True))
    left, top = (
        int(rng.integers(side - part + 1))
        for side, part in ((rgb8.shape[1], width), (rgb8.shape[0], height))
    )
    path = work / "scenes" / f"{number:02}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rgb8(path, np.ascontiguousarray(rgb8[top : top + height, left : left + width]))
    return Photo(path)


def capture(number: int, work: Path) -> Good:
    """Return a simulated pair; an existing one is reused."""
    folder = work / f"two_lenses_{number:02}"
    if not folder.is_dir():
        options = SimulationOptions(SCALE, camera(number), captures=True, seed=900 + number)
        simulate([source(number, work)], folder, options=options)
        print(folder.name, flush=True)
    (truth,) = read_truth(folder)
    return SCALE, folder, truth


def pair_row(good: Good) -> dict[str, Any]:
    """Return the verdict on a pair, and the errors of its trusted pixels."""
    _, folder, truth = good
    photos = read_pair(folder / truth.wide_file, folder / truth.tele_file)
    start = time.process_time()
    row: dict[str, Any] = {"planes": len(truth.planes_m), "distance_m": truth.planes_m[0]}
    try:
        registration = register(*photos, settings=Settings(SCALE))
    except PairRejectedError as rejection:
        return row | {"accepted": False, "reason": rejection.reason}
    row |= {"cpu_seconds": time.process_time() - start, "is_dense": registration.scores.is_dense}
    gray = to_gray01(photos[0].pixels)[registration.region.slices]
    row |= errors(registration, truth, folder=folder, textured=has_texture(gaussian_blur(gray, 1)))
    try:
        check_quality(registration.scores, scale=SCALE)
    except PairRejectedError as rejection:
        return row | {"accepted": False, "reason": rejection.reason}
    return row | {"accepted": True}


def errors(
    registration: Registration, truth: GroundTruth, *, folder: Path, textured: np.ndarray
) -> dict[str, Any]:
    """Return errors of trusted pixels, in HR pixels, and the share of visible texture trusted."""
    region, mapping = registration.region, registration.mapping
    columns, rows = (
        registered_of_wide(np.arange(first, last, dtype=np.float64), SCALE)
        for first, last in ((region.left, region.right), (region.top, region.bottom))
    )
    seen, visible = (
        read_rgb8(folder / name)[region.slices][..., 0]
        for name in (truth.planes_file, truth.visible_file)
    )
    true = truth.tele_field(np.stack(np.meshgrid(columns, rows), -1), seen)
    error = np.hypot(*np.moveaxis(mapping.on_grid(columns, rows) - true, -1, 0))
    error /= mapping.tele_px_per_px
    trusted = registration.mask > 0
    chosen = error[trusted]
    findable = textured & (visible > 0)
    return {
        "trusted_px": int(trusted.sum()),
        "error_percentiles_px": np.percentile(chosen, np.arange(101)).round(4).tolist()
        if len(chosen)
        else [],
        "above_1px": float((chosen > 1).mean()) if len(chosen) else 0.0,
        "hidden": float((visible[trusted] == 0).mean()) if len(chosen) else 0.0,
        "trusted_of_visible": float(trusted[findable].mean()),
        "visible_texture_px": int(findable.sum()),
    }


def summarize(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the errors over the trusted pixels of all accepted pairs, each pixel counted once."""
    used = [row for row in rows if row["accepted"]]
    values = np.concatenate([row["error_percentiles_px"] for row in used])
    weights = np.concatenate([np.full(101, row["trusted_px"] / 101) for row in used])
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    sizes = np.array([row["trusted_px"] for row in used], np.float64)
    texture = np.array([row["visible_texture_px"] for row in rows], np.float64)
    found = np.array([row["trusted_of_visible"] * row["accepted"] for row in rows])
    return {
        "accepted": len(used),
        "median_px": float(values[order][np.searchsorted(share, 0.5)]),
        "p95_px": float(values[order][np.searchsorted(share, 0.95)]),
        "above_1px": float(np.average([row["above_1px"] for row in used], weights=sizes)),
        "hidden": float(np.average([row["hidden"] for row in used], weights=sizes)),
        "trusted_of_visible": float(np.average(found, weights=texture)),
    }


def main() -> None:
    """Measure all rows that aren't stored yet and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for pairs and rows")
    parser.add_argument("--only", choices=("captures", "all"), default="all")
    parser.add_argument(
        "--pairs", type=int, default=PAIRS, help="right ones, and as many wrong ones"
    )
    parser.add_argument("--output", "-o", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    pairs = [capture(number, arguments.work) for number in range(arguments.pairs)]
    if arguments.only == "captures":
        return
    stored = Rows(arguments.work / "rows", code_stamp())
    rows = [
        stored.of(pair[1].name, lambda pair=pair: pair_row(pair)) | {"pair": pair[1].name}
        for pair in pairs
    ]
    wrong = [
        stored.of(f"wrong_{number:02}", lambda number=number: wrong_row(pairs, number))
        for number in range(arguments.pairs)
    ]
    values = {
        "date": datetime.now(UTC).date().isoformat(),
        "version": __version__,
        "code": code_stamp(),
        "summary": summarize(rows) | {"wrong_accepted": sum(row["accepted"] for row in wrong)},
        "pairs": rows,
        "wrong": wrong,
    }
    if arguments.output:
        write_atomically(arguments.output, f"{json.dumps(values, indent=1)}\n".encode())
    print(json.dumps(values["summary"], indent=1))


if __name__ == "__main__":
    main()
