"""Command `train`: a recipe and pairs to a trained, exported model.

Separate so that PyTorch, which takes seconds to import, is imported only by the call.
"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def train(
    recipe: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    resume: bool = False,
    devices: Annotated[int, Parameter(name=("--devices",))] = 1,
    data: str | None = None,
    validate_on: str | None = None,
) -> int:
    """Train a model by a recipe, export its bundle and print its scores.

    Args:
        recipe: A YAML file; experiments/ has those of the shipped models and of the paper.
        output: Folder of the run: recipe, log, checkpoints, best weights, bundle.
        resume: Continue the run in that folder from its newest checkpoint.
        devices: Processes on this machine, one per device; leave it out under torchrun.
        data: Training pairs, instead of the recipe's.
        validate_on: Validation pairs, instead of the recipe's.
    """
    from d2csr.training.train import train as run_training

    run_training(
        recipe, output=output, resume=resume, devices=devices, data=data, validate_on=validate_on
    )
    return 0
