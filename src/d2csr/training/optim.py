"""Adam and its learning rate: built per stage, saved as flat tensors, restored exactly."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from d2csr.core.errors import CheckpointError
from d2csr.training.recipe import OptimizerConfig, StageConfig, StageKind

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")

NamedParameters = list[tuple[str, nn.Parameter]]


def make_optimizer(named: NamedParameters, config: OptimizerConfig) -> torch.optim.Adam:
    """Return Adam over the parameters that a stage trains; its rate is set at every step."""
    return torch.optim.Adam(
        [parameter for _, parameter in named],
        lr=0.0,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate(stage: StageConfig, step: int) -> float:
    """Return the learning rate at a step of the stage, counted from 0."""
    warmup = min(1.0, (step + 1) / stage.warmup) if stage.warmup else 1.0
    if stage.schedule == "cosine":
        remaining = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
        share = stage.final_share + (1 - stage.final_share) * remaining
    elif stage.halve_every is not None:
        share = 0.5 ** (step // stage.halve_every)
    else:
        share = 1.0
    return stage.learning_rate * warmup * share


def iter_rates(stages: Sequence[StageConfig]) -> Iterator[tuple[int, StageKind, float]]:
    """Yield the stage, its kind and the learning rate of every step of a run."""
    for number, stage in enumerate(stages):
        for step in range(stage.steps):
            yield number, stage.kind, learning_rate(stage, step)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(optimizer: torch.optim.Adam, named: NamedParameters) -> dict[str, Tensor]:
    """Return Adam's state as `moment.parameter` -> tensor."""
    return {
        f"{moment}.{name}": optimizer.state[parameter][moment]
        for name, parameter in named
        for moment in _MOMENTS
        if parameter in optimizer.state
    }


def restore_optimizer(
    optimizer: torch.optim.Adam, named: NamedParameters, *, tensors: Mapping[str, Tensor]
) -> None:
    """Restore saved moments.

    Raises:
        CheckpointError: the moments are of other parameters.
    """
    trained = [(name, value) for name, value in named if f"step.{name}" in tensors]
    expected = {f"{moment}.{name}" for name, _ in trained for moment in _MOMENTS}
    if set(tensors) != expected:
        problem = "the saved optimizer state is of other parameters"
        raise CheckpointError(
            "resume", problem, remedy="Resume with the recipe that the run was started with."
        )
    for name, parameter in trained:  # the others have had no gradient yet
        step = tensors[f"step.{name}"].to(parameter.device)
        moments = {
            # in the weight's memory format: fused Adam steps through raw memory, and would apply
            # contiguous moments to other weights than their own
            moment: torch.empty_like(parameter).copy_(tensors[f"{moment}.{name}"])
            for moment in ("exp_avg", "exp_avg_sq")
        }
        optimizer.state[parameter] = {"step": step, **moments}
