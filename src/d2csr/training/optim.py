"""The optimizer and its learning rate: built per stage, saved flat, restored exactly."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from d2csr.core.errors import CheckpointError
from d2csr.training.model_config import StageKind
from d2csr.training.recipe import OptimizerConfig, StageConfig

_MOMENTS: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq"),
    torch.optim.SGD: ("momentum_buffer",),
}

NamedParameters = list[tuple[str, nn.Parameter]]


def make_optimizer(named: NamedParameters, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimizer of the parameters that a stage trains; each step sets its rate."""
    parameters = [parameter for _, parameter in named]
    if config.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=0.0,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )
    return torch.optim.Adam(
        parameters,
        lr=0.0,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )


def clip_gradients(
    parameters: Sequence[nn.Parameter], config: OptimizerConfig, *, rate: float
) -> None:
    """Clip the gradients of a step, each of them and their norm, as the settings have it."""
    if config.clip_step is not None and rate > 0:
        torch.nn.utils.clip_grad_value_(parameters, config.clip_step / rate)
    if config.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)


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


def iter_rates(
    stages: Sequence[StageConfig], *, by_length: Collection[StageKind] = ()
) -> Iterator[tuple[int, StageKind, float, int | None]]:
    """Yield what each step of a run depends on.

    Args:
        stages: of the run.
        by_length: kinds of stages in which the loss of a step depends on the number of all.

    Yields:
        Number and kind of the stage, learning rate, and the length of a stage of these kinds.
    """
    for number, stage in enumerate(stages):
        length = stage.steps if stage.kind in by_length else None
        for step in range(stage.steps):
            yield number, stage.kind, learning_rate(stage, step), length


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, named: NamedParameters
) -> dict[str, Tensor]:
    """Return the optimizer's state as `moment.parameter` -> tensor."""
    return {
        f"{moment}.{name}": optimizer.state[parameter][moment]
        for name, parameter in named
        for moment in _MOMENTS[type(optimizer)]
        if optimizer.state.get(parameter, {}).get(moment) is not None
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, named: NamedParameters, *, tensors: Mapping[str, Tensor]
) -> None:
    """Restore saved moments; parameters that had no gradient yet have none.

    Raises:
        CheckpointError: the moments are of other parameters.
    """
    moments = _MOMENTS[type(optimizer)]
    stepped = [(name, p) for name, p in named if f"{moments[0]}.{name}" in tensors]
    if set(tensors) != {f"{moment}.{name}" for name, _ in stepped for moment in moments}:
        problem = "the saved optimizer state is of other parameters"
        raise CheckpointError(
            "resume", problem, remedy="Resume with the recipe that the run was started with."
        )
    for name, parameter in stepped:
        state = {moment: tensors[f"{moment}.{name}"] for moment in moments}
        optimizer.state[parameter] = {
            moment: value.to(parameter.device)
            if moment == "step"
            # in the weight's memory format: fused optimizers step through raw memory, and would
            # apply contiguous moments to other weights than their own
            else torch.empty_like(parameter).copy_(value)
            for moment, value in state.items()
        }
