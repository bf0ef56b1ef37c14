"""The table of damaged files on the page of files, from `benchmarks/damaged_files.py`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "files.md"
STORED = ROOT / "benchmarks" / "results" / "damaged_files.json"
BEGIN = "<!-- damaged files: made by `make docs` from benchmarks/results; do not edit -->"
END = "<!-- damaged files: end -->"


def render(page: str, *, stored: Path = STORED) -> str:
    """Return `page` with the table between its two markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    text = "\n".join(_lines(json.loads(stored.read_text(encoding="utf-8"))))
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def _lines(values: dict[str, Any]) -> Iterator[str]:
    damages = list(next(iter(values["counts"].values())))
    yield f"| format | {' | '.join(damages)} |"
    yield "| --- " * (len(damages) + 1) + "|"
    for kind, counts in values["counts"].items():
        yield f"| {kind} | {' | '.join(_share(counts[damage]) for damage in damages)} |"
    versions = ", ".join(f"{name} {number}" for name, number in values["versions"].items())
    yield ""
    yield (
        f"{values['files']} files per cell, `benchmarks/results/damaged_files.json`, "
        f"{values['date']}; {versions}."
    )


def _share(counts: dict[str, int]) -> str:
    """Return the percentage of the files with wrong or no pixels that was noticed."""
    noticed = counts["refused"] + counts["told"]
    harmed = noticed + counts["wrong"]
    return "-" if not harmed else f"{100 * noticed / harmed:.0f}%"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
