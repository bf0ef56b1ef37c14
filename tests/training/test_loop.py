"""Steps, stages, rates and averages, one at a time."""

import json
import math
from shutil import rmtree

import numpy as np
import pytest
import torch

import d2csr
from d2csr.checkpoint.io import load_network, read_state, trained_steps
from d2csr.core.bundle import read_bundle
from d2csr.core.errors import CheckpointError, TrainingError
from d2csr.data.sampling import CropLoader
from d2csr.training.loop import fit
from d2csr.training.networks import initial_network
from d2csr.training.optim import learning_rate
from d2csr.training.recipe import Recipe, StageConfig
from d2csr.training.stages import STAGE_SPECS, LossInputs, trained_parameters
from d2csr.training.train import train
from d2csr.training.trainer import make_average
from tests.training.conftest import recipe_values, tiny_recipe, write_recipe
from tests.training.test_train_resume import make_run


def loss_inputs(recipe, seed=0):
    torch.manual_seed(seed)
    hr = torch.rand(2, 3, 24, 24)
    return LossInputs(torch.rand(2, 3, 12, 12), hr, recipe.loss, alpha=0.1)


@pytest.mark.parametrize(
    ("kind", "trained"),
    [
        ("divergence", {"divergence"}),
        ("convergence", {"convergence"}),
        ("joint", {"divergence", "convergence"}),
        ("together", {"divergence", "convergence"}),
    ],
)
def test_a_stage_trains_its_networks_and_no_other(pairs, kind, trained):
    recipe = tiny_recipe(pairs)
    network = initial_network(recipe)
    named = trained_parameters(network, kind)
    assert {name.split(".")[0] for name, _ in named} == trained
    sum(
        term.weight * term.value for term in STAGE_SPECS[kind].terms(network, loss_inputs(recipe))
    ).backward()
    reached = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert reached == trained


def test_together_keeps_the_fusions_loss_from_the_divergence_network(pairs):
    """The gradient of D is the same as in its own stage."""
    recipe = tiny_recipe(pairs)
    gradients = []
    for kind in ("divergence", "together"):
        network = initial_network(recipe)
        trained_parameters(network, kind)
        terms = STAGE_SPECS[kind].terms(network, loss_inputs(recipe))
        sum(term.weight * term.value for term in terms).backward()
        gradients.append([p.grad for p in network.divergence.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", ["divergence", "joint", "together"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_winner_takes_all_replaces_the_predictions_distance(pairs, kind, dtype):
    """In bfloat16 as well, every tail learns."""
    recipe = tiny_recipe(pairs, loss={"reconstruction": "l1", "divergence": "wta"})
    network = initial_network(recipe)
    trained_parameters(network, kind)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        terms = STAGE_SPECS[kind].terms(network, loss_inputs(recipe))
    names = [term.name for term in terms]
    assert "winner_takes_all" in names
    assert not {"predictions", "triplet"} & set(names)
    (value,) = [term.value for term in terms if term.name == "winner_takes_all"]
    value.backward()
    assert all(p.grad.any() for p in network.divergence.tails.parameters())


@pytest.mark.parametrize(
    ("stage", "step", "expected"),
    [
        ({"schedule": "constant"}, 7, 1.0),
        ({"schedule": "constant", "warmup": 4}, 0, 0.25),
        ({"schedule": "constant", "warmup": 4}, 3, 1.0),
        ({"schedule": "halving", "halve_every": 3}, 2, 1.0),
        ({"schedule": "halving", "halve_every": 3}, 3, 0.5),
        ({"schedule": "halving", "halve_every": 3}, 9, 0.125),
        ({"schedule": "cosine"}, 5, 0.5),
        ({"schedule": "cosine", "final_share": 0.2}, 10, 0.2),
        ({"schedule": "cosine"}, 2, 0.5 * (1 + math.cos(math.pi * 0.2))),
    ],
)
def test_the_rate_follows_its_schedule(stage, step, expected):
    part = StageConfig(kind="joint", steps=10, learning_rate=1.0, **stage)
    assert learning_rate(part, step) == pytest.approx(expected)


def test_the_average_is_the_recursion_in_numpy():
    layer = torch.nn.Linear(2, 1, bias=False)
    average = make_average(layer, 0.9)
    expected = layer.weight.detach().numpy().copy()
    generator = np.random.default_rng(0)
    for step in range(60):
        value = generator.normal(size=(1, 2)).astype(np.float32)
        layer.weight.data = torch.from_numpy(value)
        average.update_parameters(layer)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    np.testing.assert_allclose(average.module.weight.detach().numpy(), expected, rtol=1e-5)


def test_a_loss_that_is_not_finite_stops_and_names_step_and_files(tmp_path, pairs):
    recipe = tiny_recipe(pairs)
    run, loader = make_run(recipe, tmp_path / "run")

    class Spoiler:
        def after_step(self, metrics):
            with torch.no_grad():
                run.network.divergence.head.weight[0, 0, 0, 0] = float("nan")

    with pytest.raises(TrainingError, match=r"loss of step 1 is nan, batch: s\d") as caught:
        fit(run, loader, callback=Spoiler())
    assert "--resume" in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(tmp_path, pairs, value):
    run, loader = make_run(tiny_recipe(pairs), tmp_path / "run")
    run.network.divergence.head.bias.register_hook(lambda gradient: gradient * value)
    before = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
    with pytest.raises(TrainingError, match=r"gradients of step 0 are not finite, batch: s\d"):
        fit(run, loader, callback=None)
    after = run.network.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_the_loss_falls_on_a_batch_that_is_repeated(tmp_path, pairs):
    stages = [{"kind": "joint", "steps": 60, "learning_rate": 3e-3}]
    recipe = tiny_recipe(pairs, stages=stages, loss={"reconstruction": "l1"})
    run, loader = make_run(recipe, tmp_path / "run")
    losses = []

    class Keeper:
        def after_step(self, metrics):
            losses.append(metrics["loss"])

    same = CropLoader(loader.sampler)
    same._load = lambda step: loader.sampler.batch(0)  # the same batch at every step
    fit(run, same, callback=Keeper())
    assert losses[-1] < 0.8 * losses[0]


def test_the_log_has_every_step_once_after_a_resume(tmp_path, pairs, validation, capfd):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    train(recipe, output=tmp_path / "run", validate_on=validation)
    log = tmp_path / "run" / "log.jsonl"
    rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")  # as if killed before its last save
    log.write_text(log.read_text() + '{"step": 4, "loss": 9.0}\n{"step": 4, "lo')
    train(recipe, output=tmp_path / "run", validate_on=validation, resume=True)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert [row["stage"] for row in rows if "loss" in row] == ["divergence"] * 2 + [
        "convergence"
    ] * 2
    assert {"learning_rate", "steps_per_s"} <= rows[0].keys()
    assert [row["protocol"] for row in rows if "val_psnr_db" in row] == ["y"]
    assert "validation (protocol y)" in capfd.readouterr().err
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


@pytest.mark.parametrize("kind", ["divergence", "joint"])
def test_one_prediction_trains_to_a_bundle_whose_weights_are_1(tmp_path, pairs, validation, kind):
    """Without a convergence network, the divergence stage chooses the best weights."""
    values = recipe_values(pairs, stages=[{"kind": kind, "steps": 2, "learning_rate": 1e-3}])
    values["model"] |= {"children": 1, "depth": 1, "convergence_channels": 0}
    recipe = write_recipe(tmp_path / "r.yaml", values)
    bundle = train(recipe, output=tmp_path / "run", validate_on=validation)
    lr = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    predicted = d2csr.load(bundle).predict(lr)
    assert (predicted.weights == 1).all()
    assert np.array_equal(predicted.sr, predicted.predictions[0])
    assert not predicted.disagreement.any()
    assert read_state(tmp_path / "run" / "best")["best"]["step"] == 2


def test_test_pooling_px_changes_the_finished_model_but_not_the_trained_one(
    tmp_path, pairs, validation
):
    values = recipe_values(pairs, test_pooling_px=5)
    train(
        write_recipe(tmp_path / "r.yaml", values), output=tmp_path / "run", validate_on=validation
    )
    folder = tmp_path / "run"
    assert [
        load_network(folder / place).config.pooling_px
        for place in ("bundle", "best", "checkpoints/step-00000004")
    ] == [5, 5, None]


def test_the_card_counts_the_steps_behind_the_weights_a_run_began_with(tmp_path, pairs):
    """Whether these lie in a run, a checkpoint or a bundle; a resume counts them once."""
    first, second = tmp_path / "first", tmp_path / "second"
    train(write_recipe(tmp_path / "a.yaml", recipe_values(pairs)), output=first)
    for place in (first, first / "bundle", first / "checkpoints" / "step-00000004"):
        assert trained_steps(place) == 4
    recipe = write_recipe(tmp_path / "b.yaml", recipe_values(pairs, initial_weights=str(first)))
    train(recipe, output=second)
    train(recipe, output=second, resume=True)
    assert trained_steps(second / "checkpoints" / "step-00000004") == 8
    assert read_bundle(second / "bundle").card.metadata.steps == 8


def test_the_card_lists_the_trainings_and_their_validation_curves(tmp_path, pairs, validation):
    """As the logs have them, whether the initial weights lie in a run or in a bundle."""
    values = {"intervals": {"log": 3, "validation": 2}}
    first, second = tmp_path / "first", tmp_path / "second"
    recipe = write_recipe(tmp_path / "a.yaml", recipe_values(pairs, name="first", **values))
    train(recipe, output=first, validate_on=validation)
    rows = [json.loads(line) for line in (first / "log.jsonl").read_text().splitlines()]
    rates = [row["steps_per_s"] for row in rows if "loss" in row]
    (run,) = read_bundle(first / "bundle").card.metadata.runs
    assert (run.name, run.steps) == ("first", 4)
    assert abs(run.seconds - (3 / rates[0] + 1 / rates[1])) <= 0.5
    curve = [(row["step"], row["val_psnr_db"]) for row in rows if "val_psnr_db" in row]
    assert [step for step, _ in run.curve] == [2, 4]
    assert list(run.curve) == curve
    readme = (first / "bundle" / "README.md").read_text()
    assert f"2 {curve[0][1]:.2f}; 4 {curve[1][1]:.2f}" in readme
    for weights in (first, first / "bundle"):
        changes = {"name": "second", "initial_weights": str(weights), **values}
        recipe = write_recipe(tmp_path / "b.yaml", recipe_values(pairs, **changes))
        rmtree(second, ignore_errors=True)
        train(recipe, output=second)
        before, last = read_bundle(second / "bundle").card.metadata.runs
        assert before == run
        assert (last.name, last.steps, last.curve) == ("second", 4, ())


def test_a_larger_network_begins_with_the_images_of_a_smaller_one(tmp_path, pairs):
    first = tmp_path / "first"
    train(write_recipe(tmp_path / "a.yaml", recipe_values(pairs)), output=first)
    small = load_network(first / "checkpoints" / "step-00000004")
    values = recipe_values(pairs, initial_weights=str(first / "checkpoints" / "step-00000004"))
    values["model"] = {**values["model"], "channels": 6, "blocks": 2}
    with pytest.raises(CheckpointError, match=r"another network: channels 4 for 6, blocks 1 for 2"):
        initial_network(Recipe.model_validate(values))
    grown = initial_network(Recipe.model_validate({**values, "grow_initial_weights": True}))
    lr = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(grown.eval()(lr).sr, small(lr).sr, rtol=1e-4, atol=1e-5)
    values["model"] |= {"channels": 3}
    with pytest.raises(CheckpointError, match=r"Only the scale may differ, and channels, "):
        initial_network(Recipe.model_validate({**values, "grow_initial_weights": True}))
