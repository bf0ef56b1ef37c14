"""How much faster a training step is than the plain one of the same network on this machine.

Plain is what the literature runs: fp32, NCHW, eager, Adam as PyTorch sets it up. Ours is
`d2csr.training.loop.train_step` as recipes run it, and the same compiled. All alternate in one
process; each ratio is of medians, its interval the middle 95% of bootstrapped medians.

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
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    rows = {name: measure(CASES[name], rounds=wanted.rounds) for name in wanted.cases}
    machine = {
        "processor": platform.machine(),
        "threads": wanted.threads,
        "torch": torch.__version__,
    }
    found = {"date": date.today().isoformat(), "machine": machine, "cases": rows}
    path = RESULTS / f"training_step-{found['date']}.json"
    write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
    draw(rows, path.with_suffix(".png"))
    for name, row in rows.items():
        print(name, json.dumps(row["speedup_over_plain"], indent=1))


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the ratios with their intervals, a group of bars a case."""
    figure, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
    for place, row in enumerate(rows.values()):
        for shift, (variant, found) in enumerate(row["speedup_over_plain"].items()):
            low, high = found["interval95"]
            middle = found["median"]
            at = place + (shift - 1) * 0.27
            axes.bar(at, middle, 0.25, color=f"C{shift}", label=variant if place == 0 else None)
            axes.errorbar(at, middle, [[middle - low], [high - middle]], color="black", capsize=3)
    axes.axhline(1, color="gray", linewidth=0.8)
    axes.set_xticks(range(len(rows)), list(rows))
    axes.set_ylabel("times the plain fp32 NCHW step")
    axes.legend()
    figure.savefig(path, dpi=120)


def measure(recipe_name: str, *, rounds: int) -> dict[str, Any]:
    """Return seconds a step and ratios to plain for the first stage of a recipe."""
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
        step()  # compiled code and allocations are there now
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begun)
    plain = np.array(seconds["plain"])
    ratios = {name: ratio(plain, np.array(seconds[name])) for name in steps if name != "plain"}
    crop = [recipe.data.batch_size, recipe.data.patch_px, recipe.data.patch_px]
    return {"batch": crop, "rounds": rounds, "seconds": seconds, "speedup_over_plain": ratios}


def ratio(plain: np.ndarray, ours: np.ndarray) -> dict[str, object]:
    """Return the ratio of medians and its bootstrap interval."""
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(plain), (2, 2000, len(plain)))
    drawn = np.median(plain[draws[0]], axis=1) / np.median(ours[draws[1]], axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"median": float(np.median(plain) / np.median(ours)), "interval95": [low, high]}


def random_batch(recipe: Recipe) -> CropBatch:
    """Return noise of the recipe's size: time does not depend on the image."""
    generator = np.random.default_rng(0)
    count, side, scale = recipe.data.batch_size, recipe.data.patch_px, recipe.model.scale
    lr = generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    hr = generator.integers(0, 256, (count, side * scale, side * scale, 3), dtype=np.uint8)
    return CropBatch(lr, hr, ("noise",) * count)


def our_step(
    recipe: Recipe, batch: CropBatch, *, precision: Precision, compiled: bool = False
) -> Step:
    """Return a step as `d2csr train` does it, without the triplet term that `plain` lacks."""
    loss = recipe.loss.model_copy(update={"alpha": type(recipe.loss.alpha)()})
    recipe = recipe.model_copy(update={"loss": loss})
    network = network_of(recipe.model)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - not stubbed
    run = Trainer(recipe, Path("unused"), network=network, devices=DEVICES, precision=precision)
    if compiled:
        network.divergence.compile()
    return lambda: train_step(run, batch)


def plain_step(recipe: Recipe, batch: CropBatch) -> Step:
    """Return the step of the same network and loss as the literature runs it."""
    network = network_of(recipe.model).divergence
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
    """Return the network, the same random one every time."""
    torch.manual_seed(0)
    return D2CSR(config)


if __name__ == "__main__":
    main()
