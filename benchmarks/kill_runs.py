"""Check that `--resume` gives the right files after a run was killed (-9) at random moments.

`d2csr upscale` runs on a folder of small images in a new process, which is killed after a random
time; the next process continues with `--resume` and is killed, until one finishes. Then the results
are compared byte by byte with those of an uninterrupted run. This is repeated until the number of
kills is reached. After each kill, every result that exists must already be complete.

    python benchmarks/kill_runs.py --kills 200
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from d2csr.core.files import write_atomically
from d2csr.images.writer import write_rgb8

RESULTS = Path(__file__).parent / "results"
ENDINGS = ("png", "tif", "webp", "jpg")


@dataclass
class Counts:
    """Counts of kills and of results."""

    kills: int = 0
    kills_with_some_done: int = 0
    runs_to_the_end: int = 0
    results_seen_after_kills: int = 0
    half_written: int = 0
    wrong_after_resume: int = 0
    left_behind: int = 0


def main() -> None:
    """Kill, resume and compare; write a dated JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--model", default="city100-iphone-x2")
    parser.add_argument("--images", type=int, default=12)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = kill_runs(
            Path(folder), model=arguments.model, kills=arguments.kills, images=arguments.images
        )
    results = {"date": date.today().isoformat(), "images": arguments.images, **vars(counts)}
    print(json.dumps(results))
    path = RESULTS / f"kill_runs-{results['date']}.json"
    write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())
    if counts.half_written or counts.wrong_after_resume:
        sys.exit("some files are wrong")


def kill_runs(folder: Path, *, model: str, kills: int, images: int) -> Counts:
    """Return the counts after a number of kills."""
    make_images(folder / "in", images)
    started = time.monotonic()
    run(folder, "whole", model=model).wait()
    seconds = time.monotonic() - started
    expected = contents(folder / "whole")
    counts, draw = Counts(), random.Random(0)
    while counts.kills < kills:
        shutil.rmtree(folder / "out", ignore_errors=True)
        while True:
            process = run(folder, "out", model=model)
            try:
                process.wait(draw.uniform(0.0, 1.1 * seconds))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            counts.kills += 1
            seen = contents(folder / "out")
            counts.results_seen_after_kills += len(seen)
            counts.kills_with_some_done += bool(seen)
            counts.half_written += sum(
                expected.get(name) != bytes_ for name, bytes_ in seen.items()
            )
        counts.runs_to_the_end += 1
        counts.wrong_after_resume += sum(
            contents(folder / "out").get(name) != bytes_ for name, bytes_ in expected.items()
        )
        counts.left_behind += len(list((folder / "out").rglob(".*"))) - 1  # the journal
    return counts


def make_images(folder: Path, count: int) -> None:
    """Write small images of noise, all different, in every output format."""
    random_ = np.random.default_rng(0)
    for at in range(count):
        pixels = random_.integers(0, 256, (60 + at, 90, 3), dtype=np.uint8)
        write_rgb8(folder / f"{at % 3}" / f"{at}.{ENDINGS[at % len(ENDINGS)]}", pixels)


def run(folder: Path, out: str, *, model: str) -> "subprocess.Popen[bytes]":
    """Start `d2csr upscale` on the images."""
    options = ["upscale", "-i", folder / "in", "-o", folder / out, "-n", model, "--ext", "same"]
    command = [sys.executable, "-m", "d2csr", *map(str, options), "--resume"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of the results; hidden files aren't results."""
    files = (path for path in folder.rglob("*.*") if not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


if __name__ == "__main__":
    main()
