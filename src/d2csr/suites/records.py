"""The folder of a suite: where each trial is, what is done, and the scores of all together."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from d2csr import __version__
from d2csr.core.errors import DataError, UsageError
from d2csr.core.files import write_atomically
from d2csr.core.results import ImageScore, PairedResult, Results, SystemResult, read_results
from d2csr.core.typed_reader import read_json
from d2csr.evaluation.bootstrap import compare_systems, summarize_images
from d2csr.evaluation.evaluate import command_line
from d2csr.suites.config import SuiteConfig

RECORD_NAME = "trial.json"
RUN_NAME = "run"  # the folder of the training, in that of its trial
BICUBIC = "bicubic"


class Trial(BaseModel):
    """One training and its scores, or one attempt of a learning rate.

    Attributes:
        system: its name in the suite.
        data: name of the data set.
        seed: of weights and crops.
        rate: the learning rate that is tried; None for a trial whose scores count.
        folder: of the trial, which all workers see under the same path.
        recipe: of the training; None if the system isn't trained here.
        trained: the system that is scored as it is.
        scale: of the pairs.
        steps: of the training.
        tests: test pairs by name; none for an attempt.
        split: of the test pairs.
        protocols: of the scores.
        skip_registration: leave out the PSNR after registration.
    """

    model_config = ConfigDict(frozen=True)

    system: str
    data: str
    seed: int
    rate: float | None = None
    folder: Path
    recipe: dict[str, Any] | None = None
    trained: str | None = None
    scale: int
    steps: int = 0
    tests: dict[str, str] = {}
    split: str | None = None
    protocols: tuple[str, ...] = ("y",)
    skip_registration: bool = True

    @property
    def label(self) -> str:
        """Return the trial in words."""
        rate = "" if self.rate is None else f", trying rate {self.rate:g}"
        return f"{self.system} on {self.data}, seed {self.seed}{rate}"

    def results_path(self, test: str) -> Path:
        """Return the path of the scores on a set of test pairs."""
        return self.folder / f"scores-{test}.json"


class TrialRecord(BaseModel):
    """A trial that is done.

    Attributes:
        trial: as it was run.
        val_psnr_db: PSNR of the best validation, protocol y; None without validation pairs, and
            for a rate at which training diverged.
        diverged: message of the training that ended at a loss that isn't finite.
        minutes: of training, all its sessions together.
    """

    model_config = ConfigDict(frozen=True)

    trial: Trial
    val_psnr_db: float | None = None
    diverged: str | None = None
    minutes: float = 0.0


def trial_folder(out: Path, system: str, *, data: str, part: str) -> Path:
    """Return the folder of a trial; `part` is `seed-N` or `rate-R`."""
    return out / "trials" / data / system / part


def write_record(record: TrialRecord) -> None:
    """Write the record of a trial into its folder, which makes the trial done."""
    text = record.model_dump_json(indent=1) + "\n"
    write_atomically(record.trial.folder / RECORD_NAME, text.encode())


def read_record(folder: Path) -> TrialRecord | None:
    """Return the record of a trial; None if it isn't done.

    Raises:
        DataError: the record is damaged.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        return None
    remedy = "Remove it; `suite run` then repeats what is missing."
    return read_json(path, TrialRecord, error_type=DataError, remedy=remedy, max_values=20_000)


def is_done(trial: Trial) -> bool:
    """Return whether a trial's record is of this very trial, and its scores are there."""
    record = read_record(trial.folder)
    same = record is not None and record.trial.model_dump() == trial.model_dump()
    return same and all(trial.results_path(test).is_file() for test in trial.tests)


def final_records(out: Path, suite: SuiteConfig, *, data: str) -> dict[str, list[TrialRecord]]:
    """Return the trials of a data set that are done, by system, seed by seed."""
    found: dict[str, list[TrialRecord]] = {}
    for system in suite.systems:
        records = [
            read_record(trial_folder(out, system, data=data, part=f"seed-{seed}"))
            for seed in suite.seeds
        ]
        found[system] = [each for each in records if each is not None]
    return found


def collect_results(out: Path, suite: SuiteConfig, *, data: str, test: str) -> Results:
    """Return the scores of all trials that are done, in the schema of `evaluate`.

    A system trained with several seeds has a row of its own per seed and, under its name alone, one
    whose scores are, image by image, the mean over the seeds. Differences are of those rows and of
    bicubic enlargement, each minus the suite's reference.

    Raises:
        UsageError: no trial is done.
    """
    seeds: dict[str, list[tuple[int, Results]]] = {}
    for system, records in final_records(out, suite, data=data).items():
        paths = [(each.trial.seed, each.trial.folder / f"scores-{test}.json") for each in records]
        seeds[system] = [(seed, read_results(path)) for seed, path in paths if path.is_file()]
    scored = [results for rows in seeds.values() for _, results in rows]
    if not scored:
        problem = f"holds no scores of {data}, {test}"
        raise UsageError(out, problem, "Run `d2csr suite run` with this --out first.")
    rows = [
        row
        for protocol in suite.protocols
        for row in (
            *_bicubic_row(suite, scored[0], protocol=protocol),
            *_system_rows(seeds, protocol),
        )
    ]
    return scored[0].model_copy(
        update={
            "version": __version__,
            "command": command_line(),
            "protocols": {name: scored[0].protocols[name] for name in suite.protocols},
            "results": rows,
            "paired": _differences(rows, [BICUBIC, *suite.systems], reference=suite.reference),
        }
    )


def _bicubic_row(suite: SuiteConfig, results: Results, *, protocol: str) -> list[SystemResult]:
    """Return bicubic enlargement's row, which every evaluation has, if the suite has none."""
    return [] if BICUBIC in suite.systems else [_row(results, protocol, model=BICUBIC)]


def _row(results: Results, protocol: str, *, model: str | None = None) -> SystemResult:
    """Return a system's row: of the name given, else the one that isn't the added bicubic."""
    rows = [row for row in results.results if row.protocol == protocol]
    if model is not None:
        return next(row for row in rows if row.model == model)
    return next((row for row in rows if row.model != BICUBIC), rows[0])


def _system_rows(
    seeds: Mapping[str, list[tuple[int, Results]]], protocol: str
) -> Iterable[SystemResult]:
    """Yield the row of each system and, where it has several, of each of its seeds."""
    for system, scored in seeds.items():
        rows = [_row(results, protocol) for _, results in scored]
        if len(rows) == 1:
            yield rows[0].model_copy(update={"model": system})
        elif rows:
            images = _mean_over_seeds([row.images for row in rows])
            yield summarize_images(system, protocol, images=images)
            for (seed, _), row in zip(scored, rows, strict=True):
                yield row.model_copy(update={"model": f"{system} seed {seed}"})


def _mean_over_seeds(images: list[list[ImageScore]]) -> list[ImageScore]:
    """Return the scores of each image, averaged over the seeds."""
    means = []
    for scores in zip(*images, strict=True):
        registered = [each.psnr_registered_db for each in scores if each.psnr_registered_db]
        means.append(
            ImageScore(
                name=scores[0].name,
                psnr_db=float(np.mean([each.psnr_db for each in scores])),
                ssim=float(np.mean([each.ssim for each in scores])),
                psnr_registered_db=float(np.mean(registered)) if registered else None,
            )
        )
    return means


def _differences(
    rows: list[SystemResult], names: list[str], *, reference: str
) -> list[PairedResult]:
    """Return the difference of each named row to the reference's, under each protocol."""
    return [
        pair
        for base in rows
        for row in rows
        if base.model == reference != row.model and base.protocol == row.protocol
        if row.model in names
        for pair in compare_systems([row, base])
    ]
