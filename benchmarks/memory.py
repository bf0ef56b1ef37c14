"""How much memory upscaling takes, and whether what runs in bands is what runs whole.

`paper`: one LR megapixel at x4, random weights, bf16 and fp32 beside `reference`, each in a fresh
process; peak above the loaded, idle process (VmHWM), and how far its SR is from `reference`'s.
`photo`: a made-up photo of 24 megapixels through `d2csr upscale --memory 4GiB` at x2 into a TIFF of
96 megapixels: the whole process's peak, and the same with 1 GiB, pixel for pixel.
Writes a dated JSON file a case. Under 8 minutes on 2 idle cores.

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

from d2csr.cli.benchmark import subjects
from d2csr.core.files import write_atomically
from d2csr.images.writer import write_rgb8
from d2csr.speed.measure import machine
from d2csr.speed.worker import Worker, cores

RESULTS = Path(__file__).parent / "results"
GIB = 1 << 30
PHOTO_MODEL = "city100-iphone-x2"
LIMITS_GIB = (4, 1)
WAYS = (("reference", "fp32"), ("openvino", "bf16"), ("openvino", "fp32"))
SHARES = {"bf16": 1 / 7, "fp32": 1 / 5}  # of reference's peak, at most
LEAST_BF16_DB, MOST_DIFFERENCE = 57, 1e-5
_VALUES = 1 << 20  # compared at a time


def main() -> None:
    """Measure the cases and write a file for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--megapixels", nargs=2, type=float, default=[1.0, 24.0],
                        help="of the LR image for paper, and of the photo")  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON files")
    asked = parser.parse_args()
    sizes = dict(zip(CASES, asked.megapixels, strict=True))
    for case in asked.cases:
        found = {
            "date": date.today().isoformat(),
            "machine": machine(cores()).model_dump(),
            "lr_megapixels": sizes[case],
            **CASES[case](sizes[case]),
        }
        path = asked.results / f"memory-{case}-{found['date']}.json"
        write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
        print(json.dumps(found, indent=1), flush=True)


def measure_paper(megapixels: float) -> dict[str, Any]:
    """Return peaks of `paper` x4 by way, and how far each SR is from `reference`'s."""
    rows: list[dict[str, Any]] = []
    with subjects(("paper",), scale=4) as found, tempfile.TemporaryDirectory() as folder:
        bundle, wanted = found[0].bundle, Path(folder) / "reference.raw"
        image = Path(folder) / "lr.png"
        write_rgb8(image, made_up_photo(round(math.sqrt(megapixels * 1e6)), ratio=1))
        for backend, precision in WAYS:
            job = {"job": "engine", "bundle": str(bundle.folder)}
            job |= {"backend": backend, "precision": precision}
            saved = wanted if not rows else Path(folder) / "sr.raw"
            begun = time.perf_counter()
            with Worker(job, threads=cores()) as worker:
                worker.request({"ask": "enlarge", "picture": str(image), "save": str(saved)})
                held = worker.request({"ask": "memory"})["bytes"]
            row = {"backend": backend, "precision": precision, "peak_bytes": held}
            row["seconds_with_loading"] = time.perf_counter() - begun
            if rows:
                row |= _beside(row, rows[0]) | difference(saved, wanted)
                row["same_pixels"] = _is_same(row)
            rows.append(row)
    return {"ways": rows}


def measure_photo(megapixels: float) -> dict[str, Any]:
    """Return the peak of enlarging a photo, and whether less memory gives the same pixels."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        photo = folder / "photo.png"
        write_rgb8(photo, made_up_photo(round(math.sqrt(megapixels * 1e6 / 1.5)), ratio=1.5))
        files = [folder / f"{limit}GiB.tif" for limit in LIMITS_GIB]
        runs = [
            upscaled(photo, file, limit_gib=limit)
            for file, limit in zip(files, LIMITS_GIB, strict=True)
        ]
        return {"model": PHOTO_MODEL, "runs": runs, **compare_files(*files)}


def made_up_photo(height: int, *, ratio: float) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image with slopes, edges and grain, the same each time."""
    width = round(height * ratio)
    generator = np.random.default_rng(0)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(0, 1, width, dtype=np.float32)
    waves = np.sin(400 * rows * (0.2 + columns)) + np.sign(np.sin(90 * (rows + columns**2)))
    image = np.empty((height, width, 3), np.uint8)
    for colour in range(3):
        grain = generator.standard_normal((height, width), np.float32)
        levels = 118 + 30 * waves + 60 * (columns - rows) * (colour - 1) + 4 * grain
        image[..., colour] = levels.clip(0, 255)
    return image


def upscaled(photo: Path, output: Path, *, limit_gib: int) -> dict[str, Any]:
    """Return seconds and peak of `d2csr upscale` on one photo, in a process of its own."""
    command = [sys.executable, "-m", "d2csr", "upscale", "-i", str(photo), "-o", str(output)]
    command += ["-n", PHOTO_MODEL, "--memory", f"{limit_gib}GiB"]
    seconds, peak = run_watched(command)
    limit = limit_gib * GIB
    return {"limit_bytes": limit, "peak_bytes": peak, "met": peak <= limit, "seconds": seconds}


def compare_files(one: Path, other: Path) -> dict[str, Any]:
    """Return the size of two images, and by how many grey levels they differ at most."""
    images = [pyvips.Image.new_from_file(str(path), access="sequential") for path in (one, other)]
    apart = (images[0].cast("short") - images[1].cast("short")).abs()
    return {
        "sr_size": [images[0].width, images[0].height],
        "largest_difference_levels": apart.max(),
    }


def difference(saved: Path, wanted: Path) -> dict[str, float]:
    """Return how far raw float32 images are apart: PSNR, and the largest relative difference."""
    ours, theirs = (np.memmap(path, np.float32, "r") for path in (saved, wanted))
    squares, largest, highest = 0.0, 0.0, 1.0
    for first in range(0, len(ours), _VALUES):
        apart = np.abs(np.float64(ours[first : first + _VALUES]) - theirs[first : first + _VALUES])
        squares += float(np.square(apart).sum())
        largest = max(largest, float(apart.max()))
        highest = max(highest, float(np.abs(theirs[first : first + _VALUES]).max()))
    psnr_db = -10 * math.log10(max(squares / len(ours), 1e-20))
    return {"psnr_between_db": psnr_db, "largest_relative_difference": largest / highest}


def _beside(row: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Return the ratio of peaks and whether it is low enough."""
    ratio = row["peak_bytes"] / reference["peak_bytes"]
    most = SHARES[row["precision"]]
    return {"ratio_to_reference": ratio, "wanted_at_most": most, "met": ratio <= most}


def _is_same(row: dict[str, Any]) -> bool:
    """Return whether SR is as near to `reference`'s as its precision promises."""
    if row["precision"] == "fp32":
        return row["largest_relative_difference"] <= MOST_DIFFERENCE
    return row["psnr_between_db"] >= LEAST_BF16_DB


CASES: dict[str, Callable[[float], dict[str, Any]]] = {
    "paper": measure_paper,
    "photo": measure_photo,
}


if __name__ == "__main__":
    main()
