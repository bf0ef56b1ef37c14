"""A process of its own for one job: it prepares, then answers requests, a line of JSON each.

So the peak of its memory is its own, no library's threads disturb another's, and jobs can alternate
run by run while all of them stay loaded.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, final

from d2csr.core.errors import D2csrError, UsageError

Values = dict[str, Any]
Handler = Callable[[Values], Values]

_OWN_COMMAND = (sys.executable, "-m", "d2csr.speed.worker_main")


@final
class Worker:
    """The other process, as this one sees it; a context that ends it."""

    def __init__(self, job: Values, *, threads: int, command: Sequence[str] = _OWN_COMMAND) -> None:
        """Start a process that prepares a job.

        Raises:
            UsageError: what the job needs is not to be had; the worker says what.
        """
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.opened = self.request({"threads": threads, **job})
        except BaseException:
            self.close()
            raise

    def request(self, request: Values) -> Values:
        """Return the answer to a request.

        Raises:
            UsageError: an error that the user can mend.
            RuntimeError: any other; its traceback is on standard error.
        """
        wires = self._process.stdin, self._process.stdout
        if wires[0] is None or wires[1] is None:
            raise RuntimeError("the worker has no pipes")
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=wires[0], flush=True)
        line = wires[1].readline()
        if not line:
            problem = f"ended in the middle of {request} with status {self._process.wait()}"
            raise RuntimeError(f"the measuring process {problem}")
        answer: Values = json.loads(line)
        if "fault" in answer:
            where, problem, remedy = answer["fault"]
            raise UsageError(where, problem, remedy=remedy)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "Worker":
        """Return the worker."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()


def serve(prepare: Callable[[Values], Handler]) -> None:
    """Prepare the job of the first line, answer all others; to be run by the worker's process.

    Args:
        prepare: from a job to what answers requests on it.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print there, too
    answer: Handler | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if answer is None:
                limit_threads(request.pop("threads"))
                answer, values = prepare(request), {}
            else:
                values = answer(request)
        except D2csrError as error:
            values = {"fault": [error.where, error.problem, error.remedy]}
        print(json.dumps(values), file=answers, flush=True)


def limit_threads(threads: int) -> None:
    """Hold this process to so many cores, for all libraries loaded later."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def cores() -> int:
    """Return on how many cores this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
