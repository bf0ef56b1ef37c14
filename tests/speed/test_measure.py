"""A speed measurement of a tiny network: its results follow from the measured runs."""

import json
import statistics
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from d2csr.core.errors import UsageError
from d2csr.images.reader import read_rgb8
from d2csr.speed import peak_flops
from d2csr.speed.accuracy import Images, cost, images_for
from d2csr.speed.candidates import Candidate, cases, select_backends
from d2csr.speed.charts import draw_speed, require_matplotlib
from d2csr.speed.measure import BenchmarkOptions, measure, measure_ceilings, ratio_of_medians
from d2csr.speed.speed_results import CeilingResult, read_speed, write_speed
from d2csr.speed.worker import Worker
from tests.tiny_models import tiny_bundle

OPTIONS = BenchmarkOptions(
    height=20, width=24, rounds=3, threads=1, reference_rounds=2, backends=("openvino",)
)
RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
ROW_KEYS = (
    "backend", "precision", "form", "twin", "seconds", "median_s", "speedup_over_reference",
    "speedup_interval95", "speedup_over_expanded", "speedup_over_expanded_interval95",
    "gflops_per_s", "share_of_ceiling", "ceiling_library", "peak_memory_bytes",
    "peak_memory_ratio", "psnr_change_db", "psnr_change_by", "psnr_between_db",
)  # fmt: skip
CEILINGS = [
    CeilingResult(operation="convolution", side=512, channels=width, precision=precision,
                  library=library, gflops_per_s=speed, best=speed == 100)
    for width in (4, 64) for precision in ("fp32", "bf16")
    for library, speed in (("openvino", 100.0), ("torch", 50.0))
]  # fmt: skip


@pytest.fixture(scope="module")
def candidate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    own = tiny_bundle(folder / "own", tail="collapsed", base="bicubic")
    twin = tiny_bundle(folder / "twin", tail="expanded", base="bicubic")
    return Candidate("tiny", own, twin=twin)


@pytest.fixture(scope="module")
def results(candidate):
    """Measure once for all tests."""
    return measure([candidate], replace(OPTIONS, precisions=("fp32",)), ceilings=CEILINGS)


def test_every_case_runs_as_often_as_requested(results):
    (model,) = results.models
    runs = [
        (row.backend, row.precision, row.form, len(row.times.seconds)) for row in model.backends
    ]
    assert runs == [
        ("reference", "fp32", "collapsed", 2),
        ("reference", "fp32", "expanded", 2),
        ("openvino", "fp32", "collapsed", 3),
    ]
    assert [row.twin for row in model.backends] == [False, True, False]
    assert (model.reference_form, model.trained) == ("collapsed", True)


def test_ratios_follow_from_the_runs(results):
    own, twin, ours = results.models[0].backends
    medians = [statistics.median(row.times.seconds) for row in (own, twin, ours)]
    assert ours.times.speedup_over_reference == pytest.approx(medians[0] / medians[2])
    assert ours.times.speedup_over_expanded == pytest.approx(medians[1] / medians[2])
    assert own.times.speedup_over_reference == 1
    low, high = ours.times.speedup_interval95
    assert low <= ours.times.speedup_over_reference <= high
    gflop = results.models[0].gflop_per_lr_mp_collapsed * 20 * 24 / 1e6
    assert ours.throughput.gflops_per_s == pytest.approx(gflop / medians[2])
    assert ours.throughput.share_of_ceiling == pytest.approx(gflop / medians[2] / 100)
    assert ours.throughput.ceiling_library == "openvino"
    ratio = ours.memory.peak_memory_bytes / twin.memory.peak_memory_bytes
    assert ours.memory.peak_memory_ratio == ratio


def test_float32_costs_nothing_beside_reference(results):
    accuracy = results.models[0].backends[-1].accuracy
    assert accuracy.psnr_change_by == "estimate"
    assert accuracy.psnr_change_db == pytest.approx(0, abs=1e-6)
    assert accuracy.psnr_between_db > 100


def test_the_file_gives_back_what_was_written(results, tmp_path):
    write_speed(results, tmp_path / "speed.json")
    assert read_speed(tmp_path / "speed.json") == results
    values = json.loads((tmp_path / "speed.json").read_text())
    assert list(values["models"][0]["backends"][0]) == list(ROW_KEYS)


@pytest.mark.parametrize("name", ["paper", "shipped"])
def test_stored_results_are_read_and_written_unchanged(name):
    (path,) = RESULTS.glob(f"upscale_speed-{name}-*.json")
    stored = json.loads(path.read_text(encoding="utf-8"))
    written = json.loads(read_speed(path).model_dump_json())
    assert {key: stored[key] for key in written} == written


def test_the_chart_is_a_png_of_its_size(results, tmp_path):
    draw_speed(results, tmp_path / "speed.png")
    pixels = read_rgb8(tmp_path / "speed.png")
    assert pixels.shape[1] == 9 * 120
    assert np.ptp(pixels) == 255


def test_the_error_for_a_missing_matplotlib_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("d2csr.speed.charts.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"d2csr\[benchmarks\]"):
        require_matplotlib(tmp_path / "speed.png")


def test_ceilings_name_the_best_library(monkeypatch):
    small = [peak_flops.KernelShape("matmul", 64), peak_flops.KernelShape("convolution", 16, 4)]
    monkeypatch.setattr(peak_flops, "shapes", lambda _channels: small)
    monkeypatch.setattr(peak_flops, "libraries", lambda: ["openvino", "torch"])
    rows = measure_ceilings({4}, OPTIONS)
    for operation in ("matmul", "convolution"):
        of_fp32 = [row for row in rows if (row.operation, row.precision) == (operation, "fp32")]
        assert {row.library for row in of_fp32} == {"openvino", "torch"}
        (best,) = [row for row in of_fp32 if row.best]
        assert best.gflops_per_s == max(row.gflops_per_s for row in of_fp32)


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs onnxruntime")
def test_a_chain_of_onnx_runtime_computes_what_numpy_does():
    shape = peak_flops.KernelShape("matmul", 16)
    (product,) = peak_flops.build_onnxruntime(shape, "fp32")()
    expected = shape.start()
    for _ in range(shape.links):
        expected = expected @ shape.weights()
    assert product == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert peak_flops.build_onnxruntime(shape, "bf16") is None


def test_operations_of_a_chain_are_counted_by_hand():
    assert peak_flops.KernelShape("matmul", 10).flop == 2 * 10 * 10 * 10
    assert peak_flops.KernelShape("convolution", 8, 3).flop == 2 * 9 * 3 * 3 * 8 * 8


@pytest.mark.parametrize("count", [1, 3, 5, 9])
def test_reference_runs_in_as_many_rounds_as_requested(count):
    options = replace(OPTIONS, rounds=9, reference_rounds=count)
    assert sum(options.is_reference_round(index) for index in range(9)) == count


def test_the_interval_of_equal_runs_has_no_width():
    assert ratio_of_medians([6.0] * 5, [2.0] * 3) == (3.0, (3.0, 3.0))


def test_the_interval_contains_the_ratio_of_scattered_runs():
    value, (low, high) = ratio_of_medians([10.0, 11.0, 12.0, 13.0, 30.0], [1.0, 1.0, 2.0, 1.0, 1.0])
    assert (value, low < value <= high) == (12, True)


def test_the_estimate_adds_the_squared_errors(candidate):
    """An error as large as the model's own costs 3.01 dB."""
    flat = np.zeros((8, 8, 3), np.float32)
    off = flat + np.float32(10 ** (-34 / 20))  # 34 dB: assumed for a model without scores
    estimate = cost(candidate.bundle.card, Images(()), sr=[off], reference=[flat])
    assert estimate.change_db == pytest.approx(-3.0103, abs=1e-3)
    assert estimate.between_db == pytest.approx(34)
    assert cost(candidate.bundle.card, Images(()), sr=[], reference=[]) is None


def test_changes_on_pairs_are_differences_of_their_psnr(candidate, pairs, tmp_path):
    images = images_for(candidate.bundle.card, pairs, trained=True)
    assert len(images.paths) == 3
    hr = [read_rgb8(pair.hr).astype(np.float32) / 255 for pair in images.pairs]
    close, far = ([each + np.float32(error) for each in hr] for error in (0.01, 0.02))
    measured = cost(candidate.bundle.card, images, sr=far, reference=close)
    assert (measured.by, measured.change_db < -4) == ("pairs", True)
    random = images_for(candidate.bundle.card, pairs, trained=False)
    assert (len(random.paths), random.pairs) == (1, None)


def test_an_error_in_a_worker_is_raised_here(tmp_path):
    job = {"job": "engine", "bundle": str(tmp_path), "backend": "openvino", "precision": "fp32"}
    with pytest.raises(UsageError, match=r"bundle\.json: can't be read"):
        Worker(job, threads=1)


def test_reference_alone_is_an_error():
    with pytest.raises(UsageError, match="nothing is compared"):
        select_backends(("reference",))
    assert "reference" not in select_backends(("openvino", "reference"))


def test_precisions_without_graphs_are_left_out(candidate):
    precisions = [case.precision for case in cases(candidate, ("openvino",)) if not case.twin]
    assert "int8" not in precisions
    assert "fp32" in precisions
