"""Time and memory that a reader takes for hostile files, measured in a process of its own."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SECONDS, MEGABYTES = 2.0, 300.0  # of the processor, and above those of the idle process
_MEASURE = """
import json, sys, time
from pathlib import Path
from d2csr.core.errors import D2csrError
{imports}
def held(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) / 1024
for name in sys.argv[1:]:
    path = Path(name)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    idle, start = held("VmRSS"), time.process_time()
    try:
        {call}
        error = ""
    except D2csrError as caught:
        error = str(caught)
    row = [name, time.process_time() - start, held("VmHWM") - idle, error]
    print(json.dumps(row), flush=True)
"""


class Cost(NamedTuple):
    """What one file took, and the error that it gave; empty if it was read."""

    name: str
    seconds: float
    megabytes: float
    error: str


def measure(files: list[Path], *, imports: str, call: str) -> list[Cost]:
    """Return the cost of each file; a process that needs 8 GiB or 100 s fails the test."""
    code = _MEASURE.format(imports=imports, call=call)
    limit = (resource.RLIMIT_AS, (8 << 30, 8 << 30))
    answer = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)],
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        timeout=100,
        preexec_fn=lambda: resource.setrlimit(*limit),
    )
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-2000:]
    return [Cost(*json.loads(line)) for line in answer.stdout.splitlines()]


def assert_refused_within_budget(files: list[Path], *, imports: str, call: str) -> None:
    """Check that every file is refused in a line, within the budget."""
    costs = measure(files, imports=imports, call=call)
    assert [cost.name for cost in costs] == list(map(str, files))
    over = [cost for cost in costs if cost.seconds > SECONDS or cost.megabytes > MEGABYTES]
    assert not over
    assert [cost.name for cost in costs if not 0 < len(cost.error) < 20_000] == []
