"""Devices: where tensors live, in which precision, and what the processes of a run share."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch
import torch.distributed
from torch import nn

Told = TypeVar("Told")
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

    def gathered(self, value: Told) -> list[Told]:
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
