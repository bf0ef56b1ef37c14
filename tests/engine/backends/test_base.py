"""The table of backends, what is chosen from it, and OpenVINO's devices by people's names."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest

from d2csr.core.bundle import EvaluationScore, PrecisionError
from d2csr.core.errors import BundleError, UsageError
from d2csr.engine.backends import base as module
from d2csr.engine.backends.base import BACKENDS, DeviceOptions, load_backend, resolve_backend
from d2csr.engine.backends.openvino import compile_graph, device_among

TWO_GPUS = ("CPU", "GPU.0", "GPU.1", "NPU")


@pytest.fixture
def promising(bundle):
    """Return a function that gives the bundle another promise."""

    def promise(psnr_to_fp32_db: float, **metadata):
        losses = {"bf16": PrecisionError(psnr_to_fp32_db, 3)}
        card = replace(
            bundle.card, precisions=losses, metadata=replace(bundle.card.metadata, **metadata)
        )
        return replace(bundle, card=card)

    return promise


@pytest.fixture
def bf16_machine(monkeypatch):
    """Make OpenVINO say that this machine multiplies in bfloat16."""
    monkeypatch.setattr(
        load_backend("openvino"), "precisions", lambda device: ("int8", "bf16", "fp32")
    )


def test_every_backend_of_the_table_answers():
    for name in BACKENDS:
        backend = load_backend(name)
        assert "fp32" in backend.precisions(backend.find_device("cpu"))


def test_an_unknown_backend_is_told_the_known_ones():
    with pytest.raises(UsageError, match=r"no backend is called 'cuda'.*auto, openvino, onnx"):
        load_backend("cuda")


def test_a_backend_that_is_not_installed_is_told_how_to_be(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match=r"needs onnxruntime.*'d2csr\[onnxruntime\]'"):
        load_backend("onnxruntime")
    with pytest.raises(UsageError, match=r"needs torch.*'d2csr\[train\]'"):
        load_backend("reference")


@pytest.mark.parametrize("name", BACKENDS)
def test_a_device_that_is_not_there_is_refused(bundle, name):
    with pytest.raises(UsageError, match="'77' is no device"):
        resolve_backend(bundle, backend=name, options=DeviceOptions(device="77"))


def test_auto_keeps_to_what_the_card_promises(promising, bf16_machine):
    def chosen(bundle):
        return resolve_backend(bundle, backend="openvino", options=DeviceOptions("cpu")).precision

    assert chosen(promising(60.3)) == "fp32"  # nothing known: supposed to reach 34 dB
    assert chosen(promising(60.5)) == "bf16"
    figure = EvaluationScore("pairs", "y", 5, 40.0, 0.9, (39.0, 41.0), (0.8, 0.95))
    assert chosen(promising(66.3, scores=(figure,))) == "fp32"
    assert chosen(promising(66.5, scores=(figure,))) == "bf16"
    silent = promising(99.0)
    assert chosen(replace(silent, card=replace(silent.card, precisions={}))) == "fp32"


def test_the_promise_is_a_hundredth_of_a_decibel():
    """An error of 26.4 dB below the model's own, added to it."""
    assert 10 * math.log10(1 + 10**-2.64) == pytest.approx(0.01, abs=1e-4)


def test_a_precision_without_graphs_is_refused(promising, bf16_machine):
    with pytest.raises(UsageError, match=r"no int8 for tiny on CPU\. Choose one of auto, bf16"):
        resolve_backend(promising(99.0), backend="openvino", options=DeviceOptions("cpu", "int8"))


def test_auto_takes_torch_where_there_is_a_gpu_of_nvidia_and_else_openvino(bundle, monkeypatch):
    torch_backend = load_backend("torch")
    monkeypatch.setattr(torch_backend, "find_device", lambda wanted: "cuda:0")
    monkeypatch.setattr(torch_backend, "precisions", lambda device: ("bf16", "fp32"))
    monkeypatch.setattr(module, "_has_nvidia_gpu", lambda: True)

    def chosen(device):
        runner = resolve_backend(bundle, backend="auto", options=DeviceOptions(device))
        return runner.backend, runner.device

    assert chosen("auto") == ("torch", "cuda:0")
    assert chosen("cpu") == ("openvino", "CPU")
    monkeypatch.setattr(module, "_has_nvidia_gpu", lambda: False)
    assert chosen("auto") == ("openvino", "CPU")


def test_choosing_openvino_loads_neither_torch_nor_onnxruntime(bundle):
    code = """
import sys
from pathlib import Path
from d2csr.core.bundle import read_bundle
from d2csr.engine import open_engine
open_engine(read_bundle(Path(sys.argv[1])), device="cpu")
sys.exit(bool({"torch", "onnxruntime", "scipy", "pandas"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, str(bundle.folder)]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize(
    ("wanted", "available", "name"),
    [
        ("auto", ("CPU",), "CPU"),
        ("auto", TWO_GPUS, "CPU"),
        ("CPU", TWO_GPUS, "CPU"),
        ("-1", TWO_GPUS, "CPU"),
        ("gpu", TWO_GPUS, "GPU.0"),
        ("1", TWO_GPUS, "GPU.1"),
        ("0", ("CPU", "GPU"), "GPU"),
    ],
)
def test_a_device_is_found_by_word_or_index(wanted, available, name):
    assert device_among(wanted, available) == name


@pytest.mark.parametrize("wanted", ["gpu", "0", "cuda:0"])
def test_a_device_that_is_not_there_is_told_those_that_are(wanted):
    with pytest.raises(UsageError, match=rf"'{wanted}' is no device.*auto, cpu, -1 \(.* CPU\)"):
        device_among(wanted, ("CPU",))


@pytest.mark.parametrize(
    ("name", "words"), [("openvino", "OpenVINO can't compile"), ("onnxruntime", "ONNX Runtime")]
)
def test_a_damaged_graph_is_named(bundle, tmp_path, name, words):
    (tmp_path / "tail.onnx").write_bytes(b"no graph")
    damaged, device = replace(bundle, folder=tmp_path), load_backend(name).find_device("cpu")
    with pytest.raises(BundleError, match=rf"tail\.onnx: {words}"):
        load_backend(name).compile_graph(damaged, "tail", device=device, precision="fp32")
    assert compile_graph(bundle, "tail", device="CPU", precision="fp32")
