"""Compilation: the networks compiled, where this machine is able to."""

import torch
from rich.console import Console

from d2csr.models.d2csr import D2CSR


def compile_network(network: D2CSR, *, device: torch.device, console: Console) -> None:
    """Have both networks compiled at their first step; without a compiler, say so and leave it."""
    if fault := _fault(device):
        console.print(
            f"compile: true can't be had here ({fault}); training goes on uncompiled. It needs a "
            "C++ compiler; on Debian install g++.",
            soft_wrap=True,
            markup=False,
        )
        return
    network.divergence.compile()
    network.convergence.compile()


def _fault(device: torch.device) -> str | None:
    """Return what keeps the smallest program from being compiled; seconds once, then cached."""
    double = torch.compile(lambda value: value * 2)
    try:
        double(torch.ones(8, device=device))
    except RuntimeError as fault:  # of any step: tracing, code, compiler, loading
        return str(fault).splitlines()[0]
    return None
