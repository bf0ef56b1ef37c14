"""The training loop: one step after the other, from wherever the run stopped.

Compilation: the networks compiled, where this machine is able to.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from rich.console import Console

from d2csr.core.errors import TrainingError
from d2csr.data.sampling import CropBatch, CropLoader
from d2csr.losses.reconstruction import LossTerm, weighted_sum
from d2csr.models.d2csr import D2CSR
from d2csr.training.distributed import autocast, graceful_shutdown
from d2csr.training.optim import learning_rate, set_learning_rate
from d2csr.training.stages import STAGE_SPECS, LossInputs
from d2csr.training.trainer import Trainer


@runtime_checkable
class StepCallback(Protocol):
    """Whoever wants to know of every step that is done."""

    def after_step(self, row: Mapping[str, float]) -> None:
        """Take a step's losses and rate; the run stands after it."""


def fit(run: Trainer, loader: CropLoader, *, watch: StepCallback | None) -> bool:
    """Train until the recipe's last step; return False if asked to stop before.

    Args:
        run: stands where training begins; `watch` and checkpoints follow it.
        loader: the crops.
        watch: tells what happens; None on all processes but the first.

    Raises:
        TrainingError: a loss or a gradient is not finite; step and files are named.
    """
    with graceful_shutdown() as asked:
        batches = loader.iter_from(run.step)
        while run.step < run.recipe.steps:
            _, batch = next(batches)
            row = train_step(run, batch)
            run.step += 1
            if watch is not None:
                watch.after_step(row)
            boundary = run.stage_ends()
            if boundary and run.step < run.recipe.steps:
                run.next_stage()
            stop = run.devices.any(bool(asked))
            if run.devices.is_main_process and (
                stop or boundary or run.step % run.recipe.intervals.save == 0
            ):
                run.save()
            if stop:
                return run.step == run.recipe.steps
    return True


def train_step(run: Trainer, batch: CropBatch) -> dict[str, float]:
    """Do one step: forward, loss, backward, optimizer, average; return its figures."""
    stage, settings = run.stage, run.recipe.optimizer
    rate = learning_rate(stage, run.stage_step)
    set_learning_rate(run.optimizer, rate)
    lesson = LossInputs(
        _tensor(batch.lr, run),
        _tensor(batch.hr, run),
        run.recipe.loss,
        run.recipe.loss.alpha.schedule().at(run.step),
    )
    with autocast(run.precision, run.devices.device):
        terms = STAGE_SPECS[stage.kind].terms(run.network, lesson)
    loss = weighted_sum(terms)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    _check_finite(run, batch, loss=loss)
    run.devices.all_reduce_gradients(run.parameters)
    if settings.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(run.parameters, settings.clip_norm)
    run.optimizer.step()
    run.average.update(run.network, run.step)
    return {**_figures(run, terms, loss=loss), "learning_rate": rate}


def _tensor(images: np.ndarray, run: Trainer) -> torch.Tensor:
    """Return 8-bit crops as RGB in 0..1 on the run's device."""
    dtype = torch.float64 if run.precision == "fp64" else torch.float32
    tensor = torch.from_numpy(images).to(run.devices.device, non_blocking=True)
    tensor = tensor.permute(0, 3, 1, 2).to(dtype) / 255
    return tensor.contiguous(memory_format=torch.channels_last)


def _check_finite(run: Trainer, batch: CropBatch, *, loss: torch.Tensor) -> None:
    """Stop, on all processes at once, before a number that is none spoils the weights."""
    gradients = [p.grad for p in run.parameters if p.grad is not None]
    largest = torch.nn.utils.get_total_norm(gradients, torch.inf)  # NaN counts as larger than all
    sound = bool(loss.isfinite() & largest.isfinite())
    if not run.devices.any(not sound):
        return
    what = f"the gradients of step {run.step} are not finite"
    if not loss.isfinite():
        what = f"the loss of step {run.step} is {loss.item()}"
    told = run.devices.all_gather(None if sound else (what, batch.names))
    guilty = [each for each in told if each is not None]
    files = ", ".join(name for _, names in guilty for name in names)
    remedy = "Lower the learning rate or look at these pairs; --resume goes on before it."
    raise TrainingError(run.folder, f"{guilty[0][0]}, batch: {files}", remedy=remedy)


def _figures(run: Trainer, terms: Sequence[LossTerm], *, loss: torch.Tensor) -> dict[str, float]:
    """Return loss and terms as numbers; of a step that is logged, the means over all processes."""
    values = torch.stack([loss.detach().double(), *(t.value.detach().double() for t in terms)])
    if (run.step + 1) % run.recipe.intervals.log == 0:
        values = run.devices.mean(values)
    return dict(zip(("loss", *(term.name for term in terms)), values.tolist(), strict=True))


def compile_network(network: D2CSR, *, device: torch.device, console: Console) -> None:
    """Have both networks compiled at their first step; without a compiler, say so and leave it."""
    if error := _error(device):
        console.print(
            f"compile: true can't be had here ({error}); training goes on uncompiled. It needs a "
            "C++ compiler; on Debian install g++.",
            soft_wrap=True,
            markup=False,
        )
        return
    network.divergence.compile()
    network.convergence.compile()


def _error(device: torch.device) -> str | None:
    """Return what keeps the smallest program from being compiled; seconds once, then cached."""
    double = torch.compile(lambda value: value * 2)
    try:
        double(torch.ones(8, device=device))
    except RuntimeError as error:  # of any step: tracing, code, compiler, loading
        return str(error).splitlines()[0]
    return None
