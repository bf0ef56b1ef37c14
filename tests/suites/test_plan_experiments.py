"""The suite files in `experiments/suites` are plans as they stand, on the data that they name."""

from pathlib import Path

import pytest

from d2csr.suites.config import read_suite
from d2csr.suites.plan import check_suite, plan_rate_trials

SUITES = sorted((Path(__file__).resolve().parents[2] / "experiments" / "suites").glob("*.yaml"))


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_every_recipe_of_the_suite_is_valid(file, data_folder, tmp_path):
    suite = read_suite(file)
    if file.stem == "table4":  # whose pairs the user makes
        nikon = {"scale": 3, "test": {"set5": str(data_folder / "city100/nikon_d5500_x3/test")}}
        pairs = suite.data["bicubic-x4"].model_copy(update=nikon)
        suite = suite.model_copy(update={"data": {"bicubic-x4": pairs}})
    trials = check_suite(suite, file=file, out=tmp_path)
    assert len(trials) >= len(suite.systems)
    assert all(trial.trained or trial.steps == suite.steps for trial in trials)
    plan_rate_trials(suite, file=file, out=tmp_path)
