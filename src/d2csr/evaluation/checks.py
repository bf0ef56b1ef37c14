"""Errors of an evaluation, all of them told before any work is done.

Wishes beside scores: what else one evaluation is to do.
"""

from dataclasses import dataclass
from pathlib import Path

from d2csr.core.errors import D2csrError, DataError, UsageError
from d2csr.core.manifest import Manifest
from d2csr.data.sources import open_pairs
from d2csr.data.validation import check_pairs
from d2csr.evaluation.systems import System, find_systems
from d2csr.metrics.protocols import smallest_side_px
from d2csr.metrics.registered_psnr import SMALLEST_SIDE_PX


@dataclass(frozen=True)
class EvaluationOptions:
    """What an evaluation can be asked for beside scores.

    Attributes:
        fit: Pairs that the linear filter is fitted on: their train split, if they have one.
        split: Which split to score; without it `test` if there is one, else everything.
        save: Folder for the SR images, with the figures beside them.
        calibration: Compare the disagreement of the predictions with the true error.
    """

    fit: Path | None = None
    split: str | None = None
    save: Path | None = None
    calibration: bool = False


NOTHING_MORE = EvaluationOptions()


def load_and_check(
    names: tuple[str, ...], data: Path, *, scale: int | None, extras: EvaluationOptions
) -> tuple[list[System], Manifest]:
    """Return the systems of these names, bicubic among them, and the pairs to score.

    Raises:
        D2csrError: whatever is wrong with the names, the pairs, or both together.
    """
    systems, errors = find_systems(names, fit=extras.fit)
    if extras.calibration and not errors and not any(system.has_predictions for system in systems):
        problem = "no model is given whose predictions could disagree"
        errors.append(UsageError("--calibration", problem, remedy="Add one with -n."))
    try:
        manifest = _pairs_to_score(data, scale=scale, split=extras.split)
    except D2csrError as error:
        raise _together(data, [*errors, error]) from error
    errors += check_pairs(manifest, patch_px=None)
    errors += _too_small(manifest)
    for system in systems:
        errors += system.validate(manifest)
    if errors:
        raise _together(data, errors)
    return systems, manifest


def _pairs_to_score(data: Path, *, scale: int | None, split: str | None) -> Manifest:
    """Return the pairs of a split; without one, the test split if there is one, else all."""
    manifest = open_pairs(data, scale=scale, split=split)
    test = manifest.of_split("test")
    return test if split is None and test.pairs else manifest


def _too_small(manifest: Manifest) -> list[D2csrError]:
    """Return an error for each pair that is too small for a window inside the border."""
    least_px = max(smallest_side_px(manifest.scale), SMALLEST_SIDE_PX)
    remedy = f"Scoring takes sides of {least_px} px."
    return [
        DataError(pair.hr, "is only {}x{} px".format(*pair.hr_size), remedy=remedy)
        for pair in manifest
        if 0 < min(pair.hr_size) < least_px  # 0: unreadable, which is told already
    ]


def _together(data: Path, errors: list[D2csrError]) -> D2csrError:
    """Return one error that tells all errors; the error itself where there is one."""
    if len(errors) == 1:
        return errors[0]
    lines = "\n  ".join([f"{len(errors)} errors, nothing was scored", *map(str, errors)])
    return DataError(data, lines.removesuffix("."), remedy="Mend them and start again.")
