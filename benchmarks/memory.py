"""Memory that upscaling takes, and whether strips give the same image as the whole.

`paper`: one LR megapixel at x4 with random weights, in bf16, in fp32 and by `reference`, each in a
new process: the peak above the loaded, idle process (VmHWM), and the difference of its SR from
that of `reference`. `photo`: a synthetic photo of 24 megapixels by `d2csr upscale --memory 4GiB`
at x2 into a TIFF of 96 megapixels: the peak of the whole process, and the same with 1 GiB, compared
pixel by pixel. Writes a dated JSON file per case. Takes less than 8 minutes on 2 idle cores.

    python benchmarks/memory.py [--cases paper photo] [--megapixels 1 24]
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from jaxtyping import UInt8
from watched import run_watched

from d2csr.core.files import write_atomically
from d2csr.core.hardware import usable_cores
from d2csr.export.bundle_writer import export_random_bundle
from d2csr.images.writer import write_rgb8
from d2csr.speed.candidates import open_candidates
from d2csr.speed.speed_results import read_machine
from d2csr.speed.worker import Worker

RESULTS = Path(__file__).parent / "results"
GIB = 1 << 30
PHOTO_MODEL = "city100-iphone-x2"
LIMITS_GIB = (4, 1)
WAYS = (("reference", "fp32"), ("openvino", "bf16"), ("openvino", "fp32"))
SHARES = {"bf16": 1 / 7, "fp32": 1 / 5}  # of reference's peak, at most
MIN_BF16_DB, MAX_DIFFERENCE = 57, 1e-5
_VALUES = 1 << 20  # compared at a time


def main() -> None:
    """Measure the cases and write a file for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--megapixels", nargs=2, type=float, default=[1.0, 24.0],
                        help="of the LR image for paper, and of the photo")  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON files")
    arguments = parser.parse_args()
    sizes = dict(zip(CASES, arguments.megapixels, strict=True))
    for case in arguments.cases:
        values = {
            "date": date.today().isoformat(),
            "machine": read_machine(usable_cores()).model_dump(),
            "lr_megapixels": sizes[case],
            **CASES[case](sizes[case]),
        }
        path = arguments.results / f"memory-{case}-{values['date']}.json"
        write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())
        print(json.dumps(values, indent=1), flush=True)


def measure_paper(megapixels: float) -> dict[str, Any]:
    """Return the peak memory of `paper` x4 per backend, and its difference from `reference`."""
    rows: list[dict[str, Any]] = []
    with (
        open_candidates(("paper",), scale=4, make_random=export_random_bundle) as candidates,
        tempfile.TemporaryDirectory() as folder,
    ):
        bundle, expected = candidates[0].bundle, Path(folder) / "reference.raw"
        image = Path(folder) / "lr.png"
        write_rgb8(image, synthetic_photo(round(math.sqrt(megapixels * 1e6)), ratio=1))
        for backend, precision in WAYS:
            job = {"job": "engine", "bundle": str(bundle.folder)}
            job |= {"backend": backend, "precision": precision}
            saved = expected if not rows else Path(folder) / "sr.raw"
            started = time.perf_counter()
            with Worker(job, threads=usable_cores()) as worker:
                worker.request({"command": "upscale", "image": str(image), "save": str(saved)})
                peak = worker.request({"command": "memory"})["bytes"]
            row = {"backend": backend, "precision": precision, "peak_bytes": peak}
            row["seconds_with_loading"] = time.perf_counter() - started
            if rows:
                row |= _compare_peaks(row, rows[0]) | difference(saved, expected)
                row["same_pixels"] = _is_same(row)
            rows.append(row)
    return {"ways": rows}


def measure_photo(megapixels: float) -> dict[str, Any]:
    """Return the peak memory of upscaling a photo, and whether a lower limit changes pixels."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        photo = folder / "photo.png"
        write_rgb8(photo, synthetic_photo(round(math.sqrt(megapixels * 1e6 / 1.5)), ratio=1.5))
        files = [folder / f"{limit}GiB.tif" for limit in LIMITS_GIB]
        runs = [
            upscale(photo, file, limit_gib=limit)
            for file, limit in zip(files, LIMITS_GIB, strict=True)
        ]
        return {"model": PHOTO_MODEL, "runs": runs, **compare_files(*files)}


def synthetic_photo(height: int, *, ratio: float) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image with slopes, edges and grain, the same each time."""
    width = round(height * ratio)
    generator = np.random.default_rng(0)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(0, 1, width, dtype=np.float32)
    waves = np.sin(400 * rows * (0.2 + columns)) + np.sign(np.sin(90 * (rows + columns**2)))
    image = np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        grain = generator.standard_normal((height, width), np.float32)
        levels = 118 + 30 * waves + 60 * (columns - rows) * (channel - 1) + 4 * grain
        image[..., channel] = levels.clip(0, 255)
    return image


def upscale(photo: Path, output: Path, *, limit_gib: int) -> dict[str, Any]:
    """Return time and peak memory of `d2csr upscale` on one photo, in its own process."""
    command = [sys.executable, "-m", "d2csr", "upscale", "-i", str(photo), "-o", str(output)]
    command += ["-n", PHOTO_MODEL, "--memory", f"{limit_gib}GiB", "--overwrite"]
    seconds, peak = run_watched(command)
    limit = limit_gib * GIB
    return {"limit_bytes": limit, "peak_bytes": peak, "met": peak <= limit, "seconds": seconds}


def compare_files(one: Path, other: Path) -> dict[str, Any]:
    """Return the size of two images, and their largest difference in gray levels."""
    images = [pyvips.Image.new_from_file(str(path), access="sequential") for path in (one, other)]
    differences = (images[0].cast("short") - images[1].cast("short")).abs()
    return {
        "sr_size": [images[0].width, images[0].height],
        "largest_difference_levels": differences.max(),
    }


def difference(saved: Path, expected: Path) -> dict[str, float]:
    """Return the PSNR between two raw float32 images, and their largest relative difference."""
    ours, theirs = (np.memmap(path, np.float32, "r") for path in (saved, expected))
    squares, largest, highest = 0.0, 0.0, 1.0
    for first in range(0, len(ours), _VALUES):
        differences = np.abs(
            np.float64(ours[first : first + _VALUES]) - theirs[first : first + _VALUES]
        )
        squares += float(np.square(differences).sum())
        largest = max(largest, float(differences.max()))
        highest = max(highest, float(np.abs(theirs[first : first + _VALUES]).max()))
    psnr_db = -10 * math.log10(max(squares / len(ours), 1e-20))
    return {"psnr_between_db": psnr_db, "largest_relative_difference": largest / highest}


def _compare_peaks(row: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Return the ratio to the peak of `reference`, and whether it is below its limit."""
    ratio = row["peak_bytes"] / reference["peak_bytes"]
    limit = SHARES[row["precision"]]
    return {"ratio_to_reference": ratio, "wanted_at_most": limit, "met": ratio <= limit}


def _is_same(row: dict[str, Any]) -> bool:
    """Return whether SR differs from that of `reference` by no more than its precision allows."""
    if row["precision"] == "fp32":
        return row["largest_relative_difference"] <= MAX_DIFFERENCE
    return row["psnr_between_db"] >= MIN_BF16_DB


CASES: dict[str, Callable[[float], dict[str, Any]]] = {
    "paper": measure_paper,
    "photo": measure_photo,
}


if __name__ == "__main__":
    main()
