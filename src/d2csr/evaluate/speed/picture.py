"""Speed as a picture: how many times as fast as reference, and the share of the ceiling."""

from importlib.util import find_spec
from pathlib import Path

from d2csr.core.errors import UsageError
from d2csr.core.files import atomic_path
from d2csr.evaluate.speed.results import BackendResult, SpeedResults
from d2csr.evaluate.speed.table import name_of

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
    """Draw a bar a model and backend, with its interval, and write the picture as PNG."""
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
