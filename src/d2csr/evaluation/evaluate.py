"""Evaluation from names to results: scores, intervals of their means, paired differences.

Figures for a model's card, taken from the results of an evaluation.
"""

import shlex
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from d2csr import __version__
from d2csr.core.bundle import EvaluationScore
from d2csr.core.console import console
from d2csr.core.manifest import Manifest
from d2csr.core.results import (
    ImageScore,
    MeanScore,
    PairedResult,
    Results,
    ScoreInterval,
    SystemResult,
)
from d2csr.evaluation.bootstrap import interval95, mean, paired_differences
from d2csr.evaluation.checks import NOTHING_MORE, EvaluationOptions, load_and_check
from d2csr.evaluation.scoring import ScoringOptions, SystemScores, score_system
from d2csr.evaluation.systems import System
from d2csr.evaluation.uncertainty import summarize
from d2csr.metrics.protocols import PROTOCOLS, check_protocols
from d2csr.metrics.registered_psnr import CUT_PX, LIMIT_PX, STEP_PX

REGISTRATION = (
    f"SR shifted by one (dx, dy) within {LIMIT_PX:g} px in steps of {STEP_PX} (Fourier), gain and "
    f"offset per channel by least squares, {CUT_PX} px cut; the protocol's colour"
)


def evaluate_models(
    names: tuple[str, ...],
    data: Path,
    *,
    protocols: tuple[str, ...] = ("y",),
    scale: int | None = None,
    extras: EvaluationOptions = NOTHING_MORE,
) -> Results:
    """Return the scores of systems on pairs, bicubic always among them.

    Args:
        names: each `bicubic`, `linear`, a shipped model, a run, a bundle, or a folder of images.
        data: pairs in any layout that `d2csr data check` knows.
        protocols: names of protocols.
        scale: which pairs to take, where several scales lie there.
        extras: what else is wanted.

    Raises:
        D2csrError: something is missing or doesn't fit; all that is wrong is told at once, before
            any work is done.
    """
    check_protocols(protocols)
    systems, manifest = load_and_check(names, data, scale=scale, extras=extras)
    with _progress() as progress:
        work = progress.add_task("", total=len(systems) * len(manifest))
        task = ScoringOptions(
            protocols, extras.calibration, extras.save, lambda: progress.advance(work)
        )
        scored: list[tuple[System, SystemScores]] = []
        for system in systems:
            progress.update(work, description=system.name)
            scored.append((system, score_system(system, manifest, task=task)))
    only_test = {pair.split for pair in manifest.pairs} == {"test"}  # taken without being asked for
    split = extras.split or ("test" if only_test else None)
    return _results(scored, manifest, protocols=protocols, split=split, data=data)


def command_line() -> str:
    """Return the command this process was started with, quoted for a shell."""
    program = Path(sys.argv[0]).name
    return shlex.join(["d2csr" if program == "__main__.py" else program, *sys.argv[1:]])


def _progress() -> Progress:
    """Return a progress bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console(), transient=True)


def _results(
    scored: list[tuple[System, SystemScores]],
    manifest: Manifest,
    *,
    protocols: tuple[str, ...],
    split: str | None,
    data: Path,
) -> Results:
    """Return the figures of all systems with what is needed to repeat them."""
    rows = [
        _system_result(system, protocol, images=figures.images[protocol])
        for protocol in protocols
        for system, figures in scored
    ]
    return Results(
        version=__version__,
        command=command_line(),
        data=str(data),
        split=split,
        scale=manifest.scale,
        protocols={protocol: PROTOCOLS[protocol].summary for protocol in protocols},
        registration=REGISTRATION,
        results=rows,
        paired=_paired(rows),
        calibration=[
            summarize(system.name, figures.calibrated, weights_sha256=system.weights_sha256)
            for system, figures in scored
            if figures.calibrated
        ],
    )


def _system_result(system: System, protocol: str, *, images: list[ImageScore]) -> SystemResult:
    """Return one system's row: images, means, intervals."""
    psnr_db = np.array([image.psnr_db for image in images])
    ssim = np.array([image.ssim for image in images])
    registered = np.array([image.psnr_registered_db for image in images])
    return SystemResult(
        model=system.name,
        protocol=protocol,
        images=images,
        mean=MeanScore(psnr_db=mean(psnr_db), ssim=mean(ssim)),
        interval95=ScoreInterval(psnr_db=interval95(psnr_db), ssim=interval95(ssim)),
        mean_psnr_registered_db=mean(registered),
        weights_sha256=system.weights_sha256,
        fitted_on=system.fitted_on,
    )


def _paired(rows: list[SystemResult]) -> list[PairedResult]:
    """Return the difference of every two systems of one protocol, the earlier minus the later."""
    pairs = [pair for pair in combinations(rows, 2) if pair[0].protocol == pair[1].protocol]
    return [_difference(first, second) for first, second in pairs]


def _difference(first: SystemResult, second: SystemResult) -> PairedResult:
    """Return the mean difference of two systems on the same images."""
    one, other = (np.array([image.psnr_db for image in row.images]) for row in (first, second))
    differences = paired_differences(one, other)
    return PairedResult(
        a=first.model,
        b=second.model,
        protocol=first.protocol,
        diff_psnr_db=mean(differences),
        interval95=interval95(differences),
    )


_BICUBIC = "bicubic"


def card_figures(results: Results, *, model: str, data: str) -> tuple[EvaluationScore, ...]:
    """Return what a model's card says of it: a figure per protocol, bicubic's beside.

    Args:
        results: an evaluation that the model was part of.
        model: its name there.
        data: the pairs, in words, for people far from this machine.
    """
    bicubic = {row.protocol: row.mean.psnr_db for row in results.results if row.model == _BICUBIC}
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
