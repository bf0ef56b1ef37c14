"""The results file: its keys, infinite values and errors."""

import json
import math

import pytest

from d2csr.core.errors import DataError
from d2csr.core.results import (
    BrightnessShift,
    ImageScore,
    MeanScore,
    PairedResult,
    Results,
    ScoreInterval,
    SystemResult,
    read_results,
    write_results,
)


def results(psnr_db: float = 30.5) -> Results:
    shift = BrightnessShift(p50=0.25, p95=1.5)
    image = ImageScore(
        name="one",
        psnr_db=psnr_db,
        ssim=0.9,
        psnr_registered_db=psnr_db + 1,
        brightness_shift=shift,
    )
    system = SystemResult(
        model="m",
        protocol="y",
        images=[image],
        mean=MeanScore(psnr_db=psnr_db, ssim=0.9),
        interval95=ScoreInterval(psnr_db=(psnr_db, psnr_db), ssim=(0.9, 0.9)),
        mean_psnr_registered_db=psnr_db + 1,
        brightness_shift=shift,
        weights_sha256="0" * 64,
    )
    paired = PairedResult(a="m", b="n", protocol="y", diff_psnr_db=1.5, interval95=(1.0, 2.0))
    return Results(
        version="1",
        command="d2csr evaluate -n m",
        data="pairs",
        split=None,
        scale=3,
        protocols={"y": "luma"},
        registration="one shift",
        results=[system],
        paired=[paired],
    )


def parsed(path):
    def fail(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(), parse_constant=fail)


def test_the_file_has_the_keys_that_other_programs_rely_on(tmp_path):
    write_results(results(), tmp_path / "out" / "r.json")
    values = parsed(tmp_path / "out" / "r.json")
    (row,) = values["results"]
    assert {"model", "protocol", "images", "mean", "interval95"} <= row.keys()
    assert row["images"] == [
        {
            "name": "one",
            "psnr_db": 30.5,
            "ssim": 0.9,
            "psnr_registered_db": 31.5,
            "brightness_shift": {"p50": 0.25, "p95": 1.5},
        }
    ]
    assert row["brightness_shift"] == {"p50": 0.25, "p95": 1.5}
    assert row["mean"] == {"psnr_db": 30.5, "ssim": 0.9}
    assert row["interval95"] == {"psnr_db": [30.5, 30.5], "ssim": [0.9, 0.9]}
    assert values["paired"] == [
        {"a": "m", "b": "n", "protocol": "y", "diff_psnr_db": 1.5, "interval95": [1.0, 2.0]}
    ]
    assert (values["command"], values["version"]) == ("d2csr evaluate -n m", "1")


@pytest.mark.parametrize("psnr_db", [30.5, math.inf])
def test_what_is_written_is_read_back(tmp_path, psnr_db):
    write_results(results(psnr_db), tmp_path / "r.json")
    assert read_results(tmp_path / "r.json") == results(psnr_db)


def test_infinity_is_written_as_null(tmp_path):
    write_results(results(math.inf), tmp_path / "r.json")
    (row,) = parsed(tmp_path / "r.json")["results"]
    assert row["mean"]["psnr_db"] is None
    assert row["interval95"]["psnr_db"] == [None, None]


def test_results_without_a_brightness_shift_are_read(tmp_path):
    """As the first release wrote them."""
    write_results(results(), tmp_path / "r.json")
    values = parsed(tmp_path / "r.json")
    for row in values["results"]:
        for scores in (row, *row["images"]):
            del scores["brightness_shift"]
    (tmp_path / "r.json").write_text(json.dumps(values))
    (row,) = read_results(tmp_path / "r.json").results
    assert (row.mean.psnr_db, row.brightness_shift) == (30.5, None)
    assert [image.brightness_shift for image in row.images] == [None]


@pytest.mark.parametrize("text", ["", "{}", '{"format_version": 2}', "[1]"])
def test_a_file_that_holds_no_results_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=r"r\.json"):
        read_results(tmp_path / "r.json")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="can't be read"):
        read_results(tmp_path / "none.json")


def test_calibration_of_an_earlier_release_has_no_reliability(tmp_path):
    """Files written before there was an uncertainty are read as they are."""
    values = json.loads(results().model_dump_json())
    score = {"name": "mean", "predictor": "gradient", "spearman": 0.8, "ause": 0.1}
    curve = {"order": "error", "removed": [0.0], "rmse": [3.0]}
    values["calibration"] = [
        {"model": "m", "block_px": 6, "images": [], "mean": [score], "curves": [curve]}
    ]
    (tmp_path / "r.json").write_text(json.dumps(values))
    (calibration,) = read_results(tmp_path / "r.json").calibration
    assert calibration.reliability == []
    assert calibration.mean[0].spearman == 0.8
