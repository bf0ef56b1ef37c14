"""Optimizers of the compared systems, what they leave fixed, and when steps may be added."""

import pytest
import torch

from d2csr.checkpoint.io import last_checkpoint
from d2csr.training.loop import fit
from d2csr.training.networks import initial_network
from d2csr.training.preflight import find_changed_past
from d2csr.training.recipe import Recipe
from tests.tiny_systems import TINY
from tests.training.conftest import recipe_values
from tests.training.test_train_resume import make_run, stop_after, tensors


def recipe_of(pairs, name, *, kind="network", steps=4, **changes):
    stage = {"kind": kind, "steps": steps, "learning_rate": 1e-3}
    values = recipe_values(pairs, model={"system": name, "scale": 2, **TINY[name]}, stages=[stage])
    del values["loss"]
    return Recipe.model_validate({**values, **changes})


def test_sgd_resumes_bit_for_bit(tmp_path, pairs):
    recipe = recipe_of(pairs, "vdsr", optimizer={"name": "sgd", "clip_step": 1e-3})
    whole, loader = make_run(recipe, tmp_path / "whole")
    assert fit(whole, loader, callback=None)
    part, loader = make_run(recipe, tmp_path / "parts")
    assert not fit(part, loader, callback=stop_after(part, 2))
    part, loader = make_run(recipe, tmp_path / "parts")
    assert fit(part, loader, callback=None)
    one, other = (tensors(last_checkpoint(tmp_path / name)) for name in ("whole", "parts"))
    assert one.keys() == other.keys()
    assert any("momentum_buffer" in name for _, name in one)
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def test_no_weight_moves_further_than_clip_step(tmp_path, pairs):
    """In the first step, which has no momentum yet."""
    optimizer = {"name": "sgd", "clip_step": 1e-5}
    stage = {"kind": "network", "steps": 1, "learning_rate": 100.0}
    recipe = recipe_of(pairs, "vdsr", optimizer=optimizer, stages=[stage])
    before = initial_network(recipe).state_dict()
    trainer, loader = make_run(recipe, tmp_path / "run")
    assert fit(trainer, loader, callback=None)
    after = trainer.network.state_dict()
    moved = [float((after[name] - before[name]).abs().max()) for name in before]
    assert max(moved) == pytest.approx(1e-5, rel=0.02)


def test_what_a_network_fixes_stays_fixed(tmp_path, pairs):
    """EDSR subtracts a fixed mean, and RCAN, as its authors' code, one that is trained."""
    for name, is_trained in (("edsr", False), ("rcan", True)):
        trainer, loader = make_run(recipe_of(pairs, name, steps=1), tmp_path / name)
        assert fit(trainer, loader, callback=None)
        means = {p.grad is not None for n, p in trainer.network.named_parameters() if "mean" in n}
        assert means == {is_trained}


def test_a_trained_flow_is_not_initialized_again(tmp_path, pairs):
    """A new one is, by its first batch, and its average too."""
    recipe = recipe_of(pairs, "srflow", kind="likelihood", steps=1)
    trainer, loader = make_run(recipe, tmp_path / "first")
    assert not trainer.network.is_initialized
    assert fit(trainer, loader, callback=None)
    assert trainer.average.module.is_initialized
    name = "levels.0.steps.0.norm.logs"
    again = recipe.model_copy(update={"initial_weights": str(last_checkpoint(tmp_path / "first"))})
    given = initial_network(again).state_dict()[name].clone()
    trainer, loader = make_run(again, tmp_path / "second")
    assert fit(trainer, loader, callback=None)
    # Adam's first step is the learning rate; another batch's deviation would be far off
    assert (trainer.network.state_dict()[name] - given).abs().max() <= 1.01e-3


@pytest.mark.parametrize(
    ("name", "kind", "is_allowed"),
    [
        ("edsr", "network", True),
        ("drcn", "network", False),  # the weight of its supervision falls over the stage
        ("srflow", "network", True),
        ("srflow", "likelihood", False),  # its encoder would have been frozen for longer
    ],
)
def test_steps_are_added_where_those_before_stay_the_same(pairs, name, kind, is_allowed):
    before = recipe_of(pairs, name, kind=kind)
    now = recipe_of(pairs, name, kind=kind, steps=6)
    assert find_changed_past(before, now, step=4) == [[], ["stages"]][not is_allowed]
