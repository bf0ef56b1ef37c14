"""Do commands survive what happens to them while they run?

    python benchmarks/reliability.py                     # every case
    python benchmarks/reliability.py kill-train --times 25

Each case does something to a command, in processes of their own, so many times, and each time
yields what went wrong, or nothing. The counts go to `results/reliability-runtime.json`, in the form
that `docs/reliability.py` describes; a case that runs again replaces its line.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from reliability_cases.files import changing_files, many_files, memory_options, wide_image
from reliability_cases.kills import interrupts, kills
from reliability_cases.memory_limits import memory_limits
from reliability_cases.processes import children, one_folder, ray_workers, together

from d2csr.core.files import write_atomically
from d2csr.core.hardware import cpu_name

RESULTS = Path(__file__).parent / "results" / "reliability-runtime.json"
EXAMPLE = Path(__file__).parent.parent / "examples" / "city100_nikon_001_lr3.png"


@dataclass(frozen=True)
class Case:
    """Something that is done to commands.

    Attributes:
        tried: what is done, for the table.
        expected: what must hold each time.
        run: takes an empty folder and a number; yields so many texts: what went wrong, or "".
        times: how often, by default.
    """

    tried: str
    expected: str
    run: Callable[[Path, int], Iterator[str]]
    times: int = 25


_RIGHT = "no file half written; started again, every file as that of an uninterrupted run"


CASES: Mapping[str, Case] = {
    "kill-train": Case(
        "`train` killed (-9) at a random moment, then resumed",
        "the bundle is whole or absent, and at the end that of the uninterrupted run, bit for bit",
        kills("train"),
    ),
    "kill-align": Case("`align` killed at a random moment, then run again", _RIGHT, kills("align")),
    "kill-simulate": Case(
        "`simulate` killed at a random moment, then run again", _RIGHT, kills("simulate")
    ),
    "kill-import": Case(
        "`data import` killed at a random moment, then run again", _RIGHT, kills("data import")
    ),
    "kill-export": Case(
        "`export` killed at a random moment, then run again", _RIGHT, kills("export")
    ),
    "interrupts": Case(
        "`upscale`, `train`, `align` and `simulate` sent SIGTERM or SIGINT, twice",
        "it ends, without a traceback, and no file is half written",
        interrupts,
        16,
    ),
    **{
        f"memory-{name}": Case(
            f"`{name}` with an address space of 150 MB to 2.5 GB (`ulimit -v`)",
            "the right files, or one line that says memory and nothing half written",
            memory_limits(name),
            times,
        )
        for name, times in {"upscale": 24, "align": 12, "simulate": 12, "export": 12}.items()
    },
    "together": Case(
        "processes that start at once and share an empty cache",
        "each gives the same right files",
        together,
        20,
    ),
    "one-folder": Case(
        "two runs at once into one folder",
        "all files right, and a later `--resume` has nothing to do",
        one_folder,
        10,
    ),
    "changing-files": Case(
        "`upscale` of a folder in which files are cut, emptied, removed, replaced and extended",
        "no crash (SIGBUS); each result is that of the old file or of the new one",
        changing_files,
    ),
    "children": Case(
        "a child of a process that has used a model: spawn, forkserver, fork",
        "the same pixels as in the parent",
        children,
        9,
    ),
    "many-files": Case(
        "small files in one run of `upscale`",
        "each result right; memory and open files as at the beginning",
        many_files,
        5000,
    ),
    "wide-image": Case(
        "an image of 40,000 x 3,000 px with `--memory 1500MB`",
        "the pixels of its parts",
        wide_image,
        1,
    ),
    "memory-options": Case(
        "a shipped model on a photograph with `--memory 300MB` and `--memory 4GiB`",
        "the same bytes",
        memory_options("photo-x2", EXAMPLE),
        1,
    ),
    "ray": Case(
        "`--executor ray` with one of two workers killed, or with storage that can't be reached",
        "the files of a run in one process; one line of error",
        ray_workers,
        4,
    ),
}


def main() -> None:
    """Run cases and store their counts; exit with an error if one didn't hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("cases", nargs="*", help=f"among {', '.join(CASES)}; default: all")
    parser.add_argument("--times", type=int)
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; choose from {', '.join(CASES)}")
    lines = {name: count(CASES[name], arguments.times) for name in arguments.cases or CASES}
    for name, line in lines.items():
        store(name, line)
    if any(line["held"] < line["times"] for line in lines.values()):
        sys.exit("some did not hold")


def count(case: Case, times: int | None = None) -> dict[str, Any]:
    """Return the line of a case for the page, after running it."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        verdicts = list(case.run(Path(folder), times or case.times))
    wrong = Counter(verdict for verdict in verdicts if verdict)
    return {
        "tried": case.tried,
        "expected": case.expected,
        "times": len(verdicts),
        "held": len(verdicts) - sum(wrong.values()),
        "exceptions": [f"{number} of {len(verdicts)}: {each}" for each, number in wrong.items()],
        "seconds": round(time.monotonic() - started, 1),
        "date": date.today().isoformat(),
    }


def store(name: str, line: Mapping[str, Any], *, path: Path = RESULTS) -> None:
    """Put the line of a case into the results, in the order of the table."""
    print(json.dumps({name: line}, indent=1), flush=True)
    lines = json.loads(path.read_text(encoding="utf-8"))["lines"] if path.is_file() else {}
    lines[name] = line
    values = {
        "title": "While a command runs",
        "command": "python benchmarks/reliability.py",
        "machine": f"{cpu_name()}, {os.cpu_count()} cores",
        "lines": {each: lines[each] for each in CASES if each in lines},
    }
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
