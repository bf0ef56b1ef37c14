"""Command `train`: a recipe and pairs to a trained, exported model."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def train(
    recipe: Path,
    /,
    *,
    out: Path,
    resume: bool = False,
    devices: Annotated[int, Parameter(name=("--devices",))] = 1,
    data: str | None = None,
    validate_on: str | None = None,
) -> int:
    """Train a model by a recipe, export its bundle and print its figures.

    Args:
        recipe: A YAML file; experiments/ has those of the shipped models and of the paper.
        out: Folder of the run: recipe, log, checkpoints, best weights, bundle.
        resume: Go on with the run in that folder, from its newest checkpoint.
        devices: Processes on this machine, one a device; leave it out under torchrun.
        data: Training pairs, in place of the recipe's.
        validate_on: Validation pairs, in place of the recipe's.
    """
    from d2csr.training.train import train as start  # torch takes seconds to load

    start(recipe, out=out, resume=resume, devices=devices, data=data, validate_on=validate_on)
    return 0
