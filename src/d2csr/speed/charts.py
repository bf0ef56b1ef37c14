"""Speed as tables for the terminal, and as a chart: speedups and shares of the ceiling."""

from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from d2csr.core.errors import UsageError, printable
from d2csr.core.files import atomic_path
from d2csr.speed.speed_results import (
    AccuracyChange,
    BackendResult,
    CeilingResult,
    ModelResult,
    PeakMemory,
    RunTimes,
    SpeedResults,
    Throughput,
)

_PRECISIONS = ("fp32", "bf16", "int8")


def print_speed(results: SpeedResults, *, output: Console | None = None) -> None:
    """Print the ceilings, then two tables per model."""
    output = Console(highlight=False) if output is None else output
    machine = results.machine
    output.print(Text(f"{machine.processor}, {machine.threads} threads"), soft_wrap=True)
    output.print(Text("\nceilings: best GFLOP/s and its library", style="bold"))
    output.print(_ceiling_table(results.ceilings))
    for model in results.models:
        width, height = results.lr_size
        sizes = f"x{model.scale}, LR {width}x{height}, {results.rounds} rounds"
        title = f"\n{printable(model.name)}: {sizes}"
        output.print(Text(title, style="bold"))
        output.print(Text(_description(model)), soft_wrap=True)
        output.print(_speed_table(model))
        output.print(_cost_table(model))
    output.print(Text(_NOTES), soft_wrap=True)


def label(row: BackendResult) -> str:
    """Return the label of a row in tables and charts."""
    name = f"{row.backend} {row.precision}"
    return f"{name}, expanded" if row.twin else name


def operation_label(row: CeilingResult) -> str:
    """Return the label of a ceiling's operation in tables."""
    if row.operation == "matmul":
        return f"matrices {row.side}x{row.side}"
    return f"3x3 convolution {row.channels}->{row.channels}, {row.side}x{row.side}"


_NOTES = """
speedup: over reference, with the middle 95% of resampled medians. expanded: over the network with
expanded tails, as in the literature. ceiling: share of the best convolution of the same width and
precision. memory: peak above the loaded, idle process, and its ratio to that of reference (of the
expanded network if there is one). PSNR: change against reference; ~: estimated from the difference
of the images."""


def _ceiling_table(rows: list[CeilingResult]) -> Table:
    table = _table("operation", *_PRECISIONS)
    for operation in dict.fromkeys(operation_label(row) for row in rows):
        best = {
            row.precision: f"{row.gflops_per_s:.0f} {row.library}"
            for row in rows
            if row.best and operation_label(row) == operation
        }
        table.add_row(operation, *(best.get(precision, "-") for precision in _PRECISIONS))
    return table


def _description(model: ModelResult) -> str:
    weights = "" if model.trained else "; random weights, which take the same time"
    return (
        f"{model.parameters:,} parameters, {model.parameters_collapsed:,} collapsed; "
        f"{model.gflop_per_lr_mp:,.0f} GFLOP per LR megapixel, "
        f"{model.gflop_per_lr_mp_collapsed:,.0f} collapsed; "
        f"reference runs {model.reference_form} tails{weights}"
    )


def _speed_table(model: ModelResult) -> Table:
    table = _table("", "seconds", "speedup", "expanded")
    for row in model.backends:
        table.add_row(
            label(row),
            f"{row.times.median_s:.3f}",
            _ratio(row.times.speedup_over_reference, row.times.speedup_interval95),
            _ratio(row.times.speedup_over_expanded, row.times.speedup_over_expanded_interval95),
        )
    return table


def _cost_table(model: ModelResult) -> Table:
    table = _table("", "GFLOP/s", "ceiling", "memory", "PSNR dB")
    for row in model.backends:
        table.add_row(
            label(row),
            f"{row.throughput.gflops_per_s:.0f}",
            _share(row.throughput),
            _memory(row.memory),
            _change(row.accuracy),
        )
    return table


def _ratio(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "-"
    return f"{value:.2f} ({interval[0]:.2f}-{interval[1]:.2f})"


def _share(throughput: Throughput) -> str:
    share = throughput.share_of_ceiling
    return "-" if share is None else f"{share:.0%}"


def _memory(memory: PeakMemory) -> str:
    if memory.peak_memory_bytes is None:
        return "-"
    ratio = "" if memory.peak_memory_ratio is None else f" ({memory.peak_memory_ratio:.2f})"
    return f"{memory.peak_memory_bytes / 2**20:.0f} MiB{ratio}"


def _change(accuracy: AccuracyChange) -> str:
    if accuracy.psnr_change_db is None:
        return "-"
    sign = "~" if accuracy.psnr_change_by == "estimate" else ""
    return f"{sign}{accuracy.psnr_change_db:+.4f}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column(first, overflow="fold")
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    return table


_ROW_INCHES = 0.45


def require_matplotlib(path: Path) -> None:
    """Check that a chart can be drawn.

    Raises:
        UsageError: matplotlib isn't installed.
    """
    if find_spec("matplotlib") is None:
        problem = "can't be drawn without matplotlib, which isn't installed"
        raise UsageError(path, problem, remedy="Run `pip install 'd2csr[benchmarks]'`.")


def draw_speed(results: SpeedResults, path: Path) -> None:
    """Draw the speedups with intervals, and the shares of the ceiling; write the chart as PNG."""
    from matplotlib import pyplot  # optional, and slow to import

    rows = [(model.name, row) for model in results.models for row in model.backends]
    labels = [f"{name}\n{label(row)}" for name, row in rows]
    size = (9, 1.2 + _ROW_INCHES * len(rows))
    figure, (speedups, shares) = pyplot.subplots(
        1, 2, figsize=size, layout="constrained", sharey=True
    )
    for index, (_, row) in enumerate(rows):
        value, (low, high) = _speedup(row.times)
        speedups.barh(index, value, color="C0")
        interval = [[value - low], [high - value]]
        speedups.errorbar(value, index, xerr=interval, color="black", capsize=2)
        shares.barh(index, 100 * (row.throughput.share_of_ceiling or 0), color="C1")
    speedups.axvline(1, color="gray", linewidth=0.8)
    shares.axvline(100, color="gray", linewidth=0.8)
    speedups.set_yticks(range(len(rows)), labels)
    speedups.invert_yaxis()
    speedups.set_xlabel("speedup over reference (expanded if it was measured)")
    shares.set_xlabel("% of the best convolution of its width and precision")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)


def _speedup(times: RunTimes) -> tuple[float, tuple[float, float]]:
    """Return the speedup over the expanded network if it was measured, else over reference."""
    value, interval = times.speedup_over_expanded, times.speedup_over_expanded_interval95
    if value is None or interval is None:
        value, interval = times.speedup_over_reference, times.speedup_interval95
    if value is None or interval is None:
        return 0.0, (0.0, 0.0)
    return value, interval
