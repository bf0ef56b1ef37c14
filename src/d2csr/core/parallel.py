"""Work spread over processes of this machine or over the actors of a Ray cluster.

A local pool raises the errors of its tasks; a Ray actor that dies is replaced, its task retried.
"""

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

from d2csr.core.errors import UsageError

MAX_ATTEMPTS = 3  # of a task whose worker dies: it may be the task that kills it

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
    with ProcessPoolExecutor(workers, context, initializer) as pool:
        indices = {pool.submit(function, task): index for index, task in enumerate(tasks)}
        try:
            for future in as_completed(list(indices)):
                yield indices.pop(future), future.result()
        except BrokenProcessPool as error:
            problem = f"one of {workers} processes died, which most often means too little memory"
            raise UsageError("--workers", problem, f"Use fewer than {workers}.") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class ActorPool(Generic[Task, Answer]):
    """Workers of a cluster, each with one task at a time.

    Attributes:
        worker: class of the workers; `run` takes a task and `also`, and returns the answer.
        given_up: the answer for a task that kills its workers.
        made_with: what a worker is made with.
        named: the same, by name.
        also: what `run` is given besides the task.
        bytes_each: memory a worker needs; None counts one worker to a machine.
    """

    worker: type
    on_failure: Callable[[Task], Answer]
    actor_args: Sequence[Any] = ()
    actor_kwargs: Mapping[str, Any] = field(default_factory=dict)
    task_args: Sequence[Any] = ()
    bytes_each: int | None = None

    def map_unordered(self, tasks: Sequence[Task], *, workers: int | None) -> Iterator[Answer]:
        """Yield answers as they come.

        Raises:
            Exception: as a worker raised it.
        """
        import ray
        from ray.exceptions import RayActorError

        machines = [each["Resources"] for each in ray.nodes() if each["Alive"]]
        count = min(workers or sum(map(self._places, machines)), len(tasks))
        waiting, tries = deque(range(len(tasks))), [0] * len(tasks)
        busy: dict[Any, tuple[int, Any]] = {}
        idle = [self._new(machines, count) for _ in range(count)]
        while waiting or busy:
            while waiting and idle:
                worker, at = idle.pop(), waiting.popleft()
                busy[worker.run.remote(tasks[at], *self.task_args)] = (at, worker)
            (ready, *_), _ = ray.wait(list(busy), num_returns=1)
            at, worker = busy.pop(ready)
            try:
                yield ray.get(ready)
            except RayActorError:
                tries[at] += 1
                if tries[at] < MAX_ATTEMPTS:
                    waiting.appendleft(at)
                else:
                    yield self.on_failure(tasks[at])
                worker = self._new(machines, count)
            idle.append(worker)

    def _places(self, machine: Mapping[str, float]) -> int:
        """Return how many workers a machine bears."""
        if self.bytes_each is None:
            return 1
        room = machine.get("memory", 0) / self.bytes_each
        return max(1, int(min(machine.get("CPU", 1), room)))

    def _new(self, machines: Sequence[Mapping[str, float]], count: int) -> Any:
        """Return a new worker, with its share of the smallest machine's cores."""
        import ray

        cores = min(each.get("CPU", 1) for each in machines)
        share = max(1, int(cores * len(machines) / count))
        make = ray.remote(self.worker).options(
            num_cpus=min(share, cores), scheduling_strategy="SPREAD"
        )
        return make.remote(*self.actor_args, **self.actor_kwargs)


def require_packages(*packages: str) -> None:
    """Refuse `--engine ray` where a package of the extra is missing.

    Raises:
        UsageError: naming the first that is.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        remedy = "Run `pip install 'd2csr[cluster]'`."
        raise UsageError("--engine ray", f"{missing[0]} isn't installed", remedy=remedy)


@contextmanager
def ray_session() -> Iterator[None]:
    """Connect to the cluster of RAY_ADDRESS, or start one here, and leave it in the end."""
    import ray

    with redirect_stdout(sys.stderr):  # where Ray tells of dead workers
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()
