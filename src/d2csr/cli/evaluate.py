"""Commands `evaluate` and `calibrate`: score models on pairs, and fit models of their error."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from d2csr.core.console import print_line
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
        name: A shipped model, the folder of a training run or bundle, `bicubic`, `lanczos`,
            `linear`, or a folder of finished images named like the pairs. Repeat the option to
            compare several.
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


def calibrate(
    *,
    name: Annotated[str, Parameter(name=("--name", "-n"))],
    data: Annotated[tuple[Path, ...], Parameter(negative=())],
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    split: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    description: str | None = None,
    allow_outside: bool = False,
) -> int:
    """Fit the prediction of a model's error, which `upscale --uncertainty` and `evaluate` use.

    The bundle is copied with the fitted numbers in `uncertainty.json`; weights and graphs stay as
    they are. How well the error is predicted is measured on images left out of the fit.

    Args:
        name: A shipped model, or the folder of a training run or bundle.
        data: Pairs that the model wasn't trained on: a manifest, or a folder in any layout that
            `d2csr data check` accepts. Repeat the option for several sets; each counts the same.
        output: Folder for the bundle; a bundle in it is replaced.
        split: Split to take, for example val; repeat it for several. By default all pairs.
        description: The pairs in words, for the model card; by default the names of the folders.
        allow_outside: Allow manifests whose pairs lie outside their folder.
    """
    from d2csr.core.bundle import read_bundle, verify_bundle  # imported here to keep `--help` fast
    from d2csr.core.bundle_readme import check_bundle_folder, describe_error_model
    from d2csr.core.error_model import write_calibrated_bundle
    from d2csr.engine.model import find_bundle
    from d2csr.evaluation.error_fitting import fit_bundle, open_sets

    bundle = read_bundle(find_bundle(name))
    verify_bundle(bundle)
    check_bundle_folder(output)
    scale = bundle.card.scale
    sets = open_sets(data, scale=scale, splits=split, allow_outside=allow_outside)
    names = description or ", ".join(path.resolve().name for path in data)
    fitted = fit_bundle(bundle, sets, data=names)
    write_calibrated_bundle(bundle, output, model=fitted.model, facts=fitted.facts)
    predicts = describe_error_model(fitted.facts)
    print_line(f"{output}: {bundle.card.name}, error prediction {predicts}")
    return 0
