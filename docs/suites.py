"""The list of the paper's tables and figures in `suites.md`, and the tables of stored suites."""

import json
from collections.abc import Iterator
from pathlib import Path

from d2csr.figures.catalog import ITEMS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "suites.md"
STORED = ROOT / "benchmarks" / "results"
BEGIN = "<!-- suites: made by `make docs`; do not edit -->"
END = "<!-- suites: end -->"
_COLUMNS = (
    "pairs", "protocol", "system", "seeds", "parameters", "PSNR dB (95%)", "SSIM",
    "difference, dB",
)  # fmt: skip
_RULES = {
    "gain": "SR is nearest to HR, compared with bicubic",
    "variance": "predictions differ most",
    "difference": "the first two systems differ most",
    "loss": "real and bicubic LR differ most",
}


def render(page: str, *, stored: Path = STORED) -> str:
    """Return the page with the list, and a table per stored suite, between its two markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    lines = "\n".join([*_items(), *_suites(stored)])
    return f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}"


def _items() -> Iterator[str]:
    """Yield the list of what `d2csr paper` makes."""
    yield "| item | shows | suite that it trains | crops where |"
    yield "| --- | --- | --- | --- |"
    for item in ITEMS:
        suite = f"`{item.suite}.yaml`" if item.suite else "none"
        is_drawn = item.kind not in {"benchmarks", "suite", "size"}
        rule = _RULES[item.rule] if is_drawn else ""
        yield f"| `{item.name}` | {item.caption} | {suite} | {rule} |"


def _suites(stored: Path) -> Iterator[str]:
    """Yield the tables of suites whose rows are stored as `suite-NAME.json`."""
    for path in sorted(stored.glob("suite-*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))
        yield from ("", f"### {path.stem.removeprefix('suite-')}", "")
        yield f"| {' | '.join(_COLUMNS)} |"
        yield f"|{' --- |' * len(_COLUMNS)}"
        for row in rows:
            low, high = row["psnr_db_interval95"]
            cells = (
                f"{row['data']}, {row['test']}",
                row["protocol"],
                row["system"],
                str(row["seeds"] or ""),
                "" if row["parameters"] is None else f"{row['parameters']:,}",
                f"{row['psnr_db']:.2f} ({low:.2f} to {high:.2f})",
                f"{row['ssim']:.4f}",
                _difference(row),
            )
            yield f"| {' | '.join(cells)} |"


def _difference(row: dict) -> str:
    if row["difference_db"] is None:
        return ""
    low, high = row["difference_db_interval95"]
    return f"{row['difference_db']:+.2f} ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
