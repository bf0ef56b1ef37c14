"""Compared systems, trained from recipes: every one, its loss, its resume and its bundle."""

import json
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import yaml

from d2csr.checkpoint import load_network
from d2csr.checkpoint.io import last_checkpoint, read_file
from d2csr.core.bundle import read_bundle
from d2csr.core.errors import CheckpointError, RecipeError
from d2csr.losses.adversarial import discriminator_losses, generator_loss
from d2csr.losses.systems import LOSSES
from d2csr.models.networks.srflow import SRFlow
from d2csr.models.systems import SYSTEMS, SystemModel
from d2csr.training.loop import fit
from d2csr.training.networks import initial_network, make_adversary
from d2csr.training.recipe import Recipe, read_recipe
from d2csr.training.stages import STAGE_SPECS, LossInputs
from d2csr.training.train import train
from tests.tiny_systems import NAMES, TINY
from tests.training.conftest import recipe_values, write_pairs, write_recipe
from tests.training.test_train_resume import make_run

SRFLOW_STAGES = [
    {"kind": "network", "steps": 2, "learning_rate": 1e-3},
    {"kind": "likelihood", "steps": 4, "learning_rate": 1e-3},
]
ESRGAN_STAGES = [
    {"kind": "network", "steps": 2, "learning_rate": 1e-3},
    {"kind": "adversarial", "steps": 4, "learning_rate": 1e-3},
]
ADVERSARIAL = {"adversarial": {"discriminator_features": 4}}


def system_values(pairs, name, **changes) -> dict:
    """Return a recipe of a tiny network, of 12 steps of its own loss."""
    values = {
        "model": {"system": name, "scale": 2, **TINY[name]},
        "data": {"train": str(pairs), "patch_px": 16, "batch_size": 4},
        "loss": {},
        "stages": [{"kind": "network", "steps": 12, "learning_rate": 2e-3}],
    }
    return deepcopy(recipe_values(pairs, **{**values, **changes}))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("systems") / "pairs", size_px=32)


def random_inputs(recipe: Recipe, **changes) -> LossInputs:
    torch.manual_seed(3)
    hr = torch.rand(2, 3, 32, 32)
    lr = torch.nn.functional.avg_pool2d(hr, 2)
    return replace(LossInputs(lr, hr, recipe.loss), **changes)


@pytest.mark.parametrize("name", NAMES)
def test_every_system_trains_from_a_recipe(pairs, name):
    recipe = Recipe.model_validate(system_values(pairs, name))
    network = initial_network(recipe)
    inputs = random_inputs(recipe)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        (term,) = STAGE_SPECS["network"].terms(network, inputs)
        optimizer.zero_grad()
        term.value.backward()
        optimizer.step()
        losses.append(term.value.item())
    assert all(map(torch.isfinite, torch.tensor(losses)))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["drcn", "lapsrn", "cdc", "lpkpn", "memnet", "edsr"])
def test_the_loss_of_a_step_is_that_of_the_table(pairs, name):
    recipe = Recipe.model_validate(system_values(pairs, name))
    network = initial_network(recipe)
    inputs = random_inputs(recipe, progress=0.25)
    (term,) = STAGE_SPECS["network"].terms(network, inputs)
    expected = LOSSES[SYSTEMS[name].loss](
        network.training_outputs(inputs.lr), network.training_target(inputs.hr), progress=0.25
    )
    assert term.value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_another_distance_is_that_of_the_sr(pairs):
    recipe = Recipe.model_validate(system_values(pairs, "lapsrn", loss={"system": "l1"}))
    network = initial_network(recipe)
    inputs = random_inputs(recipe)
    (term,) = STAGE_SPECS["network"].terms(network, inputs)
    assert term.value.item() == pytest.approx((network(inputs.lr) - inputs.hr).abs().mean().item())


def test_one_backward_pass_trains_generator_and_discriminator_apart(pairs):
    values = system_values(pairs, "rrdbnet", stages=ESRGAN_STAGES, loss=ADVERSARIAL)
    recipe = Recipe.model_validate(values)
    network, adversary = initial_network(recipe), make_adversary(recipe, torch.device("cpu"))
    inputs = random_inputs(recipe, adversary=adversary)
    judge = adversary.discriminator
    terms = STAGE_SPECS["adversarial"].terms(network, inputs)
    sum(term.weight * term.value for term in terms).backward()
    found = (
        [p.grad.clone() for p in judge.parameters()],
        [p.grad.clone() for p in network.parameters()],
    )

    judge.zero_grad(), network.zero_grad()  # BasicSR's order: two passes
    sr = network(inputs.lr)
    for parameter in judge.parameters():
        parameter.requires_grad_(False)
    pixel = (sr - inputs.hr).abs().mean()
    (1e-2 * pixel + 5e-3 * generator_loss(judge(inputs.hr), judge(sr))).backward()
    for parameter in judge.parameters():
        parameter.requires_grad_(True)
    sum(discriminator_losses(judge(inputs.hr), judge(sr.detach()))).backward()
    for gradients, module in zip(found, (judge, network), strict=True):
        for gradient, parameter in zip(gradients, module.parameters(), strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-7)


def srflow_recipe(pairs, **changes) -> dict:
    return system_values(pairs, "srflow", stages=SRFLOW_STAGES, **changes)


def test_the_encoder_of_srflow_is_frozen_for_its_share(pairs):
    recipe = Recipe.model_validate(srflow_recipe(pairs))
    network = initial_network(recipe)
    assert isinstance(network, SRFlow)
    for progress, is_trained in ((0.49, False), (0.5, True)):
        inputs = random_inputs(recipe, progress=progress)
        network.zero_grad()
        STAGE_SPECS["likelihood"].prepare(network, inputs)
        (term,) = STAGE_SPECS["likelihood"].terms(network, inputs)
        term.value.backward()
        assert (network.trunk.first.weight.grad is not None) == is_trained
        assert network.levels[0].steps[0].mixing.weight.grad is not None


def test_srflow_decodes_what_it_encodes_and_its_likelihood_rises(pairs):
    values = srflow_recipe(pairs)
    values["stages"][1]["steps"] = 30
    trainer, loader = make_run(Recipe.model_validate(values), pairs / "none")
    rows = []

    class Rows:
        def after_step(self, metrics):
            rows.append(dict(metrics))

    assert fit(trainer, loader, callback=Rows())
    bits = [row["bits_per_pixel"] for row in rows if "bits_per_pixel" in row]
    assert sum(bits[-5:]) < sum(bits[:5])
    network = trainer.network.eval()
    inputs = random_inputs(trainer.recipe)
    with torch.no_grad():
        conditions = network.training_outputs(inputs.lr)
        latents, _ = network.encode(inputs.hr, conditions)
        torch.testing.assert_close(
            network.decode(latents, conditions), inputs.hr, rtol=0, atol=1e-4
        )


RESUMED = {
    "plain": ("safmn", [{"kind": "network", "steps": 6, "learning_rate": 1e-3}]),
    "batch normalization": ("srresnet", [{"kind": "network", "steps": 6, "learning_rate": 1e-3}]),
    "adversarial": ("rrdbnet", ESRGAN_STAGES),
    "likelihood": ("srflow", SRFLOW_STAGES),
}


@pytest.mark.parametrize("kind", RESUMED)
def test_a_resumed_run_equals_the_uninterrupted_one(pairs, tmp_path, kind):
    name, stages = RESUMED[kind]
    values = system_values(pairs, name, stages=stages, loss=ADVERSARIAL)
    values["intervals"] = {"log": 1, "save": 1, "validation": 1000, "keep_checkpoints": 100}
    recipe = Recipe.model_validate(values)
    trainer, loader = make_run(recipe, tmp_path / "whole")
    assert fit(trainer, loader, callback=None)
    whole = sorted((tmp_path / "whole/checkpoints").iterdir())
    assert len(whole) == 6
    for step in (1, 3, 5):
        folder = tmp_path / f"from{step}"
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / whole[step - 1].name).symlink_to(whole[step - 1])
        trainer, loader = make_run(recipe, folder)
        assert trainer.step == step
        assert fit(trainer, loader, callback=None)
        resumed = last_checkpoint(folder)
        for file in sorted(whole[-1].glob("*.safetensors")):
            expected, _ = read_file(file)
            found, _ = read_file(resumed / file.name)
            assert expected.keys() == found.keys()
            for key, value in expected.items():
                assert value.equal(found[key]), (file.name, key)


def test_a_run_becomes_a_bundle_that_upscales_as_its_network(pairs, tmp_path, capsys):
    validation = write_pairs(tmp_path / "validation", seed=1, size_px=32)
    values = system_values(pairs, "rrdbnet", stages=ESRGAN_STAGES, loss=ADVERSARIAL)
    values["data"]["validate_on"] = str(validation)
    values["intervals"]["validation"] = 3
    recipe = write_recipe(tmp_path / "recipe.yaml", values)
    bundle = train(recipe, output=tmp_path / "run")
    assert "The perceptual term is left out" in capsys.readouterr().err
    card = read_bundle(bundle).card
    assert (card.config.system, card.scale, card.metadata.steps) == ("rrdbnet", 2, 6)
    assert [step for step, _ in card.metadata.runs[0].curve] == [3, 6]
    (score,) = card.metadata.scores
    assert score.psnr_db == pytest.approx(
        max(db for _, db in card.metadata.runs[0].curve), abs=0.05
    )
    assert (
        SystemModel("rrdbnet", 2, sizes=TINY["rrdbnet"]).build().sizes == load_network(bundle).sizes
    )
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert {"pixel", "adversarial", "discriminator_hr"} <= set(log[-2])
    again = read_recipe(tmp_path / "run/recipe.yaml")
    assert again == read_recipe(recipe)
    continued = {**values, "initial_weights": str(bundle)}
    del continued["model"]
    assert Recipe.model_validate(continued).model.build().sizes == load_network(bundle).sizes


COMPILED = """
import functools, sys
import torch
from rich.console import Console
from d2csr.models.systems import build_system
from d2csr.training import networks
torch.compile = functools.partial(torch.compile, backend="eager")
torch.manual_seed(0)
network = build_system("srvgg", scale=2, features=4, middle=1)
names, lr = list(network.state_dict()), torch.rand(1, 3, 8, 8)
before = network(lr), network.training_outputs(lr)[-1]
networks.compile_network(network, device=torch.device("cpu"), console=Console())
torch.testing.assert_close((network(lr), network.training_outputs(lr)[-1]), before)
assert list(network.state_dict()) == names
"""


def test_a_compiled_network_computes_as_an_eager_one():
    # in a process of its own: the compiler can't trace the checks of shapes
    subprocess.run([sys.executable, "-c", COMPILED], check=True, timeout=200)


WRONG = {
    "system": ({"system": "edsrr", "scale": 2}, "model.system", "the nearest is edsr"),
    "bicubic": ({"system": "bicubic", "scale": 2}, "model.system", "bicubic isn't trained"),
    "size": ({"system": "edsr", "scale": 2, "size": "tiny"}, "model.size", "no size 'tiny'"),
    "scale": ({"system": "edsr", "scale": 7}, "model.scale", "scale 7 is none of its scales"),
    "no scale": ({"system": "edsr"}, "model", "is needed: one of 2, 3, 4"),
    "option": ({"system": "edsr", "scale": 2, "widths": 3}, "model.widths", "no option 'widths'"),
    "value": ({"system": "edsr", "scale": 2, "blocks": 0}, "model.blocks", "blocks=0"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_model_that_does_not_exist_is_an_error_at_its_key(pairs, tmp_path, kind):
    model, key, text = WRONG[kind]
    path = write_recipe(tmp_path / "r.yaml", system_values(pairs, "edsr", model=model))
    with pytest.raises(RecipeError, match=text) as caught:
        read_recipe(path)
    assert key in str(caught.value)
    assert "line" in str(caught.value)


STAGES = {
    "divergence": ("edsr", "a divergence stage can't train this network; use network or adv"),
    "likelihood": ("rcan", "a likelihood stage can't train this network"),
    "adversarial": ("srflow", "use network or likelihood"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_stages_of_other_networks_are_refused(pairs, tmp_path, stage):
    name, text = STAGES[stage]
    values = system_values(pairs, name, stages=[{"kind": stage, "steps": 2}])
    with pytest.raises(RecipeError, match=text):
        read_recipe(write_recipe(tmp_path / "r.yaml", values))


def test_the_name_of_d2csr_is_accepted(pairs):
    values = recipe_values(pairs)
    named = {**values, "model": {"system": "d2csr", **values["model"]}}
    assert Recipe.model_validate(named).model == Recipe.model_validate(values).model


def test_crops_that_would_be_padded_are_refused(pairs, tmp_path):
    values = system_values(pairs, "cdc")
    values["data"]["patch_px"] = 20
    with pytest.raises(RecipeError, match=r"20 isn't a multiple of 16.*Use 16"):
        train(write_recipe(tmp_path / "r.yaml", values), output=tmp_path / "run")
    assert not (tmp_path / "run/recipe.yaml").exists()


def test_missing_vgg_weights_are_refused_before_training(pairs, tmp_path):
    loss = {"adversarial": {"vgg_file": str(tmp_path / "vgg.safetensors")}}
    values = system_values(pairs, "rrdbnet", stages=ESRGAN_STAGES, loss=loss)
    with pytest.raises(CheckpointError, match=r"vgg\.safetensors"):
        train(write_recipe(tmp_path / "r.yaml", values), output=tmp_path / "run")


def test_weights_of_another_system_are_refused(pairs, tmp_path):
    values = system_values(pairs, "safmn")
    values["stages"][0]["steps"] = 1
    run = train(write_recipe(tmp_path / "a.yaml", values), output=tmp_path / "run")
    other = {**system_values(pairs, "edsr"), "initial_weights": str(run)}
    with pytest.raises(CheckpointError, match="is another network: safmn at x2"):
        initial_network(Recipe.model_validate(yaml.safe_load(yaml.safe_dump(other))))
