"""Command `paper`: the tables and figures of the paper, with models trained here or given."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from d2csr.core.console import print_line, print_note
from d2csr.core.errors import UsageError
from d2csr.figures.catalog import ITEMS, FigureOptions, PaperItem, find_item, find_suite

if TYPE_CHECKING:
    from d2csr.figures.paper import Sources


@dataclass(frozen=True)
class ModelSources:
    """Models that a table or figure is made with.

    Attributes:
        suite: Folder of a suite that has run, instead of training the one that the table names.
        name: A shipped model, or the folder of a training run or bundle, optionally as LABEL=MODEL.
            Repeat the option for several, in the order in which they are shown.
    """

    suite: Path | None = None
    name: Annotated[tuple[str, ...], Parameter(name=("--name", "-n"), negative=())] = ()


DEFAULT_CROPS = FigureOptions()


def paper(
    item: str | None = None,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    data: Path | None = None,
    models: Annotated[ModelSources, Parameter(name="*")] = ModelSources(),
    options: Annotated[FigureOptions, Parameter(name="*")] = DEFAULT_CROPS,
) -> int:
    """Make a table or figure of the paper; without a name, list them all.

    Published scores have columns or tables of their own. Crops are chosen by a rule, never by hand:
    the JSON file beside a figure has the rule and the places.

    Args:
        item: table1, figure4, and so on.
        output: Folder for the files. A suite that has to be trained goes into its folder `suite`,
            and continues there if the command is repeated.
        data: Folder with the paper's sets (RealSR, DRealSR, D2CRealSR) in folders named so, or with
            other pairs, which are labelled as such; by default pairs of $D2CSR_DATA.
    """
    if item is None:
        _print_items()
        return 0
    chosen = find_item(item)
    if output is None:
        raise UsageError(item, "needs a folder for its files", "Give one with --output.")
    _check_options(options)
    from d2csr.figures.paper import make_item

    sources, code = _find_sources(chosen, models, output=output, data=data)
    written = make_item(chosen, sources, out=output, options=options)
    print_line(*written)
    return code


def _check_options(options: FigureOptions) -> None:
    for name, value in vars(options).items():
        if value < 1:
            raise UsageError(f"--{name}", f"{value} is too small", "Give 1 or more.")


def _find_sources(
    item: PaperItem, models: ModelSources, *, output: Path, data: Path | None
) -> tuple["Sources", int]:
    """Return the sources of an item, trained if need be, and the exit code so far."""
    from d2csr.figures.paper import Sources, find_pair_sets, open_models, suite_models

    pairs = [] if item.kind in {"suite", "size"} else find_pair_sets(data)
    if models.name or item.suite is None:
        return Sources(open_models(models.name), models.suite, pairs), 0
    folder, code = models.suite, 0
    if folder is None:
        from d2csr.suites.run import run_suite  # imports PyTorch

        folder = output / "suite"
        summary = run_suite(find_suite(item), folder)
        for line in summary.failures:
            print_note(f"failed: {line}")
        code = summary.exit_code
    return Sources(suite_models(item, folder), folder, pairs), code


def _print_items() -> None:
    """Print what can be made, and the suite that each is trained by."""
    width = max(len(item.caption) for item in ITEMS)
    for item in ITEMS:
        needs = "pairs alone" if item.suite is None else f"suite {item.suite}.yaml, or --name"
        print_line(f"{item.name:9} {item.caption:{width}}  {needs}")
