"""The memory of a system's training step, known before the first one."""

import pytest
import torch

from d2csr.core.errors import RecipeError
from d2csr.training import step_memory
from d2csr.training.networks import build_network
from d2csr.training.recipe import Recipe
from d2csr.training.step_memory import check_step_memory, step_bytes
from tests.tiny_systems import TINY
from tests.training.conftest import recipe_values

KINDS = {"edsr": "network", "cdc": "network", "rrdbnet": "adversarial", "srflow": "likelihood"}


def recipe_of(tmp_path, name):
    values = recipe_values(
        tmp_path,
        model={"system": name, "scale": 2, **TINY[name]},
        stages=[{"kind": KINDS[name], "steps": 2}],
        data={"train": str(tmp_path), "patch_px": 16, "batch_size": 4},
    )
    return Recipe.model_validate(values)


def test_it_is_what_torch_keeps_for_the_backward_pass(tmp_path):
    """The same tensors, counted as they are really kept."""
    recipe = recipe_of(tmp_path, "edsr")
    network = build_network(recipe.model)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = network(torch.rand(4, 3, 16, 16))
    weights = sum(value.nbytes for value in network.parameters())
    assert outputs.requires_grad
    assert step_bytes(recipe, "network") == 4 * weights + sum(kept.values())


@pytest.mark.parametrize("name", KINDS)
def test_a_step_that_needs_more_than_is_free_is_refused(tmp_path, monkeypatch, name):
    recipe = recipe_of(tmp_path, name)
    need = step_bytes(recipe, KINDS[name])
    monkeypatch.setattr(step_memory, "free_bytes", lambda: need)
    check_step_memory(recipe)
    monkeypatch.setattr(step_memory, "free_bytes", lambda: need - 1)
    with pytest.raises(RecipeError, match=f"the {KINDS[name]} stage needs at least"):
        check_step_memory(recipe)
