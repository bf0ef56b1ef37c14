"""The table on the page of networks, written from the results of `benchmarks/pareto.py`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "networks.md"
STORED = ROOT / "benchmarks" / "results" / "pareto.json"
BEGIN = "<!-- networks: made by `make docs` from benchmarks/results; do not edit -->"
END = "<!-- networks: end -->"


def render(page: str, *, stored: Path = STORED) -> str:
    """Return `page` with the table between its two markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    lines = ["Not measured yet."]
    if stored.is_file():
        lines = list(_lines(json.loads(stored.read_text(encoding="utf-8"))))
    text = "\n".join(lines)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def _lines(values: dict[str, Any]) -> Iterator[str]:
    rows = values["rows"]
    kinds = list(rows[0]["psnr_db_by_kind"])
    heads = ("network", "parameters", "ms per LR MP", "steps", "PSNR dB", "minus the first (95%)")
    yield f"| {' | '.join([*heads, *kinds])} |"
    yield "| --- " * (len(heads) + len(kinds)) + "|"
    best = {_key(row) for row in _pareto(rows)}
    for row in sorted(rows, key=lambda row: row["ms_per_lr_mp"]):
        yield f"| {' | '.join(_cells(row, kinds, is_best=_key(row) in best))} |"
    machine = values["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    yield ""
    yield (
        f"Bold: no network is both faster and better. `benchmarks/results/pareto.json`: "
        f"{machine['processor']}, {machine['threads']} threads, {values['date']}; {versions}."
    )


def _cells(row: dict[str, Any], kinds: list[str], *, is_best: bool) -> list[str]:
    low, high = row["difference_interval95"]
    name = f"**{row['name']}**" if is_best else row["name"]
    return [
        name,
        f"{row['parameters']:,}",
        f"{row['ms_per_lr_mp']:,.0f}",
        f"{row['steps']:,}",
        f"{row['psnr_db']:.3f}",
        f"{row['difference_db']:+.3f} ({low:+.3f} to {high:+.3f})",
        *(f"{row['psnr_db_by_kind'][kind]:.2f}" for kind in kinds),
    ]


def _pareto(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the shortest training that no other one of them beats in both."""
    work = min(row["training_pflop"] for row in rows)
    equal = [row for row in rows if row["training_pflop"] < 1.01 * work]
    return [
        row
        for row in equal
        if not any(
            other["ms_per_lr_mp"] < row["ms_per_lr_mp"] and other["psnr_db"] > row["psnr_db"]
            for other in equal
        )
    ]


def _key(row: dict[str, Any]) -> tuple[str, int]:
    return row["name"], row["steps"]


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
