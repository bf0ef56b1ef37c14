"""A dry run: what a run would do, how, and with how much memory; nothing is computed or written."""

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
from d2csr.upscale.jobs import Job, is_one_file, output_folder
from d2csr.upscale.journal import Journal
from d2csr.upscale.options import BatchOptions, ComputeOptions, OutputOptions
from d2csr.upscale.pipeline import IMAGE_ERRORS, to_image_error
from d2csr.upscale.report import print_error, print_record
from d2csr.upscale.run import Run, plan_run

_LR_BYTES = 12 + 8  # per pixel: three floats, and the most that the decoded image has
_SUM_BYTES = 12  # per SR pixel: three floats


@final
@dataclass(frozen=True)
class DryRunItem:
    """The plan for one image.

    Attributes:
        job: the image's file and its SR file.
        files: the files that would be written, SR first; empty if an earlier run finished them.
        lr_size: size of the image.
        sr_size: size of the result.
        memory_bytes: estimated peak memory, in addition to the loaded model.
        plan: how the engine would compute it.
    """

    job: Job
    files: tuple[Path, ...]
    lr_size: Size
    sr_size: Size
    memory_bytes: int
    plan: str

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "event": "plan",
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
        """Return the plan as one line."""
        text = f"{self.job.source} {self.lr_size} -> {self.job.target} {self.sr_size}"
        if not self.files:
            return f"{text}: done before"
        return f"{text}: {self.plan}, about {self.memory_bytes / 2**20:.0f} MiB"


def run_dry(
    inputs: Sequence[str],
    output: str,
    *,
    bundle: Bundle,
    options: OutputOptions,
    compute: ComputeOptions,
    batch: BatchOptions,
) -> int:
    """Print the plan that `upscale_files` would follow, and return the exit code it would have.

    Raises:
        UsageError: under the same conditions.
    """
    batch = replace(batch, executor="local", workers=None)  # a plan is made on this machine
    run = Run(bundle, output, options, compute, batch)
    images, errors = plan_run(inputs, run)
    folder, engine = Path(output_folder(output)), compute.open(bundle)
    journal = Journal(folder) if batch.resume and not is_one_file(output) else None
    planned = 0
    for job in (Job(Path(each.source), folder / each.target) for each in images):
        try:
            item = _plan_image(job, engine, options=options, limit_mp=compute.limit_mp)
            if journal is not None and journal.is_complete(
                job.target, input_sha256=sha256_file(job.source), settings=run.settings
            ):
                item = replace(item, files=())
        except IMAGE_ERRORS as error:
            errors.append(to_image_error(job.source, error))
            continue
        planned += 1
        if batch.json:
            print_record(item.record())
        else:
            print(item.as_text())  # noqa: T201 - the purpose of --dry-run
    for error in errors:
        print_error(error)
    if not errors:
        return 0
    return 1 if planned else 2


def _plan_image(job: Job, engine: Engine, *, options: OutputOptions, limit_mp: float) -> DryRunItem:
    """Return the plan for one image, from its header.

    Raises:
        D2csrError: the image can't be read, or its result can't be written.
    """
    card, sum_bytes = engine.bundle.card, _SUM_BYTES if options.self_ensemble else 0
    lr_size = read_size(job.source, limit_mp=limit_mp)
    sr_size = options.size.of(lr_size, scale=card.scale)
    plan = engine.plan(lr_size.height, lr_size.width)
    format_limitations(PixelFormat(), job.target, size=sr_size)
    return DryRunItem(
        job,
        files=tuple(job.files(options, card.config.leaves)),
        lr_size=lr_size,
        sr_size=sr_size,
        memory_bytes=plan.peak_bytes
        + _LR_BYTES * lr_size.width * lr_size.height
        + sum_bytes * sr_size.width * sr_size.height,
        plan=plan.as_text(),
    )
