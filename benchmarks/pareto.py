"""Which network is worth its time: quality against speed at equal training work, at x4.

Trains every network of `CANDIDATES` on the mixture for photographs, with as much work as the most
expensive one gets in `--steps` steps, one run after the other in one thread, and scores the last
weights, averaged, on the windows that may choose (`choose`). Then it trains the best three for
`--final-steps` steps. Times are measured on the engine, all networks in turn, in two threads.

Run it again to resume: finished runs are skipped. SIGTERM or SIGINT saves the current run and ends
the script. Results so far are written after each run: `results/pareto.json`.

    D2CSR_DATA=DATA D2CSR_PAIRS=PAIRS python benchmarks/pareto.py --output runs/pareto
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import yaml
from divergence_study.equal_time import SIDE_PX, engine_seconds
from divergence_study.runs import is_finished, train_once
from divergence_study.variants import training_pflop
from jaxtyping import Float

from d2csr.checkpoint.io import BUNDLE
from d2csr.core.bundle import read_bundle
from d2csr.core.config import ModelConfig
from d2csr.core.errors import D2csrError
from d2csr.core.files import write_atomically
from d2csr.core.network_cost import network_cost
from d2csr.data.pairs import load_pair
from d2csr.data.sources import open_pairs
from d2csr.engine import open_engine
from d2csr.evaluation.bootstrap import interval95, paired_differences
from d2csr.metrics.protocols import score
from d2csr.speed.speed_results import read_machine
from d2csr.training.recipe import Recipe, expand_path, read_recipe

BASE = Path(__file__).parents[1] / "experiments" / "pareto_x4.yaml"
RESULTS = Path(__file__).parent / "results" / "pareto.json"
PROTOCOL = "y"
FINALISTS = 3
THREADS = 2
_LOCAL = {"pooling_px": 41}  # a window about as large as the crops that networks are trained on

# Settings that differ from those of experiments/pareto_x4.yaml, the preset `photo`.
CANDIDATES: Mapping[str, dict[str, Any]] = {
    "photo: 3 shared groups, 2 leaves": {},
    "weights on the SR grid": {"convergence_grid": "sr"},
    "plain mean": {"convergence_channels": 0, "convergence_grid": "sr"},
    "1 leaf": {"children": 1, "convergence_channels": 0, "convergence_grid": "sr",
               "trunk_groups": 4},
    "3 leaves, 28 channels": {"children": 3, "channels": 28},
    "4 leaves in 2 levels, 24 channels": {"depth": 2, "channels": 24, "trunk_groups": 2},
    "split after 1 group": {"trunk_groups": 1, "groups": 1},
    "split at once": {"trunk_groups": 0, "groups": 1, "blocks": 3},
    "groups of 1 block": {"trunk_groups": 5, "blocks": 1},
    "groups of 3 blocks": {"trunk_groups": 2, "blocks": 3},
    "local attention": {"attention": True, **_LOCAL},
    "local attention, split after 1 group": {"attention": True, **_LOCAL, "trunk_groups": 1,
                                             "groups": 1},
    "24 channels": {"channels": 24, "trunk_groups": 6},
    "40 channels": {"channels": 40, "trunk_groups": 1},
    "48 channels, 1 leaf": {"channels": 48, "trunk_groups": 1, "blocks": 3, "children": 1,
                            "convergence_channels": 0, "convergence_grid": "sr"},
    "16 channels, depth 2, local attention": {"channels": 16, "depth": 2, "trunk_groups": 0,
                                              "groups": 2, "attention": True, **_LOCAL},
}  # fmt: skip


class Plan(NamedTuple):
    """A run: its name, and its recipe."""

    name: str
    recipe: Recipe


def main() -> None:
    """Train what isn't trained yet, and store the table."""
    arguments = parse(sys.argv[1:])
    try:
        base = read_recipe(BASE)
        plans = plan(base, steps=arguments.steps)
        for each in plans:
            train(each, arguments.output)
            report(plans, arguments)
        scores = {each.name: mean_psnr_db(each, arguments.output) for each in plans}
        best = sorted(plans, key=lambda each: -scores[each.name])[:FINALISTS]
        finals = [lengthened(each, base, steps=arguments.final_steps) for each in best]
        for each in finals:
            train(each, arguments.output)
            report([*plans, *finals], arguments)
    except D2csrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def parse(words: list[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("build/pareto"))
    parser.add_argument("--steps", type=int, default=6000, help="of the most expensive network")
    parser.add_argument("--final-steps", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=9, help="runs of every network timed")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(words)


def plan(base: Recipe, *, steps: int) -> list[Plan]:
    """Return the runs of all candidates; the most expensive one has `steps` steps."""
    recipes = {
        name: with_steps(base, changed(base.d2csr, changes), steps=steps)
        for name, changes in CANDIDATES.items()
    }
    work = max(steps * training_pflop(each) / each.steps for each in recipes.values())
    return [
        Plan(name, with_steps(base, each.d2csr, steps=round(steps * work / training_pflop(each))))
        for name, each in recipes.items()
    ]


def changed(model: ModelConfig, changes: Mapping[str, Any]) -> ModelConfig:
    """Return a network with other settings."""
    return ModelConfig.from_dict(model.to_dict() | dict(changes))


def with_steps(base: Recipe, model: ModelConfig, *, steps: int) -> Recipe:
    """Return the recipe of a network; stages have the shares of the base's, warm-up its length.

    Without a convergence network, its stage is left out.
    """
    stages = [
        stage.model_dump() | {"steps": max(1, round(steps * stage.steps / base.steps))}
        for stage in base.stages
        if model.has_convergence or stage.kind == "divergence"
    ]
    return Recipe.model_validate(base.to_dict() | {"model": model.to_dict(), "stages": stages})


def lengthened(run: Plan, base: Recipe, *, steps: int) -> Plan:
    """Return a run of the same network with more steps."""
    recipe = with_steps(base, run.recipe.d2csr, steps=steps)
    return Plan(f"{run.name}, {steps} steps", recipe)


def run_folder(run: Plan, output: Path) -> Path:
    """Return the folder of a run."""
    kept = "".join(letter if letter.isalnum() else "-" for letter in run.name)
    return output / f"{kept}-{run.recipe.steps}"


def train(run: Plan, output: Path) -> None:
    """Train a run that isn't finished.

    Raises:
        SystemExit: a signal stopped it; it is saved.
    """
    folder = run_folder(run, output)
    if is_finished(folder):
        return
    print(f"{run.name}: {run.recipe.steps} steps", flush=True)
    path = output / "recipes" / f"{folder.name}.yaml"
    write_atomically(path, yaml.safe_dump(run.recipe.to_dict(), sort_keys=False).encode())
    train_once(path, folder)
    if not is_finished(folder):
        sys.exit(f"{run.name}: stopped and saved; run the same command to resume")


def image_scores(run: Plan, output: Path) -> dict[str, list[float]]:
    """Return the PSNR of each choosing window, by the kind of its pair; computed once."""
    folder = run_folder(run, output)
    bundle = read_bundle(folder / BUNDLE)
    path = folder / "choose.json"
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["weights_sha256"] == bundle.weights_sha256:
            return kept["psnr_db"]
    engine = open_engine(bundle)
    manifest = open_pairs(expand_path(str(run.recipe.data.validate_on)), scale=bundle.card.scale)
    found: dict[str, list[float]] = {}
    for pair in manifest:
        lr, hr = load_pair(pair, scale=manifest.scale)
        sr = engine.run(lr.astype(np.float32) / np.float32(255)).sr
        psnr_db = score(sr, hr, protocol=PROTOCOL, scale=manifest.scale).psnr_db
        found.setdefault(pair.camera or "real", []).append(psnr_db)
    values = {"weights_sha256": bundle.weights_sha256, "psnr_db": found}
    write_atomically(path, json.dumps(values).encode())
    return found


def window_scores(run: Plan, output: Path) -> Float[np.ndarray, " n"]:
    """Return the PSNR of each choosing window."""
    return np.concatenate(list(image_scores(run, output).values()))


def times_ms(runs: Sequence[Plan], output: Path, *, rounds: int) -> dict[ModelConfig, float]:
    """Return the time of each network per LR megapixel, all measured in turn; kept in a file."""
    path = output / "times.json"
    kept: dict[str, float] = {}
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
    networks = list(dict.fromkeys(each.recipe.d2csr for each in runs))
    keys = {network: json.dumps(network.to_dict(), sort_keys=True) for network in networks}
    if not set(keys.values()) <= set(kept):
        seconds = engine_seconds(rounds, threads=THREADS)(networks)
        pixels = SIDE_PX**2 / 1e6
        kept = {keys[n]: 1e3 * median(s) / pixels for n, s in zip(networks, seconds, strict=True)}
        write_atomically(path, json.dumps(kept, indent=1).encode())
    return {network: kept[key] for network, key in keys.items()}


def mean_psnr_db(run: Plan, output: Path) -> float:
    """Return the mean PSNR over the kinds of pairs, each of which counts the same."""
    return float(np.mean([np.mean(each) for each in image_scores(run, output).values()]))


def report(plans: list[Plan], arguments: argparse.Namespace) -> None:
    """Write the table of all runs that are finished."""
    output = arguments.output
    done = [each for each in plans if is_finished(run_folder(each, output))]
    times = times_ms(done, output, rounds=arguments.rounds)
    first = window_scores(done[0], output)
    rows: list[dict[str, Any]] = []
    for run in done:
        kinds = image_scores(run, output)
        cost = network_cost(run.recipe.d2csr, collapsed=True)
        difference = paired_differences(window_scores(run, output), first)
        rows.append(
            {
                "name": run.name,
                "model": run.recipe.d2csr.to_dict(),
                "parameters": cost.parameters,
                "gflop_per_lr_mp": cost.gflop_per_lr_mp,
                "receptive_field_px": run.recipe.d2csr.trunk_receptive_field_px,
                "steps": run.recipe.steps,
                "training_pflop": training_pflop(run.recipe),
                "ms_per_lr_mp": times[run.recipe.d2csr],
                "psnr_db": mean_psnr_db(run, output),
                "psnr_db_by_kind": {kind: float(np.mean(each)) for kind, each in kinds.items()},
                "difference_db": float(difference.mean()),
                "difference_interval95": interval95(difference),
            }
        )
    values = {
        "date": date.today().isoformat(),
        "machine": read_machine(THREADS).model_dump(),
        "protocol": PROTOCOL,
        "timed_lr_px": SIDE_PX,
        "rows": rows,
    }
    write_atomically(arguments.results, f"{json.dumps(values, indent=1)}\n".encode())
    print(f"{rows[-1]['name']}: {rows[-1]['psnr_db']:.3f} dB", flush=True)


if __name__ == "__main__":
    main()
