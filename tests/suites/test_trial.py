"""A trial notices that the process which started it is gone, and saves its training."""

import subprocess
import sys
import time

from d2csr.checkpoint.io import last_checkpoint, read_state
from d2csr.suites.config import read_suite
from d2csr.suites.plan import check_suite
from d2csr.suites.records import is_done
from d2csr.suites.trial import STOPPED
from tests.suites.conftest import STEPS, long_suite


def test_a_trial_whose_parent_is_gone_saves_its_run_and_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("D2CSR_CACHE", str(tmp_path / "cache"))
    file = long_suite(tmp_path, STEPS)
    (trial,) = check_suite(read_suite(file), file=file, out=tmp_path / "out")
    command = [sys.executable, "-m", "d2csr.suites.trial"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdin.write(trial.model_dump_json().encode() + b"\n")
    process.stdin.flush()
    run = trial.folder / "run"
    while last_checkpoint(run) is None:
        assert process.poll() is None
        time.sleep(0.05)
    process.stdin.close()  # as the kernel does when the parent is killed
    assert process.wait(timeout=120) == STOPPED
    newest = max(run.glob("checkpoints/step-*"))
    log = (run / "log.jsonl").read_text().splitlines()
    assert f'"step": {read_state(newest)["step"]},' in log[-1]  # no step was lost
    assert not is_done(trial)
