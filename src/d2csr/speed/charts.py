"""Speed as tables for the screen: ceilings, then a table a model.

Speed as an image: how many times as fast as reference, and the share of the ceiling.
"""

from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from d2csr.core.errors import UsageError
from d2csr.core.files import atomic_path
from d2csr.speed.speed_results import BackendResult, CeilingResult, ModelResult, SpeedResults

_PRECISIONS = ("fp32", "bf16", "int8")


def print_speed(results: SpeedResults, *, output: Console | None = None) -> None:
    """Print what was measured."""
    output = Console(highlight=False) if output is None else output
    machine = results.machine
    output.print(Text(f"{machine.processor}, {machine.threads} threads"), soft_wrap=True)
    output.print(Text("\nceilings, GFLOP/s, and by which library", style="bold"))
    output.print(_ceilings(results.ceilings))
    for model in results.models:
        width, height = results.lr_size
        title = f"\n{model.name}: x{model.scale}, LR {width}x{height}, {results.rounds} rounds"
        output.print(Text(title, style="bold"))
        output.print(Text(_sizes(model)), soft_wrap=True)
        output.print(_speeds(model))
        output.print(_costs(model))
    output.print(Text(_NOTES), soft_wrap=True)


def name_of(row: BackendResult) -> str:
    """Return what tables and images call a row."""
    name = f"{row.backend} {row.precision}"
    return f"{name}, expanded" if row.twin else name


def operation_of(row: CeilingResult) -> str:
    """Return what tables and images call a ceiling's operation."""
    if row.operation == "matmul":
        return f"matrices {row.side}x{row.side}"
    return f"3x3 convolution {row.channels}->{row.channels}, {row.side}x{row.side}"


_NOTES = """
times: how often as fast, with the middle 95% of resampled medians. expanded: over the network
with expanded tails as the literature runs it. ceiling: share of the best convolution of the
model's width and precision. memory: peak above the loaded, idle process, and its ratio to
reference's (the expanded one's, where there are both). PSNR: change against reference; ~ is
estimated from the difference of the images."""


def _ceilings(rows: list[CeilingResult]) -> Table:
    table = _table("operation", *_PRECISIONS)
    for operation in dict.fromkeys(operation_of(row) for row in rows):
        best = {
            row.precision: f"{row.gflops_per_s:.0f} {row.library}"
            for row in rows
            if row.best and operation_of(row) == operation
        }
        table.add_row(operation, *(best.get(precision, "-") for precision in _PRECISIONS))
    return table


def _sizes(model: ModelResult) -> str:
    weights = "" if model.trained else "; random weights, which cost the same time"
    return (
        f"{model.parameters:,} parameters, {model.parameters_collapsed:,} collapsed; "
        f"{model.gflop_per_lr_mp:,.0f} GFLOP per LR megapixel, "
        f"{model.gflop_per_lr_mp_collapsed:,.0f} collapsed; "
        f"reference runs {model.reference_form} tails{weights}"
    )


def _speeds(model: ModelResult) -> Table:
    table = _table("", "seconds", "times", "expanded")
    for row in model.backends:
        table.add_row(
            name_of(row),
            f"{row.median_s:.3f}",
            _times(row.speedup_over_reference, row.speedup_interval95),
            _times(row.speedup_over_expanded, row.speedup_over_expanded_interval95),
        )
    return table


def _costs(model: ModelResult) -> Table:
    table = _table("", "GFLOP/s", "ceiling", "memory", "PSNR dB")
    for row in model.backends:
        table.add_row(
            name_of(row),
            f"{row.gflops_per_s:.0f}",
            "-" if row.share_of_ceiling is None else f"{row.share_of_ceiling:.0%}",
            _memory(row),
            _change(row),
        )
    return table


def _times(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "-"
    return f"{value:.2f} ({interval[0]:.2f}-{interval[1]:.2f})"


def _memory(row: BackendResult) -> str:
    if row.peak_memory_bytes is None:
        return "-"
    ratio = "" if row.peak_memory_ratio is None else f" ({row.peak_memory_ratio:.2f})"
    return f"{row.peak_memory_bytes / 2**20:.0f} MiB{ratio}"


def _change(row: BackendResult) -> str:
    if row.psnr_change_db is None:
        return "-"
    sign = "~" if row.psnr_change_by == "estimate" else ""
    return f"{sign}{row.psnr_change_db:+.4f}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column(first, overflow="fold")
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    return table


_ROW_INCHES = 0.45


def refuse_without_matplotlib(path: Path) -> None:
    """Refuse to draw where what draws isn't installed.

    Raises:
        UsageError: it isn't; the remedy names the extra.
    """
    if find_spec("matplotlib") is None:
        problem = "needs matplotlib, which isn't installed"
        raise UsageError(path, problem, remedy="Run `pip install 'd2csr[figures]'`.")


def draw_speed(results: SpeedResults, path: Path) -> None:
    """Draw a bar a model and backend, with its interval, and write the image as PNG."""
    from matplotlib import pyplot  # optional, and slow to load

    rows = [(model.name, row) for model in results.models for row in model.backends]
    labels = [f"{name}\n{name_of(row)}" for name, row in rows]
    size = (9, 1.2 + _ROW_INCHES * len(rows))
    figure, (times, shares) = pyplot.subplots(1, 2, figsize=size, layout="constrained", sharey=True)
    for place, (_, row) in enumerate(rows):
        value, (low, high) = _speedup(row)
        times.barh(place, value, color="C0")
        times.errorbar(value, place, xerr=[[value - low], [high - value]], color="black", capsize=2)
        shares.barh(place, 100 * (row.share_of_ceiling or 0), color="C1")
    times.axvline(1, color="gray", linewidth=0.8)
    shares.axvline(100, color="gray", linewidth=0.8)
    times.set_yticks(range(len(rows)), labels)
    times.invert_yaxis()
    times.set_xlabel("times as fast as reference, expanded where it was measured")
    shares.set_xlabel("% of the best convolution of its width and precision")
    with atomic_path(path) as beside:
        figure.savefig(beside, dpi=120, format="png")
    pyplot.close(figure)


def _speedup(row: BackendResult) -> tuple[float, tuple[float, float]]:
    """Return the ratio to the literature's form where there is one, else to reference."""
    value, interval = row.speedup_over_expanded, row.speedup_over_expanded_interval95
    if value is None or interval is None:
        value, interval = row.speedup_over_reference, row.speedup_interval95
    if value is None or interval is None:
        return 0.0, (0.0, 0.0)
    return value, interval
