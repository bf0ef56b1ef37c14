"""The results file of a speed measurement: ceilings and models, with all needed to repeat them."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from d2csr.core.errors import DataError
from d2csr.core.files import write_atomically

VERSION = 1

Form = Literal["expanded", "collapsed"]
Interval = tuple[float, float]


class _Schema(BaseModel):
    """What every part of the file shares: unchangeable, unknown keys ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class CeilingResult(_Schema):
    """What one library reaches on one chain of equal operations.

    Attributes:
        operation: `matmul` or `convolution` (3x3).
        side: of the matrices, or of the image in pixels.
        channels: of the image; 0 for matrices.
        precision: what it is computed in.
        library: by which; a name of `d2csr.speed.peak_flops.LIBRARIES`.
        gflops_per_s: median over the calls.
        best: no other library is faster in this operation and precision.
    """

    operation: Literal["matmul", "convolution"]
    side: int
    channels: int
    precision: str
    library: str
    gflops_per_s: float
    best: bool


class BackendResult(_Schema):
    """One model on one backend in one precision; null where it could not be told.

    Attributes:
        backend: a name of the backend table.
        precision: what it computes in.
        form: how the tails are run.
        twin: whether it is a network of the same sizes, with random weights and expanded tails,
            in place of a model that was trained with collapsed ones: the literature's form.
        seconds: every run, in their order; the runs of all backends alternate.
        median_s: of them.
        speedup_over_reference: median of `reference` as it runs this model over this one's.
        speedup_interval95: middle 95% of resampled medians.
        speedup_over_expanded: the same over the twin; null where `reference` itself is expanded.
        speedup_over_expanded_interval95: of that.
        gflops_per_s: the work of this form over the median.
        share_of_ceiling: of the best convolution of the model's own width in this precision.
        ceiling_library: whose that is.
        peak_memory_bytes: above the loaded, idle process.
        peak_memory_ratio: of that to `reference`'s (the twin's, where there is one).
        psnr_change_db: what this backend and precision cost against `reference`.
        psnr_change_by: `pairs`: PSNR of both on real pairs, protocol `y`; `estimate`: from the
            difference of the two images beside the error that the model has anyway.
        psnr_between_db: of SR here against SR of `reference`.
    """

    backend: str
    precision: str
    form: Form
    twin: bool = False
    seconds: list[float]
    median_s: float
    speedup_over_reference: float | None = None
    speedup_interval95: Interval | None = None
    speedup_over_expanded: float | None = None
    speedup_over_expanded_interval95: Interval | None = None
    gflops_per_s: float
    share_of_ceiling: float | None = None
    ceiling_library: str | None = None
    peak_memory_bytes: int | None = None
    peak_memory_ratio: float | None = None
    psnr_change_db: float | None = None
    psnr_change_by: Literal["pairs", "estimate"] | None = None
    psnr_between_db: float | None = None


class ModelResult(_Schema):
    """One model.

    Attributes:
        name: as it was asked for.
        scale: SR pixels per LR pixel.
        channels: width of its trunk.
        trained: whether its weights are; else they are random, which costs the same time.
        weights_sha256: hash of the weights.
        reference_form: how `reference` runs its tails: as they were trained.
        parameters: with the tails as they were trained.
        parameters_collapsed: with collapsed tails.
        gflop_per_lr_mp: per million LR pixels with expanded tails.
        gflop_per_lr_mp_collapsed: the same with collapsed tails.
        backends: what was measured.
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
    """What it was measured on."""

    processor: str
    threads: int
    versions: dict[str, str]


class SpeedResults(_Schema):
    """One measurement."""

    format_version: Literal[1] = VERSION
    version: str
    date: str
    machine: Machine
    lr_size: tuple[int, int]
    rounds: int
    data: str | None = None
    ceilings: list[CeilingResult]
    models: list[ModelResult]


def write_speed(results: SpeedResults, path: Path) -> None:
    """Write results as JSON, atomically."""
    write_atomically(path, (results.model_dump_json(indent=1) + "\n").encode())


def read_speed(path: Path) -> SpeedResults:
    """Return the results in a file; what else it holds is left out.

    Raises:
        DataError: it can't be read, or doesn't follow the schema.
    """
    try:
        return SpeedResults.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(path, f"can't be read: {error.strerror}", remedy=_REMEDY) from error
    except ValidationError as error:
        raise DataError(path, f"doesn't follow the schema: {error}", remedy=_REMEDY) from error


_REMEDY = "Measure again with `d2csr benchmark --json`."
