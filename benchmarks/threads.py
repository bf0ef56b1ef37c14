"""One model called from eight threads at once: is every image right, and is it as fast as one?

Each round times 64 calls of one thread, then 64 calls of each of eight threads, on images of three
sizes, so that other load of the machine falls on both. Every result is compared with that of one
thread alone. Written to `benchmarks/results/reliability-threads.json`: the images that were right,
and the median over the rounds of the images per second of eight threads to those of one. On a busy
machine, eight threads are given more of the processors than one; processor time per image is not
affected, and is stored as well.

    python benchmarks/threads.py [--model photo-x2] [--rounds 5]
"""

import argparse
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from d2csr.core.files import write_atomically
from d2csr.core.hardware import usable_cores
from d2csr.engine.model import Model, load
from d2csr.speed.speed_results import read_machine

RESULTS = Path(__file__).parent / "results" / "reliability-threads.json"
THREADS, CALLS = 8, 64
SIZES = ((24, 32), (32, 24), (40, 40))  # height, width
BACKENDS = ("openvino", "onnxruntime")
NOISE = 0.95  # of one thread's speed: what the medians of a busy machine may differ by


class Round(NamedTuple):
    """Speed of all threads to that of one, by the clock and by processor time; wrong images."""

    by_clock: float
    by_processor: float
    wrong: int


def main() -> None:
    """Measure every backend and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photo-x2")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    lines: dict[str, Any] = {}
    for backend in BACKENDS:
        model = load(options.model, backend=backend, device="cpu")
        lines |= measure(model, backend=backend, rounds=options.rounds)
        print(json.dumps(lines, indent=1), flush=True)
    machine = read_machine(usable_cores())
    values = {
        "title": "One model in several threads",
        "command": "python benchmarks/threads.py",
        "machine": f"{machine.processor}, {machine.threads} cores, busy with other work",
        "lines": lines,
    }
    write_atomically(RESULTS, (json.dumps(values, indent=1) + "\n").encode())


def measure(model: Model, *, backend: str, rounds: int) -> dict[str, Any]:
    """Return the two lines of a backend: right images, and speed."""
    generator, begun = np.random.default_rng(0), time.monotonic()
    images = [generator.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    expected = [model.upscale(image) for image in images]
    measured = [measure_round(model, images, expected=expected) for _ in range(rounds)]
    ratio, of_processor = (
        statistics.median(values)
        for values in zip(*((each.by_clock, each.by_processor) for each in measured), strict=True)
    )
    wrong = sum(each.wrong for each in measured)
    times, is_fast = THREADS * CALLS * rounds, ratio >= NOISE
    common = {
        "seconds": round(time.monotonic() - begun, 1),
        "date": datetime.now(UTC).date().isoformat(),
    }
    right = {
        "tried": f"{THREADS} threads call one model at once, {CALLS} times each ({backend})",
        "expected": "the pixels that one thread gets",
        "times": times,
        "held": times - wrong,
        "exceptions": [f"{wrong} images differ"] if wrong else [],
        **common,
    }
    speed = {
        "tried": f"images per second of {THREADS} threads in sum, to those of one ({backend})",
        "expected": f"as many or more by the clock, within {1 - NOISE:.0%}; "
        f"measured {ratio:.2f} times as many, "
        f"{of_processor:.2f} times per second of processor time (medians of {rounds} rounds)",
        "times": 1,
        "held": int(is_fast),
        "exceptions": [] if is_fast else [f"{ratio:.2f} times as many"],
        "by_clock": [round(each.by_clock, 3) for each in measured],
        "by_processor": [round(each.by_processor, 3) for each in measured],
        **common,
    }
    return {f"{backend}-right": right, f"{backend}-speed": speed}


def measure_round(
    model: Model, images: list[UInt8[np.ndarray, "_ _ 3"]], *, expected: list[Any]
) -> Round:
    """Return the speeds of one thread and of eight, one after the other."""

    def call(index: int) -> bool:
        number = index % len(images)
        return np.array_equal(model.upscale(images[number]), expected[number])

    started = np.array([time.perf_counter(), time.process_time()])
    for index in range(CALLS):
        call(index)
    between = np.array([time.perf_counter(), time.process_time()])
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(call, range(THREADS * CALLS)))
    ended = np.array([time.perf_counter(), time.process_time()])
    by_clock, by_processor = THREADS * (between - started) / (ended - between)
    return Round(float(by_clock), float(by_processor), answers.count(False))


if __name__ == "__main__":
    main()
