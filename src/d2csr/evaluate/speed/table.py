"""Speed as tables for the screen: ceilings, then a table a model."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from d2csr.evaluate.speed.results import BackendResult, CeilingResult, ModelResult, SpeedResults

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
    """Return what tables and pictures call a row."""
    name = f"{row.backend} {row.precision}"
    return f"{name}, expanded" if row.twin else name


def operation_of(row: CeilingResult) -> str:
    """Return what tables and pictures call a ceiling's operation."""
    if row.operation == "matmul":
        return f"matrices {row.side}x{row.side}"
    return f"3x3 convolution {row.channels}->{row.channels}, {row.side}x{row.side}"


_NOTES = """
times: how often as fast, with the middle 95% of resampled medians. expanded: over the network
with expanded tails as the literature runs it. ceiling: share of the best convolution of the
model's width and precision. memory: peak above the loaded, idle process, and its ratio to
reference's (the expanded one's, where there are both). PSNR: change against reference; ~ is
estimated from the difference of the pictures."""


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
