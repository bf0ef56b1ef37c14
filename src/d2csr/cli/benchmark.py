"""Command `benchmark`: time and memory of models, beside what this machine can do at best."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from d2csr.core.errors import UsageError

if TYPE_CHECKING:
    from d2csr.core.bundle import Bundle
    from d2csr.core.config import ModelConfig
    from d2csr.speed.candidates import Candidate
    from d2csr.speed.measure import BenchmarkOptions


@dataclass(frozen=True)
class Runs:
    """How to run them.

    Attributes:
        size: Of the LR image, WIDTHxHEIGHT.
        rounds: Runs of every backend; all take turns.
        reference_rounds: In how many of these rounds `reference` runs, which takes longest.
        threads: Cores that may be used; unless given, all.
        backend: What to compare with `reference`, repeated for several; unless given, all that are
            installed.
        precision: In which precisions, repeated for several; unless given, in all there are.
        data: Pairs to tell the cost in accuracy on; of those of another scale the LR images serve
            to estimate it. Unless given, it is estimated on the example photograph of a clone.
    """

    size: str = "512x512"
    rounds: int = 9
    reference_rounds: int | None = None
    threads: int | None = None
    backend: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    precision: Annotated[tuple[Literal["fp32", "bf16", "int8"], ...], Parameter(negative=())] = (
        "fp32",
        "bf16",
        "int8",
    )
    data: Path | None = None


@dataclass(frozen=True)
class Files:
    """Files that keep the figures.

    Attributes:
        json: File for all figures, run by run.
        image: PNG file for an image of them.
    """

    json: Path | None = None
    image: Path | None = None


AS_USUAL = Runs()
NO_FILES = Files()


def benchmark(
    *,
    name: Annotated[tuple[str, ...], Parameter(name=("--name", "-n"), negative=())] = (),
    scale: Annotated[int, Parameter(name=("--scale", "-s"))] = 4,
    runs: Annotated[Runs, Parameter(name="*")] = AS_USUAL,
    files: Annotated[Files, Parameter(name="*")] = NO_FILES,
) -> int:
    """Measure how fast models run here, in how much memory, and how near to the machine's limits.

    Everything is compared with `--backend reference`: the network as it was trained, in PyTorch,
    eager, float32, the whole image at once. A plain network on ncnn, ONNX Runtime and compiled
    PyTorch stands beside in `benchmarks/upscale_speed.py --cases peers` of the repository.

    Args:
        name: A shipped model, a run, a bundle, or a preset such as `paper`, which gets random
            weights: time doesn't depend on them. Repeat it for several; unless given, all that
            ship.
        scale: Of presets.
    """
    from d2csr.core.files import check_writable  # `--help` pays for none of these
    from d2csr.speed.charts import draw_speed, print_speed, refuse_without_matplotlib
    from d2csr.speed.measure import measure
    from d2csr.speed.speed_results import write_speed

    for path in (files.json, files.image):
        if path is not None:
            check_writable(path, folder=False)
    if files.image is not None:
        refuse_without_matplotlib(files.image)
    wish = _wish(runs)
    with subjects(name, scale=scale) as found:
        results = measure(found, wish)
    if files.json is not None:
        write_speed(results, files.json)
    if files.image is not None:
        draw_speed(results, files.image)
    print_speed(results)
    return 0


@contextmanager
def subjects(names: tuple[str, ...], *, scale: int) -> "Iterator[list[Candidate]]":
    """Yield the models of these names; those made for the occasion are gone afterwards."""
    import tempfile

    from d2csr.core.bundle import read_bundle
    from d2csr.core.config import PRESETS, preset
    from d2csr.engine.model import find_bundle, shipped_names
    from d2csr.speed.candidates import Candidate

    wanted = tuple(dict.fromkeys(names or tuple(shipped_names())))
    bundles = {each: read_bundle(find_bundle(each)) for each in wanted if each not in PRESETS}
    with tempfile.TemporaryDirectory() as text:
        folder, found = Path(text), list["Candidate"]()
        for index, each in enumerate(wanted):
            made = folder / str(index)
            if each in PRESETS:
                random = _random_bundle(preset(each, scale), made)
                found.append(Candidate(f"{each} x{scale}", random, trained=False))
            elif bundles[each].card.config.tail == "collapsed" and _has_torch():
                config = replace(bundles[each].card.config, tail="expanded")
                found.append(Candidate(each, bundles[each], twin=_random_bundle(config, made)))
            else:
                found.append(Candidate(each, bundles[each]))
        yield found


def _random_bundle(config: "ModelConfig", folder: Path) -> "Bundle":
    """Return a bundle of a network with random weights."""
    import torch

    from d2csr.core.bundle import ModelMetadata
    from d2csr.export.bundle_writer import export_bundle
    from d2csr.models.d2csr import D2CSR

    torch.manual_seed(0)
    facts = ModelMetadata(name="random", licence="none", data="none: random weights")
    return export_bundle(D2CSR(config).eval(), folder, metadata=facts)


def _has_torch() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is not None


def _wish(runs: Runs) -> "BenchmarkOptions":
    """Return the checked wish."""
    from d2csr.core.console import console
    from d2csr.speed.measure import BenchmarkOptions
    from d2csr.speed.worker import cores

    width, height = _sides(runs.size)
    for option, value in (("--rounds", runs.rounds), ("--reference-rounds", runs.reference_rounds)):
        if value is not None and value < 1:
            raise UsageError(option, f"{value} is no count of runs", remedy="Give 1 or more.")
    threads = cores() if runs.threads is None else runs.threads
    if not 1 <= threads <= cores():
        remedy = f"This process may use 1 to {cores()}."
        raise UsageError("--threads", f"{threads} threads are not to be had", remedy=remedy)
    return BenchmarkOptions(
        height=height,
        width=width,
        rounds=runs.rounds,
        threads=threads,
        reference_rounds=runs.reference_rounds,
        backends=runs.backend,
        precisions=runs.precision,
        data=runs.data,
        on_progress=console().print,
    )


def _sides(size: str) -> tuple[int, int]:
    """Return width and height of `512x512`."""
    width, cross, height = size.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError("--size", f"{size!r} is no size", remedy="Write it as 512x512.")
    return int(width), int(height)
