"""A forecast: what a call would do, how, and in how much memory; nothing is computed or written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from d2csr.core.bundle import Bundle
from d2csr.core.files import sha256_file
from d2csr.core.geometry import Size
from d2csr.engine.engine import Engine
from d2csr.images.formats import PixelFormat, format_limitations
from d2csr.images.reader import read_size
from d2csr.upscale.jobs import is_one_file, plan_jobs
from d2csr.upscale.journal import Journal
from d2csr.upscale.options import ComputeOptions, Job, OutputOptions
from d2csr.upscale.pipeline import IMAGE_ERRORS, to_image_error
from d2csr.upscale.report import print_line, print_record, print_stderr
from d2csr.upscale.run import BatchOptions, run_fingerprint

_LR_BYTES = 12 + 8  # a pixel: three floats, and at most what the file has
_SUM_BYTES = 12  # a pixel of SR: three floats


@final
@dataclass(frozen=True)
class DryRunItem:
    """What would become of one image.

    Attributes:
        job: where it comes from, where its SR would go.
        files: what would be written, SR first; none where it was done before.
        lr_size: of the image.
        sr_size: of SR.
        memory_bytes: at most, roughly, beyond the loaded model.
        plan: how the engine would go about it.
    """

    job: Job
    files: tuple[Path, ...]
    lr_size: Size
    sr_size: Size
    memory_bytes: int
    plan: str

    def record(self) -> dict[str, Any]:
        """Return the same for JSON."""
        return {
            "event": "forecast",
            "input": str(self.job.source),
            "output": str(self.job.target),
            "status": "to do" if self.files else "unchanged",
            "files": [str(file) for file in self.files],
            "lr_size": list(self.lr_size),
            "sr_size": list(self.sr_size),
            "memory_bytes": self.memory_bytes,
            "plan": self.plan,
        }

    def as_text(self) -> str:
        """Return one line."""
        text = f"{self.job.source} {self.lr_size} -> {self.job.target} {self.sr_size}"
        if not self.files:
            return f"{text}: done before"
        return f"{text}: {self.plan}, about {self.memory_bytes / 2**20:.0f} MiB"


def run_dry(
    inputs: Sequence[Path],
    out: Path,
    *,
    bundle: Bundle,
    wanted: OutputOptions,
    compute: ComputeOptions,
    manner: BatchOptions,
) -> int:
    """Print what `upscale_files` would do with the same arguments, and return its exit code.

    Raises:
        UsageError: as there.
    """
    jobs, errors = plan_jobs(inputs, out, wanted=wanted, leaves=bundle.card.config.leaves)
    engine = compute.open(bundle)
    settings = run_fingerprint(bundle, wanted, compute=compute)
    done = Journal(out) if manner.resume and not is_one_file(out) else None
    found: list[DryRunItem] = []
    for job in jobs:
        try:
            forecast = _forecast(job, engine, wanted=wanted, limit_mp=compute.limit_mp)
            if done is not None and done.is_complete(
                job.target, input_sha256=sha256_file(job.source), settings=settings
            ):
                forecast = replace(forecast, files=())
        except IMAGE_ERRORS as error:
            errors.append(to_image_error(job.source, error))
            continue
        found.append(forecast)
        if manner.records:
            print_record(forecast.record())
        else:
            print_line(forecast.as_text())
    for error in errors:
        print_stderr(f"error: {error}")
    if not errors:
        return 0
    return 1 if found else 2


def _forecast(job: Job, engine: Engine, *, wanted: OutputOptions, limit_mp: float) -> DryRunItem:
    """Return what would become of one image that is to do, from its header.

    Raises:
        D2csrError: it can't be read, or its result not be written.
    """
    card, summed = engine.bundle.card, _SUM_BYTES if wanted.self_ensemble else 0
    lr_size = read_size(job.source, limit_mp=limit_mp)
    sr_size = wanted.size.of(lr_size, scale=card.scale)
    plan = engine.plan(lr_size.height, lr_size.width)
    format_limitations(PixelFormat(), job.target, size=sr_size)
    return DryRunItem(
        job,
        files=tuple(job.files(wanted, card.config.leaves)),
        lr_size=lr_size,
        sr_size=sr_size,
        memory_bytes=plan.peak_bytes
        + _LR_BYTES * lr_size.width * lr_size.height
        + summed * sr_size.width * sr_size.height,
        plan=plan.as_text(),
    )
