"""Command `evaluate`: score models and finished images on paired photographs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from d2csr.evaluation.checks import NOTHING_MORE, EvaluationOptions


@dataclass(frozen=True)
class Files:
    """Files that keep the figures.

    Attributes:
        json: File for all figures, image by image.
        csv: File for the same as a table.
    """

    json: Path | None = None
    csv: Path | None = None


NO_FILES = Files()


def evaluate(
    *,
    name: Annotated[tuple[str, ...], Parameter(name=("--name", "-n"), negative=())],
    data: Path,
    protocol: str = "y",
    scale: Annotated[int | None, Parameter(name=("--scale", "-s"))] = None,
    extras: Annotated[EvaluationOptions, Parameter(name="*")] = NOTHING_MORE,
    files: Annotated[Files, Parameter(name="*")] = NO_FILES,
) -> int:
    """Score models on paired photographs, bicubic enlargement always beside them.

    Args:
        name: A shipped model, a run, a bundle, `bicubic`, `linear`, or a folder of finished
            images named as the pairs. Repeat it to compare.
        data: Pairs: a manifest, or a folder in any layout that `d2csr data check` knows.
        protocol: How to measure, one or several with commas: y, rgb, official, cdc, rgb-full.
        scale: Which pairs to take, where several scales lie there.
    """
    from d2csr.core.files import check_writable  # `--help` pays for none of these
    from d2csr.core.results import write_results
    from d2csr.evaluation.evaluate import evaluate_models
    from d2csr.evaluation.tables import print_results, write_csv

    protocols = tuple(dict.fromkeys(part.strip() for part in protocol.split(",")))
    wanted = (files.json, extras.save and extras.save / "results.json")
    jsons = [path for path in wanted if path is not None]
    for path in (*jsons, *([files.csv] if files.csv else [])):
        check_writable(path, folder=False)
    results = evaluate_models(name, data, protocols=protocols, scale=scale, extras=extras)
    for path in jsons:
        write_results(results, path)
    if files.csv is not None:
        write_csv(results, files.csv)
    print_results(results)
    return 0
