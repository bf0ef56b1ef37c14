"""The search for a network: equal work, and the whole of it at tiny size."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import yaml

from d2csr.core.config import ModelConfig
from d2csr.training.train import train
from tests.training.conftest import write_pairs

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def pareto(monkeypatch):
    """Return the script."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("pareto")


def test_candidates_are_finite_networks_of_equal_work(pareto):
    runs = pareto.plan(pareto.read_recipe(pareto.BASE), steps=6000)
    assert len({run.recipe.model for run in runs}) == len(runs) >= 12
    assert min(run.recipe.steps for run in runs) == 6000
    work = [pareto.training_pflop(run.recipe) for run in runs]
    assert work == pytest.approx([work[0]] * len(runs), rel=1e-3)
    for run in runs:
        assert run.recipe.model.receptive_field.trunk_lr_px is not None
        assert pareto.network_cost(run.recipe.model, collapsed=True).parameters <= 0.3e6


def test_candidates_are_trained_scored_and_the_best_trained_longer(pareto, tmp_path, monkeypatch):
    pairs = write_pairs(tmp_path / "pairs", 2, scale=4, size_px=16)
    values = yaml.safe_load(pareto.BASE.read_text(encoding="utf-8"))
    others = write_pairs(tmp_path / "others", 2, scale=4, size_px=16, seed=1)
    values["data"] = {"train": str(pairs), "validate_on": str(others), "patch_px": 12,
                      "batch_size": 2}  # fmt: skip
    values |= {"compile": False, "precision": "fp32"}
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump(values), encoding="utf-8")
    small = {"channels": 4, "trunk_groups": 1, "blocks": 1, "convergence_channels": 4}
    monkeypatch.setattr(pareto, "BASE", base)
    monkeypatch.setattr(pareto, "FINALISTS", 1)
    monkeypatch.setattr(pareto, "CANDIDATES", {"first": small, "wider": small | {"channels": 6}})
    # in this process, and the time that test_divergence.py measures, so that it takes seconds
    monkeypatch.setattr(pareto, "train_once", lambda path, folder: train(path, output=folder))
    monkeypatch.setattr(
        pareto,
        "engine_seconds",
        lambda *_, **__: lambda networks: [[0.2, 0.1, 0.4]] * len(networks),
    )
    results = tmp_path / "pareto.json"
    words = ["--output", tmp_path / "runs", "--steps", 3, "--final-steps", 5, "--rounds", 1]
    monkeypatch.setattr(sys, "argv", ["pareto", *map(str, words), "--results", str(results)])
    pareto.main()
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows][:2] == ["first", "wider"]
    assert rows[2]["steps"] == 6  # 4.75 and 0.25, rounded, but at least 1
    assert rows[0]["difference_db"] == 0
    assert rows[0]["ms_per_lr_mp"] == pytest.approx(200 / (pareto.SIDE_PX**2 / 1e6))
    assert all(row["psnr_db"] > 5 for row in rows)
    assert ModelConfig.from_dict(rows[1]["model"]).channels == 6
    monkeypatch.setattr(pareto, "train_once", None)  # nothing is trained again
    pareto.main()
