"""Evaluation of models on pairs: from their names to scores with intervals and differences."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from d2csr import __version__
from d2csr.core.bundle import EvaluationScore
from d2csr.core.console import console
from d2csr.core.errors import printable
from d2csr.core.manifest import Manifest
from d2csr.core.results import Results, write_results
from d2csr.engine.model import Model
from d2csr.evaluation.bootstrap import compare_systems, summarize_system
from d2csr.evaluation.checks import DEFAULT_OPTIONS, EvaluationOptions, load_and_check
from d2csr.evaluation.scoring import ScoringOptions, SystemScores, score_system
from d2csr.evaluation.systems import System
from d2csr.evaluation.uncertainty import summarize
from d2csr.metrics.protocols import PROTOCOLS, check_protocols
from d2csr.metrics.registered_psnr import CUT_PX, LIMIT_PX, STEP_PX

RESULTS_NAME = "results.json"  # in the folder of `EvaluationOptions.save`
REGISTRATION = (
    f"SR shifted by one (dx, dy) within {LIMIT_PX:g} px in steps of {STEP_PX} (Fourier), gain and "
    f"offset per channel by least squares, {CUT_PX} px cut; the protocol's color"
)


def evaluate(
    models: Sequence[str | Path | Model],
    data: str | Path,
    *,
    protocols: Sequence[str] = ("y",),
    scale: int | None = None,
    options: EvaluationOptions = DEFAULT_OPTIONS,
) -> Results:
    """Return the scores of models on pairs; bicubic enlargement is always included.

    Args:
        models: each a loaded `Model`, the name of a shipped model, the folder of a training run,
            of a bundle or of finished images, or a baseline: `bicubic`, `lanczos` or
            `linear`.
        data: a manifest, or a folder of pairs in any layout that `d2csr data check` accepts.
        protocols: names from `d2csr.metrics.protocols.PROTOCOLS`.
        scale: the scale of the pairs, if `data` contains pairs of several scales.
        options: which split to score, and further outputs.

    Raises:
        D2csrError: a model, an image or a protocol is missing or doesn't fit. All errors are
            found before any work is done, and listed in one message.
    """
    names = tuple(dict.fromkeys(protocols))
    check_protocols(names)
    systems, manifest = load_and_check(models, Path(data), scale=scale, options=options)
    scored = _score_systems(systems, manifest, protocols=names, options=options)
    results = _results(scored, manifest, protocols=names, options=options, data=str(data))
    if options.save is not None:
        write_results(results, options.save / RESULTS_NAME)
    return results


def command_line() -> str:
    """Return the command that started this process, quoted for a shell."""
    program = Path(sys.argv[0]).name
    return shlex.join(["d2csr" if program == "__main__.py" else program, *sys.argv[1:]])


def model_scores(results: Results, *, model: str, data: str) -> tuple[EvaluationScore, ...]:
    """Return a model's scores for its card, one per protocol, with bicubic's PSNR.

    Args:
        results: an evaluation that includes the model.
        model: its name there.
        data: a description of the pairs that means something on any machine.
    """
    bicubic = {row.protocol: row.mean.psnr_db for row in results.results if row.model == "bicubic"}
    return tuple(
        EvaluationScore(
            data=data,
            protocol=row.protocol,
            images=len(row.images),
            psnr_db=row.mean.psnr_db,
            ssim=row.mean.ssim,
            psnr_db_interval95=row.interval95.psnr_db,
            ssim_interval95=row.interval95.ssim,
            bicubic_psnr_db=bicubic.get(row.protocol),
        )
        for row in results.results
        if row.model == model
    )


def _score_systems(
    systems: Sequence[System],
    manifest: Manifest,
    *,
    protocols: tuple[str, ...],
    options: EvaluationOptions,
) -> list[tuple[System, SystemScores]]:
    """Return each system with its scores; progress is shown on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    remaining = TimeRemainingColumn()
    scored: list[tuple[System, SystemScores]] = []
    with Progress(*columns, remaining, console=console(), transient=True) as progress:
        task = progress.add_task("", total=len(systems) * len(manifest))
        scoring = ScoringOptions(
            protocols,
            options.calibration,
            options.save,
            skip_registration=options.skip_registration,
            on_image=lambda: progress.advance(task),
        )
        for system in systems:
            progress.update(task, description=printable(system.name))
            scored.append((system, score_system(system, manifest, options=scoring)))
    return scored


def _results(
    scored: Sequence[tuple[System, SystemScores]],
    manifest: Manifest,
    *,
    protocols: tuple[str, ...],
    options: EvaluationOptions,
    data: str,
) -> Results:
    """Return the scores of all systems with everything that is needed to repeat them."""
    has_only_test = {pair.split for pair in manifest.pairs} == {"test"}  # chosen by default
    rows = [
        summarize_system(system, protocol, images=scores.images[protocol])
        for protocol in protocols
        for system, scores in scored
    ]
    return Results(
        version=__version__,
        command=command_line(),
        data=data,
        split=options.split or ("test" if has_only_test else None),
        scale=manifest.scale,
        protocols={protocol: PROTOCOLS[protocol].summary for protocol in protocols},
        registration=None if options.skip_registration else REGISTRATION,
        results=rows,
        paired=compare_systems(rows),
        calibration=[
            summarize(system.name, scores.calibration, weights_sha256=system.weights_sha256)
            for system, scores in scored
            if scores.calibration
        ],
    )
