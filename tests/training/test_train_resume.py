"""A run that was stopped and resumed ends with the same weights, bit for bit."""

import json
import multiprocessing
import os
import signal
import time

import pytest
import torch
import yaml

from d2csr.checkpoint.io import (
    EMA_FILE,
    MODEL_FILE,
    OPTIMIZER_FILE,
    last_checkpoint,
    load_network,
    read_file,
    read_state,
)
from d2csr.core.bundle import read_bundle
from d2csr.core.errors import CheckpointError, RecipeError, UsageError
from d2csr.training import loop
from d2csr.training.distributed import DistributedContext
from d2csr.training.loop import fit
from d2csr.training.preflight import TrainJob, find_changed_past, make_loader, prepare_sources
from d2csr.training.train import train
from d2csr.training.trainer import make_trainer
from tests.training.conftest import recipe_values, tiny_recipe, write_recipe

CPU = DistributedContext(torch.device("cpu"))


def make_run(recipe, folder):
    """Return trainer and loader as users get them: channels last, at the newest checkpoint."""
    job = TrainJob(recipe, folder, prepare_sources(recipe), validation=None, resume=True)
    return make_trainer(recipe, folder, devices=CPU), make_loader(job, devices=CPU)


def stop_after(run, steps):
    """Return a callback that sends SIGTERM to this process after so many steps."""

    class Stopper:
        def after_step(self, metrics):
            if run.step == steps:
                os.kill(os.getpid(), signal.SIGTERM)

    return Stopper()


def tensors(folder):
    return {
        (file, name): value
        for file in (MODEL_FILE, EMA_FILE, OPTIMIZER_FILE)
        for name, value in read_file(folder / file)[0].items()
    }


@pytest.mark.parametrize("stopped_at", [1, 2, 3])
def test_four_steps_are_some_a_resume_and_the_rest(tmp_path, pairs, stopped_at):
    """Stage D ends at step 2: stops before, at and after the boundary."""
    recipe = tiny_recipe(pairs)
    whole, loader = make_run(recipe, tmp_path / "whole")
    assert fit(whole, loader, callback=None)
    first, loader = make_run(recipe, tmp_path / "parts")
    assert not fit(first, loader, callback=stop_after(first, stopped_at))
    assert first.step == stopped_at
    second, loader = make_run(recipe, tmp_path / "parts")
    assert second.step == stopped_at
    assert fit(second, loader, callback=None)
    ends = (
        tensors(tmp_path / name / "checkpoints" / "step-00000004") for name in ("whole", "parts")
    )
    one, other = ends
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def test_the_convergence_stage_leaves_the_divergence_network_as_it_was(tmp_path, pairs):
    recipe = tiny_recipe(pairs)
    run, loader = make_run(recipe, tmp_path / "run")
    before = {}

    class Keeper:
        def after_step(self, metrics):
            if run.step == 3:
                before.update({k: v.clone() for k, v in run.network.state_dict().items()})

    fit(run, loader, callback=Keeper())
    after = run.network.state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"convergence"}


def _save_without_end(recipe, folder):
    run, _ = make_run(recipe, folder)
    while True:
        run.step += 1
        run.save()


def test_a_kill_during_a_save_leaves_a_whole_checkpoint(tmp_path, pairs):
    recipe = tiny_recipe(pairs, intervals={"keep": 1})
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    steps = []
    for attempt in range(4):
        process = context.Process(target=_save_without_end, args=(recipe, tmp_path / "run"))
        process.start()
        before = last_checkpoint(tmp_path / "run")
        while last_checkpoint(tmp_path / "run") == before:
            assert process.is_alive()
            time.sleep(0.01)
        time.sleep(0.05 + 0.013 * attempt)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        folder = last_checkpoint(tmp_path / "run")
        assert folder is not None
        steps.append(read_state(folder)["step"])
        assert len(tensors(folder)) > 0
        load_network(folder)
        run, _ = make_run(recipe, tmp_path / "run")
        assert run.step == steps[-1]
    assert max(steps) > 1


def test_a_folder_with_a_run_is_not_overwritten(tmp_path, pairs):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    train(recipe, output=tmp_path / "run")
    with pytest.raises(UsageError, match="--resume"):
        train(recipe, output=tmp_path / "run")


def test_a_run_is_not_resumed_with_another_recipe(tmp_path, pairs):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    train(recipe, output=tmp_path / "run")
    other = write_recipe(tmp_path / "other.yaml", recipe_values(pairs, seed=5))
    with pytest.raises(RecipeError, match="differ: seed"):
        train(other, output=tmp_path / "run", resume=True)


LAST = {"kind": "convergence", "learning_rate": 1e-3}
HALVING = {"schedule": "halving", "halve_every": 2}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([{**LAST, "steps": 2}], [{**LAST, "steps": 5}]),
        ([{**LAST, **HALVING, "steps": 3}], [{**LAST, **HALVING, "steps": 5}]),
        ([{**LAST, "steps": 2}], [{**LAST, "steps": 2}, {**LAST, "kind": "joint", "steps": 3}]),
        (
            [{**LAST, "steps": 2, "schedule": "cosine"}],
            [{**LAST, "steps": 2, "schedule": "cosine"}, {**LAST, "steps": 2}],
        ),
    ],
)
def test_a_finished_run_with_more_steps_equals_one_of_all_steps(tmp_path, pairs, before, after):
    first = {"kind": "divergence", "steps": 2, "learning_rate": 1e-3}
    short, long = (tiny_recipe(pairs, stages=[first, *stages]) for stages in (before, after))
    assert find_changed_past(short, long, step=short.steps) == []
    for recipe, folder in ((long, "whole"), (short, "parts"), (long, "parts")):
        run, loader = make_run(recipe, tmp_path / folder)
        assert fit(run, loader, callback=None)
    one, other = (tensors(last_checkpoint(tmp_path / name)) for name in ("whole", "parts"))
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


D, C = ({"kind": kind, "steps": 2, "learning_rate": 1e-3} for kind in ("divergence", "convergence"))


@pytest.mark.parametrize(
    ("step", "stages", "is_allowed"),
    [
        (4, [{**D, "steps": 3}, C], False),  # the second stage would have begun later
        (2, [{**D, "steps": 3}, C], False),  # its optimizer is new at step 2
        (1, [{**D, "steps": 3}, C], True),
        (4, [D], False),
        (2, [D, {**C, "schedule": "constant", "steps": 9}], True),
        (4, [D, {**C, "schedule": "cosine", "steps": 9}], False),
        (2, [D], False),
        (0, [C], True),
    ],
)
def test_only_steps_to_come_may_change(pairs, step, stages, is_allowed):
    before = tiny_recipe(pairs)  # D, then C with a schedule of cosine
    now = tiny_recipe(pairs, stages=stages, licence="MIT", intervals={"log": 7})
    assert find_changed_past(before, now, step=step) == [[], ["stages"]][not is_allowed]


def test_a_finished_run_is_resumed_with_more_steps(tmp_path, pairs):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs, stages=[D]))
    train(recipe, output=tmp_path / "run")
    longer = recipe_values(pairs, stages=[{**D, "steps": 3}], description="longer")
    train(write_recipe(tmp_path / "r.yaml", longer), output=tmp_path / "run", resume=True)
    metadata = read_bundle(tmp_path / "run" / "bundle").card.metadata
    assert (metadata.steps, metadata.description) == (3, "longer")


def _with_precision(run, precision):
    """Write another precision, or none, into the newest checkpoint's state."""
    path = last_checkpoint(run) / "state.json"
    state = {**json.loads(path.read_text()), "precision": precision}
    path.write_text(json.dumps({key: value for key, value in state.items() if value is not None}))


def test_a_run_is_not_resumed_in_another_precision(tmp_path, pairs):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    train(recipe, output=tmp_path / "run")
    _with_precision(tmp_path / "run", "bf16")
    with pytest.raises(CheckpointError, match="trained in bf16, and precision here is fp32"):
        train(recipe, output=tmp_path / "run", resume=True)


def test_a_checkpoint_without_a_precision_is_resumed(tmp_path, pairs, capfd):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    train(recipe, output=tmp_path / "run")
    _with_precision(tmp_path / "run", None)
    train(recipe, output=tmp_path / "run", resume=True)
    assert "resuming at step 4 of 4" in capfd.readouterr().err


def test_a_resume_without_a_run_reports_that_a_new_one_begins(tmp_path, pairs, capfd):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    train(recipe, output=tmp_path / "run", resume=True)
    text = f"{tmp_path / 'run'} contains no checkpoint to resume from: a new run begins\n"
    assert text in capfd.readouterr().err
    train(recipe, output=tmp_path / "other")
    assert "a new run begins" not in capfd.readouterr().err


def test_the_bundles_folder_is_returned_or_none_if_a_signal_stopped_training(
    tmp_path, pairs, monkeypatch
):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    step = loop.train_step

    def stop_at_step_2(trainer, batch):
        if trainer.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stop_at_step_2)
        assert train(str(recipe), output=str(tmp_path / "run")) is None
    assert read_state(last_checkpoint(tmp_path / "run"))["step"] == 2
    assert train(recipe, output=tmp_path / "run", resume=True) == tmp_path / "run" / "bundle"


def test_a_run_folder_of_the_first_release_is_resumed(tmp_path, pairs):
    """Its recipe lists a preset, null where the preset holds, and keys that are renamed now."""
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(pairs))
    train(recipe, output=tmp_path / "run")
    saved = tmp_path / "run" / "recipe.yaml"
    values = yaml.safe_load(saved.read_text())
    values["model"] |= {"preset": "paper", "depth": None, "pooling_px": None}
    intervals = values.pop("intervals")
    values["pace"] = {
        "log": intervals["log"],
        "save": intervals["save"],
        "validate_every": intervals["validation"],
        "pictures": intervals["images"],
        "keep": intervals["keep_checkpoints"],
    }
    values["data"]["batch"] = values["data"].pop("batch_size")
    saved.write_text(yaml.safe_dump(values))
    assert train(recipe, output=tmp_path / "run", resume=True) is not None
