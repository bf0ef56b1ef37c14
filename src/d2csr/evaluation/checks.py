"""Checks of an evaluation: all errors in systems and pairs, found before any work is done."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from d2csr.core.errors import D2csrError, DataError, UsageError
from d2csr.core.manifest import Manifest
from d2csr.data.sources import open_pairs
from d2csr.data.validation import check_pairs
from d2csr.engine.model import Model
from d2csr.evaluation.systems import System, find_systems
from d2csr.metrics.protocols import smallest_side_px
from d2csr.metrics.registered_psnr import SMALLEST_SIDE_PX


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation beyond models, pairs and protocols.

    Attributes:
        fit: Pairs to fit the linear filter to: their train split if they have one, else all.
        split: Split to score. Default: `test` if there is one, else all pairs.
        save: Folder for the SR images, with `results.json` beside them.
        calibration: Compare predictors of the error with the true one: the uncertainty, if the
            model has an error model, the disagreement of its predictions, and gradient magnitude.
        skip_registration: Leave out the PSNR after the best shift, gain and offset, which takes
            most of the time of scoring.
        allow_outside: Allow manifests whose pairs lie outside their folder.
    """

    fit: Path | None = None
    split: str | None = None
    save: Path | None = None
    calibration: bool = False
    skip_registration: bool = False
    allow_outside: bool = False


DEFAULT_OPTIONS = EvaluationOptions()


def load_and_check(
    models: Sequence[str | Path | Model],
    data: Path,
    *,
    scale: int | None,
    options: EvaluationOptions,
) -> tuple[list[System], Manifest]:
    """Return the systems of these models, bicubic included, and the pairs to score.

    Raises:
        D2csrError: the models or the pairs have errors; its message lists all of them.
    """
    systems, errors = find_systems(models, fit=options.fit, allow_outside=options.allow_outside)
    if options.calibration and not errors and not any(each.predicts_error for each in systems):
        problem = "none of the systems makes several predictions or has an error model"
        errors.append(UsageError("--calibration", problem, remedy="Add a model with -n."))
    try:
        manifest = _open_split(data, scale=scale, options=options)
    except D2csrError as error:
        raise _combine(data, [*errors, error]) from error
    errors += check_pairs(manifest, patch_px=None)
    errors += _too_small(manifest)
    for system in systems:
        errors += system.validate(manifest)
    if errors:
        raise _combine(data, errors)
    return systems, manifest


def _open_split(data: Path, *, scale: int | None, options: EvaluationOptions) -> Manifest:
    """Return the pairs of a split; without one, the test split if there is one, else all."""
    manifest = open_pairs(
        data, scale=scale, split=options.split, allow_outside=options.allow_outside
    )
    test = manifest.of_split("test")
    return test if options.split is None and test.pairs else manifest


def _too_small(manifest: Manifest) -> list[D2csrError]:
    """Return an error for each pair too small for a metric's window after the border is cut."""
    smallest_px = max(smallest_side_px(manifest.scale), SMALLEST_SIDE_PX)
    remedy = f"Give HR images of at least {smallest_px} px on each side."
    return [
        DataError(pair.hr, "is only {}x{} px".format(*pair.hr_size), remedy=remedy)
        for pair in manifest
        if 0 < min(pair.hr_size) < smallest_px  # 0: unreadable, which check_pairs has reported
    ]


def _combine(data: Path, errors: list[D2csrError]) -> D2csrError:
    """Return one error that lists all errors; a single error is returned unchanged."""
    if len(errors) == 1:
        return errors[0]
    lines = "\n  ".join([f"{len(errors)} errors, nothing was scored", *map(str, errors)])
    return DataError(data, lines.removesuffix("."), remedy="Fix them and run it again.")
