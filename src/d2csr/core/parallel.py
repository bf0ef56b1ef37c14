"""Work spread over processes of this machine or over the actors of a Ray cluster.

A local pool raises the errors of its tasks; a Ray actor that dies is replaced, its task retried.
"""

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any, Generic, TypeVar

from d2csr.core.errors import UsageError

MAX_ATTEMPTS = 3  # of a task whose worker dies: the task itself may be the cause

Task = TypeVar("Task")
Answer = TypeVar("Answer")


def map_in_processes(
    function: Callable[[Task], Answer],
    tasks: Sequence[Task],
    *,
    workers: int,
    initializer: Callable[[], object] | None = None,
) -> Iterator[tuple[int, Answer]]:
    """Yield the index and the answer of each task, in the order in which they finish.

    The first exception of a task is raised here as it is, and tasks not yet started are cancelled.
    The processes end with this one, even if it is killed.

    Args:
        function: called with each task; it, the tasks and the answers must be picklable.
        tasks: arguments of the calls.
        workers: processes, at most one a task; 1 runs the tasks in this process, in order.
        initializer: called once in each new process.

    Raises:
        UsageError: a process died, most often for lack of memory.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        yield from ((index, function(task)) for index, task in enumerate(tasks))
        return
    context = get_context("spawn")  # a fork would copy the locks of libvips' threads and hang
    with ProcessPoolExecutor(workers, context, _begin_worker, (initializer,)) as pool:
        indices = {pool.submit(function, task): index for index, task in enumerate(tasks)}
        try:
            for future in as_completed(list(indices)):
                yield indices.pop(future), future.result()
        except BrokenProcessPool as error:
            problem = f"one of {workers} processes died, which most often means too little memory"
            raise UsageError("--workers", problem, f"Use fewer than {workers}.") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker(initializer: Callable[[], object] | None) -> None:
    """Prepare a new process of the pool, which ends with its parent even if that is killed."""
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent,), daemon=True).start()
    if initializer is not None:
        initializer()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


@dataclass(frozen=True)
class ActorPool(Generic[Task, Answer]):
    """Workers on a Ray cluster, each with one task at a time.

    A worker that dies is replaced, and its task tried `MAX_ATTEMPTS` times in all. Ray's own
    restarts count calls to a worker that is still starting as failed tries, so they aren't used.

    Attributes:
        worker: class of the workers; its method `run` takes a task and `task_args`, and returns the
            answer.
        on_failure: returns the answer for a task that crashed every worker that tried it.
        actor_args: positional arguments for making a worker.
        actor_kwargs: keyword arguments for making a worker.
        task_args: further arguments of `run`, the same for every task.
        bytes_each: memory that a worker needs; None starts one worker per machine.
    """

    worker: type
    on_failure: Callable[[Task], Answer]
    actor_args: Sequence[Any] = ()
    actor_kwargs: Mapping[str, Any] = field(default_factory=dict)
    task_args: Sequence[Any] = ()
    bytes_each: int | None = None

    def map_unordered(self, tasks: Sequence[Task], *, workers: int | None) -> Iterator[Answer]:
        """Yield the answers in the order in which they finish.

        Args:
            tasks: what to do.
            workers: number of workers; None: as many as the machines have memory for.

        Raises:
            Exception: as a worker raised it.
        """
        import ray
        from ray.exceptions import RayActorError

        machines = [each["Resources"] for each in ray.nodes() if each["Alive"]]
        count = min(workers or sum(map(self._workers_on, machines)), len(tasks))
        idle = [self._start_worker(machines, count) for _ in range(count)]
        waiting = deque((task, 1) for task in tasks)
        running: dict[Any, tuple[Task, int, Any]] = {}
        while waiting or running:
            while waiting and idle:
                worker, (task, attempt) = idle.pop(), waiting.popleft()
                running[worker.run.remote(task, *self.task_args)] = task, attempt, worker
            (ready, *_), _ = ray.wait(list(running), num_returns=1)
            task, attempt, worker = running.pop(ready)
            try:
                answer = ray.get(ready)
            except RayActorError:
                ray.kill(worker)
                idle.append(self._start_worker(machines, count))
                if attempt < MAX_ATTEMPTS:
                    waiting.appendleft((task, attempt + 1))
                else:
                    yield self.on_failure(task)
            else:
                idle.append(worker)
                yield answer

    def _workers_on(self, machine: Mapping[str, float]) -> int:
        """Return the number of workers for a machine's memory and cores, at least 1."""
        if self.bytes_each is None:
            return 1
        fitting = machine.get("memory", 0) / self.bytes_each
        return max(1, int(min(machine.get("CPU", 1), fitting)))

    def _start_worker(self, machines: Sequence[Mapping[str, float]], count: int) -> Any:
        """Return a new worker with its share of the cores of the smallest machine."""
        import ray

        cores = min(each.get("CPU", 1) for each in machines)
        share = max(1, int(cores * len(machines) / count))
        actor = ray.remote(self.worker).options(
            num_cpus=min(share, cores),
            scheduling_strategy="SPREAD",
        )
        return actor.remote(*self.actor_args, **self.actor_kwargs)


def require_packages(*packages: str) -> None:
    """Check that the packages of the extra `cluster` are installed.

    Raises:
        UsageError: one is missing.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        remedy = "Run `pip install 'd2csr[cluster]'`."
        raise UsageError("--executor ray", f"{missing[0]} isn't installed", remedy)


@contextmanager
def ray_session() -> Iterator[None]:
    """Connect to the cluster that RAY_ADDRESS names, or start one here; disconnect at the end."""
    import ray

    with redirect_stdout(sys.stderr):  # Ray prints messages about dead workers
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()
