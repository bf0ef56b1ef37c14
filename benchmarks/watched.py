"""Time and peak memory of a command, for other scripts."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_EVERY_S = 0.05


class Watched(NamedTuple):
    """Wall time, and the largest peak memory of the process and its children."""

    seconds: float
    peak_bytes: int


def run_watched(command: Sequence[str]) -> Watched:
    """Run a command, its output on standard error.

    The peak is VmHWM, read while the command runs; `ru_maxrss` would include that of the process
    that it was forked from.

    Raises:
        SystemExit: the command fails.
    """
    started = time.perf_counter()
    process, peak = subprocess.Popen(command, stdout=sys.stderr), 0
    while process.poll() is None:
        peak = max(peak, *map(_peak_bytes, _family(process.pid)))
        time.sleep(_EVERY_S)
    if process.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed with {process.returncode}")
    return Watched(time.perf_counter() - started, peak)


def _family(process_id: int) -> list[int]:
    """Return a process and its descendants."""
    task = Path(f"/proc/{process_id}/task/{process_id}/children")
    try:
        children = task.read_text(encoding="ascii").split()
    except OSError:  # it has just ended
        return [process_id]
    return [process_id, *(each for child in children for each in _family(int(child)))]


def _peak_bytes(process_id: int) -> int:
    try:
        lines = Path(f"/proc/{process_id}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
