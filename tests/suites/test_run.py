"""A suite goes on where a kill ended it; one failed trial doesn't stop the others."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from d2csr.checkpoint.io import last_checkpoint, read_state
from d2csr.suites.records import read_record
from d2csr.suites.run import run_suite
from d2csr.suites.tables import suite_rows
from tests.suites.conftest import SAVE_EVERY, STEPS, long_suite, write_suite


@pytest.fixture(autouse=True)
def _cache_in_tmp(tmp_path, monkeypatch):
    monkeypatch.setenv("D2CSR_CACHE", str(tmp_path / "cache"))


def children(process):
    """Return the processes that a process, in any of its threads, has started."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]


def test_a_killed_suite_loses_at_most_the_steps_since_the_last_checkpoint(tmp_path):
    file, out = long_suite(tmp_path, STEPS), tmp_path / "out"
    run = out / "trials/made/d2c/seed-1/run"
    command = [sys.executable, "-m", "d2csr", "suite", "run", str(file), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while last_checkpoint(run) is None:
        assert process.poll() is None
        time.sleep(0.05)
    for each in (*children(process.pid), process.pid):  # all at once, as by a power failure
        os.kill(each, signal.SIGKILL)
    process.wait()
    kept = read_state(last_checkpoint(run))["step"]
    assert 0 < last_step(run) - kept <= SAVE_EVERY or last_step(run) == kept
    # The same training, shorter, so that this test ends.
    file = long_suite(tmp_path, kept + 5)
    summary = run_suite(file, out)
    assert (summary.done, summary.failures) == (1, [])
    assert f"resuming at step {kept}" in (run.parent / "output.log").read_text()
    assert last_step(run) == kept + 5
    record = run.parent / "trial.json"
    stamp = record.stat().st_mtime_ns
    assert run_suite(file, out).exit_code == 0
    assert record.stat().st_mtime_ns == stamp  # nothing was done again


def last_step(run):
    lines = (run / "log.jsonl").read_text().splitlines()
    return max(json.loads(line)["step"] for line in lines if line.endswith("}"))


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
