"""Command `evaluate`: score models and finished images on paired photographs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from d2csr.evaluation.checks import DEFAULT_OPTIONS, EvaluationOptions


@dataclass(frozen=True)
class ResultFiles:
    """Files to write the scores to.

    Attributes:
        json: JSON file for all scores, image by image.
        csv: CSV file for the scores of every image.
    """

    json: Path | None = None
    csv: Path | None = None


NO_FILES = ResultFiles()


def evaluate(
    *,
    name: Annotated[tuple[str, ...], Parameter(name=("--name", "-n"), negative=())],
    data: Path,
    protocol: str = "y",
    scale: Annotated[int | None, Parameter(name=("--scale", "-s"))] = None,
    options: Annotated[EvaluationOptions, Parameter(name="*")] = DEFAULT_OPTIONS,
    files: Annotated[ResultFiles, Parameter(name="*")] = NO_FILES,
) -> int:
    """Score models on paired photographs; bicubic enlargement is always included.

    Args:
        name: A shipped model, the folder of a training run or bundle, `bicubic`, `linear`, or a
            folder of finished images named like the pairs. Repeat the option to compare several.
        data: A manifest, or a folder of pairs in any layout that `d2csr data check` accepts.
        protocol: One or several protocols, separated by commas: y, rgb, official, cdc, rgb-full.
        scale: Scale of the pairs, if the folder has pairs of several scales.
    """
    from d2csr.core.files import check_writable  # imported here to keep `--help` fast
    from d2csr.core.results import write_results
    from d2csr.evaluation import evaluate as evaluation
    from d2csr.evaluation.tables import print_results, write_csv

    saved = options.save and options.save / evaluation.RESULTS_NAME
    for path in (files.json, saved, files.csv):
        if path is not None:
            check_writable(path, folder=False)
    protocols = tuple(part.strip() for part in protocol.split(","))
    results = evaluation.evaluate(name, data, protocols=protocols, scale=scale, options=options)
    if files.json is not None:
        write_results(results, files.json)
    if files.csv is not None:
        write_csv(results, files.csv)
    print_results(results)
    return 0
