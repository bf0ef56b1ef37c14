"""One trial in a process of its own: trained, scored and recorded; the parent's end stops it."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import yaml

from d2csr.core.console import print_error
from d2csr.core.errors import D2csrError, TrainingError, UsageError
from d2csr.core.files import write_atomically
from d2csr.core.results import write_results
from d2csr.evaluation.checks import EvaluationOptions
from d2csr.evaluation.evaluate import evaluate
from d2csr.suites.records import RUN_NAME, Trial, TrialRecord, is_done, write_record
from d2csr.training.monitor import read_runs
from d2csr.training.preflight import lock_run
from d2csr.training.recipe import RECIPE_NAME, expand_path
from d2csr.training.train import train

_WAIT_S = 60.0
STOPPED = 75  # exit status of a trial that a signal stopped: its run is saved


def run_trial(trial: Trial) -> bool:
    """Train, score and record a trial, continuing what an earlier call left.

    Returns:
        Whether it is done: False if a signal stopped its training, which is saved.

    Raises:
        D2csrError: its data or models have errors, or training diverged while not trying a rate.
    """
    if is_done(trial):
        return True
    trial.folder.mkdir(parents=True, exist_ok=True)
    run, model, diverged = trial.folder / RUN_NAME, trial.trained, None
    if trial.recipe is not None:
        try:
            bundle = _train(trial, run)
        except TrainingError as error:
            if trial.rate is None:
                raise
            diverged = error.problem
        else:
            if bundle is None:
                return False
            model = str(bundle)
    for test, path in trial.tests.items():
        _score(trial, model, test=test, path=expand_path(path))
    write_record(_record(trial, diverged=diverged))
    return True


def _record(trial: Trial, *, diverged: str | None) -> TrialRecord:
    """Return the record of a trial, with the best validation and the time that its log has."""
    if trial.recipe is None:
        return TrialRecord(trial=trial)
    *_, run = read_runs(trial.folder / RUN_NAME)
    best_db = None if diverged else max((psnr_db for _, psnr_db in run.curve), default=None)
    return TrialRecord(
        trial=trial, val_psnr_db=best_db, diverged=diverged, minutes=round(run.seconds / 60, 2)
    )


def _train(trial: Trial, run: Path) -> Path | None:
    """Train by the trial's recipe from its last checkpoint on; return the bundle's folder."""
    recipe = trial.folder / RECIPE_NAME
    text = yaml.safe_dump(trial.recipe, sort_keys=False)
    write_atomically(recipe, text.encode())
    if run.exists():
        _wait_until_free(run)
    return train(recipe, output=run, resume=run.exists())


def _wait_until_free(run: Path) -> None:
    """Wait for the process of a suite that was killed, which saves the run before it ends.

    Raises:
        UsageError: another process still trains in the folder after a minute.
    """
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            with lock_run(run):
                return
        except UsageError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def _score(trial: Trial, model: str | None, *, test: str, path: Path) -> None:
    """Score the trial's model on test pairs and write the results, as `evaluate` does."""
    options = EvaluationOptions(split=trial.split, skip_registration=trial.skip_registration)
    names = [] if model is None else [model]
    results = evaluate(names, path, protocols=trial.protocols, scale=trial.scale, options=options)
    write_results(results, trial.results_path(test))


def _stop_with_parent() -> None:
    """Ask this process to stop, and to save its run, once standard input is closed."""
    while os.read(0, 1):  # not sys.stdin, whose lock this thread would hold at the end
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Run the trial in the first line of standard input; return the exit status."""
    trial = Trial.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        return 0 if run_trial(trial) else STOPPED
    except D2csrError as error:
        print_error(error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
