"""The tables on the divergence page, written from the results of `benchmarks/divergence.py`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "divergence.md"
STORED = ROOT / "benchmarks" / "results"
END = "<!-- divergence: end -->"
SCALES = (3, 4)


def render(page: str, *, stored: Path = STORED, images: Path = PAGE.parent / "images") -> str:
    """Return `page` with the results of every scale between its two markers."""
    for scale in SCALES:
        before, rest = page.split(begin(scale))
        _, after = rest.split(END, 1)
        path = stored / f"divergence-x{scale}.json"
        lines = ["Not measured yet."]
        if path.is_file():
            chart = images / f"divergence-x{scale}.webp"
            values = json.loads(path.read_text(encoding="utf-8"))
            lines = list(_section(values, chart=chart if chart.is_file() else None))
        text = "\n".join(lines)
        page = f"{before}{begin(scale)}\n\n{text}\n\n{END}{after}"
    return page


def begin(scale: int) -> str:
    """Return the marker before a scale's results."""
    return f"<!-- divergence x{scale}: made by `make docs` from benchmarks/results; do not edit -->"


def _section(values: dict[str, Any], *, chart: Path | None) -> Iterator[str]:
    """Yield both tables, the origin of their numbers, and the chart."""
    rows, (first, *_) = list(values["rows"].values()), values["rows"].values()
    sets = " and ".join(values["tests"])
    yield f"Trained on `{values['train']}`, tested on {sets}, by protocol `{values['protocol']}`."
    yield from (
        "",
        f"| variant | seeds | PSNR dB (by seed) | minus {first['title']} (95%) | oracle |",
    )
    yield "| --- | --- | --- | --- | --- |"
    yield from (_row(_scores(row)) for row in rows)
    yield from (
        "",
        "| variant | disagreement, levels | its rank correlation | that of the gradient |",
    )
    yield "| --- | --- | --- | --- |"
    yield from (_row(_spread(row)) for row in rows)
    side = values["timed_lr_px"]
    yield from ("", f"| variant | network | parameters | {side}x{side} px, ms | training, PFLOP |")
    yield "| --- | --- | --- | --- | --- |"
    yield from (_row(_effort(row)) for row in rows)
    machine = values["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    file = f"`benchmarks/results/divergence-x{values['scale']}.json`"
    yield from ("", f"{file}: {machine['processor']}, one thread, {values['date']}; {versions}.")
    if chart is not None:
        yield from ("", f"![Predictions of every variant]({chart.parent.name}/{chart.name})")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _scores(row: dict[str, Any]) -> list[str]:
    difference = ""
    if row["difference"] is not None:
        low, high = row["difference"]["interval95"]
        difference = f"{row['difference']['diff_psnr_db']:+.3f} ({low:+.3f} to {high:+.3f})"
    by_seed = f"{row['least_psnr_db']:.3f} to {row['most_psnr_db']:.3f}"
    return [
        row["title"],
        str(len(row["images"])),
        f"{row['psnr_db']:.3f} ({by_seed})",
        difference,
        _number(row["oracle_gain_db"], "+.2f"),
    ]


def _spread(row: dict[str, Any]) -> list[str]:
    return [
        row["title"],
        _number(row["disagreement_levels"], ".2f"),
        _number(row["disagreement_spearman"], ".3f"),
        _number(row["gradient_spearman"], ".3f"),
    ]


def _effort(row: dict[str, Any]) -> list[str]:
    model, count = row["model"], row["networks"]
    leaves = model["children"] ** model["depth"]
    noun = "leaf" if leaves == 1 else "leaves"
    network = f"{count} times " if count > 1 else ""
    network += f"{model['channels']} channels, {leaves} {noun}, G {model['groups']}, "
    network += f"B {model['blocks']}"
    if model["trunk_groups"]:
        network += f", {model['trunk_groups']} shared groups"
    low, high = row["time_ratio_interval95"]
    time = f"{row['time_ms']:.0f} ({row['time_ratio']:.3f}, {low:.3f} to {high:.3f})"
    return [row["title"], network, f"{row['parameters']:,}", time, f"{row['training_pflop']:.2f}"]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
