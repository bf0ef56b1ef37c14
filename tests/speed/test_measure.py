"""A speed measurement on a tiny network: what it says follows from what was measured."""

import json
import statistics
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from d2csr.core.errors import UsageError
from d2csr.images.reader import read_rgb8
from d2csr.speed import measure as measure_module
from d2csr.speed import peak_flops
from d2csr.speed.accuracy import Images, cost
from d2csr.speed.candidates import Candidate, cases, chosen_backends
from d2csr.speed.charts import draw_speed, refuse_without_matplotlib
from d2csr.speed.measure import BenchmarkOptions, measure, measure_ceilings, ratio_of_medians
from d2csr.speed.speed_results import CeilingResult, read_speed, write_speed
from d2csr.speed.worker import Worker
from tests.tiny_models import tiny_bundle

WISH = BenchmarkOptions(
    height=20, width=24, rounds=3, threads=1, reference_rounds=2, backends=("openvino",)
)
CEILINGS = [
    CeilingResult(operation="convolution", side=512, channels=width, precision=precision,
                  library=library, gflops_per_s=speed, best=speed == 100)
    for width in (4, 64) for precision in ("fp32", "bf16")
    for library, speed in (("openvino", 100.0), ("torch", 50.0))
]  # fmt: skip


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    own = tiny_bundle(folder / "own", tail="collapsed", base="bicubic")
    twin = tiny_bundle(folder / "twin", tail="expanded", base="bicubic")
    return Candidate("tiny", own, twin=twin)


@pytest.fixture(scope="module")
def results(subject):
    """Measure once for all tests."""
    return measure([subject], replace(WISH, precisions=("fp32",)), ceilings=CEILINGS)


def test_every_way_is_run_as_often_as_asked(results):
    (model,) = results.models
    ways = [(row.backend, row.precision, row.form, len(row.seconds)) for row in model.backends]
    assert ways == [
        ("reference", "fp32", "collapsed", 2),
        ("reference", "fp32", "expanded", 2),
        ("openvino", "fp32", "collapsed", 3),
    ]
    assert [row.twin for row in model.backends] == [False, True, False]
    assert (model.reference_form, model.trained) == ("collapsed", True)


def test_ratios_follow_from_the_runs(results):
    own, twin, ours = results.models[0].backends
    medians = [statistics.median(row.seconds) for row in (own, twin, ours)]
    assert ours.speedup_over_reference == pytest.approx(medians[0] / medians[2])
    assert ours.speedup_over_expanded == pytest.approx(medians[1] / medians[2])
    assert own.speedup_over_reference == 1
    low, high = ours.speedup_interval95
    assert low <= ours.speedup_over_reference <= high
    gflop = results.models[0].gflop_per_lr_mp_collapsed * 20 * 24 / 1e6
    assert ours.gflops_per_s == pytest.approx(gflop / medians[2])
    assert ours.share_of_ceiling == pytest.approx(gflop / medians[2] / 100)
    assert ours.ceiling_library == "openvino"
    assert ours.peak_memory_ratio == ours.peak_memory_bytes / twin.peak_memory_bytes


def test_float32_costs_nothing_beside_reference(results):
    ours = results.models[0].backends[-1]
    assert ours.psnr_change_by == "estimate"
    assert ours.psnr_change_db == pytest.approx(0, abs=1e-6)
    assert ours.psnr_between_db > 100


def test_the_file_gives_back_what_was_written(results, tmp_path):
    write_speed(results, tmp_path / "speed.json")
    assert read_speed(tmp_path / "speed.json") == results
    values = json.loads((tmp_path / "speed.json").read_text())
    row = values["models"][0]["backends"][0]
    promised = {"backend", "precision", "speedup_over_reference", "share_of_ceiling",
                "peak_memory_ratio", "psnr_change_db"}  # fmt: skip
    assert promised <= set(row)


def test_the_image_shows_every_way(results, tmp_path):
    draw_speed(results, tmp_path / "speed.png")
    pixels = read_rgb8(tmp_path / "speed.png")
    assert pixels.shape[1] == 9 * 120
    assert np.ptp(pixels) == 255


def test_a_missing_matplotlib_is_told_with_its_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("d2csr.speed.charts.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"d2csr\[figures\]"):
        refuse_without_matplotlib(tmp_path / "speed.png")


def test_ceilings_name_the_best_library(monkeypatch):
    small = [peak_flops.KernelShape("matmul", 64), peak_flops.KernelShape("convolution", 16, 4)]
    monkeypatch.setattr(peak_flops, "shapes", lambda _channels: small)
    monkeypatch.setattr(peak_flops, "libraries", lambda: ["openvino", "torch"])
    rows = measure_ceilings({4}, WISH)
    for operation in ("matmul", "convolution"):
        of_fp32 = [row for row in rows if (row.operation, row.precision) == (operation, "fp32")]
        assert {row.library for row in of_fp32} == {"openvino", "torch"}
        (best,) = [row for row in of_fp32 if row.best]
        assert best.gflops_per_s == max(row.gflops_per_s for row in of_fp32)


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs onnxruntime")
def test_a_chain_of_onnx_runtime_computes_what_numpy_does():
    from d2csr.speed import peak_flops_onnxruntime

    shape = peak_flops.KernelShape("matmul", 16)
    (found,) = peak_flops_onnxruntime.make(shape, "fp32")()
    wanted = shape.start()
    for _ in range(shape.links):
        wanted = wanted @ shape.weights()
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert peak_flops_onnxruntime.make(shape, "bf16") is None


def test_operations_of_a_chain_are_counted_by_hand():
    assert peak_flops.KernelShape("matmul", 10).flop == 2 * 10 * 10 * 10
    assert peak_flops.KernelShape("convolution", 8, 3).flop == 2 * 9 * 3 * 3 * 8 * 8


@pytest.mark.parametrize("count", [1, 3, 5, 9])
def test_reference_rounds_are_as_many_as_asked(count):
    wish = replace(WISH, rounds=9, reference_rounds=count)
    assert sum(wish.is_reference_round(index) for index in range(9)) == count


def test_a_ratio_of_steady_runs_has_no_width():
    assert ratio_of_medians([6.0] * 5, [2.0] * 3) == (3.0, (3.0, 3.0))


def test_an_interval_holds_the_ratio_of_scattered_runs():
    value, (low, high) = ratio_of_medians([10.0, 11.0, 12.0, 13.0, 30.0], [1.0, 1.0, 2.0, 1.0, 1.0])
    assert (value, low < value <= high) == (12, True)


def test_an_estimate_is_the_loss_of_two_errors_added(subject):
    """An error as large as the model's own costs 3.01 dB."""
    flat = np.zeros((8, 8, 3), np.float32)
    off = flat + np.float32(10 ** (-34 / 20))  # 34 dB: what a model of no figures is taken to reach
    found = cost(subject.bundle.card, Images(()), sr=[off], reference=[flat])
    assert found.change_db == pytest.approx(-3.0103, abs=1e-3)
    assert found.between_db == pytest.approx(34)
    assert cost(subject.bundle.card, Images(()), sr=[], reference=[]) is None


def test_changes_on_pairs_are_differences_of_their_psnr(subject, pairs, tmp_path):
    images = measure_module.images_for(subject.bundle.card, pairs, trained=True)
    assert len(images.paths) == 3
    hr = [read_rgb8(pair.hr).astype(np.float32) / 255 for pair in images.pairs]
    close, far = ([each + np.float32(error) for each in hr] for error in (0.01, 0.02))
    found = cost(subject.bundle.card, images, sr=far, reference=close)
    assert (found.by, found.change_db < -4) == ("pairs", True)
    random = measure_module.images_for(subject.bundle.card, pairs, trained=False)
    assert (len(random.paths), random.pairs) == (1, None)


def test_a_error_in_a_worker_comes_back_as_a_error(tmp_path):
    job = {"job": "engine", "bundle": str(tmp_path), "backend": "openvino", "precision": "fp32"}
    with pytest.raises(UsageError, match=r"bundle\.json: can't be read"):
        Worker(job, threads=1)


def test_reference_alone_is_nothing_to_compare():
    with pytest.raises(UsageError, match="nothing is compared"):
        chosen_backends(("reference",))
    assert "reference" not in chosen_backends(("openvino", "reference"))


def test_precisions_without_graphs_are_left_out(subject):
    found = [case.precision for case in cases(subject, ("openvino",)) if not case.twin]
    assert "int8" not in found
    assert "fp32" in found
