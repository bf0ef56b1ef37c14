"""What divergence is worth: D2C-SR and rivals of the same training work and the same time.

Trains every variant of `divergence_study/variants.py` with every seed, one run after the other in
one thread, and compares them image by image. Sizes are adjusted until all take the same time on the
engine within 5%. x3 is trained on City100's train scenes and tested on its val and test scenes, by
which nothing is chosen; x4 takes the pairs that are given.

Run it again to resume: finished runs are skipped. SIGTERM or SIGINT saves the current run and ends
the script. Results so far are written after each seed: `results/divergence-xS.json`, and a chart of
predictions for docs/divergence.md.

    D2CSR_DATA=DATA python benchmarks/divergence.py --output runs/divergence --only x3
    ... --only x4 --data-x4 TRAIN --test-x4 TEST [TEST ...]
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from divergence_study.charts import CROP_LR_PX, draw_predictions
from divergence_study.equal_time import (
    SIDE_PX,
    Time,
    TimedNetwork,
    engine_seconds,
    find_equal,
    time_together,
)
from divergence_study.measures import (
    PROTOCOL,
    ImageMeasures,
    compare,
    measure,
    open_bundles,
    summarize,
    upscale,
)
from divergence_study.runs import is_finished, train_once
from divergence_study.variants import (
    DEFAULT_VARIANTS,
    VARIANTS,
    candidates,
    make_recipes,
    read_base,
    training_pflop,
)

from d2csr.checkpoint.io import BUNDLE
from d2csr.core.bundle import read_bundle
from d2csr.core.config import ModelConfig
from d2csr.core.errors import D2csrError, UsageError
from d2csr.core.files import write_atomically
from d2csr.core.manifest import Manifest
from d2csr.core.network_cost import network_cost
from d2csr.data.pairs import load_pair
from d2csr.data.sources import open_pairs
from d2csr.data.validation import check_pairs
from d2csr.speed.speed_results import read_machine
from d2csr.training.preflight import check_run_folder
from d2csr.training.recipe import Recipe

RESULTS = Path(__file__).parent / "results"
CHARTS = Path(__file__).parents[1] / "docs" / "images"
CITY100 = "city100/nikon_d5500_x3"
FIRST = next(iter(VARIANTS))  # that the others are compared with, and whose time they take
UNSET = "D2CSR_DATA is not set: set it to the folder that contains city100/"
CHART_CORNER_LR_PX = (150, 150)


@dataclass(frozen=True)
class Study:
    """One scale of the study.

    Attributes:
        scale: of the pairs.
        train: training pairs; None: those of the base recipe.
        tests: folders of test pairs.
        folder: of its runs.
        variants: names in `VARIANTS`.
        seeds: of every variant.
        steps: of the first variant's divergence stage.
        results: folder of the comparison.
        charts: folder of the chart.
    """

    scale: int
    train: Path | None
    tests: tuple[Path, ...]
    folder: Path
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    results: Path
    charts: Path


Runs = dict[str, Recipe]  # the runs of a variant and a seed by their names


def main() -> None:
    """Train what isn't trained yet, and store the comparison."""
    arguments = parse(sys.argv[1:])
    try:
        for scale in (3, 4):
            if arguments.only in (None, f"x{scale}"):
                run_study(make_study(scale, arguments), arguments)
    except D2csrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("build/divergence"))
    parser.add_argument("--only", choices=["x3", "x4"])
    parser.add_argument(
        "--variants", nargs="+", choices=list(VARIANTS), default=list(DEFAULT_VARIANTS)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--data-x4", type=Path, help="training pairs of x4")
    parser.add_argument("--test-x4", type=Path, nargs="+", help="sets of test pairs of x4")
    parser.add_argument(
        "--rounds", type=int, default=11, help="runs of every network that is timed"
    )
    parser.add_argument("--report", action="store_true", help="compare what is trained, no more")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--charts", type=Path, default=CHARTS, help="folder of the charts")
    arguments = parser.parse_args(words)
    if arguments.only != "x3" and not (arguments.data_x4 and arguments.test_x4):
        parser.error("x4 needs --data-x4 and --test-x4; or give --only x3")
    if min(arguments.seeds) < 0 or arguments.steps < 1 or arguments.rounds < 1:
        parser.error("--seeds must be at least 0, --steps and --rounds at least 1")
    return arguments


def make_study(scale: int, arguments: argparse.Namespace) -> Study:
    """Return a scale's part of the study, after checking its test pairs.

    Raises:
        D2csrError: pairs are missing or damaged.
    """
    train, tests = arguments.data_x4, arguments.test_x4
    if scale == 3:
        city100 = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET)) / CITY100
        train, tests = None, [city100 / "val", city100 / "test"]
    for each in tests:
        if errors := check_pairs(open_pairs(each, scale=scale), patch_px=None):
            raise errors[0]
    return Study(
        scale=scale,
        train=train,
        tests=tuple(tests),
        folder=arguments.output / f"x{scale}",
        variants=tuple(dict.fromkeys([FIRST, *arguments.variants])),
        seeds=tuple(dict.fromkeys(arguments.seeds)),
        steps=arguments.steps,
        results=arguments.results,
        charts=arguments.charts,
    )


def run_study(study: Study, arguments: argparse.Namespace) -> None:
    """Train and compare one scale's variants, seed by seed."""
    base = read_base(study.scale, train=None if study.train is None else str(study.train))
    timed = find_sizes(study, base.d2csr, time=engine_seconds(arguments.rounds))
    plan = {
        (name, seed): make_recipes(
            base, name, model=timed[name].model, steps=study.steps, seed=seed
        )
        for seed in study.seeds
        for name in study.variants
    }
    for runs in plan.values():  # before any work: a folder that holds another run is an error
        for run, recipe in runs.items():
            check_run_folder(recipe, study.folder / run, resume=True)
    for seed in study.seeds:
        if not arguments.report:
            for name in study.variants:
                train_all(study, plan[name, seed])
        report(study, plan, timed=timed)


def find_sizes(study: Study, base: ModelConfig, *, time: Time) -> dict[str, TimedNetwork]:
    """Return the network of every variant, measured once and then kept in the study's folder."""
    path = study.folder / "sizes.json"
    kept: dict[str, TimedNetwork] = {}
    if path.is_file():
        values = json.loads(path.read_text(encoding="utf-8"))
        kept = {name: TimedNetwork.from_dict(row) for name, row in values.items()}
    models = {name: network.model for name, network in kept.items()}
    if models.get(FIRST, base) != base:
        problem = "contains the sizes for another network than that of the base recipe"
        raise UsageError(path, problem, remedy="Give another --output.")
    if set(study.variants) <= set(kept):
        return kept
    for name in study.variants:
        if name in models:
            continue
        print(f"x{study.scale} {name}: finding the size of equal time", flush=True)
        networks = VARIANTS[name].networks
        models[name] = find_equal(
            candidates(base, VARIANTS[name]), base, networks=networks, time=time
        )
    counts = {name: VARIANTS[name].networks for name in models}
    timed = time_together(models, base=FIRST, networks=counts, time=time)
    _write_json(path, {name: network.to_dict() for name, network in timed.items()})
    return timed


def train_all(study: Study, runs: Runs) -> None:
    """Train the runs of a variant and a seed that aren't finished.

    Raises:
        SystemExit: a signal stopped a run, which is saved.
    """
    for name, recipe in runs.items():
        folder = study.folder / name
        if is_finished(folder):
            continue
        print(f"x{study.scale} {name}: {recipe.steps} steps", flush=True)
        path = study.folder / "recipes" / f"{name}.yaml"
        write_atomically(path, yaml.safe_dump(recipe.to_dict(), sort_keys=False).encode())
        train_once(path, folder)
        if not is_finished(folder):
            sys.exit(f"x{study.scale} {name}: stopped and saved; run the same command to resume")


def report(
    study: Study,
    plan: Mapping[tuple[str, int], Runs],
    *,
    timed: Mapping[str, TimedNetwork],
) -> None:
    """Measure what is trained; write the comparison and the chart."""
    sets = [open_pairs(each, scale=study.scale) for each in study.tests]
    measures: dict[str, dict[int, list[ImageMeasures]]] = {}
    for (name, seed), runs in plan.items():
        folders = [study.folder / run / BUNDLE for run in runs]
        if all(is_finished(folder.parent) for folder in folders):
            path = study.folder / "measures" / f"{name}-{seed}.json"
            measures.setdefault(name, {})[seed] = measure_once(folders, sets, path=path)
    if FIRST not in measures:
        print(f"x{study.scale}: no seed of {FIRST} is trained yet: nothing to compare")
        return
    rows = {}
    for name, found in measures.items():
        recipes = plan[name, min(found)].values()
        rows[name] = {
            "title": VARIANTS[name].title,
            "networks": VARIANTS[name].networks,
            "model": timed[name].model.to_dict(),
            "parameters": sum(
                network_cost(each.d2csr, collapsed=True).parameters for each in recipes
            ),
            "steps": {stage.kind: stage.steps for stage in next(iter(recipes)).stages},
            "training_pflop": sum(map(training_pflop, recipes)),
            "time_ms": timed[name].time_ms,
            "time_ratio": timed[name].ratio,
            "time_ratio_interval95": timed[name].interval95,
            **summarize(found),
            "difference": None if name == FIRST else compare(found, measures[FIRST]),
            "images": {seed: [image._asdict() for image in row] for seed, row in found.items()},
        }
    values = {
        "date": date.today().isoformat(),
        "machine": read_machine(1).model_dump(),
        "scale": study.scale,
        "train": f"$D2CSR_DATA/{CITY100}/train" if study.train is None else study.train.name,
        "tests": [f"{each.name}, {len(pairs)} images" for each, pairs in _named(study, sets)],
        "protocol": PROTOCOL,
        "timed_lr_px": SIDE_PX,
        "rows": rows,
    }
    _write_json(study.results / f"divergence-x{study.scale}.json", values)
    draw(study, plan, names=list(measures), sets=sets)
    for name, row in rows.items():
        print(f"x{study.scale} {name}: {row['psnr_db']:.3f} dB{in_words(row)}", flush=True)


def in_words(row: Mapping[str, Any]) -> str:
    """Return a variant's difference to the first, for a line of text."""
    if row["difference"] is None:
        return ""
    low, high = row["difference"]["interval95"]
    return f", {row['difference']['diff_psnr_db']:+.3f} ({low:+.3f} to {high:+.3f})"


def measure_once(
    bundles: Sequence[Path], sets: Sequence[Manifest], *, path: Path
) -> list[ImageMeasures]:
    """Return the measures of a variant's seed, from the file if weights and pairs are the same."""
    weights = [read_bundle(bundle).weights_sha256 for bundle in bundles]
    names = [[pair.name for pair in pairs] for pairs in sets]
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if (kept["weights_sha256"], kept["pairs"]) == (weights, names):
            return [ImageMeasures(**image) for image in kept["images"]]
    found = list(measure(open_bundles(bundles), sets))
    values = {"weights_sha256": weights, "pairs": names}
    _write_json(path, values | {"images": [image._asdict() for image in found]})
    return found


def draw(
    study: Study,
    plan: Mapping[tuple[str, int], Runs],
    *,
    names: Sequence[str],
    sets: Sequence[Manifest],
) -> None:
    """Write the chart of a crop of the last set's first image, each variant's first seed."""
    pair, scale = sets[-1].pairs[0], study.scale
    lr, hr = load_pair(pair, scale=scale)
    outputs = {}
    for name in names:
        seed = next(seed for seed in study.seeds if _all_finished(study, plan[name, seed]))
        bundles = [study.folder / run / BUNDLE for run in plan[name, seed]]
        outputs[VARIANTS[name].title] = upscale(open_bundles(bundles), lr)
    side = min(CROP_LR_PX, *lr.shape[:2])
    top, left = (
        scale * max(0, min(at, length - side))
        for at, length in zip(CHART_CORNER_LR_PX, lr.shape[:2], strict=True)
    )
    path = study.charts / f"divergence-x{scale}.webp"
    draw_predictions(outputs, hr, path=path, corner=(top, left), side_px=scale * side)


def _all_finished(study: Study, runs: Runs) -> bool:
    return all(is_finished(study.folder / run) for run in runs)


def _named(study: Study, sets: Sequence[Manifest]) -> list[tuple[Path, Manifest]]:
    return list(zip(study.tests, sets, strict=True))


def _write_json(path: Path, values: Any) -> None:
    write_atomically(path, f"{json.dumps(values, indent=1)}\n".encode())


if __name__ == "__main__":
    main()
