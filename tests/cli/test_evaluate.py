"""Command `evaluate`: its files, its output and its errors."""

import csv
import json

import pytest

from d2csr.images.writer import write_rgb8
from tests.evaluation.conftest import make_pairs, scene
from tests.tiny_models import tiny_bundle


@pytest.fixture
def pairs(tmp_path):
    return make_pairs(tmp_path / "pairs", range(3))


def test_it_scores_prints_and_writes(d2csr, pairs, tmp_path):
    files = {"--json": "r.json", "--csv": "r.csv", "--save": "sr"}
    options = [word for name, file in files.items() for word in (name, tmp_path / file)]
    answer = d2csr(
        "evaluate", "-n", "bicubic", "--data", pairs, "--protocol", "y,rgb-full", *options
    )
    assert answer.code == 0
    assert "protocol y (x2)" in answer.out
    assert "protocol rgb-full (x2)" in answer.out
    values = json.loads((tmp_path / "r.json").read_text())
    assert [row["protocol"] for row in values["results"]] == ["y", "rgb-full"]
    assert values["paired"] == []
    with (tmp_path / "r.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 6
    saved = sorted(path.name for path in (tmp_path / "sr" / "bicubic").iterdir())
    assert saved == ["scene_0.png", "scene_1.png", "scene_2.png"]
    assert json.loads((tmp_path / "sr" / "results.json").read_text()) == values


def test_names_are_repeated_and_compared(d2csr, pairs, tmp_path):
    for seed in range(3):
        write_rgb8(tmp_path / "mine" / f"scene_{seed}_SR.png", scene(seed + 50))
    mine = tmp_path / "mine"
    options = ("--fit", pairs, "--json", tmp_path / "r.json")
    answer = d2csr("evaluate", "-n", mine, "-n", "linear", "--data", pairs, *options)
    assert answer.code == 0
    values = json.loads((tmp_path / "r.json").read_text())
    assert [row["model"] for row in values["results"]] == [str(mine), "linear", "bicubic"]
    compared = [(row["a"], row["b"]) for row in values["paired"]]
    assert compared == [(str(mine), "linear"), (str(mine), "bicubic"), ("linear", "bicubic")]


@pytest.mark.parametrize("option", ["--json", "--csv", "--save"])
def test_an_unwritable_file_is_an_error_before_any_scoring(
    d2csr, pairs, tmp_path, monkeypatch, option
):
    monkeypatch.setattr("d2csr.evaluation.evaluate.score_system", None)
    (tmp_path / "file").touch()
    answer = d2csr("evaluate", "-n", "bicubic", "--data", pairs, option, tmp_path / "file" / "x")
    assert (answer.code, answer.out) == (2, "")
    assert "can't be written" in answer.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-n", "no-such-model"), "no-such-model"),
        (("-n", "linear"), "--fit"),
        (("-n", "bicubic", "--protocol", "ssim"), "y, rgb, official, cdc, rgb-full"),
        (("-n", "bicubic", "--scale", "3"), "scale 3"),
        (("-n", "bicubic", "--split", "test"), "test"),
    ],
)
def test_an_error_is_one_message_and_exit_code_2(d2csr, pairs, words, message):
    answer = d2csr("evaluate", "--data", pairs, *words)
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_calibrate_writes_a_bundle_that_evaluate_scores(d2csr, tmp_path):
    bundle = tiny_bundle(tmp_path / "tiny", base="bicubic")
    pairs = make_pairs(tmp_path / "fit", range(5))
    words = ("-n", bundle.folder, "--data", pairs, "-o", tmp_path / "calibrated")
    answer = d2csr("calibrate", *words, "--description", "five scenes")
    assert answer.code == 0
    assert "tiny, error prediction fitted on five scenes, 5 images; rank correlation" in answer.out
    test = make_pairs(tmp_path / "test", range(5, 7))
    answer = d2csr("evaluate", "-n", tmp_path / "calibrated", "--data", test, "--calibration")
    assert answer.code == 0
    assert "uncertainty" in answer.out
    assert "expected  observed  ratio" in answer.out


def test_calibrate_refuses_too_few_pairs_and_writes_nothing(d2csr, pairs, tmp_path):
    bundle = tiny_bundle(tmp_path / "tiny", base="bicubic")
    words = ("-n", bundle.folder, "--data", pairs, "-o", tmp_path / "calibrated")
    answer = d2csr("calibrate", *words)
    assert (answer.code, answer.out) == (2, "")
    assert "3 pairs are too few to fit on. Give at least 4 pairs" in answer.err
    assert not (tmp_path / "calibrated").exists()
