"""A run of a suite: its trials in processes of this machine or on a Ray cluster, resumable."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, final

from rich.progress import Progress, TextColumn

from d2csr.core.console import print_note, progress_display
from d2csr.core.errors import D2csrError
from d2csr.core.files import write_atomically
from d2csr.core.parallel import MAX_ATTEMPTS, ActorPool, ray_session, require_packages
from d2csr.core.results import write_results
from d2csr.suites.config import SUITE_NAME, SuiteConfig, read_suite
from d2csr.suites.costs import measure_costs
from d2csr.suites.plan import check_suite, plan_rate_trials, plan_trials
from d2csr.suites.records import (
    RUN_NAME,
    Trial,
    collect_results,
    final_records,
    is_done,
    read_record,
)
from d2csr.suites.trial import run_trial
from d2csr.training.monitor import LOG_NAME

ExecutorName = Literal["processes", "ray"]
_LOG_NAME = "output.log"  # in a trial's folder: what it printed
_POLL_S = 2.0
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class TrialOutcome:
    """The end of a trial: without an error, it is done."""

    trial: Trial
    error: str | None = None


@dataclass(frozen=True)
class SuiteSummary:
    """The end of a run of a suite.

    Attributes:
        done: number of trials that are done.
        failures: a line for each that isn't, and for each time that couldn't be measured.
    """

    done: int
    failures: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """Return 0 if everything is done, else 1."""
        return 1 if self.failures else 0


def run_suite(
    file: Path, out: Path, *, workers: int | None = None, executor: ExecutorName = "processes"
) -> SuiteSummary:
    """Train and score every trial of a suite that isn't done yet.

    Trials that are done are kept; one that was interrupted continues from its last checkpoint. The
    scores of each set of test pairs are written as `results/DATA-TEST.json`, in the schema of
    `evaluate`.

    Args:
        file: the suite file.
        out: folder of the suite; for Ray, on storage that all machines have under the same path.
        workers: trials at the same time; None: one, or with Ray one per machine.
        executor: `processes` of this machine, or the workers of a `ray` cluster.

    Raises:
        D2csrError: an error in the suite, found before any training.
    """
    if executor == "ray":
        require_packages("ray")
    suite = read_suite(file)
    planned = check_suite(suite, file=file, out=out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / SUITE_NAME, file.read_bytes())
    attempts = plan_rate_trials(suite, file=file, out=out)
    groups = _groups(suite, one_at_a_time=executor == "processes" and (workers or 1) == 1)
    failures: list[str] = []
    follower = _Follower([*attempts, *planned])
    with follower, ray_session() if executor == "ray" else nullcontext():
        for systems in groups:
            tried = [trial for trial in attempts if trial.system in systems]
            for outcome in _execute(tried, executor, workers=workers, follower=follower):
                failures += follower.report(outcome)
            trials, without_rate = plan_trials(suite, systems, file=file, out=out)
            failures += without_rate
            for outcome in _execute(trials, executor, workers=workers, follower=follower):
                failures += follower.report(outcome)
    failures += measure_costs(suite, out)
    write_suite_results(suite, out)
    return SuiteSummary(sum(read_record(each.folder) is not None for each in planned), failures)


def _groups(suite: SuiteConfig, *, one_at_a_time: bool) -> list[tuple[str, ...]]:
    """Return the systems whose rates are tried, and then trained with, together.

    One trial at a time, each is a group, so that the first rows of a table are there early.
    """
    return [(name,) for name in suite.systems] if one_at_a_time else [tuple(suite.systems)]


def write_suite_results(suite: SuiteConfig, out: Path) -> list[Path]:
    """Write the scores of the trials that are done, a file per set of test pairs; return them."""
    written = []
    for data, pairs in suite.data.items():
        if any(final_records(out, suite, data=data).values()):
            for test in pairs.test:
                path = out / "results" / f"{data}-{test}.json"
                path.parent.mkdir(exist_ok=True)
                write_results(collect_results(out, suite, data=data, test=test), path)
                written.append(path)
    return written


def _execute(
    trials: Sequence[Trial],
    executor: ExecutorName,
    *,
    workers: int | None,
    follower: "_Follower",
) -> Iterator[TrialOutcome]:
    """Yield the outcome of each trial that isn't done yet, in the order in which they end."""
    waiting = [trial for trial in trials if not is_done(trial)]
    if not waiting:
        return
    if executor == "ray":
        pool = ActorPool[Trial, TrialOutcome](_RayWorker, _lost_on_workers)
        yield from pool.map_unordered(waiting, workers=workers)
    else:
        yield from _in_processes(waiting, workers=workers or 1, tick=follower.tick)


def _in_processes(
    trials: Sequence[Trial], *, workers: int, tick: Callable[[], None]
) -> Iterator[TrialOutcome]:
    """Yield the outcomes of trials that each run in a new process.

    At an exception here, such as an interrupt, the processes are asked to save their runs and end.
    """
    inputs: list[IO[bytes]] = []
    is_stopping = threading.Event()

    def start(trial: Trial) -> TrialOutcome:
        return _run_in_process(trial, inputs) if not is_stopping.is_set() else TrialOutcome(trial)

    with ThreadPoolExecutor(workers) as pool:
        waiting: set[Future[TrialOutcome]] = {pool.submit(start, trial) for trial in trials}
        try:
            while waiting:
                ended, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                tick()
                yield from (each.result() for each in ended)
        finally:
            is_stopping.set()
            for pipe in inputs:
                pipe.close()


def _run_in_process(trial: Trial, inputs: list[IO[bytes]]) -> TrialOutcome:
    """Run a trial in a process that stops, with its run saved, when its input is closed."""
    trial.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "d2csr.suites.trial"]
    with (trial.folder / _LOG_NAME).open("ab") as log:
        process = subprocess.Popen(  # in a session of its own: Ctrl+C reaches it by its input
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
        if process.stdin is None:
            raise RuntimeError("the trial has no standard input")
        process.stdin.write(trial.model_dump_json().encode() + b"\n")
        process.stdin.flush()
        inputs.append(process.stdin)
        status = process.wait()
    if status == 0 and is_done(trial):
        return TrialOutcome(trial)
    return TrialOutcome(trial, _last_error(trial.folder / _LOG_NAME, status))


def _last_error(log: Path, status: int) -> str:
    """Return the last error that a trial printed, or else its exit status."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    ending = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return errors[-1] if errors and status > 0 else f"{ending}; its output is in {log}"


@final
class _RayWorker:
    """Runs one trial after the other."""

    def run(self, trial: Trial) -> TrialOutcome:
        """Run a trial; its files are on storage that all workers share."""
        try:
            is_finished = run_trial(trial)
        except D2csrError as error:
            return TrialOutcome(trial, str(error))
        return TrialOutcome(trial, None if is_finished else "stopped by a signal")


def _lost_on_workers(trial: Trial) -> TrialOutcome:
    return TrialOutcome(trial, f"ended {MAX_ATTEMPTS} workers, most often for lack of memory")


@final
class _Follower:
    """Progress of a suite in steps of training: a bar, and a line for each trial that ended."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        """Count the steps that were taken before."""
        self._trials = trials
        self._total = sum(trial.steps for trial in trials)
        self._begun, self._started = self._steps(), time.monotonic()
        self._ended = sum(map(is_done, trials))
        self._progress: Progress = progress_display(TextColumn("{task.completed}/{task.total}"))
        self._bar = self._progress.add_task("steps", total=self._total, completed=self._begun)

    def __enter__(self) -> "_Follower":
        """Show the bar."""
        if self._ended:
            print_note(f"{self._ended} of {len(self._trials)} trials are done already")
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self._progress.stop()

    def tick(self) -> None:
        """Show the steps taken so far."""
        self._progress.update(self._bar, completed=self._steps())

    def report(self, outcome: TrialOutcome) -> list[str]:
        """Print a trial's end, with the time left; return its failure, if it is one."""
        self._ended += 1
        self.tick()
        place = f"[{self._ended}/{len(self._trials)}] {outcome.trial.label}"
        if outcome.error is not None:
            print_note(f"{place}: failed")
            return [f"{outcome.trial.label}: {outcome.error}"]
        print_note(f"{place}: done{self._time_left()}")
        return []

    def _time_left(self) -> str:
        """Return the time that the steps left take at the pace so far, in words."""
        steps = self._steps()
        taken, left = steps - self._begun, self._total - steps
        if taken <= 0 or left <= 0:
            return ""
        minutes = (time.monotonic() - self._started) / taken * left / 60
        return (
            f", about {minutes:.0f} min left"
            if minutes < 120
            else f", about {minutes / 60:.0f} h left"
        )

    def _steps(self) -> int:
        """Return the steps that the logs of all trials have."""
        return sum(
            trial.steps if is_done(trial) else min(trial.steps, _steps_in_log(trial))
            for trial in self._trials
        )


def _steps_in_log(trial: Trial) -> int:
    """Return the last step in the log of a trial's training; 0 without one."""
    log = trial.folder / RUN_NAME / LOG_NAME
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            *_, last = [line for line in file.read().splitlines() if line.startswith(b"{")]
        return int(json.loads(last)["step"])
    except (OSError, ValueError, KeyError):  # none yet, or a line that is being written
        return 0
