"""The training loop: one step after the other, from wherever the run stopped."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from d2csr.core.errors import TrainingError
from d2csr.data.sampling import CropBatch, CropLoader
from d2csr.losses.reconstruction import LossTerm, weighted_sum
from d2csr.training.distributed import autocast, graceful_shutdown
from d2csr.training.optim import clip_gradients, learning_rate, set_learning_rate
from d2csr.training.stages import STAGE_SPECS, LossInputs
from d2csr.training.trainer import Trainer

_STEP_BITS = 32  # of the seed of random numbers in the loss


@runtime_checkable
class StepCallback(Protocol):
    """Called after every step."""

    def after_step(self, metrics: Mapping[str, float]) -> None:
        """Take a step's losses and learning rate; `trainer.step` already counts it."""


def fit(trainer: Trainer, loader: CropLoader, *, callback: StepCallback | None) -> bool:
    """Train until the recipe's last step; return False if a signal stopped training before.

    Args:
        trainer: at the step where training begins; it is saved at its intervals and at the end.
        loader: the crops.
        callback: called after every step; None in all processes but the main one.

    Raises:
        TrainingError: a loss or a gradient is not finite; step and files are named.
    """
    steps = loader.iter_from(trainer.step, until=trainer.recipe.steps)
    with graceful_shutdown() as signals, closing(steps):
        for _, batch in steps:
            metrics = train_step(trainer, batch)
            trainer.step += 1
            if callback is not None:
                callback.after_step(metrics)
            stage_ends = trainer.is_stage_finished
            if stage_ends and not trainer.is_finished:
                trainer.start_next_stage()
            stops = trainer.devices.any(bool(signals))
            due = stops or stage_ends or trainer.step % trainer.recipe.intervals.save == 0
            if due and trainer.devices.is_main_process:
                trainer.save()
            if stops:
                break
    return trainer.is_finished


def train_step(trainer: Trainer, batch: CropBatch) -> dict[str, float]:
    """Do one step: forward, loss, backward, optimizer, average; return its metrics."""
    stage, recipe = trainer.stage, trainer.recipe
    rate = learning_rate(stage, trainer.stage_step)
    set_learning_rate(trainer.optimizer, rate)
    inputs = LossInputs(
        _to_tensor(batch.lr, trainer),
        _to_tensor(batch.hr, trainer),
        recipe.loss,
        recipe.loss.alpha.at(trainer.step),
        progress=trainer.stage_step / stage.steps,
        noise_seed=(recipe.seed << _STEP_BITS) + trainer.step,
        adversary=trainer.adversary,
    )
    if trainer.stage_step == 0:
        STAGE_SPECS[stage.kind].prepare(trainer.network, inputs)
        trainer.average.module.load_state_dict(trainer.network.state_dict())
    with autocast(trainer.precision, trainer.devices.device):
        terms = STAGE_SPECS[stage.kind].terms(trainer.network, inputs)
    loss = weighted_sum(terms)
    trainer.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    _check_finite(trainer, batch, loss=loss)
    trainer.devices.all_reduce_gradients(trainer.parameters)
    clip_gradients(trainer.parameters, recipe.optimizer, rate=rate)
    trainer.optimizer.step()
    trainer.average.update_parameters(trainer.network)
    return {**_to_metrics(trainer, terms, loss=loss), "learning_rate": rate}


def _to_tensor(images: np.ndarray, trainer: Trainer) -> torch.Tensor:
    """Return 8-bit crops as RGB in 0..1 on the run's device."""
    dtype = torch.float64 if trainer.precision == "fp64" else torch.float32
    tensor = torch.from_numpy(images).to(trainer.devices.device, non_blocking=True)
    tensor = tensor.permute(0, 3, 1, 2).to(dtype) / 255
    return tensor.contiguous(memory_format=torch.channels_last)


def _check_finite(trainer: Trainer, batch: CropBatch, *, loss: torch.Tensor) -> None:
    """Stop, in all processes together, before NaN or infinity reaches the weights.

    Raises:
        TrainingError: with the batches whose loss or gradients are not finite.
    """
    gradients = [p.grad for p in trainer.parameters if p.grad is not None]
    largest = torch.nn.utils.get_total_norm(gradients, torch.inf)  # NaN counts as larger than all
    is_finite = bool(loss.isfinite() & largest.isfinite())
    if not trainer.devices.any(not is_finite):
        return
    problem = f"the gradients of step {trainer.step} are not finite"
    if not loss.isfinite():
        problem = f"the loss of step {trainer.step} is {loss.item()}"
    reports = trainer.devices.all_gather(None if is_finite else (problem, batch.names))
    failed = [report for report in reports if report is not None]
    files = ", ".join(name for _, names in failed for name in names)
    remedy = "Lower the learning rate or look at these pairs; --resume continues before it."
    raise TrainingError(trainer.folder, f"{failed[0][0]}, batch: {files}", remedy=remedy)


def _to_metrics(
    trainer: Trainer, terms: Sequence[LossTerm], *, loss: torch.Tensor
) -> dict[str, float]:
    """Return loss and terms as numbers; of a logged step, their means over all processes."""
    values = torch.stack([loss.detach().double(), *(t.value.detach().double() for t in terms)])
    if trainer.is_logged(trainer.step + 1):
        values = trainer.devices.mean(values)
    return dict(zip(("loss", *(term.name for term in terms)), values.tolist(), strict=True))
