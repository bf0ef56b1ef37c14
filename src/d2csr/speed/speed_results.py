"""The results file of `benchmark`: peak throughput of the machine, and speed of the models."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    model_serializer,
    model_validator,
)

from d2csr.core.errors import DataError
from d2csr.core.files import write_atomically
from d2csr.core.hardware import cpu_name
from d2csr.core.typed_reader import describe_error

VERSION = 1

_PACKAGES = ("openvino", "onnxruntime", "torch", "ncnn", "numpy")

Form = Literal["expanded", "collapsed"]
Interval = tuple[float, float]


class _Schema(BaseModel):
    """Common settings of all parts: immutable, unknown keys ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class CeilingResult(_Schema):
    """Throughput of one library on one chain of equal operations.

    Attributes:
        operation: `matmul` or `convolution` (3x3).
        side: of the matrices, or of the image in pixels.
        channels: of the image; 0 for matrices.
        precision: in which it is computed.
        library: a name in `d2csr.speed.peak_flops.LIBRARIES`.
        gflops_per_s: median over the calls.
        best: whether it is the fastest library for this operation and precision.
    """

    operation: Literal["matmul", "convolution"]
    side: int
    channels: int
    precision: str
    library: str
    gflops_per_s: float
    best: bool


class RunTimes(_Schema):
    """Times of the runs, and their ratios to those of `reference`.

    Attributes:
        seconds: of every run, in order; the runs of all backends alternate.
        median_s: median of these.
        speedup_over_reference: median of `reference` for the same model over this median.
        speedup_interval95: middle 95% of the ratio over resampled runs.
        speedup_over_expanded: the same ratio for the expanded twin; null if there is none.
        speedup_over_expanded_interval95: its interval.
    """

    seconds: list[float]
    median_s: float
    speedup_over_reference: float | None = None
    speedup_interval95: Interval | None = None
    speedup_over_expanded: float | None = None
    speedup_over_expanded_interval95: Interval | None = None


class Throughput(_Schema):
    """Operations per second.

    Attributes:
        gflops_per_s: operations of this form of the network over the median time.
        share_of_ceiling: share of the best convolution with as many channels in this precision.
        ceiling_library: the library of that convolution.
    """

    gflops_per_s: float
    share_of_ceiling: float | None = None
    ceiling_library: str | None = None


class PeakMemory(_Schema):
    """Peak memory.

    Attributes:
        peak_memory_bytes: peak above the loaded, idle process.
        peak_memory_ratio: ratio to the peak of `reference` (of the expanded twin if there is one).
    """

    peak_memory_bytes: int | None = None
    peak_memory_ratio: float | None = None


class AccuracyChange(_Schema):
    """Change in accuracy against `reference` on the same images.

    Attributes:
        psnr_change_db: PSNR here minus the PSNR of `reference`.
        psnr_change_by: `pairs`: measured on real pairs under protocol `y`; `estimate`: from the
            difference of the two images, added to the error that the model has anyway.
        psnr_between_db: PSNR of SR here against SR of `reference`.
    """

    psnr_change_db: float | None = None
    psnr_change_by: Literal["pairs", "estimate"] | None = None
    psnr_between_db: float | None = None


class BackendResult(_Schema):
    """One model on one backend in one precision; null for values that couldn't be measured.

    In the file, the keys of `times`, `throughput`, `memory` and `accuracy` are on the top level.

    Attributes:
        backend: a name in the table of backends.
        precision: in which it is computed.
        form: whether the tails are run expanded or collapsed.
        twin: whether this is the expanded twin of a model that was trained with collapsed tails: a
            network of the same size with random weights and expanded tails, as in the literature.
        times: times of the runs.
        throughput: operations per second.
        memory: peak memory.
        accuracy: change in accuracy.
    """

    backend: str
    precision: str
    form: Form
    twin: bool = False
    times: RunTimes
    throughput: Throughput
    memory: PeakMemory
    accuracy: AccuracyChange

    @model_validator(mode="before")
    @classmethod
    def _group(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Return values with the flat keys of a file moved into their groups."""
        return {group: values for group in _GROUPS if group not in values} | values

    @model_serializer
    def _flatten(self) -> dict[str, Any]:
        """Return the values without groups, as they are in a file."""
        values = dict(self)
        for group in _GROUPS:
            values |= dict(values.pop(group))
        return values


_GROUPS = ("times", "throughput", "memory", "accuracy")


class ModelResult(_Schema):
    """One model.

    Attributes:
        name: as the user gave it.
        scale: SR pixels per LR pixel.
        channels: of its trunk.
        trained: whether its weights are trained; random ones take the same time.
        weights_sha256: hash of the weights.
        reference_form: the form that `reference` runs: that in which the model was trained.
        parameters: with the tails as they were trained.
        parameters_collapsed: with collapsed tails.
        gflop_per_lr_mp: operations per million LR pixels with expanded tails.
        gflop_per_lr_mp_collapsed: the same with collapsed tails.
        backends: one entry per backend and precision.
    """

    name: str
    scale: int
    channels: int
    trained: bool
    weights_sha256: str
    reference_form: Form
    parameters: int
    parameters_collapsed: int
    gflop_per_lr_mp: float
    gflop_per_lr_mp_collapsed: float
    backends: list[BackendResult]


class Machine(_Schema):
    """The machine of the measurement, and its libraries."""

    processor: str
    threads: int
    versions: dict[str, str]


class SpeedResults(_Schema):
    """All results of one measurement."""

    format_version: Literal[1] = VERSION
    version: str
    date: str
    machine: Machine
    lr_size: tuple[int, int]
    rounds: int
    data: str | None = None
    ceilings: list[CeilingResult]
    models: list[ModelResult]


def read_machine(threads: int) -> Machine:
    """Return this machine's processor and the versions of the libraries that are installed."""
    versions: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return Machine(processor=cpu_name(), threads=threads, versions=versions)


def write_speed(results: SpeedResults, path: Path) -> None:
    """Write results as JSON, atomically."""
    write_atomically(path, (results.model_dump_json(indent=1) + "\n").encode())


def read_speed(path: Path) -> SpeedResults:
    """Return the results in a file; keys outside the schema are ignored.

    Raises:
        DataError: the file can't be read, or doesn't follow the schema.
    """
    try:
        return SpeedResults.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(path, f"can't be read: {error.strerror}", remedy=_REMEDY) from error
    except ValidationError as error:
        raise DataError(path, describe_error(error), remedy=_REMEDY) from error


_REMEDY = "Measure again with `d2csr benchmark --json`."
