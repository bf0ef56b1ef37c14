"""Plans of suites: whole recipes per trial, and every error before any training."""

import pytest

from d2csr.core.errors import UsageError
from d2csr.suites.config import read_suite
from d2csr.suites.plan import check_suite, plan_rate_trials, plan_trials
from d2csr.suites.records import TrialRecord, write_record
from tests.suites.conftest import write_suite


def plan(tmp_path, **changes):
    file = write_suite(tmp_path, **changes)
    return read_suite(file), {"file": file, "out": tmp_path / "out"}


def test_steps_stretch_the_stages_in_proportion_and_rates_move_together(tmp_path):
    system = {"learning_rates": [0.002]}
    suite, places = plan(tmp_path, systems={"d2c": system}, steps=9, seeds=[7])
    (trial,) = check_suite(suite, **places)
    assert [stage["steps"] for stage in trial.recipe["stages"]] == [4, 5]
    assert [stage["learning_rate"] for stage in trial.recipe["stages"]] == [0.002, 0.002]
    assert (trial.steps, trial.recipe["seed"], trial.recipe["model"]["scale"]) == (9, 7, 2)


def test_the_rate_of_the_best_validation_is_trained_with(tmp_path):
    system = {"learning_rates": [0.004, 0.002, 0.001]}
    suite, places = plan(tmp_path, systems={"d2c": system}, rate_steps=2)
    attempts = plan_rate_trials(suite, **places)
    assert [trial.rate for trial in attempts] == [0.004, 0.002, 0.001]
    assert {(trial.steps, len(trial.tests)) for trial in attempts} == {(2, 0)}
    _, failed = plan_trials(suite, ["d2c"], **places)
    assert failed == ["d2c on made: none of its learning rates was trained"]
    for trial, psnr_db in zip(attempts, (None, 30.0, 29.0), strict=True):
        trial.folder.mkdir(parents=True)
        write_record(TrialRecord(trial=trial, val_psnr_db=psnr_db))
    trials, failed = plan_trials(suite, ["d2c"], **places)
    assert failed == []
    assert [trial.recipe["stages"][0]["learning_rate"] for trial in trials] == [0.002, 0.002]


def test_a_base_recipe_is_read_beside_the_suite_and_changed_by_it(tmp_path):
    recipe = "model: {channels: 8, groups: 1, blocks: 1}\nstages: [{kind: divergence, steps: 1}]\n"
    (tmp_path / "base.yaml").write_text(recipe)
    suite, places = plan(tmp_path, base="base.yaml", recipe={"optimizer": {"clip_norm": 3.0}})
    trial = check_suite(suite, **places)[0]
    assert trial.recipe["model"]["channels"] == 8
    assert trial.recipe["optimizer"]["clip_norm"] == 3.0


def test_all_errors_of_all_systems_come_before_any_work(tmp_path):
    systems = {
        "wide": {"recipe": {"model": {"chanels": 8}}},
        "gone": {"trained": "nowhere"},
        "short": {"recipe": {"stages": []}},
    }
    suite, places = plan(tmp_path, systems=systems)
    with pytest.raises(UsageError, match="3 errors") as caught:
        check_suite(suite, **places)
    for part in ("systems.wide: .*chanels", "systems.gone: ", "systems.short: .*one stage"):
        assert caught.match(part)
    assert not (tmp_path / "out").exists()
