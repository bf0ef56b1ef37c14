"""Command `train`: a recipe and pairs to a trained, exported model.

Separate so that PyTorch, which takes seconds to import, is imported only by the call.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from d2csr.core.console import print_line
from d2csr.core.errors import UsageError

_PACKAGE = Path(__file__).resolve().parents[1]
_EXAMPLES = (_PACKAGE / "experiments", _PACKAGE.parents[1] / "experiments")  # installed; in a clone


@dataclass(frozen=True)
class PairOptions:
    """Pairs that replace those of the recipe.

    Attributes:
        data: Training pairs, instead of the recipe's; validation pairs too, if it has both in one
            set and --validate-on isn't given.
        validate_on: Validation pairs, instead of the recipe's.
        allow_outside: Allow manifests, the recipe's too, whose pairs lie outside their folder.
    """

    data: str | None = None
    validate_on: str | None = None
    allow_outside: bool = False


def train(
    recipe: Path | None = None,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    resume: bool = False,
    devices: Annotated[int, Parameter(name=("--devices",))] = 1,
    pairs: Annotated[PairOptions, Parameter(name="*")] = PairOptions(),
    example: bool = False,
) -> int:
    """Train a model by a recipe, export its bundle and print its scores.

    `d2csr train --example` lists example recipes: those of the shipped models and of the paper, and
    two for pairs of your own. `d2csr train --example your_own_camera > mine.yaml` prints one, to be
    changed.

    Args:
        recipe: A YAML file; with --example, the name of an example.
        output: Folder of the run: recipe, log, checkpoints, best weights, bundle.
        resume: Continue the run in that folder from its newest checkpoint.
        devices: Processes on this machine, one per device; leave it out under torchrun.
        example: Print the example of that name, or list all, and train nothing.
    """
    if example:
        print_line(*_example(recipe).splitlines())
        return 0
    if recipe is None or output is None:
        remedy = "Give a YAML file and --output; `d2csr train --example` lists example recipes."
        raise UsageError("train", "needs a recipe and a folder for the run", remedy)
    from d2csr.training.train import train as run_training

    run_training(recipe, output=output, resume=resume, devices=devices, **vars(pairs))
    return 0


def _example(name: Path | None) -> str:
    """Return the text of an example recipe; without a name, the names with their first lines.

    Raises:
        UsageError: there is no such example.
    """
    paths = {path.stem: path for folder in _EXAMPLES for path in sorted(folder.glob("*.yaml"))}
    if name is None:
        width = max(map(len, paths))
        return "".join(f"{name:{width}}  {_purpose(path)}\n" for name, path in paths.items())
    if name.stem not in paths:
        raise UsageError(name, "is no example recipe", f"Examples: {', '.join(paths)}.")
    return paths[name.stem].read_text(encoding="utf-8")


def _purpose(path: Path) -> str:
    """Return the beginning of the comment that opens a recipe."""
    first, _, _ = path.read_text(encoding="utf-8").partition("\n")
    return re.split(r"[.:;]( |$)", first.lstrip("# "))[0]
