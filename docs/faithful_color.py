"""The table on brightness and color, written from `benchmarks/results/faithful_color.json`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "evaluation.md"
STORED = ROOT / "benchmarks" / "results" / "faithful_color.json"
BEGIN = "<!-- faithful color: made by `make docs` from benchmarks/results; do not edit -->"
END = "<!-- faithful color: end -->"
TITLES = (
    "model",
    "brightness shift, City100",
    "brightness shift, Set5",
    "flat gray, network",
    "flat colors, network",
    "flat, SR",
    "gray, SR",
)


def render(page: str, *, stored: Path = STORED) -> str:
    """Return `page` with the table between its two markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    models = json.loads(stored.read_text(encoding="utf-8"))["models"]
    lines = "\n".join([*map(_row, (TITLES, ["---"] * len(TITLES))), *_rows(models)])
    return f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}"


def _rows(models: list[dict[str, Any]]) -> Iterator[str]:
    for model in models:
        shifts = {folder.split("/")[0]: each for folder, each in model["brightness_shift"].items()}
        flat_gray, flat_colors = model["flat_gray"], model["flat_colors"]
        yield _row(
            (
                model["model"],
                *(_shift(shifts.get(folder)) for folder in ("city100", "benchmarks")),
                f"{flat_gray['network']:.1f}",
                f"{flat_colors['network']:.1f}",
                f"{max(flat_gray['sr'], flat_colors['sr'])}",
                f"{model['gray_difference']['largest']}",
            )
        )


def _shift(shift: dict[str, float] | None) -> str:
    return "" if shift is None else f"{shift['p50']:.1f} / {shift['p95']:.1f}"


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
