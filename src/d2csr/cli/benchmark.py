"""Command `benchmark`: time and memory of models, and the limits of this machine."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from d2csr.core.errors import UsageError

if TYPE_CHECKING:
    from d2csr.speed.candidates import MakeBundle
    from d2csr.speed.measure import BenchmarkOptions


@dataclass(frozen=True)
class MeasureOptions:
    """How to measure.

    Attributes:
        size: Size of the LR image, as WIDTHxHEIGHT.
        rounds: Number of runs of every backend; the backends alternate.
        reference_rounds: Number of rounds in which `reference` also runs, because it takes
            longest. Default: all.
        threads: Number of cores to use. Default: all.
        backend: Backend to compare with `reference`; repeat the option for several. Default: all
            that are installed.
        precision: Precision to measure; repeat the option for several. Default: all.
        data: Pairs to measure the accuracy on. If they have another scale than the model, the
            change in accuracy is estimated on one of their LR images. Default: it is estimated on
            the example photograph of a clone.
        allow_outside: Allow manifests whose pairs lie outside their folder.
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
    allow_outside: bool = False


@dataclass(frozen=True)
class ResultFiles:
    """Files to write the results to.

    Attributes:
        json: JSON file for all results, run by run.
        chart: PNG file for a chart of the results.
    """

    json: Path | None = None
    chart: Path | None = None


DEFAULT_OPTIONS = MeasureOptions()
NO_FILES = ResultFiles()


def benchmark(
    *,
    name: Annotated[tuple[str, ...], Parameter(name=("--name", "-n"), negative=())] = (),
    scale: Annotated[int, Parameter(name=("--scale", "-s"))] = 4,
    options: Annotated[MeasureOptions, Parameter(name="*")] = DEFAULT_OPTIONS,
    files: Annotated[ResultFiles, Parameter(name="*")] = NO_FILES,
) -> int:
    """Measure the speed and memory of models, and how near they come to this machine's limits.

    Everything is compared with the backend `reference`: the network as it was trained, in PyTorch,
    eager, float32, the whole image at once. `benchmarks/upscale_speed.py --cases peers` in the
    repository also measures a plain network on ncnn, ONNX Runtime and compiled PyTorch.

    Args:
        name: A shipped model, the folder of a training run or bundle, or a preset such as `paper`,
            which gets random weights: they take the same time. Repeat the option for several.
            Default: all shipped models.
        scale: Scale of presets.
    """
    from d2csr.core.files import check_writable  # imported here to keep `--help` fast
    from d2csr.speed.candidates import open_candidates
    from d2csr.speed.charts import draw_speed, print_speed, require_matplotlib
    from d2csr.speed.measure import measure
    from d2csr.speed.speed_results import write_speed

    for path in (files.json, files.chart):
        if path is not None:
            check_writable(path, folder=False)
    if files.chart is not None:
        require_matplotlib(files.chart)
    benchmark_options = _check_options(options)
    with open_candidates(name, scale=scale, make_random=_random_bundle_maker()) as candidates:
        results = measure(candidates, benchmark_options)
    if files.json is not None:
        write_speed(results, files.json)
    if files.chart is not None:
        draw_speed(results, files.chart)
    print_speed(results)
    return 0


def _random_bundle_maker() -> "MakeBundle | None":
    """Return the function that writes bundles with random weights, or None without PyTorch."""
    if find_spec("torch") is None:
        return None
    from d2csr.export.bundle_writer import export_random_bundle

    return export_random_bundle


def _check_options(options: MeasureOptions) -> "BenchmarkOptions":
    """Return the options as the measurement takes them.

    Raises:
        UsageError: a number is out of range.
    """
    from d2csr.core.console import print_note
    from d2csr.core.hardware import usable_cores
    from d2csr.speed.measure import BenchmarkOptions

    width, height = _parse_size(options.size)
    rounds = {"--rounds": options.rounds, "--reference-rounds": options.reference_rounds}
    for option, value in rounds.items():
        if value is not None and value < 1:
            raise UsageError(option, f"{value} is not a number of runs", remedy="Give 1 or more.")
    cores = usable_cores()
    threads = cores if options.threads is None else options.threads
    if not 1 <= threads <= cores:
        remedy = f"Give 1 to {cores}, the number of cores that this process may use."
        raise UsageError("--threads", f"{threads} threads are unavailable", remedy=remedy)
    return BenchmarkOptions(
        height=height,
        width=width,
        rounds=options.rounds,
        threads=threads,
        reference_rounds=options.reference_rounds,
        backends=options.backend,
        precisions=options.precision,
        data=options.data,
        allow_outside=options.allow_outside,
        on_progress=print_note,
    )


def _parse_size(size: str) -> tuple[int, int]:
    """Return width and height of a size such as `512x512`."""
    width, _, height = size.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError("--size", f"{size!r} is not a size", remedy="Write it as 512x512.")
    return int(width), int(height)
