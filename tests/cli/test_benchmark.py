"""Command `benchmark`: its files, its output and its errors."""

import json

import pytest

from d2csr.speed.speed_results import CeilingResult
from tests.tiny_models import tiny_bundle


@pytest.fixture
def ceilings(monkeypatch):
    row = CeilingResult(operation="convolution", side=512, channels=4, precision="fp32",
                        library="openvino", gflops_per_s=100.0, best=True)  # fmt: skip
    monkeypatch.setattr("d2csr.speed.measure.measure_ceilings", lambda *_: [row])


def test_it_measures_prints_and_writes(d2csr, ceilings, tmp_path, monkeypatch):
    monkeypatch.setattr("d2csr.speed.accuracy._EXAMPLE", tmp_path / "none.png")
    tiny_bundle(tmp_path / "tiny")
    runs = ("--size", "24x16", "--rounds", 1, "--threads", 1, "--precision", "fp32")
    files = ("--json", tmp_path / "b.json", "--chart", tmp_path / "b.png")
    answer = d2csr("benchmark", "-n", tmp_path / "tiny", "--backend", "openvino", *runs, *files)
    assert answer.code == 0, answer.err
    assert "GFLOP per LR megapixel" in answer.out
    assert "reference fp32" in answer.out
    values = json.loads((tmp_path / "b.json").read_text())
    (model,) = values["models"]
    assert model["reference_form"] == "expanded"
    assert [row["backend"] for row in model["backends"]] == ["reference", "openvino"]
    assert model["backends"][1]["psnr_change_db"] is None  # there is no image to measure it on
    assert values["lr_size"] == [24, 16]
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--size", "512"), "Write it as 512x512"),
        (("--size", "0x8"), "is not a size"),
        (("--rounds", 0), "--rounds"),
        (("--threads", 10_000), "threads are unavailable"),
        (("--backend", "abacus"), "abacus"),
        (("-n", "nothing-like-it"), "nothing-like-it"),
        (("--data", "no/such/folder"), "does not exist"),
        (("-n", "paper"), "the preset paper needs PyTorch"),
    ],
)
def test_errors_are_reported_before_any_measurement(d2csr, monkeypatch, words, message):
    monkeypatch.setattr("d2csr.speed.measure.measure_ceilings", None)
    monkeypatch.setattr("d2csr.cli.benchmark._random_bundle_maker", lambda: None)  # no twins
    answer = d2csr("benchmark", *words)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


@pytest.mark.parametrize("option", ["--json", "--chart"])
def test_an_unwritable_file_is_an_error_before_any_measurement(
    d2csr, tmp_path, monkeypatch, option
):
    monkeypatch.setattr("d2csr.speed.measure.measure_ceilings", None)
    (tmp_path / "file").touch()
    answer = d2csr("benchmark", option, tmp_path / "file" / "x")
    assert (answer.code, answer.out) == (2, "")
    assert "can't be written" in answer.err
