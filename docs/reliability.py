"""The tables of the page of reliability, from what benchmarks stored.

Every `benchmarks/results/reliability-NAME.json` is a section of the page:

    {"title": "Interrupted runs",
     "command": "python benchmarks/reliability.py",
     "machine": "a processor, 2 cores",
     "lines": {
       "kill train": {
         "tried": "`train` killed at a random moment, then `--resume`",
         "expected": "the weights of the uninterrupted run, bit for bit",
         "times": 25, "held": 24,
         "exceptions": ["1 of 25: killed before the first checkpoint, `--resume` found no run"],
         "seconds": 130.2, "date": "2026-11-28"}}}

A line that held less often than it was tried must have exceptions. Results of older benchmarks that
are stored in forms of their own make up the last section.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
STORED = ROOT / "benchmarks" / "results"
BEGIN = "<!-- reliability: made by `make docs` from benchmarks/results; do not edit -->"
END = "<!-- reliability: end -->"


class Line(NamedTuple):
    """A row of a table."""

    tried: str
    expected: str
    times: int
    held: int
    exceptions: tuple[str, ...] = ()


class Section(NamedTuple):
    """A table with its heading, and a sentence of where it comes from."""

    title: str
    lines: tuple[Line, ...]
    source: str


def render(page: str, *, stored: Path = STORED) -> str:
    """Return `page` with the tables between its two markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    text = "\n".join(line for each in sections(stored) for line in _section(each))
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def sections(stored: Path) -> list[Section]:
    """Return the sections that have results, in the order of the files' names.

    Raises:
        ValueError: a line held less often than it was tried, and names no exception.
    """
    found = [_read_section(path) for path in sorted(stored.glob("reliability-*.json"))]
    found.append(Section("Damaged files, kills of `upscale`, changed code", _others(stored), ""))
    found = [each for each in found if each.lines]
    for line in (line for each in found for line in each.lines):
        if not 0 <= line.held <= line.times or (line.held < line.times) != bool(line.exceptions):
            raise ValueError(f"{line.tried}: {line.held} of {line.times} with {line.exceptions}")
    return found


def _read_section(path: Path) -> Section:
    values = json.loads(path.read_text(encoding="utf-8"))
    lines = tuple(
        Line(each["tried"], each["expected"], each["times"], each["held"], (*each["exceptions"],))
        for each in values["lines"].values()
    )
    dates = sorted({each["date"] for each in values["lines"].values()})
    source = f"`{values['command']}`, `benchmarks/results/{path.name}`, {values['machine']}"
    return Section(
        values["title"], lines, f"{source}, {' to '.join(sorted({dates[0], dates[-1]}))}."
    )


def _section(section: Section) -> Iterator[str]:
    """Yield the lines of a section."""
    yield from (f"## {section.title}", "")
    yield "| what was tried | what must hold | times | held |"
    yield "| --- | --- | --- | --- |"
    for line in section.lines:
        share = f"{100 * line.held / line.times:.0f}%" if line.held < line.times else "all"
        cells = (line.tried, line.expected, f"{line.times:,}", f"{line.held:,} ({share})")
        yield f"| {' | '.join(cells)} |"
    yield ""
    exceptions = [(line.tried, each) for line in section.lines for each in line.exceptions]
    if exceptions:
        yield from ("Exceptions:", "")
        yield from (f"- {tried}: {each}" for tried, each in exceptions)
        yield ""
    if section.source:
        yield from (section.source, "")


def _others(stored: Path) -> tuple[Line, ...]:
    """Return the lines of results in forms of their own."""
    kills = sorted(stored.glob("kill_runs-*.json"))
    named = [
        (name, stored / f"{name}.json") for name in ("damaged_files", "fuzz_files", "mutation")
    ]
    found = [("kill_runs", kills[-1])] if kills else []
    found += [(name, path) for name, path in named if path.is_file()]
    return tuple(
        line
        for name, path in found
        for line in _READERS[name](json.loads(path.read_text(encoding="utf-8")))
    )


def _kill_runs(values: dict[str, Any]) -> Iterator[Line]:
    wrong = {name: values[name] for name in ("half_written", "wrong_after_resume")}
    held = max(0, values["kills"] - sum(wrong.values()))
    exceptions = tuple(
        f"{count} {name}".replace("_", " ") for name, count in wrong.items() if count
    )
    tried = "`upscale` of a folder killed at a random moment, then `--resume`"
    expected = "every file that exists is complete, and at the end all are right"
    yield Line(tried, f"{expected} (`benchmarks/kill_runs.py`)", values["kills"], held, exceptions)


def _damaged_files(values: dict[str, Any]) -> Iterator[Line]:
    """Yield a line for each kind of damage, over all formats."""
    counts = values["counts"]
    for damage in next(iter(counts.values())):
        cells = {kind: each[damage] for kind, each in counts.items()}
        noticed = sum(each["refused"] + each["told"] for each in cells.values())
        wrong = {kind: each["wrong"] for kind, each in cells.items() if each["wrong"]}
        names = ", ".join(f"{kind} {count}" for kind, count in wrong.items())
        yield Line(
            f"image files damaged: {damage}",
            "refused or warned of, if a pixel is wrong (`benchmarks/damaged_files.py`)",
            noticed + sum(wrong.values()),
            noticed,
            (f"read with wrong pixels and no warning: {names} ([table](files.md))",)
            if wrong
            else (),
        )


def _fuzz_files(values: dict[str, Any]) -> Iterator[Line]:
    kinds = ("crashes", "hangs", "half_written", "read_but_not_written")
    wrong = {name: len(values[name]) for name in kinds}
    yield Line(
        f"image files of {len(values['kinds'])} kinds mutated at random",
        "pixels or one line of error, no crash, nothing half written (`benchmarks/fuzz_files.py`)",
        values["files"],
        values["files"] - sum(wrong.values()),
        tuple(f"{count} {name}".replace("_", " ") for name, count in wrong.items() if count),
    )


def _mutation(values: dict[str, Any]) -> Iterator[Line]:
    tried, noticed = (sum(each[key] for each in values.values()) for key in ("tried", "noticed"))
    left = tried - noticed
    reason = "some give an equivalent program; `benchmarks/results/mutation.json` lists them"
    yield Line(
        f"one operator, number or sign changed in one of {len(values)} modules",
        "a test fails (`benchmarks/mutation.py`)",
        tried,
        noticed,
        (f"{left} changes that no test noticed: {reason}",) if left else (),
    )


_READERS = {
    "kill_runs": _kill_runs,
    "damaged_files": _damaged_files,
    "fuzz_files": _fuzz_files,
    "mutation": _mutation,
}


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
