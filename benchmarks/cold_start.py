"""Time from the start of a new process to the upscaled photo on disk, part by part.

The command runs on one image several times, each time in a new process: first with an empty graph
cache (the very first run), then with the graph cache and the system's file cache filled. The parts,
from the command's `--json` and a clock around it:

    start    interpreter, imports and command line, until the call
    load     opening the engine, while the image is decoded
    decode   reading the image
    compute  computing the rows of SR
    encode   writing, as far as it takes longer than computing
    end      the rest: between these parts, and the end of the process

    python benchmarks/cold_start.py --rounds 9
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from d2csr.core.files import write_atomically
from d2csr.images.reader import read_rgb8
from d2csr.images.resize import resize_bicubic
from d2csr.images.writer import write_rgb8

RESULTS = Path(__file__).parent / "results"
PARTS = ("start", "load", "decode", "compute", "encode", "end")
ROWS, COLUMNS = 576, 864  # 0.5 MP


def main() -> None:
    """Time a first run and several later runs; write a dated JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", default="city100-nikon-x3")
    parser.add_argument("--photo", type=Path, help="default: a photo of City100, or else noise")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.png"
        write_rgb8(photo, half_megapixel(arguments.photo))
        first = time_run(photo, arguments.model)
        later = [time_run(photo, arguments.model) for _ in range(arguments.rounds)]
    names = ("total", *PARTS)
    medians = {name: statistics.median(each[name] for each in later) for name in names}
    results = {
        "date": date.today().isoformat(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "model": arguments.model,
        "lr_size": [COLUMNS, ROWS],
        "first_run_s": first,
        "later_runs_median_s": medians,
        "later_runs_total_s": [each["total"] for each in later],
        "shares": {part: medians[part] / medians["total"] for part in PARTS},
        "all_but_compute_s": statistics.median(each["total"] - each["compute"] for each in later),
    }
    path = RESULTS / f"cold_start-{arguments.model}-{results['date']}.json"
    write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())
    print(json.dumps(results, indent=1))


def half_megapixel(photo: Path | None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return an image of 0.5 MP."""
    data = os.environ.get("D2CSR_DATA")
    if photo is None and data:
        photo = Path(data) / "city100/nikon_d5500_x3/test/Nikon_001_HR.webp"
    if photo is None:
        return np.random.default_rng(0).integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)
    return resize_bicubic(read_rgb8(photo), scale=(ROWS, COLUMNS))


def time_run(photo: Path, model: str) -> dict[str, float]:
    """Return the seconds of one run, part by part; the graph cache is beside the image."""
    options = ["-i", photo, "-o", photo.parent / "out", "-n", model, "--json"]
    command = [sys.executable, "-m", "d2csr", "upscale", *map(str, options)]
    environment = {**os.environ, "D2CSR_CACHE": str(photo.parent / "cache")}
    started = time.time()
    output = subprocess.run(command, check=True, capture_output=True, env=environment).stdout
    total = time.time() - started
    image, call = map(json.loads, output.decode().splitlines())
    parts = {**image["seconds"], "load": call["seconds"]["load"]}
    parts["start"] = call["began_at"] - started
    parts["end"] = total - parts["start"] - max(parts["load"], parts["decode"])
    parts["end"] -= parts["compute"] + parts["encode"]
    return {"total": total, **parts}


if __name__ == "__main__":
    main()
