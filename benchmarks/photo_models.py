"""Accuracy of the models for photographs: real, reduced, compressed and simulated pairs.

Scores every shipped model of a scale, and the bundles of `--model`, beside bicubic, Lanczos and a
fitted linear filter, by protocol `y`. Written after each set to `results/photo_models-xS.json`,
from which docs/photo-models.md takes its tables; what is there already isn't scored again. At the
end the targets are printed. Simulated pairs are those of `photo_pairs.py`; without D2CSR_PAIRS they
and the linear filter of all sets but City100 are left out.

    D2CSR_DATA=DATA D2CSR_PAIRS=PAIRS python benchmarks/photo_models.py
    ... --scale 4 --model runs/photo_x4 --only realsr set5 --limit 5
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from photo_suite.scores import (
    OpenSystem,
    SetScores,
    SuiteScores,
    read_scores,
    score_set,
    split_choosing,
    without_stale,
    write_scores,
)
from photo_suite.sets import Folders, PairSet, find_sets
from photo_suite.targets import check_targets

from d2csr.core.bundle import Bundle, read_bundle, verify_bundle
from d2csr.core.errors import D2csrError, UsageError
from d2csr.core.files import check_writable
from d2csr.engine.model import find_bundle, shipped_bundles
from d2csr.evaluation.systems import Interpolation, Linear, TrainedModel
from d2csr.speed.speed_results import read_machine

RESULTS = Path(__file__).parent / "results"
SCALES = (2, 3, 4)
COMMAND = "python benchmarks/photo_models.py --scale {scale}"


@dataclass(frozen=True)
class Suite:
    """What is scored at one scale.

    Attributes:
        sets: pairs.
        models: one per bundle.
        left_out: the reason for each set that is missing.
        path: file of the scores; None to store nothing.
    """

    scale: int
    sets: list[PairSet]
    models: list[OpenSystem]
    left_out: dict[str, str]
    path: Path | None


def main() -> None:
    """Score what isn't scored yet, at every scale, and print the targets."""
    arguments = parse(sys.argv[1:])
    try:
        with tempfile.TemporaryDirectory() as temporary:
            build = arguments.build or Path(temporary)
            suites = [plan(scale, arguments, build=build) for scale in arguments.scale]
            for suite in suites:
                run(suite)
    except D2csrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def parse(words: list[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=int, nargs="+", choices=SCALES, default=SCALES)
    parser.add_argument("--model", type=Path, nargs="+", default=[], help="bundles or runs")
    parser.add_argument("--only", nargs="+", default=[], metavar="SET", help="keys in the results")
    parser.add_argument("--limit", type=int, help="first images of each set; stores nothing")
    parser.add_argument("--build", type=Path, help="keeps the sets that are made")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    return parser.parse_args(words)


def plan(scale: int, arguments: argparse.Namespace, *, build: Path) -> Suite:
    """Return the sets and models to score at a scale, after checking options and files."""
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError("--limit", f"{arguments.limit} images can't be scored", "Give 1 or more.")
    path = arguments.results / f"photo_models-x{scale}.json"
    check_writable(path, folder=False)
    folders = Folders(_data_folder(), build / f"x{scale}", _pairs_folder())
    bundles = find_bundles(scale, arguments.model)
    sets, left_out = find_sets(scale, folders)
    names = [each.name for each in sets]
    if unknown := sorted(set(arguments.only) - set(names) - set(left_out)):
        remedy = f"The sets of x{scale}: {', '.join(names)}."
        raise UsageError("--only", f"{', '.join(unknown)}: no such set", remedy=remedy)
    chosen = [each.limited(arguments.limit) for each in sets]
    chosen = [each for each in chosen if not arguments.only or each.name in arguments.only]
    models = [OpenSystem(TrainedModel(each.card.name, each)) for each in bundles]
    return Suite(scale, chosen, models, left_out, None if arguments.limit else path)


def find_bundles(scale: int, folders: Sequence[Path]) -> list[Bundle]:
    """Return the shipped bundles of a scale and those of the folders, each once.

    Raises:
        BundleError: a bundle is damaged.
        UsageError: two different models have one name.
    """
    given = [read_bundle(find_bundle(folder)) for folder in folders]
    found: dict[str, Bundle] = {}
    for bundle in [*shipped_bundles(), *given]:
        if bundle.card.scale != scale:
            continue
        verify_bundle(bundle)
        other = found.setdefault(bundle.card.name, bundle)
        if other.weights_sha256 != bundle.weights_sha256:
            problem = f"{other.folder} and {bundle.folder} are different models of one name"
            raise UsageError("--model", problem, remedy="Give one of them another name.")
    return list(found.values())


def run(suite: Suite) -> None:
    """Score all sets of a scale, store the scores after each, and print the targets."""
    for reason in suite.left_out.values():
        print(f"x{suite.scale}, left out: {reason}", flush=True)
    earlier = None if suite.path is None else read_scores(suite.path)
    sets = {} if earlier is None else without_stale(earlier.sets, suite.models)
    linear: dict[Path, OpenSystem] = {}
    for pairs in suite.sets:
        systems = [*_baselines(pairs, linear), *suite.models]
        scores = score_set(
            pairs,
            systems,
            kept=sets.get(pairs.name),
            report=lambda line: print(f"x{suite.scale}, {line}", flush=True),
        )
        sets[pairs.name] = scores
        if pairs.name == "realsr":
            sets |= split_choosing(scores)
        print_set(scores)
        if suite.path is not None:
            write_scores(_results(suite, sets), suite.path)
    for target in check_targets(sets):
        print(f"{'met' if target.is_met else 'MISSED'}: {target.text}: {target.value:.2f}")


def _baselines(pairs: PairSet, linear: dict[Path, OpenSystem]) -> list[OpenSystem]:
    """Return the systems without training; filters that are fitted are kept in `linear`."""
    baselines = [OpenSystem(Interpolation(name)) for name in ("bicubic", "lanczos")]
    if pairs.fit is not None:
        folder, fitted_on = pairs.fit
        if folder not in linear:
            linear[folder] = OpenSystem(Linear(folder), fitted_on=fitted_on)
        baselines.append(linear[folder])
    return baselines


def print_set(scores: SetScores) -> None:
    """Print one line per system of a set."""
    print(f"{scores.title} ({len(scores.names)} images, {scores.lr})")
    for name, system in scores.systems.items():
        row = system.summary
        if row is None:
            continue
        over = ""
        if row.over_bicubic_db is not None and row.over_bicubic_interval95 is not None:
            low, high = row.over_bicubic_interval95
            over = f", over bicubic {row.over_bicubic_db:+.2f} ({low:+.2f} to {high:+.2f})"
        if row.shift_p50 is not None and row.shift_p95 is not None:
            over += f", brightness shift {row.shift_p50:.2f} / {row.shift_p95:.2f}"
        print(f"  {name}: {row.psnr_db:.2f} dB, SSIM {row.ssim:.4f}{over}", flush=True)


def _results(suite: Suite, sets: dict[str, SetScores]) -> SuiteScores:
    return SuiteScores(
        date=date.today().isoformat(),
        scale=suite.scale,
        command=COMMAND.format(scale=suite.scale),
        machine=read_machine(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))),
        sets=sets,
        left_out={name: why for name, why in suite.left_out.items() if name not in sets},
        targets=check_targets(sets),
    )


def _data_folder() -> Path:
    """Return D2CSR_DATA."""
    value = os.environ.get("D2CSR_DATA")
    if not value or not Path(value).is_dir():
        problem = "is not set" if not value else f"is set to {value}, which is no folder"
        remedy = "Set it to the folder that contains benchmarks/ and realsr_x4_crops/."
        raise UsageError("D2CSR_DATA", problem, remedy=remedy)
    return Path(value)


def _pairs_folder() -> Path | None:
    """Return D2CSR_PAIRS; None if it isn't set."""
    value = os.environ.get("D2CSR_PAIRS")
    if value and not Path(value).is_dir():
        remedy = "Make it with benchmarks/photo_pairs.py, or unset the variable."
        raise UsageError("D2CSR_PAIRS", f"is set to {value}, which is no folder", remedy=remedy)
    return Path(value) if value else None


if __name__ == "__main__":
    main()
