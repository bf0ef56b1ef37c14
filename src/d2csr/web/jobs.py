"""Jobs: photos that are waiting, are being upscaled or are done; one is computed at a time."""

import itertools
import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from d2csr.core.errors import D2csrError, UsageError
from d2csr.core.files import remove_stale_temp_files
from d2csr.upscale.report import ImageReport, Progress
from d2csr.web.worker import JobRequest, Message, run_job

if TYPE_CHECKING:
    from multiprocessing.connection import _ConnectionBase

State = Literal["waiting", "running", "done", "cancelled"]

_SPAWN = get_context("spawn")  # a fork would copy the locks of the server's threads
_SECONDS_TO_STOP = 3.0  # of a cancelled job; one inference can take longer, and is killed
_LEAST_SHARE = 0.02  # of the work, before the time left is estimated


@dataclass
class Job:
    """Photos that are upscaled with the same options.

    Attributes:
        request: what is done.
        folder: contains the photos and the results, and is removed with the job.
        owner: the session that it belongs to.
        photos: the photos in words: a name or a number.
        choices: the other choices in words.
        notes: sentences on what the request leaves out.
        token: an unguessable name, by which the results are requested.
        state: `done` also if photos have failed.
        progress: of the computation; None before its beginning.
        reports: of the finished photos, those that failed among them.
        errors: of inputs without an image, or of the whole job.
    """

    request: JobRequest
    folder: Path
    owner: str
    photos: str
    choices: str
    notes: tuple[str, ...] = ()
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = "waiting"
    progress: Progress | None = None
    reports: list[ImageReport] = field(default_factory=list)
    errors: list[D2csrError] = field(default_factory=list)
    _began_at: float = 0.0

    @property
    def is_finished(self) -> bool:
        """Return whether nothing more will happen."""
        return self.state in {"done", "cancelled"}

    @property
    def done(self) -> list[ImageReport]:
        """Return the reports of the photos that succeeded."""
        return [each for each in self.reports if each.status == "done"]

    @property
    def seconds_left(self) -> float | None:
        """Return an estimate of the seconds until the end; None where there is none yet."""
        if self.state != "running" or self.progress is None or self.progress.done < _LEAST_SHARE:
            return None
        elapsed = time.monotonic() - self._began_at
        return elapsed * (1 - self.progress.done) / self.progress.done

    def take(self, message: Message) -> None:
        """Take in a message of the process."""
        if isinstance(message, Progress):
            self._began_at = self._began_at or time.monotonic()
            self.progress = message
        elif isinstance(message, ImageReport):
            self.reports.append(message)
        else:
            reported = {str(each.error) for each in self.reports if each.error is not None}
            self.errors.extend(each for each in message.errors if str(each) not in reported)
            if self.state == "running":
                self.state = "cancelled" if message.interrupted else "done"


@final
class JobQueue:
    """Runs jobs one after the other, each in a process of its own; safe to use from any thread."""

    def __init__(self) -> None:
        """Start the thread that runs the jobs."""
        self._jobs: list[Job] = []
        self._running: Job | None = None
        self._process: SpawnProcess | None = None
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Job:
        """Append a job and return it."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()
        return job

    def jobs_of(self, owner: str) -> list[Job]:
        """Return the jobs of a session, the oldest first."""
        with self._changed:
            return [job for job in self._jobs if job.owner == owner]

    def find(self, token: str) -> Job | None:
        """Return the job of a token; None if there is none."""
        with self._changed:
            return next((job for job in self._jobs if job.token == token), None)

    def count_before(self, job: Job) -> int:
        """Return the number of jobs that will be finished before a waiting one begins."""
        with self._changed:
            before = itertools.takewhile(lambda each: each is not job, self._jobs)
            return sum(not each.is_finished for each in before)

    def cancel(self, owner: str) -> int:
        """Cancel the jobs of a session that aren't finished, and return their number.

        Photos that are finished stay; of the one that is computed no file is left.
        """
        with self._changed:
            jobs = [each for each in self._jobs if each.owner == owner and not each.is_finished]
            for job in jobs:
                job.state = "cancelled"
                if job is self._running and self._process is not None:
                    self._process.terminate()
            self._changed.notify_all()
        return len(jobs)

    def forget(self, owner: str) -> None:
        """Cancel the jobs of a session, and remove them and their folders."""
        self.cancel(owner)
        with self._changed:
            gone = [job for job in self._jobs if job.owner == owner]
            self._jobs = [job for job in self._jobs if job.owner != owner]
            self._changed.wait_for(lambda: self._running not in gone)  # it ends or is killed
        for job in gone:
            shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        """Cancel all jobs and wait until the process has ended."""
        with self._changed:
            self._is_closed = True
            owners = {job.owner for job in self._jobs}
        for owner in owners:
            self.cancel(owner)
        with self._changed:
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        """Run the jobs until the queue is closed."""
        while (job := self._next()) is not None:
            receiver, sender = _SPAWN.Pipe(duplex=False)
            process = _SPAWN.Process(target=run_job, args=(job.request, sender), daemon=True)
            with sender, self._changed:
                if job.state != "waiting":  # cancelled in between
                    continue
                job.state, self._running, self._process = "running", job, process
                process.start()
            exit_code = self._follow(job, process, messages=receiver)
            if job.request.output.is_dir():
                remove_stale_temp_files(job.request.output)  # of a process that was killed
            with self._changed:
                if not job.is_finished:
                    job.errors.append(_crash(job, exit_code))
                    job.state = "done"
                self._running = self._process = None
                self._changed.notify_all()

    def _next(self) -> Job | None:
        """Return the next job when there is one; None when the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._first_waiting() is not None)
            return None if self._is_closed else self._first_waiting()

    def _first_waiting(self) -> Job | None:
        return next((job for job in self._jobs if job.state == "waiting"), None)

    def _follow(
        self, job: Job, process: SpawnProcess, *, messages: "_ConnectionBase[Any, Any]"
    ) -> int | None:
        """Take in the messages of a process until it ends, and return its exit code.

        A process of a cancelled job that doesn't end soon is killed.
        """
        cancelled_at: float | None = None
        with messages:
            while True:
                if job.state == "cancelled":
                    cancelled_at = cancelled_at or time.monotonic()
                    if time.monotonic() - cancelled_at > _SECONDS_TO_STOP:
                        process.kill()
                if not messages.poll(1.0):
                    continue
                try:
                    message = messages.recv()
                except EOFError:  # it has ended
                    break
                with self._changed:
                    job.take(message)
        process.join()
        return process.exitcode


def _crash(job: Job, exit_code: int | None) -> D2csrError:
    """Return the error of a process that ended by itself, as the kernel ends it to free memory."""
    image = job.progress.image if job.progress is not None else job.photos
    problem = f"could not be upscaled: the process ended with code {exit_code}"
    remedy = "Most often memory was short: choose a smaller enlargement, or start with --memory."
    return UsageError(image, problem, remedy)
