"""The processes of a training run: devices, precision, communication, start and end."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from types import FrameType
from typing import Generic, Literal, NoReturn, TypeVar

import torch
import torch.distributed
from torch import nn
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessContext, ProcessException, spawn

from d2csr.core.errors import D2csrError, UsageError
from d2csr.core.hardware import cpu_has_bf16

Value = TypeVar("Value")
Job = TypeVar("Job")
Result = TypeVar("Result")
Precision = Literal["auto", "bf16", "fp32", "fp64"]

_GRACE_PERIOD_S = 10  # for processes that wait for a message of one that has failed
# Preparing a large data set takes hours, and all processes wait for it. A process that dies ends
# the others anyway, through `launch` or torchrun.
_MESSAGE_TIMEOUT = timedelta(days=1)


@dataclass(frozen=True)
class DistributedContext:
    """This process's device and its rank among the processes of the run."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Return whether this process writes files and messages."""
        return self.rank == 0

    def all_reduce_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Average the gradients over all processes, in one message."""
        if self.world_size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        parts = (flat / self.world_size).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the elementwise mean of a tensor over all processes."""
        if self.world_size == 1:
            return value
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total / self.world_size

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process, so that all of them act on it together."""
        if self.world_size == 1:
            return flag
        return bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0)

    def all_gather(self, value: Value) -> list[Value]:
        """Return the value of every process, in the order of their ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Value] = [value] * self.world_size
        torch.distributed.all_gather_object(values, value)
        return values


def get_device(index: int) -> torch.device:
    """Return the device of a machine's process: the GPU of that index, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Return the precision to compute in; `auto` is bf16 where the device has it, or else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if cpu_has_bf16() else "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of a forward pass in a resolved precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def graceful_shutdown(*, forward: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Yield a list to which SIGTERM and SIGINT are appended instead of ending the process.

    Args:
        forward: called after each signal, to pass it on to the processes that do the work.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        forward()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_main_process() -> bool:
    """Return whether this process writes files, before the process group exists."""
    return os.environ.get("RANK", "0") == "0"


def get_world_size(devices: int) -> int:
    """Return the number of processes that train: torchrun's, or else one per device."""
    return int(os.environ["WORLD_SIZE"]) if _is_under_torchrun() else devices


def _is_under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch(
    work: Callable[[DistributedContext, Job], Result],
    prepare: Callable[[], Job],
    *,
    devices: int,
) -> Result:
    """Run `work(context, prepare())` in every process of the run; return the main one's result.

    One device needs no other process. For several, processes are started here, one per device,
    unless torchrun has started them; each of those gets its own result.

    Args:
        work: done by every process.
        prepare: called once on each machine.
        devices: processes to start on this machine.

    Raises:
        UsageError: more devices than there are, or several devices under torchrun.
        D2csrError: raised by `prepare`, or by `work` in any process.
    """
    if _is_under_torchrun():
        if devices != 1:
            problem = "is given under torchrun, which starts the processes itself"
            raise UsageError("--devices", problem, remedy="Leave it out.")
        with _process_group() as context:
            return work(context, _prepare_once(context, prepare))
    if devices == 1:
        return work(DistributedContext(get_device(0)), prepare())
    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        problem = f"is {devices}, but this machine has {torch.cuda.device_count()}"
        raise UsageError("--devices", problem, remedy="Use fewer devices.")
    return _spawn(work, prepare(), devices=devices)


def _prepare_once(context: DistributedContext, prepare: Callable[[], Job]) -> Job:
    """Return the job that the first process on this machine has prepared.

    Raises:
        D2csrError: raised by `prepare` on any machine, in every process.
    """
    mine: Job | D2csrError | None = None
    is_first = os.environ["LOCAL_RANK"] == "0"
    if is_first:
        try:
            mine = prepare()
        except D2csrError as error:
            mine = error
    jobs: list[Job] = []
    for rank, (prepared, outcome) in enumerate(context.all_gather((is_first, mine))):
        if isinstance(outcome, D2csrError):
            raise outcome
        if prepared and outcome is not None and rank <= context.rank:
            jobs.append(outcome)  # torchrun numbers the processes machine by machine
    return jobs[-1]


@dataclass(frozen=True)
class _ProcessTask(Generic[Job, Result]):
    """Everything a started process is given."""

    work: Callable[[DistributedContext, Job], Result]
    job: Job
    environment: dict[str, str]
    results: "SimpleQueue[Result]"
    errors: "SimpleQueue[D2csrError]"


def _spawn(work: Callable[[DistributedContext, Job], Result], job: Job, *, devices: int) -> Result:
    """Start one process per device, forward signals to them, and return the main one's result."""
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(devices),
    }
    results: SimpleQueue[Result] = get_context("spawn").SimpleQueue()
    errors: SimpleQueue[D2csrError] = get_context("spawn").SimpleQueue()
    started: list[ProcessContext] = []

    def terminate() -> None:
        for process in started[0].processes if started else ():
            if process.is_alive():
                process.terminate()

    with graceful_shutdown(forward=terminate) as received:
        task = _ProcessTask(work, job, environment, results, errors)
        context: ProcessContext = spawn(  # pyright: ignore[reportAssignmentType] - joined: None
            _run_process, args=(task,), nprocs=devices, join=False
        )
        started.append(context)
        if received:  # while they were being started
            terminate()
        try:
            while not context.join(grace_period=_GRACE_PERIOD_S):
                pass
        except ProcessException:
            if not errors.empty():
                raise errors.get() from None
            if not received:
                raise
        else:
            return results.get()
    return _exit_by_signal(received[0])


def _run_process(rank: int, task: _ProcessTask[Job, Result]) -> None:
    """Join the run as process `rank` of this machine, with the environment torchrun would set."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an end that the starting process can see
    os.environ.update(task.environment, RANK=str(rank), LOCAL_RANK=str(rank))
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["WORLD_SIZE"])))
    with _process_group() as context:
        try:
            result = task.work(context, task.job)
        except D2csrError as error:  # sent before the others notice that this process is gone
            task.errors.put(error)
            raise
    if context.is_main_process:
        task.results.put(result)


@contextmanager
def _process_group() -> Iterator[DistributedContext]:
    """Join the process group that the environment describes, and leave it at the end."""
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = get_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        rank=rank,
        world_size=world_size,
        timeout=_MESSAGE_TIMEOUT,
    )
    try:
        yield DistributedContext(device, rank, world_size)
    finally:
        torch.distributed.destroy_process_group()


def _exit_by_signal(number: int) -> NoReturn:
    """End this process as the signal would have before training."""
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    raise KeyboardInterrupt


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
