"""Many processes at once, processes made from one that has used a model, and a Ray cluster."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from d2csr.images.writer import write_rgb8
from reliability_cases.subjects import contents, finish, leftovers, noise, start, tiny_bundle

_IMAGES = 12
# A child of a process that has used a model, made in each way; argument: the way, the model.
_CHILD = """
import multiprocessing, sys
import numpy as np
import d2csr

def enlarge(model, lr, results):
    try:
        used = d2csr.load(model) if isinstance(model, str) else model
        results.put(np.asarray(used.upscale(lr)))
    except Exception as error:
        results.put(str(error))

if __name__ == "__main__":
    way, bundle = sys.argv[1:]
    lr = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    model = d2csr.load(bundle)
    right = np.asarray(model.upscale(lr))
    context = multiprocessing.get_context(way)
    results = context.Queue()
    given = model if way == "fork" else bundle
    child = context.Process(target=enlarge, args=(given, lr, results), daemon=True)
    child.start()
    answer = results.get(timeout=60)
    child.join(20)
    is_right = isinstance(answer, np.ndarray) and np.array_equal(answer, right)
    print("right" if is_right else answer if isinstance(answer, str) else "wrong")
    assert np.array_equal(model.upscale(lr), right)
"""


def _images(folder: Path) -> Path:
    for at in range(_IMAGES):
        write_rgb8(folder / str(at % 2) / f"{at}.png", noise(50 + at, 70, seed=at))
    return folder


def together(folder: Path, times: int) -> Iterator[str]:
    """Yield for each of so many processes, which start at once with an empty cache, its fault."""
    bundle, photos = tiny_bundle(folder / "tiny"), _images(folder / "in")
    outputs = [folder / f"out{at}" for at in range(times)]
    running = [
        start(
            ["upscale", "-i", str(photos), "-o", str(output), "-n", str(bundle)],
            cache=folder / "cache",
        )
        for output in outputs
    ]
    verdicts = [finish(each, timeout_s=900).problem(0) for each in running]
    right = contents(outputs[0])
    for output, verdict in zip(outputs, verdicts, strict=True):
        is_right = len(right) == _IMAGES and contents(output) == right
        yield verdict or ("" if is_right else "its results differ from those of the others")


def one_folder(folder: Path, times: int) -> Iterator[str]:
    """Yield what is wrong after two runs at once into one folder."""
    bundle, photos = tiny_bundle(folder / "tiny"), _images(folder / "in")
    words = ["upscale", "-i", str(photos), "-n", str(bundle)]
    finish(start([*words, "-o", str(folder / "right")], cache=folder / "cache"))
    right = contents(folder / "right")
    for at in range(times):
        output = folder / f"out{at}"
        options = ["-o", str(output), *(["--resume"] if at % 2 else [])]
        both = [start([*words, *options], cache=folder / "cache") for _ in range(2)]
        problems = [problem for each in both if (problem := finish(each).problem(0))]
        if not problems and contents(output) != right:
            problems.append("a result is wrong")
        if not problems and (left := leftovers(output)):
            problems.append(f"left behind {left[0]}")
        again = [*words, "-o", str(output), "--resume", "--json"]
        ended = finish(start(again, cache=folder / "cache"))
        records = [json.loads(line) for line in ended.out.splitlines()]
        states = [each["status"] for each in records if "status" in each]
        if not problems and states != ["unchanged"] * _IMAGES:
            problems.append("a later --resume finds results missing")
        yield problems[0] if problems else ""


def children(folder: Path, times: int) -> Iterator[str]:
    """Yield what went wrong in a child of a process that has used a model."""
    bundle, program = tiny_bundle(folder / "tiny"), folder / "program.py"
    program.write_text(_CHILD, encoding="utf-8")
    environment = {**os.environ, "D2CSR_CACHE": str(folder / "cache")}
    for at in range(times):
        way = ("spawn", "forkserver", "fork")[at % 3]
        process = subprocess.Popen(
            [sys.executable, str(program), way, str(bundle)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ended = finish(process, timeout_s=120)
        verdict = ended.problem(0)
        if not verdict and ended.out.strip() != "right":
            verdict = ended.out.strip()
        yield f"{way}: {verdict}" if verdict else ""


def ray_workers(folder: Path, times: int) -> Iterator[str]:
    """Yield what is wrong after runs on two Ray workers, one killed; even ones without storage."""
    bundle, photos = tiny_bundle(folder / "tiny"), _images(folder / "in")
    words = ["upscale", "-i", str(photos), "-n", str(bundle)]
    finish(start([*words, "-o", str(folder / "right")], cache=folder / "cache"))
    right = contents(folder / "right")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    for at in range(times):
        output = folder / f"out{at}"
        target = str(output) if at % 2 == 0 else "s3://no-such-bucket.invalid/out"
        options = ["-o", target, "--executor", "ray", "--workers", "2", "--json"]
        process = start([*words, *options], cache=folder / "cache")
        if at % 2:
            ended = finish(process)
            verdict = ended.problem(2)
            yield verdict or ("" if ended.err.count("error") == 1 else ended.err[-300:])
            continue
        assert process.stdout is not None  # noqa: S101 - a pipe, as `start` makes it
        first = json.loads(process.stdout.readline())
        os.kill(first["worker"], signal.SIGKILL)
        verdict = finish(process).problem(0)
        yield verdict or ("" if contents(output) == right else "a result is wrong or missing")
