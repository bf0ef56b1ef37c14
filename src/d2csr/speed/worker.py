"""A separate process for one measuring job: it prepares, then answers requests in lines of JSON.

In a process of its own, the peak memory is that of the job alone, the threads of one library don't
disturb another, and several loaded jobs can alternate run by run.
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

_WORKER_COMMAND = (sys.executable, "-m", "d2csr.speed.worker_main")


@final
class Worker:
    """A handle of the process; a context manager that ends it."""

    def __init__(
        self, job: Values, *, threads: int, command: Sequence[str] = _WORKER_COMMAND
    ) -> None:
        """Start a process that prepares a job.

        Args:
            job: parameters of the job; see `d2csr.speed.worker_main`.
            threads: number of cores that the process may use.
            command: the program to run; it must call `serve`.

        Raises:
            UsageError: something that the job needs is unavailable.
        """
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.request({"threads": threads, **job})
        except BaseException:
            self.close()
            raise

    def request(self, request: Values) -> Values:
        """Return the response to a request.

        Raises:
            UsageError: an error that the user can fix.
            RuntimeError: any other error; its traceback is on standard error.
        """
        requests, responses = self._process.stdin, self._process.stdout
        if requests is None or responses is None:
            raise RuntimeError("the worker has no pipes")
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=requests, flush=True)
        line = responses.readline()
        if not line:
            problem = f"exited with status {self._process.wait()} during {request}"
            raise RuntimeError(f"the measuring process {problem}")
        response: Values = json.loads(line)
        if "error" in response:
            where, problem, remedy = response["error"]
            raise UsageError(where, problem, remedy=remedy)
        return response

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
    """Prepare the job in the first line of standard input, then handle a request per line.

    Args:
        prepare: returns the handler of requests for a job.
    """
    responses = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print to standard output, too
    handle: Handler | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if handle is None:
                limit_threads(request.pop("threads"))
                handle, response = prepare(request), {}
            else:
                response = handle(request)
        except D2csrError as error:
            response = {"error": [error.where, error.problem, error.remedy]}
        print(json.dumps(response), file=responses, flush=True)


def limit_threads(threads: int) -> None:
    """Limit this process, and all libraries loaded later, to a number of cores."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
