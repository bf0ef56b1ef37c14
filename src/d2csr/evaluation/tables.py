"""Tables of results: for the terminal, 80 columns wide, and as CSV for a spreadsheet."""

import csv
import io
import math
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from d2csr.core.errors import printable
from d2csr.core.files import write_atomically
from d2csr.core.results import (
    CalibrationResult,
    PairedResult,
    ReliabilityBin,
    Results,
    SystemResult,
)
from d2csr.metrics.brightness import SHIFT_BLOCK_PX

COLUMNS = (
    "model",
    "protocol",
    "name",
    "psnr_db",
    "ssim",
    "psnr_registered_db",
    "brightness_shift_p50",
    "brightness_shift_p95",
    "scale",
    "data",
    "weights_sha256",
    "version",
    "command",
)

_SHIFT_TITLE = (
    f"brightness shift from bicubic, in levels ({SHIFT_BLOCK_PX}x{SHIFT_BLOCK_PX} px, linear light)"
)


def print_results(results: Results, *, output: Console | None = None) -> None:
    """Print a table per protocol, the calibration, and the provenance of the scores."""
    output = Console(highlight=False) if output is None else output
    for protocol, summary in results.protocols.items():
        title = f"\nprotocol {protocol} (x{results.scale}): {printable(summary)}"
        output.print(Text(title, style="bold"))
        output.print(_score_table(results, protocol))
    output.print(Text(f"\n{_SHIFT_TITLE}", style="bold"))
    output.print(_shift_table(results))
    for calibration in results.calibration:
        name = printable(calibration.model)
        title = f"\nprediction of the error of {name}, {calibration.block_px} px blocks"
        output.print(Text(title, style="bold"), soft_wrap=True)
        output.print(_calibration_table(calibration))
        if calibration.reliability:
            title = f"\nexpected and observed absolute error of {name}, gray levels"
            output.print(Text(title, style="bold"), soft_wrap=True)
            output.print(_reliability_table(calibration.reliability))
    output.print(Text(_provenance(results)), soft_wrap=True)


def write_csv(results: Results, path: Path) -> None:
    """Write one row per image, system and protocol, each with its provenance, atomically."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in results.results:
        provenance = (results.scale, results.data, row.weights_sha256 or "", results.version)
        for image in row.images:
            shift = image.brightness_shift
            shifts = ("", "") if shift is None else (shift.p50, shift.p95)
            registered_db = "" if image.psnr_registered_db is None else image.psnr_registered_db
            scores = (image.psnr_db, image.ssim, registered_db, *shifts)
            writer.writerow(
                (row.model, row.protocol, image.name, *scores, *provenance, results.command)
            )
    write_atomically(path, text.getvalue().encode())


def _score_table(results: Results, protocol: str) -> Table:
    """Return a table of all systems under one protocol, each with its gain over bicubic."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("model", overflow="fold")
    shifted = [] if results.registration is None else ["(shifted)"]
    for title in ("PSNR dB", "95%", "SSIM", "over bicubic", *shifted):
        table.add_column(title, justify="right", no_wrap=True)
    for row in results.results:
        if row.protocol == protocol:
            table.add_row(*(Text(printable(cell)) for cell in _cells(row, results.paired)))
    return table


def _cells(row: SystemResult, paired: list[PairedResult]) -> tuple[str, ...]:
    """Return the cells of one system."""
    low, high = row.interval95.psnr_db
    shifted_db = row.mean_psnr_registered_db
    return (
        row.model,
        f"{row.mean.psnr_db:.2f}",
        f"{low:.2f}-{high:.2f}" if len(row.images) > 1 else "one image",
        f"{row.mean.ssim:.4f}",
        _gain(row, paired),
        *([] if shifted_db is None else [f"({shifted_db:.2f})"]),
    )


def _gain(row: SystemResult, paired: list[PairedResult]) -> str:
    """Return the gain of a system over bicubic with its 95% interval; empty for bicubic itself."""
    for each in paired:
        if each.protocol == row.protocol and row.model in (each.a, each.b):
            sign = {(row.model, "bicubic"): 1, ("bicubic", row.model): -1}.get((each.a, each.b))
            if sign is not None:
                low, high = sorted(sign * end for end in each.interval95)
                return f"{sign * each.diff_psnr_db:+.2f} ({low:.2f}, {high:.2f})"
    return ""


def _shift_table(results: Results) -> Table:
    """Return a table of each system's brightness shift, which is the same under all protocols."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("model", overflow="fold")
    for title in ("median", "95th percentile"):
        table.add_column(title, justify="right")
    for row in results.results:
        if row.protocol == next(iter(results.protocols)):
            shift = row.brightness_shift
            cells = ("-", "-") if shift is None else (f"{shift.p50:.2f}", f"{shift.p95:.2f}")
            table.add_row(*(Text(printable(cell)) for cell in (row.model, *cells)))
    return table


def _calibration_table(calibration: CalibrationResult) -> Table:
    """Return a table of how well each predictor ranks the error, per image and on average."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("image", overflow="fold")
    for heading in ("predictor", "rank correlation", "AUSE"):
        table.add_column(heading, justify="right")
    for score in [*calibration.images, *calibration.mean]:
        rank = "-" if math.isnan(score.spearman) else f"{score.spearman:.3f}"
        cells = (score.name, score.predictor, rank, f"{score.ause:.3f}")
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _reliability_table(bins: list[ReliabilityBin]) -> Table:
    """Return a table of the expected and the observed error, in gray levels, bin by bin."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("tenth", "blocks", "expected", "observed", "ratio"):
        table.add_column(heading, justify="right")
    for number, each in enumerate(bins, start=1):
        ratio = "-" if math.isnan(each.ratio) else f"{each.ratio:.2f}"
        cells = (str(number), f"{each.blocks:,}", f"{each.expected:.2f}", f"{each.observed:.2f}")
        table.add_row(*(Text(printable(cell)) for cell in (*cells, ratio)))
    return table


def _provenance(results: Results) -> str:
    """Return data, weights, version and command, one per line."""
    rows = [row for row in results.results if row.protocol == next(iter(results.protocols))]
    images = len(rows[0].images)
    shifted = f"(shifted): not comparable; {results.registration}."
    lines = [
        "",
        *([] if results.registration is None else [shifted]),
        f"95%: bootstrap of the mean over {images} images.",
        f"data: {results.data}" + (f", split {results.split}" if results.split else ""),
    ]
    lines += [f"sha256 of {row.model}: {row.weights_sha256}" for row in rows if row.weights_sha256]
    lines += [f"{row.model} fitted on: {row.fitted_on}" for row in rows if row.fitted_on]
    lines.append(f"d2csr {results.version}: {results.command}")
    return "\n".join(map(printable, lines))
