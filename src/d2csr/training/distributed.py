"""Devices: where tensors live, in which precision, and what the processes of a run share.

A wish to stop: SIGTERM or SIGINT noted, so that a run ends its step and saves.

The processes of a run: started here, one a device, or found as torchrun placed them.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from types import FrameType
from typing import Any, Literal, NamedTuple, TypeVar

import torch
import torch.distributed
from torch import nn
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessContext, ProcessException, spawn

from d2csr.core.errors import D2csrError, UsageError
from d2csr.core.hardware import cpu_has_bf16

Told = TypeVar("Told")
Precision = Literal["auto", "bf16", "fp32", "fp64"]


@dataclass(frozen=True)
class DistributedContext:
    """This process's device and its place among the processes of the run."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def is_main_process(self) -> bool:
        """Return whether this process writes files and talks."""
        return self.rank == 0

    def all_reduce_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Average the gradients over all processes, in one message."""
        if self.world == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        parts = (flat / self.world).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean over all processes, number by number."""
        if self.world == 1:
            return value
        shared = value.clone()
        torch.distributed.all_reduce(shared)
        return shared / self.world

    def any(self, flag: bool) -> bool:
        """Return whether any process says yes, so that all of them turn at the same step."""
        if self.world == 1:
            return flag
        return bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0)

    def all_gather(self, value: Told) -> list[Told]:
        """Return what every process says, the first one's word first."""
        if self.world == 1:
            return [value]
        told: list[Told] = [value] * self.world
        torch.distributed.all_gather_object(told, value)
        return told


def device_at(index: int) -> torch.device:
    """Return the device of a machine's process: its GPU of that number, or the processor."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Return `auto` as what the processor has: bf16 where it multiplies it, or else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if cpu_has_bf16() else "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of a forward pass in a resolved precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def graceful_shutdown(*, tell: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Yield a list that SIGTERM or SIGINT fills; `tell` passes each on to whoever does the work."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        tell()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_PATIENCE_S = 10  # for processes that an error in another leaves waiting at a message


class ProcessTask(NamedTuple):
    """What every process of a run is to do."""

    work: Callable[..., None]
    arguments: tuple[object, ...]


def is_first_process() -> bool:
    """Return whether torchrun, if it started us, means this process to write files."""
    return os.environ.get("RANK", "0") == "0"


def world_size(devices: int) -> int:
    """Return how many processes train: torchrun's, where it started us, or one a device."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else devices


def launch(order: ProcessTask, devices: int) -> None:
    """Run `work(DistributedContext, *arguments)` here, in several processes, or under torchrun.

    Raises:
        UsageError: more devices than there are, or `--devices` beside torchrun.
        D2csrError: what `work` raises, in whichever process.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        if devices != 1:
            problem = "given beside torchrun, which starts the processes itself"
            raise UsageError("--devices", problem, remedy="Leave it out.")
        _run_in_group(order)
    elif devices == 1:
        order.work(DistributedContext(device_at(0)), *order.arguments)
    elif torch.cuda.is_available() and devices > torch.cuda.device_count():
        problem = f"{devices} asked for, {torch.cuda.device_count()} there"
        raise UsageError("--devices", problem, remedy="Ask for fewer.")
    else:
        _run_here(order, devices)


def _run_here(order: ProcessTask, devices: int) -> None:
    """Start one process a device, pass on to them a wish to stop, and end as they do."""
    place = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(devices),
    }
    errors: SimpleQueue[tuple[type[D2csrError], str, str, str]] = get_context("spawn").SimpleQueue()
    started: list[ProcessContext] = []

    def tell() -> None:
        for process in started[0].processes if started else ():
            if process.is_alive():
                process.terminate()

    with graceful_shutdown(tell=tell) as asked:
        context: ProcessContext = spawn(  # pyright: ignore[reportAssignmentType] - joined: None
            _spawned, args=(order, place, errors), nprocs=devices, join=False
        )
        started.append(context)
        if asked:  # while they were being started
            tell()
        try:
            while not context.join(grace_period=_PATIENCE_S):
                pass
        except ProcessException:
            if not errors.empty():
                kind, where, problem, remedy = errors.get()
                raise kind(where, problem, remedy=remedy) from None
            if not asked:
                raise
        else:
            return
    _end_by(asked[0])


def _end_by(number: int) -> None:
    """End as a process does that is asked to before training has begun."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _spawned(rank: int, *told: Any) -> None:
    """Join the run as process `rank` of this machine, told as torchrun tells its processes."""
    order, place, errors = told
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an end that the first process can see
    os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank))
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(place["WORLD_SIZE"])))

    def work(*arguments: Any) -> None:
        try:
            order.work(*arguments)
        except D2csrError as error:  # told before the others notice that this process is gone
            errors.put((type(error), error.where, error.problem, error.remedy))
            raise

    _run_in_group(ProcessTask(work, order.arguments))


def _run_in_group(order: ProcessTask) -> None:
    """Join the process group that the environment describes, and work."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = device_at(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, rank=rank, world_size=world)
    try:
        order.work(DistributedContext(device, rank, world), *order.arguments)
    finally:
        torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
