"""Scores of the suite, kept in a file: image by image, with the means and differences of each set.

A set keeps the scores of a system as long as the images and the system's weights are the same, so
only what is new is computed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, ValidationError

from d2csr.core.errors import DataError
from d2csr.core.files import write_atomically
from d2csr.core.manifest import Manifest
from d2csr.data.pairs import load_pair
from d2csr.evaluation.bootstrap import interval95
from d2csr.evaluation.scoring import ScoringOptions, score_system
from d2csr.evaluation.systems import System, Upscale
from d2csr.images.resize import enlarge_bicubic
from d2csr.metrics.brightness import BlockShifts, brightness_shift
from d2csr.speed.speed_results import Machine
from photo_suite.sets import CHOOSING, PairSet

PROTOCOL = "y"
BICUBIC = "bicubic"
Numbers = list[float]


class _Schema(BaseModel):
    """Common settings of all parts: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")


class Summary(_Schema):
    """Means of a system over a set, and its difference to bicubic on the same images.

    Attributes:
        psnr_db: mean, by the protocol.
        interval95: bootstrap interval of the mean.
        ssim: mean, by the protocol.
        over_bicubic_db: mean difference of PSNR; None for bicubic itself.
        over_bicubic_interval95: bootstrap interval of the mean difference.
        registered_db: mean PSNR after the best shift, gain and offset; None if not measured.
        shift_p50: mean over the images of the median brightness shift, in levels; None if all are
            smaller than a block.
        shift_p95: mean of the 95th percentile.
        shift_p95_median: median over the images of the 95th percentile.
    """

    psnr_db: float
    interval95: tuple[float, float]
    ssim: float
    over_bicubic_db: float | None
    over_bicubic_interval95: tuple[float, float] | None
    registered_db: float | None
    shift_p50: float | None
    shift_p95: float | None
    shift_p95_median: float | None


class SystemScores(_Schema):
    """Scores of one system on each image of a set, and their summary.

    Attributes:
        weights_sha256: hash of the model's weights; None for a system without weights.
        fitted_on: the pairs that the linear filter was fitted to.
        cpu_seconds: processor time of the scoring, all threads.
        registered_db: empty if not measured.
    """

    weights_sha256: str | None
    fitted_on: str | None
    cpu_seconds: float
    psnr_db: Numbers
    ssim: Numbers
    registered_db: Numbers
    shift_p50: Numbers
    shift_p95: Numbers
    summary: Summary | None = None


class SetScores(_Schema):
    """Scores of all systems on one set; further attributes are those of a `PairSet`.

    Attributes:
        hr_shift_p50: brightness shift of each HR image from bicubic, as that of SR is measured: a
            perfect SR has it too.
        hr_shift_p95: likewise.
    """

    title: str
    kind: str
    data: str
    lr: str
    pairs_sha256: str
    names: list[str]
    hr_shift_p50: Numbers = []
    hr_shift_p95: Numbers = []
    systems: dict[str, SystemScores]


class TargetResult(_Schema):
    """A target and its measure."""

    text: str
    value: float
    is_met: bool


class SuiteScores(_Schema):
    """The file of one scale."""

    format_version: int = 1
    date: str
    scale: int
    protocol: str = PROTOCOL
    command: str
    machine: Machine
    sets: dict[str, SetScores]
    left_out: dict[str, str]
    targets: list[TargetResult] = []


@final
class OpenSystem:
    """A system that is opened once for all sets, so that nothing is fitted or loaded twice."""

    def __init__(self, system: System, *, fitted_on: str | None = None) -> None:
        """Hold a system; `fitted_on` is the same on every machine."""
        self.name, self.weights_sha256 = system.name, system.weights_sha256
        self.fitted_on, self.predicts_error = fitted_on, system.predicts_error
        self.validate = system.validate
        self._system = system
        self._upscale: Upscale | None = None

    def open(self, manifest: Manifest) -> Upscale:
        """Return the upscaling function; the first call loads or fits the system."""
        if self._upscale is None:
            self._upscale = self._system.open(manifest)
        return self._upscale


def score_set(
    pairs: PairSet,
    systems: Sequence[OpenSystem],
    *,
    kept: SetScores | None,
    report: Callable[[str], None],
) -> SetScores:
    """Return the scores of systems on a set; systems in `kept` that aren't given stay.

    Args:
        pairs: the set.
        systems: bicubic among them.
        kept: earlier scores of the set.
        report: called with one line per system that was scored.
    """
    sha256 = pairs.sha256()
    if kept is not None and kept.pairs_sha256 != sha256:
        kept = None
    known = {} if kept is None else kept.systems
    found: dict[str, SystemScores] = {}
    for system in systems:
        scores = known.get(system.name)
        if scores is None or not _is_same(scores, system):
            scores = _score(system, pairs)
            report(f"{pairs.name}, {system.name}: {scores.cpu_seconds:.0f} s of processor time")
        found[system.name] = scores
    found |= {name: scores for name, scores in known.items() if name not in found}
    if kept is not None and kept.hr_shift_p95:
        p50, p95 = kept.hr_shift_p50, kept.hr_shift_p95
    else:
        p50, p95 = _hr_shift(pairs)
    return SetScores(
        title=pairs.title,
        kind=pairs.kind,
        data=pairs.data,
        lr=pairs.lr,
        pairs_sha256=sha256,
        names=[pair.name for pair in pairs.manifest],
        hr_shift_p50=p50,
        hr_shift_p95=p95,
        systems=with_summaries(found),
    )


def _is_same(scores: SystemScores, system: OpenSystem) -> bool:
    identity = (scores.weights_sha256, scores.fitted_on)
    return identity == (system.weights_sha256, system.fitted_on)


def _score(system: OpenSystem, pairs: PairSet) -> SystemScores:
    """Return the scores of a system on each image, rounded to what is worth keeping."""
    options = ScoringOptions((PROTOCOL,), skip_registration=not pairs.is_real)
    start = time.process_time()
    images = score_system(system, pairs.manifest, options=options).images[PROTOCOL]
    shifts = [image.brightness_shift for image in images]
    registered = [image.psnr_registered_db for image in images]
    return SystemScores(
        weights_sha256=system.weights_sha256,
        fitted_on=system.fitted_on,
        cpu_seconds=round(time.process_time() - start, 1),
        psnr_db=[round(image.psnr_db, 4) for image in images],
        ssim=[round(image.ssim, 5) for image in images],
        registered_db=[round(each, 4) for each in registered if each is not None],
        shift_p50=[round(each.p50, 3) for each in shifts if each is not None],
        shift_p95=[round(each.p95, 3) for each in shifts if each is not None],
    )


def _hr_shift(pairs: PairSet) -> tuple[Numbers, Numbers]:
    """Return the median and 95th percentile of the brightness shift of each HR image."""
    shifts: list[BlockShifts] = []
    for pair in pairs.manifest:
        lr, hr = load_pair(pair, scale=pairs.manifest.scale)
        shift = brightness_shift(
            np.ascontiguousarray(hr), enlarge_bicubic(lr, pairs.manifest.scale)
        )
        if shift is not None:
            shifts.append(shift)
    return [round(each.p50, 3) for each in shifts], [round(each.p95, 3) for each in shifts]


def with_summaries(systems: dict[str, SystemScores]) -> dict[str, SystemScores]:
    """Return the scores of all systems of a set with their summaries."""
    bicubic = np.array(systems[BICUBIC].psnr_db)
    return {
        name: scores.model_copy(
            update={"summary": _summary(scores, None if name == BICUBIC else bicubic)}
        )
        for name, scores in systems.items()
    }


def _summary(scores: SystemScores, bicubic: Float[np.ndarray, " n"] | None) -> Summary:
    psnr_db = np.array(scores.psnr_db)
    over = None if bicubic is None else psnr_db - bicubic
    return Summary(
        psnr_db=float(psnr_db.mean()),
        interval95=interval95(psnr_db),
        ssim=float(np.mean(scores.ssim)),
        over_bicubic_db=None if over is None else float(over.mean()),
        over_bicubic_interval95=None if over is None else interval95(over),
        registered_db=_mean(scores.registered_db),
        shift_p50=_mean(scores.shift_p50),
        shift_p95=_mean(scores.shift_p95),
        shift_p95_median=float(np.median(scores.shift_p95)) if scores.shift_p95 else None,
    )


def _mean(values: Numbers) -> float | None:
    """Return the mean; None without values."""
    return float(np.mean(values)) if values else None


def without_stale(
    sets: Mapping[str, SetScores], systems: Sequence[OpenSystem]
) -> dict[str, SetScores]:
    """Return the sets without the scores that earlier weights of these systems had."""
    current = {system.name: system.weights_sha256 for system in systems}
    return {
        key: scores.model_copy(
            update={
                "systems": {
                    name: each
                    for name, each in scores.systems.items()
                    if name not in current or each.weights_sha256 == current[name]
                }
            }
        )
        for key, scores in sets.items()
    }


def split_choosing(scores: SetScores) -> dict[str, SetScores]:
    """Return the images that may choose settings, and those that only report, as two sets.

    Of a set that is limited to the first kind, there are none of either.
    """
    if len(scores.names) <= CHOOSING:
        return {}
    first, others = slice(None, CHOOSING), slice(CHOOSING, None)
    return {
        "realsr-choose": _part(
            scores, first, title=f"RealSR crops, the {CHOOSING} that may choose settings"
        ),
        "realsr-report": _part(
            scores, others, title=f"RealSR crops, the other {len(scores.names) - CHOOSING}"
        ),
    }


def _part(scores: SetScores, part: slice, *, title: str) -> SetScores:
    fields = ("psnr_db", "ssim", "registered_db", "shift_p50", "shift_p95")
    systems = {
        name: each.model_copy(
            update={"cpu_seconds": 0.0} | {field: getattr(each, field)[part] for field in fields}
        )
        for name, each in scores.systems.items()
    }
    update = {
        "title": title,
        "names": scores.names[part],
        "hr_shift_p50": scores.hr_shift_p50[part],
        "hr_shift_p95": scores.hr_shift_p95[part],
        "systems": with_summaries(systems),
    }
    return scores.model_copy(update=update)


def read_scores(path: Path) -> SuiteScores | None:
    """Return the scores in a file; None if there is none.

    Raises:
        DataError: the file has another format.
    """
    if not path.is_file():
        return None
    try:
        return SuiteScores.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = f"is no file of this suite: {error.errors()[0]['msg']}"
        raise DataError(path, problem, remedy="Remove it, and everything is scored.") from error


def write_scores(scores: SuiteScores, path: Path) -> None:
    """Write the scores as JSON, atomically."""
    write_atomically(path, (scores.model_dump_json(indent=1) + "\n").encode())
