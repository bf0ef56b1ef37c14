"""Tables of suites hold the numbers of `evaluate`, and what each model costs."""

import csv
import io
import json

import numpy as np
import pytest

from d2csr.core.results import read_results
from d2csr.evaluation.checks import EvaluationOptions
from d2csr.evaluation.evaluate import evaluate
from d2csr.suites.costs import measure_costs
from d2csr.suites.tables import draw_suite, format_rows, suite_rows


def test_means_and_differences_are_those_that_evaluate_gives(finished):
    out, suite = finished
    bundles = [str(out / f"trials/made/d2c/seed-{seed}/run/bundle") for seed in (1, 2)]
    options = EvaluationOptions(skip_registration=True)
    results = evaluate([*bundles, "lanczos"], suite.data["made"].test["held-out"], options=options)
    first, second, lanczos, bicubic = (
        np.array([image.psnr_db for image in row.images]) for row in results.results
    )
    expected = {
        "bicubic": bicubic.mean(),
        "nearest-to-nothing": lanczos.mean(),
        "d2c": ((first + second) / 2).mean(),
    }
    rows = {row.system: row for row in suite_rows(out)}
    assert {name: row.psnr_db for name, row in rows.items()} == pytest.approx(expected, abs=1e-12)
    assert rows["d2c"].difference_db == pytest.approx(((first + second) / 2 - bicubic).mean())
    assert rows["d2c"].psnr_db_seeds_sd == pytest.approx(
        np.std([first.mean(), second.mean()], ddof=1)
    )
    assert rows["bicubic"].difference_db is None
    pairs = {(pair.a, pair.b): pair for pair in results.paired}
    difference = pairs["lanczos", "bicubic"]
    assert rows["nearest-to-nothing"].difference_db == difference.diff_psnr_db
    assert rows["nearest-to-nothing"].difference_db_interval95 == difference.interval95


def test_scores_of_all_seeds_are_in_one_results_file(finished):
    out, _ = finished
    results = read_results(out / "results" / "made-held-out.json")
    assert [row.model for row in results.results] == [
        "bicubic", "d2c", "d2c seed 1", "d2c seed 2", "nearest-to-nothing",
    ]  # fmt: skip
    assert [(pair.a, pair.b) for pair in results.paired] == [
        ("d2c", "bicubic"), ("nearest-to-nothing", "bicubic"),
    ]  # fmt: skip
    hashes = {row.weights_sha256 for row in results.results if "seed" in row.model}
    assert len(hashes) == 2


def test_costs_are_measured_once_and_shown(finished):
    out, suite = finished
    measured = suite.model_copy(update={"processor": (16, 12)})
    assert measure_costs(measured, out) == []
    cost = out / "trials/made/d2c/seed-1/cost.json"
    before = cost.read_bytes()
    assert measure_costs(measured, out) == []
    assert cost.read_bytes() == before
    (row,) = [row for row in suite_rows(out) if row.system == "d2c"]
    assert row.time_ms > 0
    assert row.parameters == json.loads(before)["parameters"]
    assert row.lr_size == (16, 12)


def test_csv_and_json_hold_the_same_rows(finished):
    out, suite = finished
    rows = suite_rows(out)
    listed = json.loads(format_rows(rows, "json", suite=suite))
    cells = list(csv.DictReader(io.StringIO(format_rows(rows, "csv", suite=suite))))
    assert [each["system"] for each in listed] == [each["system"] for each in cells]
    assert [each["psnr_db"] for each in listed] == [float(each["psnr_db"]) for each in cells]
    markdown = format_rows(rows, "markdown", suite=suite)
    for row in rows:
        assert f"| {row.system} |" in markdown
        assert f"| {row.psnr_db:.2f} (" in markdown


def test_the_chart_is_written(finished, tmp_path):
    pytest.importorskip("matplotlib")
    out, suite = finished
    draw_suite(suite_rows(out), tmp_path / "chart.png", suite=suite)
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
