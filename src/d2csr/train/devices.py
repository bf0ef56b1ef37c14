"""Devices and processes: where tensors live, in which precision, and how gradients are shared."""

import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed
from torch import nn
from torch.multiprocessing.spawn import spawn

from d2csr.core.errors import UsageError

Precision = Literal["auto", "bf16", "fp32", "fp64"]


@dataclass(frozen=True)
class Devices:
    """This process's device and its place among the processes of the run."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Return whether this process writes files and talks."""
        return self.rank == 0

    def share_gradients(self, parameters: list[nn.Parameter]) -> None:
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
        """Return a number's mean over all processes."""
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


def is_first_process() -> bool:
    """Return whether torchrun, if it started us, means this process to write files."""
    return os.environ.get("RANK", "0") == "0"


def processes(devices: int) -> int:
    """Return how many processes train: torchrun's, where it started us, or one a device."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else devices


class Order(NamedTuple):
    """What every process of a run is to do."""

    work: Callable[..., None]
    arguments: tuple[object, ...]


def run_on_devices(order: Order, devices: int) -> None:
    """Run `work(Devices, *arguments)` here, in several processes, or as torchrun placed us.

    Raises:
        UsageError: more devices than there are, or `--devices` beside torchrun.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        if devices != 1:
            problem = "given beside torchrun, which starts the processes itself"
            raise UsageError("--devices", problem, remedy="Leave it out.")
        _run_in_group(order)
    elif devices == 1:
        order.work(Devices(_device(0)), *order.arguments)
    elif torch.cuda.is_available() and devices > torch.cuda.device_count():
        problem = f"{devices} asked for, {torch.cuda.device_count()} there"
        raise UsageError("--devices", problem, remedy="Ask for fewer.")
    else:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        spawn(_spawned, args=(order, {**place, "WORLD_SIZE": str(devices)}), nprocs=devices)


def _spawned(rank: int, *told: Any) -> None:
    """Join the run as process `rank` of this machine, told as torchrun tells its processes."""
    order, place = told
    os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank))
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(place["WORLD_SIZE"])))
    _run_in_group(order)


def _run_in_group(order: Order) -> None:
    """Join the process group that the environment describes, and work."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = _device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, rank=rank, world_size=world)
    try:
        order.work(Devices(device, rank, world), *order.arguments)
    finally:
        torch.distributed.destroy_process_group()


def _device(index: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def resolved_precision(precision: Precision, device: torch.device) -> Precision:
    """Return `auto` as what the processor has: bf16 where it multiplies it, or else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    """Return whether the processor multiplies bf16 (AVX-512 BF16, AMX, or Arm's)."""
    information = Path("/proc/cpuinfo")
    flags = information.read_text(encoding="utf-8").split() if information.is_file() else []
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of a forward pass in a resolved precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
