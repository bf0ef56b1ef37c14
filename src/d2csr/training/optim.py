"""Adam and its rate: built per stage, saved flat, restored exactly."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from d2csr.core.errors import CheckpointError
from d2csr.training.recipe import OptimizerConfig, StageConfig

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")

Named = list[tuple[str, nn.Parameter]]


def make_optimizer(named: Named, settings: OptimizerConfig) -> torch.optim.Adam:
    """Return Adam over the parameters a stage trains; its rate is set at every step."""
    return torch.optim.Adam(
        [parameter for _, parameter in named],
        lr=0.0,
        betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay,
        fused=True,
    )


def learning_rate(stage: StageConfig, step: int) -> float:
    """Return the rate at a step of the stage, counted from 0."""
    warmup = min(1.0, (step + 1) / stage.warmup) if stage.warmup else 1.0
    if stage.schedule == "cosine":
        fall = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
        share = stage.final_share + (1 - stage.final_share) * fall
    elif stage.halve_every is not None:
        share = 0.5 ** (step // stage.halve_every)
    else:
        share = 1.0
    return stage.learning_rate * warmup * share


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(optimizer: torch.optim.Adam, named: Named) -> dict[str, Tensor]:
    """Return Adam's moments as `moment.parameter` -> tensor."""
    return {
        f"{moment}.{name}": optimizer.state[parameter][moment]
        for name, parameter in named
        for moment in _MOMENTS
        if parameter in optimizer.state
    }


def restore_optimizer(
    optimizer: torch.optim.Adam, named: Named, *, tensors: Mapping[str, Tensor]
) -> None:
    """Put saved moments back.

    Raises:
        CheckpointError: they are of other parameters.
    """
    expected = {f"{moment}.{name}" for name, _ in named for moment in _MOMENTS}
    if tensors and set(tensors) != expected:
        problem = "the saved optimizer is of other parameters"
        raise CheckpointError("resume", problem, remedy="Resume with the recipe it began with.")
    for name, parameter in named if tensors else []:
        step = tensors[f"step.{name}"].to(parameter.device)
        moments = {
            # In the weight's memory format: fused Adam walks raw memory, and would pair the values
            # of contiguous moments with other weights than theirs.
            moment: torch.empty_like(parameter).copy_(tensors[f"{moment}.{name}"])
            for moment in ("exp_avg", "exp_avg_sq")
        }
        optimizer.state[parameter] = {"step": step, **moments}
