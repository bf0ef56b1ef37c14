"""Recipes: YAML read into a typed tree, with every error at its line."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml

from d2csr.checkpoint.io import load_network, read_state
from d2csr.core.bundle import read_bundle
from d2csr.core.config import ModelConfig, preset
from d2csr.core.errors import CheckpointError, RecipeError
from d2csr.engine.model import shipped_bundles, shipped_names
from d2csr.export.bundle_writer import export_bundle
from d2csr.losses.reconstruction import WtaConfig
from d2csr.losses.triplet import AlphaSchedule, TripletConfig
from d2csr.training.distributed import resolve_precision
from d2csr.training.recipe import Recipe, read_recipe
from d2csr.training.train import train
from tests.tiny_models import METADATA, random_network
from tests.tiny_systems import TINY
from tests.training.conftest import recipe_values, write_pairs, write_recipe

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml"))
NAMES = [path.stem for path in EXPERIMENTS]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=NAMES)
def test_every_experiment_is_a_recipe(path):
    assert read_recipe(path).steps > 0


def test_every_scale_of_the_paper_has_its_recipe():
    scales = {path.stem: read_recipe(path).model.scale for path in EXPERIMENTS}
    assert {f"paper_x{s}": s for s in (2, 3, 4, 8)}.items() <= scales.items()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=NAMES)
def test_every_experiment_trains_when_made_small(path, tmp_path):
    """Its own scale, precision, stages, losses, mean, border and base; few channels and steps."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values.setdefault("model", read_recipe(path).model.to_dict())  # that of the initial weights
    scale = values["model"]["scale"]
    pairs = write_pairs(tmp_path / "pairs", size_px=12, scale=scale)
    small = {"channels": 4, "groups": 1, "blocks": 1, "convergence_channels": 4}
    values["model"] |= TINY.get(values["model"].get("system"), small)
    values["data"] = {"train": str(pairs), "patch_px": 8, "batch_size": 2}
    values["stages"] = [{**stage, "steps": 2} for stage in values["stages"]]
    values |= {"intervals": {"log": 1}, "compile": False, "initial_weights": None}
    train(write_recipe(tmp_path / "small.yaml", values), output=tmp_path / "run")
    card = json.loads((tmp_path / "run" / "bundle" / "bundle.json").read_text(encoding="utf-8"))
    assert card["scale"] == scale
    state = read_state(tmp_path / "run" / "checkpoints" / f"step-{2 * len(values['stages']):08d}")
    chosen = values.get("precision", "fp32" if "system" in values["model"] else "auto")
    assert state["precision"] == resolve_precision(chosen, torch.device("cpu"))


def test_all_errors_are_reported_together_with_their_lines(tmp_path):
    path = tmp_path / "faulty.yaml"
    path.write_text(
        "name: x\nmodel:\n  scale: 5\n  chanels: 4\ndata: {train: a}\n"
        "stages:\n  - {kind: joint, steps: 0}\nloss: {alfa: 1}\n"
    )
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    text = str(caught.value)
    for part in (
        "4 errors",
        "line 3: model.scale",
        "line 4: model.chanels: unknown key; the nearest known one is channels",
        "line 7: stages.0.steps",
        "line 8: loss.alfa: unknown key; the nearest known one is alpha",
    ):
        assert part in text


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [\n", "\x00"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text):
    path = tmp_path / "none.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=str(path)):
        read_recipe(path)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"gone\.yaml"):
        read_recipe(tmp_path / "gone.yaml")


def test_without_a_model_the_recipe_has_that_of_its_initial_weights(tmp_path, pairs):
    """All but the pooling window, which holds no weights and is chosen for the finished model."""
    folder = tmp_path / "first"
    network = random_network(blocks=2, tail="collapsed", pooling_px=5, base="bicubic")
    export_bundle(network, folder, metadata=METADATA)
    values = recipe_values(pairs, initial_weights=str(folder))
    for given in (None, {}, {"scale": 2}, {"blocks": 2}):
        values["model"] = given
        if given is None:
            del values["model"]
        recipe = read_recipe(write_recipe(tmp_path / "r.yaml", values))
        assert recipe.model == replace(network.config, pooling_px=None)
    values["model"] = {"pooling_px": 7}
    assert Recipe.model_validate(values).model == replace(network.config, pooling_px=7)
    values["model"] = {"scale": 2, "preset": "photo"}
    assert Recipe.model_validate(values).model == preset("photo", 2)


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_model_is_the_initial_weights_of_a_run(tmp_path, name):
    bundle = shipped_bundles()[shipped_names().index(name)]
    pairs = write_pairs(tmp_path / "pairs", scale=bundle.card.scale)
    values = recipe_values(pairs, initial_weights=name)
    del values["model"]
    values["stages"] = [{"kind": "joint", "steps": 1, "learning_rate": 1e-9}]
    train(write_recipe(tmp_path / "r.yaml", values), output=tmp_path / "run")
    card = read_bundle(tmp_path / "run" / "bundle").card
    assert card.config == replace(bundle.card.config, pooling_px=None)
    assert card.metadata.steps == 1 + (bundle.card.metadata.steps or 0)
    before, after = (load_network(each) for each in (bundle.folder, tmp_path / "run"))
    for name, weight in before.state_dict().items():
        assert torch.allclose(weight, after.state_dict()[name], atol=1e-7), name


def test_initial_weights_that_are_not_there_are_answered_with_the_shipped_names(tmp_path, pairs):
    values = recipe_values(pairs, initial_weights="photo-x22")
    problem = r"photo-x22: is neither a shipped model, a file nor a folder\. Shipped models: .*x2"
    with pytest.raises(CheckpointError, match=problem):
        train(write_recipe(tmp_path / "r.yaml", values), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_written_recipe_reads_back_as_itself(tmp_path):
    recipe = read_recipe(EXPERIMENTS[0])
    path = write_recipe(tmp_path / "copy.yaml", recipe.to_dict())
    assert read_recipe(path) == recipe


def test_halving_needs_its_length():
    values = yaml.safe_load(EXPERIMENTS[0].read_text(encoding="utf-8"))
    values["stages"][0]["schedule"] = "halving"
    with pytest.raises(ValueError, match="halve_every"):
        Recipe.model_validate(values)


def test_an_unset_variable_in_a_path_is_reported_before_training(tmp_path, pairs, monkeypatch):
    monkeypatch.delenv("NO_SUCH_PLACE", raising=False)
    values = yaml.safe_load(EXPERIMENTS[0].read_text(encoding="utf-8"))
    values["data"]["train"] = "$NO_SUCH_PLACE/train"
    with pytest.raises(Exception, match=r"\$NO_SUCH_PLACE/train: names a variable"):
        train(write_recipe(tmp_path / "r.yaml", values), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        ("model", ModelConfig),
        ("triplet", TripletConfig),
        ("alpha", AlphaSchedule),
        ("wta", WtaConfig),
    ],
)
def test_every_setting_of_network_and_loss_is_a_key_of_the_recipe(section, settings):
    """They are declared once, in the dataclass that the network or the loss is built from."""
    recipe = read_recipe(EXPERIMENTS[0])
    chosen = recipe.model if section == "model" else getattr(recipe.loss, section)
    values = recipe.to_dict() if section == "model" else recipe.to_dict()["loss"]
    assert type(chosen) is settings
    assert list(values[section]) == [field.name for field in fields(settings)]


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ("data", "patch", "the nearest known one is patch_px"),
        ("data", "validation", "the nearest known one is validate_on"),
        ("data", "size", "the nearest known one is batch_size"),
        ("data", "crops", "known ones are train, validate_on, patch_px, batch_size"),
        ("stages", "lr", "the nearest known one is learning_rate"),
        ("stages", "rate", "the nearest known one is learning_rate"),
        ("stages", "halve", "the nearest known one is halve_every"),
        ("stages", "momentum", "known ones are kind, steps"),
        ("optimizer", "ema", "the nearest known one is ema_decay"),
        ("optimizer", "gradient_clip_norm", "the nearest known one is clip_norm"),
        ("optimizer", "lr", "known ones are name, beta1, beta2"),
        ("model", "chanels", "the nearest known one is channels"),
        ("model", "width", "known ones are scale, channels"),
    ],
)
def test_an_unknown_key_is_answered_with_what_it_means_or_with_all_that_are_known(
    pairs, section, key, message
):
    values = recipe_values(pairs)
    part = values.setdefault(section, {})
    (part[0] if section == "stages" else part)[key] = 1
    with pytest.raises(RecipeError, match=rf"{key}: unknown key; {message}"):
        read_recipe(write_recipe(pairs / "r.yaml", values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "x"}, "seed: must be a whole number"),
        ({"seed": 0.5}, "seed: must be a whole number"),
        ({"seed": -1}, "seed: must be at least 0"),
        ({"licence": 3}, "licence: must be text"),
        ({"compile": "perhaps"}, "compile: must be true or false"),
        ({"data": {"train": 5}}, "data.train: must be a list"),
        ({"data": "pairs"}, "data: must be keys with values"),
        ({"optimizer": {"beta1": 1}}, "optimizer.beta1: must be below 1"),
        ({"optimizer": {"clip_norm": 0}}, "optimizer.clip_norm: must be above 0"),
        ({"optimizer": {"clip_norm": "no"}}, "optimizer.clip_norm: must be a number"),
        ({"data": {"train": "a", "mask_limit": 2}}, "data.mask_limit: must be at most 1"),
        ({"stages": [{"kind": "joint"}]}, "stages.0.steps: is missing"),
    ],
)
def test_errors_are_in_plain_words(tmp_path, pairs, change, message):
    """Not in pydantic's; its next version may change them, and this test then fails."""
    path = write_recipe(tmp_path / "r.yaml", recipe_values(pairs, **change))
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    (line,) = caught.value.problem.splitlines()[1:]
    assert line.split(": ", 1)[1] == message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "name: [x\n a: b",
            (
                "is not YAML: line 2: did not find expected ',' or ']'",  # libyaml
                "is not YAML: line 2: expected ',' or ']', but got ':'",
            ),
        ),
        (
            "name: \x07",
            (
                "is not YAML: unacceptable character #x0007: control characters are not allowed",
                "is not YAML: unacceptable character #x0007: special characters",
            ),
        ),
        (b"\xff\xfe\x00", "is not YAML: "),
    ],
)
def test_a_file_that_is_no_yaml_is_refused_in_one_line(tmp_path, text, problem):
    path = tmp_path / "r.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert caught.value.problem.startswith(problem)
    assert "\n" not in str(caught.value)


def test_errors_inside_a_dataclass_are_reported_at_their_lines(tmp_path):
    path = tmp_path / "faulty.yaml"
    path.write_text(
        "name: x\nmodel:\n  scale: 4\n  depth: 0\n  deep_residual: maybe\n  pooling_px: 4\n"
        "data: {train: a}\nstages: []\nloss:\n  triplet: {margin: 1}\n  alpha:\n    active: -1\n"
        "test_pooling_px: 2\n"
    )
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    for part in (
        "line 4: model.depth: 0 is not a whole number",
        "line 5: model.deep_residual: 'maybe' is neither true nor false",
        "line 6: model.pooling_px: 4 is not an odd number",
        "line 8: stages: at least one stage is needed",
        "line 10: loss.triplet.margin: unknown key; the nearest known one is margins",
        "line 11: loss.alpha: ",
        "line 13: test_pooling_px: 2 is not an odd number",
    ):
        assert part in str(caught.value)


def test_errors_of_the_winner_takes_all_loss_name_line_and_reason(tmp_path):
    path = tmp_path / "faulty.yaml"
    head = (
        "name: x\nmodel: {scale: 4}\ndata: {train: a}\nstages: [{kind: joint, steps: 1}]\nloss:\n"
    )
    for body, part in {
        "  divergence: wtaa\n": "line 6: loss.divergence: must be 'triplet' or 'wta'",
        "  wta:\n    epsilon: 2\n": "line 6: loss.wta: epsilon 2.0 is not in 0..0.5",
        "  wta: {patch: 8}\n": "wta.patch: unknown key; the nearest known one is patch_px",
        "  divergence: wta\n  alpha: {alpha: 0.1}\n": "leave it out with wta",
    }.items():
        path.write_text(head + body)
        with pytest.raises(RecipeError) as caught:
            read_recipe(path)
        assert part in str(caught.value)


@pytest.mark.parametrize("kind", ["convergence", "together"])
def test_a_stage_of_a_convergence_network_that_is_not_there_is_refused(kind):
    values = _values(model={"scale": 2, "convergence_channels": 0})
    with pytest.raises(ValueError, match=rf"0, so a {kind} stage has nothing to train"):
        Recipe.model_validate(values | {"stages": [{"kind": kind, "steps": 1}]})


def test_a_preset_is_the_networks_settings_and_others_replace_it():
    values = {"scale": 2, "preset": "paper-0.19m", "channels": 8, "tail": None}
    recipe = Recipe.model_validate(_values(model=values))
    assert recipe.model == replace(preset("paper-0.19m", 2), channels=8)
    with pytest.raises(ValueError, match="no preset is named 'papr'; choose one of paper, "):
        Recipe.model_validate(_values(model={"scale": 2, "preset": "papr"}))


def _values(**changes):
    stages = [{"kind": "joint", "steps": 1}]
    return {"name": "x", "model": {"scale": 2}, "data": {"train": "a"}, "stages": stages, **changes}


def test_keys_of_the_first_release_are_read():
    now = _values(
        data={"train": "a", "batch_size": 2},
        optimizer={"ema_decay": 0.5},
        intervals={"validation": 7, "images": 3, "keep_checkpoints": 9, "log": 5},
        initial_weights="b",
    )
    before = _values(
        data={"train": "a", "batch": 2},
        optimizer={"average": 0.5},
        pace={"validate_every": 7, "pictures": 3, "keep": 9, "log": 5},
        initial="b",
    )
    assert Recipe.model_validate(before) == Recipe.model_validate(now)
    with pytest.raises(ValueError, match="batch\n"):
        Recipe.model_validate(_values(data={"train": "a", "batch": 2, "batch_size": 2}))


def test_shares_that_are_not_given_divide_the_rest_by_pairs():
    train = [{"path": "a", "share": 0.4}, {"path": "b"}, {"path": "c", "repeat": 2.0}]
    recipe = Recipe.model_validate(_values(data={"train": train}))
    assert recipe.data.crop_shares([7, 30, 15]) == pytest.approx([0.4, 0.3, 0.3])
    alone = Recipe.model_validate(_values())
    assert [each.path for each in alone.data.train] == ["a"]
    assert alone.data.crop_shares([9]) == [1.0]


@pytest.mark.parametrize(
    ("train", "problem"),
    [
        ([], "at least one set of pairs"),
        ([{"path": "a", "share": 0.5}], "0.5 together, not 1"),
        ([{"path": "a", "share": 0.7}, {"path": "b", "share": 0.7}], "1.4 together, not 1"),
        ([{"path": "a", "share": 1.0}, {"path": "b"}], "leave nothing for the sources without"),
        ([{"path": "a", "share": 0.5, "repeat": 2}, {"path": "b"}], "no effect beside share"),
        ([{"path": "a", "shares": 0.5}], "shares"),
        ([{"share": 0.5}], "path"),
        (7, "tuple"),
    ],
)
def test_sources_that_can_not_be_shared_are_refused(train, problem):
    with pytest.raises(ValueError, match=problem):
        Recipe.model_validate(_values(data={"train": train}))
