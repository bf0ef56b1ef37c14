"""The dry run: an executor that reports how each image would be computed, and writes nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from d2csr.core.files import sha256_file
from d2csr.core.hardware import format_bytes, free_bytes
from d2csr.engine.engine import Engine
from d2csr.images.formats import format_limitations
from d2csr.images.reader import read_image
from d2csr.upscale.jobs import Job, PlannedImage, output_folder
from d2csr.upscale.journal import FolderJournals, Journal
from d2csr.upscale.pipeline import IMAGE_ERRORS, check_overwriting, to_image_error
from d2csr.upscale.report import ImagePlan, ImageReport
from d2csr.upscale.run import Run, describe_engine, open_journal

_LR_BYTES = 12 + 8  # per pixel: three floats, and the most that the decoded image has
_SUM_BYTES = 12  # per SR pixel: three floats


def plan_locally(images: Sequence[PlannedImage], run: Run) -> Iterator[ImageReport]:
    """Yield a report with a plan for each image, which is decoded, as damage shows only then.

    Args:
        images: the images.
        run: model and options; finished images are `unchanged`, unless they are overwritten.
    """
    folder, engine = Path(output_folder(run.output)), run.compute.open(run.bundle)
    journal = open_journal(run)
    for job in (Job(Path(each.source), folder / each.target) for each in images):
        try:
            yield _plan_image(job, engine, run=run, journal=journal)
        except IMAGE_ERRORS as error:
            failure = to_image_error(job.source, error)
            yield ImageReport(str(job.source), str(job.target), "failed", error=failure)


def _plan_image(
    job: Job, engine: Engine, *, run: Run, journal: Journal | FolderJournals | None
) -> ImageReport:
    """Return the report of one image.

    Raises:
        D2csrError: the image is damaged or can't be read, or its result can't be written.
    """
    card, sum_bytes = engine.bundle.card, _SUM_BYTES if run.options.self_ensemble else 0
    image = read_image(job.source, limit_mp=run.compute.limit_mp)
    lr_size = image.size
    sr_size = run.options.size.of(lr_size, scale=card.scale)
    plan = engine.plan(lr_size.height, lr_size.width)
    limitations = format_limitations(image.pixel_format, job.target, size=sr_size)
    is_complete = (
        run.batch.skips_finished
        and journal is not None
        and journal.is_complete(
            job.target, input_sha256=sha256_file(job.source), settings=run.settings
        )
    )
    files = tuple(job.files(run.options, card.config.leaves))
    if not is_complete:
        check_overwriting(files, journal=journal, batch=run.batch)
    lr_bytes = _LR_BYTES * lr_size.width * lr_size.height
    ensemble_bytes = sum_bytes * sr_size.width * sr_size.height
    needed_bytes = plan.peak_bytes + lr_bytes + ensemble_bytes
    return ImageReport(
        str(job.source),
        str(job.target),
        "unchanged" if is_complete else "to do",
        files=() if is_complete else tuple(map(str, files)),
        lr_size=lr_size,
        sr_size=sr_size,
        engine=describe_engine(engine),
        warnings=(*image.warnings, *limitations, *_warn_of_memory(needed_bytes)),
        plan=ImagePlan(needed_bytes, plan.as_text()),
    )


def _warn_of_memory(needed_bytes: int) -> tuple[str, ...]:
    """Return a sentence if an image needs more memory than is free."""
    free = free_bytes()
    if needed_bytes <= free:
        return ()
    return (
        f"needs about {format_bytes(needed_bytes)} of memory, but {format_bytes(free)} are free",
    )
