"""Speedup of a training step over a plain step of the same network on this machine.

The plain step is that of the literature: fp32, NCHW, eager, Adam with PyTorch's defaults. Ours is
`d2csr.training.loop.train_step` as recipes run it, eager and compiled. All variants alternate in
one process; each ratio is of medians, with the middle 95% of bootstrapped medians as its interval.

    python benchmarks/training_step.py --rounds 7 --threads 2
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot

from d2csr.core.config import ModelConfig
from d2csr.core.files import write_atomically
from d2csr.data.sampling import CropBatch
from d2csr.losses.reconstruction import predictions_loss
from d2csr.models.d2csr import D2CSR
from d2csr.training.distributed import DistributedContext, Precision
from d2csr.training.loop import train_step
from d2csr.training.recipe import Recipe, read_recipe
from d2csr.training.trainer import Trainer

RESULTS = Path(__file__).parent / "results"
EXPERIMENTS = Path(__file__).parents[1] / "experiments"
CASES = {"paper_x4": "paper_x4.yaml", "shipped_x3": "city100_nikon_x3.yaml"}
DEVICES = DistributedContext(torch.device("cpu"))

Step = Callable[[], object]


def main() -> None:
    """Measure every case and write a dated JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each variant, at least 5")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = {name: measure(CASES[name], rounds=arguments.rounds) for name in arguments.cases}
    machine = {
        "processor": platform.machine(),
        "threads": arguments.threads,
        "torch": torch.__version__,
    }
    results = {"date": date.today().isoformat(), "machine": machine, "cases": rows}
    path = RESULTS / f"training_step-{results['date']}.json"
    write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())
    draw(rows, path.with_suffix(".png"))
    for name, row in rows.items():
        print(name, json.dumps(row["speedup_over_plain"], indent=1))


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the ratios with their intervals, a group of bars per case."""
    figure, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
    for index, row in enumerate(rows.values()):
        for shift, (variant, speedup) in enumerate(row["speedup_over_plain"].items()):
            low, high = speedup["interval95"]
            median = speedup["median"]
            position = index + (shift - 1) * 0.27
            label = variant if index == 0 else None
            axes.bar(position, median, 0.25, color=f"C{shift}", label=label)
            interval = [[median - low], [high - median]]
            axes.errorbar(position, median, interval, color="black", capsize=3)
    axes.axhline(1, color="gray", linewidth=0.8)
    axes.set_xticks(range(len(rows)), list(rows))
    axes.set_ylabel("times the plain fp32 NCHW step")
    axes.legend()
    figure.savefig(path, dpi=120)


def measure(recipe_name: str, *, rounds: int) -> dict[str, Any]:
    """Return the seconds per step and the ratios to plain for the first stage of a recipe."""
    recipe = read_recipe(EXPERIMENTS / recipe_name)
    batch = random_batch(recipe)
    steps: dict[str, Step] = {
        "plain": plain_step(recipe, batch),
        "fp32": our_step(recipe, batch, precision="fp32"),
        "bf16": our_step(recipe, batch, precision="bf16"),
        "bf16_compiled": our_step(recipe, batch, precision="bf16", compiled=True),
    }
    for step in steps.values():
        step()
        step()  # code is compiled and memory allocated by now
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
    plain = np.array(seconds["plain"])
    ratios = {name: ratio(plain, np.array(seconds[name])) for name in steps if name != "plain"}
    crop = [recipe.data.batch_size, recipe.data.patch_px, recipe.data.patch_px]
    return {"batch": crop, "rounds": rounds, "seconds": seconds, "speedup_over_plain": ratios}


def ratio(plain: np.ndarray, ours: np.ndarray) -> dict[str, object]:
    """Return the ratio of medians and its bootstrap interval."""
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(plain), (2, 2000, len(plain)))
    medians = np.median(plain[draws[0]], axis=1) / np.median(ours[draws[1]], axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return {"median": float(np.median(plain) / np.median(ours)), "interval95": [low, high]}


def random_batch(recipe: Recipe) -> CropBatch:
    """Return noise of the recipe's size; time doesn't depend on the image."""
    generator = np.random.default_rng(0)
    count, side, scale = recipe.data.batch_size, recipe.data.patch_px, recipe.model.scale
    lr = generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    hr = generator.integers(0, 256, (count, side * scale, side * scale, 3), dtype=np.uint8)
    return CropBatch(lr, hr, ("noise",) * count)


def our_step(
    recipe: Recipe, batch: CropBatch, *, precision: Precision, compiled: bool = False
) -> Step:
    """Return the step of `d2csr train`, without the triplet term, which `plain` lacks."""
    loss = recipe.loss.model_copy(update={"alpha": type(recipe.loss.alpha)()})
    recipe = recipe.model_copy(update={"loss": loss})
    network = network_of(recipe.d2csr)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - not stubbed
    run = Trainer(recipe, Path("unused"), network=network, devices=DEVICES, precision=precision)
    if compiled:
        network.divergence.compile()
    return lambda: train_step(run, batch)


def plain_step(recipe: Recipe, batch: CropBatch) -> Step:
    """Return a step of the same network and loss as in the literature."""
    network = network_of(recipe.d2csr).divergence
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    lr, hr = (
        torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() / 255
        for images in (batch.lr, batch.hr)
    )

    def step() -> None:
        loss = predictions_loss(network(lr), hr, name=recipe.loss.reconstruction)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def network_of(config: ModelConfig) -> D2CSR:
    """Return the network with random weights, always the same ones."""
    torch.manual_seed(0)
    return D2CSR(config)


if __name__ == "__main__":
    main()
