"""Commands on tiny inputs, in processes of their own: what they read, write and leave behind."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from d2csr.core.bundle import ModelMetadata
from d2csr.core.config import ModelConfig
from d2csr.core.geometry import Size
from d2csr.images.writer import write_rgb8
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.scene import Procedural

TIMEOUT_S = 300.0
_METADATA = ModelMetadata(name="tiny", licence="MIT", data="noise", steps=3, seed=0, machine="x")
_SIZES = {"scale": 2, "channels": 4, "groups": 1, "blocks": 1, "convergence_channels": 4}
_TEMPORARY = ".d2csr-????????-*"  # names of unfinished files

Words = list[str]


HUNG = -1000  # an exit code that no process has


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its exit code, `HUNG` if it took too long, and what it printed."""

    code: int
    out: str
    err: str

    def problem(self, *codes: int) -> str:
        """Return how it ended other than with one of these codes, quietly; "" if so."""
        if self.code == HUNG:
            return "hung"
        if self.code < 0 and self.code not in codes:
            return f"ended by signal {-self.code}"
        if "Traceback" in self.err:
            return f"a traceback: {self.err.strip().splitlines()[-1][:120]}"
        if self.code not in codes:
            return f"exit code {self.code}: {(self.err.strip().splitlines() or [''])[-1][:160]}"
        return ""


@dataclass(frozen=True)
class Subject:
    """A command with its inputs.

    Attributes:
        words: returns the command line for an output.
        complete: glob of the files in the output that are complete whenever they exist.
        refusal: how the command refuses an output that is finished already, if it does.
    """

    words: Callable[[Path], Words]
    complete: str = "**/*"
    refusal: str = ""


def start(words: Words, *, cache: Path, **options: object) -> "subprocess.Popen[str]":
    """Start a command with its own cache."""
    environment = {**os.environ, "D2CSR_CACHE": str(cache)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(  # pyright: ignore[reportCallIssue]
        [sys.executable, "-m", "d2csr", *words],
        env=environment,
        **{**pipes, **options},  # pyright: ignore[reportArgumentType]
    )


def finish(process: "subprocess.Popen[str]", *, timeout_s: float = TIMEOUT_S) -> Ended:
    """Wait for a process; one that takes too long is killed."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        return Ended(HUNG, out, err)
    return Ended(process.returncode, out, err)


def contents(output: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """Return the contents of the files of an output, or of a file; hidden ones are left out."""
    if output.is_file():
        return {output.name: output.read_bytes()}
    files = (
        path
        for path in output.glob(pattern)
        if path.is_file() and not any(part[0] == "." for part in path.relative_to(output).parts)
    )
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


def leftovers(*folders: Path) -> list[str]:
    """Return the names of unfinished files in folders."""
    return [path.name for folder in folders for path in folder.rglob(_TEMPORARY)]


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run.

    Attributes:
        files: the files that are the same in every such run.
        seconds: that it took.
        subject: the command.
    """

    files: Mapping[str, bytes]
    seconds: float
    subject: Subject

    def incomplete(self, output: Path) -> str:
        """Return the name of a file of an interrupted run that exists and isn't complete; or ""."""
        there = contents(output, self.subject.complete) if output.is_dir() else {}
        wrong = [name for name, data in there.items() if self.files.get(name, data) != data]
        return f"{wrong[0]} is not complete" if wrong else ""

    def differs(self, output: Path) -> str:
        """Return the name of a file that is missing or differs from that of this run; or ""."""
        there = contents(output)
        wrong = [name for name, data in self.files.items() if there.get(name) != data]
        return f"{wrong[0]} differs from that of an uninterrupted run" if wrong else ""


def run_whole(subject: Subject, folder: Path) -> Whole:
    """Run a command twice in new folders, and return what both have in common.

    Raises:
        RuntimeError: it fails.
    """
    results, seconds = [], 0.0
    for name in ("whole", "twin"):
        started = time.monotonic()
        ended = finish(start(subject.words(folder / name), cache=folder / "cache"))
        seconds = time.monotonic() - started  # of the second run, which has a cache
        if problem := ended.problem(0):
            raise RuntimeError(problem)
        results.append(contents(folder / name))
    one, other = results
    same = {name: data for name, data in one.items() if other.get(name) == data}
    if not same:
        raise RuntimeError("two runs have no file in common")
    return Whole(same, seconds, subject)


def noise(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Return an image of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tiny_bundle(folder: Path, **sizes: object) -> Path:
    """Write the bundle of a small x2 network with random weights, and return its folder."""
    import torch

    from d2csr.export.bundle_writer import export_bundle
    from d2csr.models.d2csr import D2CSR

    torch.manual_seed(1)
    network = D2CSR(ModelConfig.from_dict({**_SIZES, "base": "bicubic", **sizes})).eval()
    export_bundle(network, folder, metadata=_METADATA)
    return folder


def _upscale(folder: Path) -> Subject:
    for at, suffix in enumerate(("png", "jpg", "tif", "webp", "png", "avif")):
        write_rgb8(folder / "in" / str(at % 2) / f"{at}.{suffix}", noise(60 + at, 90, seed=at))
    bundle = tiny_bundle(folder / "tiny")

    def words(output: Path) -> Words:
        options = ["-i", folder / "in", "-o", output, "-n", bundle, "--ext", "same", "--resume"]
        return ["upscale", *map(str, options)]

    return Subject(words)


def _train(folder: Path) -> Subject:
    for split, seed in (("pairs", 0), ("validation", 10)):
        for at in range(3):
            hr = noise(48, 48, seed=seed + at).repeat(2, 0)[:48].repeat(2, 1)[:, :48]
            lr = hr.reshape(24, 2, 24, 2, 3).mean((1, 3)).astype(np.uint8)
            write_rgb8(folder / split / f"s{at}_HR.png", np.ascontiguousarray(hr))
            write_rgb8(folder / split / f"s{at}_LR2.png", lr)
    recipe = {
        "name": "tiny",
        "model": {**_SIZES, "base": "bicubic"},
        "data": {
            "train": str(folder / "pairs"),
            "validate_on": str(folder / "validation"),
            "patch_px": 12,
            "batch_size": 2,
        },
        "loss": {
            "reconstruction": "l1",
            "alpha": {"alpha": 0.1},
            "triplet": {"margins": [0.5, 0.3]},
        },
        "stages": [
            {"kind": "divergence", "steps": 24, "learning_rate": 1e-3},
            {"kind": "convergence", "steps": 16, "learning_rate": 1e-3},
        ],
        "intervals": {"log": 5, "save": 5, "validation": 20},
        "precision": "fp32",
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")

    def words(output: Path) -> Words:
        return ["train", str(folder / "recipe.yaml"), "-o", str(output), "--resume"]

    return Subject(words, complete="bundle/*")


def _align(folder: Path) -> Subject:
    scenes = [Procedural(Size(900, 600), (21, number)) for number in range(2)]
    simulate(scenes, folder / "in", options=SimulationOptions(scale=2, captures=True, seed=4))

    def words(output: Path) -> Words:
        return ["align", str(folder / "in"), "-o", str(output), "--scale", "2"]

    return Subject(words)


def _simulate(folder: Path) -> Subject:
    camera = folder / "camera.yaml"
    camera.write_text("scene: {procedural_px: [230, 220]}\n", encoding="utf-8")

    def words(output: Path) -> Words:
        options = ["--procedural", 6, "-o", output, "-s", 2, "--config", camera]
        return ["simulate", *map(str, options)]

    return Subject(words, refusal="exists already")


def _import(folder: Path) -> Subject:
    for camera in ("City100_NikonD5500", "City100_iPhoneX"):
        for scene in (1, 2, 3, 5, 6, 7):
            for role in "HL":
                path = folder / "CameraSR" / camera / f"{scene:03d}{role}.png"
                write_rgb8(path, noise(240, 300, seed=scene))

    def words(output: Path) -> Words:
        return ["data", "import", "city100", str(folder / "CameraSR"), "-o", str(output)]

    return Subject(words)


def _export(folder: Path) -> Subject:
    bundle = tiny_bundle(folder / "tiny")

    def words(output: Path) -> Words:
        return ["export", str(bundle), "-o", str(output)]

    return Subject(words)


SUBJECTS: Mapping[str, Callable[[Path], Subject]] = {
    "upscale": _upscale,
    "train": _train,
    "align": _align,
    "simulate": _simulate,
    "data import": _import,
    "export": _export,
}
