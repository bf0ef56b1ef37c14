"""The variants of the study: recipes of the same training work, networks of the same time.

All come from `experiments/divergence.yaml`. The work of a step is counted in convolutions: once
for a frozen part, three times for a trained one (forward, and backward for inputs and weights).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from d2csr.core.config import ModelConfig
from d2csr.core.network_cost import gflop_per_lr_mp, network_cost
from d2csr.training.recipe import Recipe, read_recipe

BASE = Path(__file__).parents[2] / "experiments" / "divergence.yaml"
ONE_PREDICTION = {"children": 1, "depth": 1, "convergence_channels": 0}
WTA_PATCH_LR_PX = 4
_FROZEN, _TRAINED = 1, 3  # times the work of a forward pass


@dataclass(frozen=True)
class Variant:
    """A way to train and to fuse.

    Attributes:
        title: of its row in tables.
        model: settings of the network that differ from the base.
        sizes: settings among which those of the same time are sought; none: the base's network.
        loss: settings of the loss that differ from the base.
        networks: independent networks, whose results are averaged.
    """

    title: str
    model: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[Mapping[str, Any], ...] = ()
    loss: Mapping[str, Any] = field(default_factory=dict)
    networks: int = 1


def _grid(**choices: range) -> tuple[Mapping[str, Any], ...]:
    """Return every combination of settings."""
    return tuple(dict(zip(choices, each, strict=True)) for each in product(*choices.values()))


VARIANTS: dict[str, Variant] = {
    "triplet": Variant("tree, triplet term"),
    "no_triplet": Variant("tree, no triplet term", loss={"alpha": {"alpha": 0.0}}),
    "one_trunk": Variant(
        "one trunk, 32 channels",
        model={**ONE_PREDICTION, "channels": 32},
        sizes=_grid(groups=range(1, 5), blocks=range(1, 13)),
    ),
    "four": Variant(
        "four networks, averaged",
        model=ONE_PREDICTION,
        sizes=_grid(groups=range(1, 5), blocks=range(1, 9)),
        networks=4,
    ),
    "plain_mean": Variant(
        "tree, triplet term, plain mean",
        model={"convergence_channels": 0},
        sizes=_grid(trunk_groups=range(20)),
    ),
    "wta": Variant("tree, winner-takes-all", loss={"alpha": {"alpha": 0.0}, "divergence": "wta"}),
    "triplet_strong": Variant("tree, ten times the triplet term", loss={"alpha": {"alpha": 0.2}}),
}
DEFAULT_VARIANTS = tuple(VARIANTS)[:6]


def read_base(scale: int, *, train: str | None = None) -> Recipe:
    """Return the base recipe at a scale, with other training pairs if they are given."""
    base = read_recipe(BASE)
    values = base.to_dict()
    values["model"]["scale"] = scale
    if train is not None:
        values["data"]["train"] = train
        values |= {"licence": "unstated", "data_note": "unstated"}
    return Recipe.model_validate(values)


def candidates(base: ModelConfig, variant: Variant) -> list[ModelConfig]:
    """Return the networks that a variant may have, the one with the fewest operations first."""
    values = base.to_dict() | dict(variant.model)
    configs = [ModelConfig.from_dict(values | dict(size)) for size in variant.sizes or ({},)]
    by_cost: dict[float, ModelConfig] = {}
    for config in configs:  # of networks with equal cost, the one listed first
        by_cost.setdefault(_forward_gflop(config), config)
    return [by_cost[cost] for cost in sorted(by_cost)]


def make_recipes(
    base: Recipe, name: str, *, model: ModelConfig, steps: int, seed: int
) -> dict[str, Recipe]:
    """Return the recipes of a variant's networks by the names of their runs.

    Args:
        base: of all variants.
        name: in `VARIANTS`.
        model: the network that takes the same time.
        steps: of the base's divergence stage; other stages and variants are scaled to it.
        seed: of the variant; the networks of one seed have different seeds.
    """
    variant, values = VARIANTS[name], base.to_dict()
    recipes: dict[str, Recipe] = {}
    for network in range(variant.networks):
        run = f"{name}-{seed}" + (f"-{network + 1}" if variant.networks > 1 else "")
        loss = values["loss"] | dict(variant.loss)
        loss["wta"] = loss["wta"] | {"patch_px": WTA_PATCH_LR_PX * model.scale}
        settings = {"name": f"divergence-{run}", "seed": 100 * seed + network, "loss": loss}
        stages = list(_stages(base, model, steps=steps, networks=variant.networks))
        settings |= {"model": model.to_dict(), "stages": stages}
        recipes[run] = Recipe.model_validate(values | settings)
    return recipes


def training_pflop(recipe: Recipe) -> float:
    """Return the operations of a training, in 1e15."""
    lr_mp = recipe.data.batch_size * recipe.data.patch_px**2 / 1e6
    steps = {stage.kind: stage.steps for stage in recipe.stages}
    gflop = sum(n * step_gflop(recipe.d2csr, kind) for kind, n in steps.items())
    return gflop * lr_mp / 1e6


def step_gflop(config: ModelConfig, kind: str) -> float:
    """Return the operations of a stage's step per LR megapixel, in 1e9."""
    cost = network_cost(config, collapsed=True)
    tree = gflop_per_lr_mp((*cost.trunk, *cost.tails))
    if kind == "divergence":
        return _TRAINED * tree
    return _FROZEN * tree + _TRAINED * gflop_per_lr_mp(cost.convergence)


def _forward_gflop(config: ModelConfig) -> float:
    return network_cost(config, collapsed=True).gflop_per_lr_mp


def _stages(
    base: Recipe, model: ModelConfig, *, steps: int, networks: int
) -> Iterator[dict[str, Any]]:
    """Yield the stages, as long as the work of the base at `steps` allows.

    Without a convergence network, its share of the work goes to the divergence stage.
    """
    first = base.stages[0]
    factor = steps / first.steps
    lengths = {stage.kind: max(1, round(factor * stage.steps)) for stage in base.stages}
    work = sum(n * step_gflop(base.d2csr, kind) for kind, n in lengths.items()) / networks
    if not model.has_convergence:
        lengths = {"divergence": max(1, round(work / step_gflop(model, "divergence")))}
    elif model != base.d2csr:
        raise ValueError("a network with a convergence network has to be the base's")
    warmup = round(factor * first.warmup)
    for stage in base.stages:
        if stage.kind in lengths:
            values = stage.model_dump() | {"steps": lengths[stage.kind]}
            yield values | ({"warmup": warmup} if stage is first else {})
