"""Tables and a chart of a suite: scores with intervals, differences, and what each model costs."""

import csv
import io
import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from d2csr.core.files import atomic_path
from d2csr.core.results import Results, SystemResult
from d2csr.speed.charts import require_matplotlib
from d2csr.suites.config import SuiteConfig, read_suite
from d2csr.suites.costs import read_cost
from d2csr.suites.records import BICUBIC, TrialRecord, collect_results, final_records

TableFormat = Literal["markdown", "csv", "json"]


class SuiteRow(BaseModel):
    """One system on one set of test pairs.

    Attributes:
        data: the data set.
        test: the test pairs.
        protocol: of the scores.
        system: its name in the suite.
        seeds: number of trainings behind the means; 0 for a system that isn't trained here.
        images: number of test images.
        psnr_db: mean over images and seeds.
        psnr_db_interval95: bootstrap over the images.
        ssim: mean over images and seeds.
        psnr_db_seeds_sd: standard deviation over the seeds of the mean PSNR; None for one seed.
        difference_db: PSNR minus the reference's, image by image; None for the reference itself.
        difference_db_interval95: bootstrap over the images.
        parameters: at inference; None for a baseline.
        gflop_per_lr_mp: operations for a million LR pixels.
        time_ms: of an LR image of `lr_size` on the fastest backend.
        memory_mib: peak above the idle process.
        backend: the fastest, with its precision.
        lr_size: width and height.
        training_min: minutes of training, mean over the seeds.
        steps: of a training.
        learning_rate: of its first stage.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")

    data: str
    test: str
    protocol: str
    system: str
    seeds: int
    images: int
    psnr_db: float
    psnr_db_interval95: tuple[float, float]
    ssim: float
    psnr_db_seeds_sd: float | None = None
    difference_db: float | None = None
    difference_db_interval95: tuple[float, float] | None = None
    parameters: int | None = None
    gflop_per_lr_mp: float | None = None
    time_ms: float | None = None
    memory_mib: float | None = None
    backend: str | None = None
    lr_size: tuple[int, int] | None = None
    training_min: float | None = None
    steps: int | None = None
    learning_rate: float | None = None


def suite_rows(out: Path, *, suite: SuiteConfig | None = None) -> list[SuiteRow]:
    """Return the rows of a suite: for each set of test pairs and protocol, the systems by PSNR.

    Raises:
        UsageError: the folder holds no suite, or none of its trials is done.
    """
    suite = suite or read_suite(out)
    rows = []
    for data, pairs in suite.data.items():
        records = final_records(out, suite, data=data)
        for test in pairs.test:
            results = collect_results(out, suite, data=data, test=test)
            for protocol in suite.protocols:
                found = _rows(results, records, protocol=protocol, reference=suite.reference)
                named = [row.model_copy(update={"data": data, "test": test}) for row in found]
                rows += sorted(named, key=lambda row: -row.psnr_db)
    return rows


def _rows(
    results: Results, records: dict[str, list[TrialRecord]], *, protocol: str, reference: str
) -> Iterator[SuiteRow]:
    """Yield the rows of one set of test pairs under one protocol."""
    scores = {row.model: row for row in results.results if row.protocol == protocol}
    paired = {pair.a: pair for pair in results.paired if pair.protocol == protocol}
    for system in dict.fromkeys([BICUBIC, *records]):
        if system not in scores:
            continue
        score, difference = scores[system], paired.get(system)
        yield SuiteRow(
            data="",
            test="",
            protocol=protocol,
            system=system,
            seeds=sum(each.trial.recipe is not None for each in records.get(system, [])),
            images=len(score.images),
            psnr_db=score.mean.psnr_db,
            psnr_db_interval95=score.interval95.psnr_db,
            ssim=score.mean.ssim,
            psnr_db_seeds_sd=_seeds_sd(scores, system),
            difference_db=difference and difference.diff_psnr_db,
            difference_db_interval95=difference and difference.interval95,
            **_facts(records.get(system, [])),
        )


def _seeds_sd(scores: dict[str, SystemResult], system: str) -> float | None:
    """Return the standard deviation over the seeds of a system's mean PSNR."""
    means = [row.mean.psnr_db for name, row in scores.items() if name.startswith(f"{system} seed ")]
    return statistics.stdev(means) if len(means) > 1 else None


def _facts(records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Return the fields of a system's row that its trainings and its cost give."""
    facts: dict[str, Any] = {}
    trained = [each for each in records if each.trial.recipe is not None]
    if trained:
        facts["training_min"] = round(statistics.mean(each.minutes for each in trained), 2)
        facts["steps"] = trained[0].trial.steps
        stages = (trained[0].trial.recipe or {}).get("stages") or [{}]
        facts["learning_rate"] = stages[0].get("learning_rate")
    cost = read_cost(records[0].trial.folder) if records else None
    if cost is not None:
        names = ("parameters", "gflop_per_lr_mp", "time_ms", "backend", "lr_size")
        facts |= {name: getattr(cost, name) for name in names}
        if cost.memory_bytes is not None:
            facts["memory_mib"] = round(cost.memory_bytes / 2**20, 1)
    return facts


def format_rows(rows: Sequence[SuiteRow], form: TableFormat, *, suite: SuiteConfig) -> str:
    """Return the rows as text: Markdown for reading, CSV or JSON with all fields and digits."""
    if form == "json":
        return json.dumps([row.model_dump(mode="json") for row in rows], indent=1) + "\n"
    if form == "csv":
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(SuiteRow.model_fields)
        for row in rows:
            values = row.model_dump(mode="json").values()
            writer.writerow([_plain(value) for value in values])
        return text.getvalue()
    return "\n".join(_markdown(rows, suite)) + "\n"


def _plain(value: object) -> object:
    """Return a CSV cell: nothing for None, the two ends of an interval with a space between."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else value


def _markdown(rows: Sequence[SuiteRow], suite: SuiteConfig) -> Iterator[str]:
    """Yield a table per set of test pairs and protocol."""
    groups = dict.fromkeys((row.data, row.test, row.protocol) for row in rows)
    for data, test, protocol in groups:
        own = [row for row in rows if (row.data, row.test, row.protocol) == (data, test, protocol)]
        scale, images = suite.data[data].scale, own[0].images
        yield f"**{data}, {test}** (x{scale}, protocol `{protocol}`, {images} images)"
        yield ""
        yield from markdown_table(_columns(suite), [_cells(row) for row in own])
        yield ""


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def _columns(suite: SuiteConfig) -> tuple[str, ...]:
    size = "" if suite.processor is None else " of {}x{}".format(*suite.processor)
    seeds = ("sd of seeds",) if len(suite.seeds) > 1 else ()
    return (
        "system", "parameters", "GFLOP/MP", "PSNR dB (95%)", *seeds, "SSIM",
        f"minus {suite.reference}, dB", f"ms{size}", "MiB", "training min",
    )  # fmt: skip


def _cells(row: SuiteRow) -> tuple[str, ...]:
    low, high = row.psnr_db_interval95
    seeds = () if row.psnr_db_seeds_sd is None else (f"{row.psnr_db_seeds_sd:.3f}",)
    backend = "" if row.time_ms is None else f"{row.time_ms:.0f} ({row.backend})"
    return (
        row.system,
        "" if row.parameters is None else f"{row.parameters:,}",
        "" if row.gflop_per_lr_mp is None else f"{row.gflop_per_lr_mp:.0f}",
        f"{row.psnr_db:.2f} ({low:.2f} to {high:.2f})",
        *seeds,
        f"{row.ssim:.4f}",
        _difference(row),
        backend,
        "" if row.memory_mib is None else f"{row.memory_mib:.0f}",
        "" if row.training_min is None else f"{row.training_min:.1f}",
    )


def _difference(row: SuiteRow) -> str:
    if row.difference_db is None or row.difference_db_interval95 is None:
        return ""
    low, high = row.difference_db_interval95
    return f"{row.difference_db:+.2f} ({low:+.2f} to {high:+.2f})"


def draw_suite(rows: Sequence[SuiteRow], path: Path, *, suite: SuiteConfig) -> None:
    """Draw PSNR against parameters for each set of test pairs, under the first protocol, as PNG.

    Raises:
        UsageError: matplotlib isn't installed.
    """
    require_matplotlib(path)
    from matplotlib import pyplot  # optional, and slow to import

    chosen = [row for row in rows if row.protocol == suite.protocols[0]]
    sets = list(dict.fromkeys((row.data, row.test) for row in chosen))
    figure, grid = pyplot.subplots(
        1, len(sets), figsize=(6 * len(sets), 4.5), layout="constrained", squeeze=False
    )
    for axes, (data, test) in zip(grid[0], sets, strict=True):
        for row in chosen:
            if (row.data, row.test) != (data, test):
                continue
            if row.parameters is None:
                axes.axhline(row.psnr_db, color="gray", linewidth=0.8, linestyle="--")
                axes.annotate(row.system, (0.01, row.psnr_db), xycoords=("axes fraction", "data"))
                continue
            low, high = row.psnr_db_interval95
            interval = [[row.psnr_db - low], [high - row.psnr_db]]
            axes.errorbar(row.parameters, row.psnr_db, yerr=interval, marker="o", capsize=2)
            axes.annotate(
                row.system, (row.parameters, row.psnr_db), xytext=(5, 4), textcoords="offset points"
            )
        axes.set_xscale("log")
        axes.set_xlabel("parameters")
        axes.set_ylabel(f"PSNR dB, protocol {suite.protocols[0]}, 95% over images")
        axes.set_title(f"{data}, {test}: x{suite.data[data].scale}")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)
