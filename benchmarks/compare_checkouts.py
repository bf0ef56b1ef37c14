"""Does another checkout start and upscale as fast as this one, in as much memory?

`python benchmarks/compare_checkouts.py COMMIT` compares with that commit, by default the last one.
Every measurement is a new process, the two checkouts alternating. Ratios are the median of this
checkout by that of the other, with the interval of the middle 95% of bootstrapped ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "compare_checkouts.json"
EXAMPLE = HERE / "examples" / "city100_nikon_001_lr3.png"
ROUNDS = 9

# Runs in the process of a checkout: seconds of one image in an engine that is warm.
WARM_ENGINE = """
import sys, time, numpy, d2csr
model = d2csr.load(sys.argv[1])
lr = numpy.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=numpy.uint8)
model.upscale(lr)
begun = time.perf_counter()
model.upscale(lr)
print(time.perf_counter() - begun)
"""


def main() -> None:
    """Measure, print a table and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", nargs="?", default="HEAD", help="what to compare with")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "checkout"
        git("worktree", "add", "--detach", str(other), arguments.commit)
        try:
            rows = [measure_both(name, other, rounds=arguments.rounds) for name in MEASUREMENTS]
        finally:
            git("worktree", "remove", "--force", str(other))
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "rounds": arguments.rounds,
        "commits": {"other": git("rev-parse", arguments.commit), "this": git("rev-parse", "HEAD")},
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measure_both(name: str, other: Path, *, rounds: int) -> dict[str, object]:
    """Return one row, and print it: both checkouts measured in turn."""
    values: dict[str, list[float]] = {"other": [], "this": []}
    for number in range(rounds + 1):
        for which, folder in {"other": other, "this": HERE}.items():
            value = MEASUREMENTS[name](folder)
            if number:  # the first run of each fills caches
                values[which].append(value)
    row = compare(name, values)
    print(format_row(row), flush=True)
    return row


def compare(name: str, values: dict[str, list[float]]) -> dict[str, object]:
    """Return medians, their ratio and its bootstrapped 95% interval."""
    generator = np.random.default_rng(0)
    other, this = (np.array(values[which]) for which in ("other", "this"))
    picks = generator.integers(0, len(this), (2, 4000, len(this)))
    ratios = np.median(this[picks[0]], axis=1) / np.median(other[picks[1]], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    medians = statistics.median(other), statistics.median(this)
    return {
        "name": name,
        "other": medians[0],
        "this": medians[1],
        "ratio": medians[1] / medians[0],
        "interval95": [float(low), float(high)],
    }


def format_row(row: dict[str, object]) -> str:
    """Return a row as one line of text."""
    low, high = row["interval95"]  # pyright: ignore[reportGeneralTypeIssues] - a list of two
    numbers = (
        f"{row['other']:10.3f} {row['this']:10.3f}   x{row['ratio']:.3f} ({low:.3f}-{high:.3f})"
    )
    return f"{row['name']:34}{numbers}"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a checkout's package; an error ends the measurement."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=True
    )


def wall_s(folder: Path, *arguments: str) -> float:
    """Return the seconds that a new process takes."""
    begun = time.perf_counter()
    run(folder, *arguments)
    return time.perf_counter() - begun


def help_s(folder: Path) -> float:
    """Return the seconds of `d2csr --help`."""
    return wall_s(folder, "-m", "d2csr", "--help")


def upscale_s(model: str) -> Callable[[Path], float]:
    """Return a measurement: seconds from the shell to the written file, for the example."""

    def measure(folder: Path) -> float:
        with tempfile.TemporaryDirectory() as out:
            given = ("-i", str(EXAMPLE), "-o", out, "-n", model)
            return wall_s(folder, "-m", "d2csr", "upscale", *given)

    return measure


def engine_s(model: str) -> Callable[[Path], float]:
    """Return a measurement: seconds of 512x512 LR pixels in a warm engine."""
    return lambda folder: float(run(folder, "-c", WARM_ENGINE, model).stdout)


def peak_mib(model: str) -> Callable[[Path], float]:
    """Return a measurement: peak memory of `d2csr upscale` on the example, in MiB."""

    def measure(folder: Path) -> float:
        with tempfile.TemporaryDirectory() as out:
            given = ["-i", str(EXAMPLE), "-o", out, "-n", model]
            environment = os.environ | {"PYTHONPATH": str(folder / "src")}
            command = [sys.executable, "-m", "d2csr", "upscale", *given]
            to_null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
            child = os.posix_spawn(sys.executable, command, environment, file_actions=[to_null])
            _, status, usage = os.wait4(child, 0)
            if status:
                raise RuntimeError(f"{folder}: upscale failed with status {status}")
            return usage.ru_maxrss / 1024  # from KiB

    return measure


MEASUREMENTS: dict[str, Callable[[Path], float]] = {
    "--help, s": help_s,
    "x2 example to file, s": upscale_s("city100-iphone-x2"),
    "x3 example to file, s": upscale_s("city100-nikon-x3"),
    "x2 512x512, warm engine, s": engine_s("city100-iphone-x2"),
    "x3 512x512, warm engine, s": engine_s("city100-nikon-x3"),
    "x3 example, peak memory, MiB": peak_mib("city100-nikon-x3"),
}


def git(*arguments: str) -> str:
    """Return the output of a git command in this checkout."""
    command = ["git", "-C", str(HERE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
