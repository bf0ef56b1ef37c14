"""A suite goes on where a kill ended it; one failed trial doesn't stop the others."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from d2csr.checkpoint.io import last_checkpoint, read_state
from d2csr.core.errors import UsageError
from d2csr.suites.records import read_record
from d2csr.suites.run import run_suite
from d2csr.suites.tables import suite_rows
from tests.suites.conftest import write_suite

STEPS = 100_000  # more than a test waits for


@pytest.fixture(autouse=True)
def _cache_in_tmp(tmp_path, monkeypatch):
    monkeypatch.setenv("D2CSR_CACHE", str(tmp_path / "cache"))


def long_suite(tmp_path, steps):
    stages = [{"kind": "divergence", "steps": steps, "learning_rate": 1e-3}]
    recipe = json.loads(json.dumps(write_recipe_changes(tmp_path)))
    recipe |= {"stages": stages, "intervals": {"log": 1, "save": 5, "validation": STEPS}}
    return write_suite(tmp_path, systems={"d2c": {"recipe": recipe}}, seeds=[1])


def write_recipe_changes(tmp_path):
    return {"loss": {"alpha": {"alpha": 0.0}}}


def test_a_killed_suite_loses_at_most_the_steps_since_the_last_checkpoint(tmp_path):
    file, out = long_suite(tmp_path, STEPS), tmp_path / "out"
    run = out / "trials/made/d2c/seed-1/run"
    command = [sys.executable, "-m", "d2csr", "suite", "run", str(file), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while last_checkpoint(run) is None:
        assert process.poll() is None
        time.sleep(0.05)
    before = read_state(last_checkpoint(run))["step"]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60  # the trial sees that its parent is gone, saves and ends
    while (left := read_state(last_checkpoint(run))["step"]) == before or left % 5 == 0:
        if _is_free(run):
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    kept = read_state(last_checkpoint(run))["step"]
    assert kept >= before > 0
    # The same training, shorter: what is left of it is little, and it goes on at that step.
    file = long_suite(tmp_path, kept + 5)
    summary = run_suite(file, out)
    assert (summary.done, summary.failures) == (1, [])
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert f"resuming at step {kept}" in (run.parent / "output.log").read_text()
    assert log[-1]["step"] == kept + 5
    stamp = (run.parent / "trial.json").stat().st_mtime_ns
    assert run_suite(file, out).exit_code == 0
    assert (run.parent / "trial.json").stat().st_mtime_ns == stamp  # nothing was done again


def _is_free(run):
    from d2csr.training.preflight import lock_run

    try:
        with lock_run(run):
            return True
    except UsageError:
        return False


def test_a_failed_trial_is_one_line_and_the_others_are_done(tmp_path):
    broken = {"recipe": {"initial_weights": str(tmp_path / "gone"), "model": {"channels": 4}}}
    file = write_suite(
        tmp_path, systems={"broken": broken, "kernel": {"trained": "lanczos"}}, seeds=[1]
    )
    summary = run_suite(file, tmp_path / "out")
    assert summary.exit_code == 1
    (line,) = summary.failures
    assert line.startswith("broken on made, seed 1: ")
    assert "gone" in line
    assert "\n" not in line
    assert {row.system for row in suite_rows(tmp_path / "out")} == {"bicubic", "kernel"}


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (extra `cluster`)")
def test_ray_workers_run_the_trials_on_shared_storage(tmp_path):
    file = write_suite(tmp_path, seeds=[1])
    summary = run_suite(file, tmp_path / "out", workers=1, executor="ray")
    assert (summary.done, summary.failures) == (2, [])
    assert read_record(tmp_path / "out/trials/made/d2c/seed-1").val_psnr_db > 0
