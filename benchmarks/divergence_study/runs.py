"""Runs of `d2csr train` in processes of their own, which can be stopped and resumed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from d2csr.checkpoint.io import BUNDLE
from d2csr.core.bundle import CARD_NAME
from d2csr.core.errors import UsageError


def is_finished(folder: Path) -> bool:
    """Return whether a run has exported its bundle, which is its last step."""
    return (folder / BUNDLE / CARD_NAME).is_file()


def train_once(recipe: Path, folder: Path) -> None:
    """Train a run in its own process and one thread; signals are passed on to it.

    Raises:
        UsageError: training failed; its message is on standard error.
    """
    command = [sys.executable, "-m", "d2csr", "train", str(recipe), "--output", str(folder)]
    command += ["--resume"] if folder.exists() else []
    process: subprocess.Popen[bytes] | None = None

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if process is not None:
            process.terminate()

    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        code = process.wait()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if code > 0:
        remedy = "Its message is above; run the same command to resume."
        raise UsageError(folder, f"training failed with exit code {code}", remedy=remedy)
