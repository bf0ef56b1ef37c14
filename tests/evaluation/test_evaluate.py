"""Evaluation end to end on generated pairs: scores, differences, files, errors."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from d2csr.core.errors import D2csrError, UsageError
from d2csr.core.results import read_results, write_results
from d2csr.evaluation.checks import EvaluationOptions
from d2csr.evaluation.evaluate import evaluate
from d2csr.evaluation.tables import print_results, write_csv
from d2csr.images.reader import read_rgb8
from d2csr.images.resize import enlarge_bicubic, enlarge_lanczos
from d2csr.images.writer import write_rgb8
from d2csr.metrics.brightness import brightness_shift
from d2csr.metrics.protocols import PROTOCOLS, score
from d2csr.metrics.registered_psnr import psnr_registered_db
from tests.evaluation.conftest import make_pairs, scene


def printed(results) -> str:
    text = io.StringIO()
    print_results(results, output=Console(file=text, width=80, highlight=False))
    return text.getvalue()


def test_bicubic_is_always_included_and_only_once(pairs):
    assert [row.model for row in evaluate((), pairs).results] == ["bicubic"]
    twice = evaluate(("bicubic", "bicubic"), pairs)
    assert [row.model for row in twice.results] == ["bicubic"]


def test_without_a_split_the_test_split_is_scored(pairs):
    names = [image.name for image in evaluate((), pairs).results[0].images]
    assert names == ["scene_0", "scene_1", "scene_2"]
    train = evaluate((), pairs, options=EvaluationOptions(split="train"))
    assert len(train.results[0].images) == 4


def test_scores_are_those_of_the_metrics_on_the_saved_images(pairs, tmp_path):
    protocols = ("y", "rgb")
    results = evaluate((), pairs, protocols=protocols, options=EvaluationOptions(save=tmp_path))
    assert read_results(tmp_path / "results.json") == results
    for row in results.results:
        for image in row.images:
            sr = read_rgb8(tmp_path / "bicubic" / f"{image.name}.png")
            hr = read_rgb8(pairs / "test" / f"{image.name}_HR.png")
            expected = score(sr, hr, protocol=row.protocol, scale=2)
            assert (image.psnr_db, image.ssim) == pytest.approx(expected)
            registered_db = psnr_registered_db(sr, hr, protocol=row.protocol)
            assert image.psnr_registered_db == pytest.approx(registered_db)
        assert row.mean.psnr_db == pytest.approx(np.mean([image.psnr_db for image in row.images]))
        low, high = row.interval95.psnr_db
        assert low <= row.mean.psnr_db <= high


def test_the_linear_filter_learns_the_half_pixel_shift(pairs):
    """LR is sampled at even pixels, so bicubic is half a pixel off; a filter can learn that."""
    results = evaluate(("linear",), pairs, options=EvaluationOptions(fit=pairs))
    linear, bicubic = results.results
    assert linear.mean.psnr_db > bicubic.mean.psnr_db + 3
    assert linear.fitted_on == str(pairs)
    (paired,) = results.paired
    assert (paired.a, paired.b, paired.protocol) == ("linear", "bicubic", "y")
    difference = linear.mean.psnr_db - bicubic.mean.psnr_db
    assert paired.diff_psnr_db == pytest.approx(difference)
    assert paired.interval95[0] <= difference <= paired.interval95[1]


def test_registration_removes_the_half_pixel_shift_of_bicubic(pairs):
    (bicubic,) = evaluate((), pairs).results
    assert bicubic.mean_psnr_registered_db > bicubic.mean.psnr_db + 3


def test_without_registration_nothing_else_changes(pairs, tmp_path, monkeypatch):
    expected = evaluate(("linear",), pairs, options=EvaluationOptions(fit=pairs))
    monkeypatch.setattr("d2csr.evaluation.scoring.register", None)
    options = EvaluationOptions(fit=pairs, skip_registration=True)
    results = evaluate(("linear",), pairs, options=options)
    assert [row.mean for row in results.results] == [row.mean for row in expected.results]
    assert results.paired == expected.paired
    assert {row.mean_psnr_registered_db for row in results.results} == {None}
    write_results(results, tmp_path / "r.json")
    assert "registered" not in (tmp_path / "r.json").read_text()
    assert read_results(tmp_path / "r.json") == results
    assert "shifted" not in printed(results)
    write_csv(results, tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as file:
        assert {row["psnr_registered_db"] for row in csv.DictReader(file)} == {""}


def test_lanczos_is_a_baseline(pairs):
    lanczos, bicubic = evaluate(("lanczos",), pairs).results
    assert (lanczos.model, bicubic.model) == ("lanczos", "bicubic")
    for image in lanczos.images:
        lr = read_rgb8(pairs / "test" / f"{image.name}_LR2.png")
        hr = read_rgb8(pairs / "test" / f"{image.name}_HR.png")
        expected = score(enlarge_lanczos(lr, 2), hr, protocol="y", scale=2)
        assert (image.psnr_db, image.ssim) == expected


def test_the_brightness_shift_is_that_of_the_saved_images(pairs, tmp_path):
    options = EvaluationOptions(fit=pairs, save=tmp_path / "sr")
    results = evaluate(("linear",), pairs, protocols=("y", "rgb"), options=options)
    again = evaluate((str(tmp_path / "sr" / "linear"),), pairs).results[0]
    for row in results.results:
        shifts = []
        for image, finished in zip(row.images, again.images, strict=True):
            sr = read_rgb8(tmp_path / "sr" / row.model / f"{image.name}.png")
            lr = read_rgb8(pairs / "test" / f"{image.name}_LR2.png")
            expected = brightness_shift(sr, enlarge_bicubic(lr, 2))
            found = image.brightness_shift
            assert found is not None
            assert (found.p50, found.p95) == expected
            assert (found == finished.brightness_shift) is (row.model == "linear")
            shifts.append(expected)
        assert row.brightness_shift is not None
        mean = (row.brightness_shift.p50, row.brightness_shift.p95)
        assert mean == pytest.approx(np.mean(shifts, axis=0))
        assert (mean == (0, 0)) is (row.model == "bicubic")


def test_images_smaller_than_a_block_have_no_brightness_shift(tmp_path):
    """One that is large enough remains, and the mean is its own."""
    make_pairs(tmp_path, range(1))
    write_rgb8(tmp_path / "small_HR.png", scene(7, side_px=30))
    write_rgb8(tmp_path / "small_LR2.png", scene(7, side_px=30)[::2, ::2].copy())
    results = evaluate((), tmp_path)
    write_results(results, tmp_path / "r.json")
    assert read_results(tmp_path / "r.json") == results
    (row,) = results.results
    assert [image.brightness_shift is None for image in row.images] == [False, True]
    assert row.brightness_shift == row.images[0].brightness_shift
    write_csv(results, tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as file:
        shifts = [each["brightness_shift_p50"] for each in csv.DictReader(file)]
    assert shifts == ["0.0", ""]


def test_all_protocols_can_be_computed_together(pairs):
    results = evaluate((), pairs, protocols=tuple(PROTOCOLS))
    assert [row.protocol for row in results.results] == list(PROTOCOLS)
    assert list(results.protocols) == list(PROTOCOLS)


def test_perfect_images_make_valid_json(pairs, tmp_path):
    perfect = tmp_path / "perfect"
    for seed in range(3):
        hr = read_rgb8(pairs / "test" / f"scene_{seed}_HR.png")
        write_rgb8(perfect / f"scene_{seed}.png", hr)
    results = evaluate((str(perfect),), pairs)
    write_results(results, tmp_path / "r.json")
    values = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert values["results"][0]["mean"]["psnr_db"] is None
    assert values["results"][0]["mean"]["ssim"] == pytest.approx(1)
    assert read_results(tmp_path / "r.json").results[0].mean.psnr_db == float("inf")
    assert "inf" in printed(results)


def test_a_table_is_80_columns_wide_and_has_its_provenance(pairs, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["/somewhere/d2csr", "evaluate", "-n", "linear", "--data", "a b"]
    )
    results = evaluate(("linear",), pairs, options=EvaluationOptions(fit=pairs))
    text = printed(results)
    rows = text[: text.index("(shifted): not")].splitlines()
    assert max(map(len, rows)) <= 80
    for part in ("protocol y (x2)", "linear", "bicubic", str(pairs), "d2csr evaluate -n linear"):
        assert part in text
    shift = results.results[0].brightness_shift
    assert shift is not None
    below = text[text.index("brightness shift from bicubic, in levels") :].splitlines()
    assert below[2].split() == ["linear", f"{shift.p50:.2f}", f"{shift.p95:.2f}"]
    assert below[3].split() == ["bicubic", "0.00", "0.00"]
    assert results.command == "d2csr evaluate -n linear --data 'a b'"


def test_the_csv_file_has_a_row_per_image_with_its_provenance(pairs, tmp_path):
    results = evaluate(("linear",), pairs, options=EvaluationOptions(fit=pairs))
    write_csv(results, tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {row["protocol"] for row in rows} == {"y"}
    assert {row["command"] for row in rows} == {results.command}
    assert float(rows[0]["psnr_db"]) == results.results[0].images[0].psnr_db


def test_all_errors_are_reported_before_any_work(pairs, tmp_path):
    write_rgb8(tmp_path / "sr" / "scene_0.png", np.zeros((48, 48, 3), np.uint8))
    models = ("no-such-model", "linear", str(tmp_path / "sr"))
    with pytest.raises(D2csrError) as caught:
        evaluate(models, pairs, options=EvaluationOptions(save=tmp_path / "out"))
    message = str(caught.value)
    for part in ("3 errors", "no-such-model", "--fit", "missing: scene_1, scene_2"):
        assert part in message
    assert not (tmp_path / "out").exists()


def test_missing_pairs_are_an_error(tmp_path):
    with pytest.raises(D2csrError, match="nowhere"):
        evaluate((), tmp_path / "nowhere")


def test_pairs_too_small_for_the_window_are_an_error(tmp_path):
    write_rgb8(tmp_path / "small_HR.png", np.zeros((20, 40, 3), np.uint8))
    write_rgb8(tmp_path / "small_LR2.png", np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(D2csrError, match="is only 40x20 px"):
        evaluate((), tmp_path)


def test_an_unknown_protocol_is_an_error(pairs):
    with pytest.raises(UsageError, match="ycbcr"):
        evaluate((), pairs, protocols=("y", "ycbcr"))


def test_calibration_without_a_model_is_an_error(pairs):
    with pytest.raises(UsageError, match="calibration"):
        evaluate((), pairs, options=EvaluationOptions(calibration=True))


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("nikon_d5500_x3", [28.29, 29.80, 26.10, 30.21, 24.21, 27.72]),
        ("iphone_x_x2", [25.04, 27.01, 22.21, 26.61, 21.65, 24.50]),
    ],
)
def test_bicubic_has_its_known_scores_on_the_photographs(data_folder, folder, expected):
    (row,) = evaluate((), data_folder / "city100" / folder / "test").results
    psnr_db = [image.psnr_db for image in row.images]
    assert [*psnr_db, row.mean.psnr_db] == pytest.approx(expected, abs=0.0051)


def test_scoring_imports_no_torch():
    code = "import sys, d2csr.evaluation.evaluate, d2csr.cli.evaluate; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
