"""Commands `suite run`, `suite table` and `suite figure`: many trainings compared from one file."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from d2csr.core.console import print_line, print_note


def run(
    suite: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    workers: Annotated[int | None, Parameter(name=("--workers", "-w"))] = None,
    executor: Literal["processes", "ray"] = "processes",
) -> int:
    """Train and score every system of a suite with every seed on every data set.

    Repeat the command after an interruption: trials that are done are kept, and one that was going
    on continues from its last checkpoint. A trial that fails doesn't stop the others; the exit code
    is then 1.

    Args:
        suite: A YAML file; experiments/suites/table3.yaml is an example.
        out: Folder of the suite. With Ray, on storage that all machines see under the same path.
        workers: Trials at the same time, each in a process of its own; by default one, or with Ray
            one per machine.
        executor: Where trials run: processes of this machine, or a Ray cluster (RAY_ADDRESS).
    """
    from d2csr.suites.run import run_suite  # imports PyTorch

    check_workers(workers)
    summary = run_suite(suite, out, workers=workers, executor=executor)
    for line in summary.failures:
        print_note(f"failed: {line}")
    print_line(f"{out}: {summary.done} trials done, {len(summary.failures)} failures")
    return summary.exit_code


def check_workers(workers: int | None) -> None:
    """Check the number of trials at the same time.

    Raises:
        UsageError: it is below 1.
    """
    from d2csr.core.errors import UsageError

    if workers is not None and workers < 1:
        raise UsageError("--workers", f"{workers} runs nothing", "Give 1 or more.")


def table(
    folder: Path,
    /,
    *,
    format: Literal["markdown", "csv", "json"] = "markdown",  # noqa: A002 - the option's name
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
) -> int:
    """Print the scores of a suite: intervals, differences to its reference, size, time and memory.

    Args:
        folder: The --out of `suite run`; trials that aren't done yet are left out.
        format: Tables for reading, or all fields for programs.
        output: File for the table instead of standard output.
    """
    from d2csr.core.files import check_writable, write_atomically
    from d2csr.suites.config import read_suite
    from d2csr.suites.tables import format_rows, suite_rows

    suite = read_suite(folder)
    text = format_rows(suite_rows(folder, suite=suite), format, suite=suite)
    if output is None:
        print_line(*text.rstrip("\n").split("\n"))
    else:
        check_writable(output, folder=False)
        write_atomically(output, text.encode())
    return 0


def figure(
    folder: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
) -> int:
    """Draw the PSNR of a suite's systems against their parameters, with intervals, as PNG.

    Args:
        folder: The --out of `suite run`.
        output: File for the chart.
    """
    from d2csr.core.files import check_writable
    from d2csr.suites.config import read_suite
    from d2csr.suites.tables import draw_suite, suite_rows

    check_writable(output, folder=False)
    suite = read_suite(folder)
    draw_suite(suite_rows(folder, suite=suite), output, suite=suite)
    print_line(output)
    return 0
